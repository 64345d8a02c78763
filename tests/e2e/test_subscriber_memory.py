"""What a subscriber costs a server while it waits: the figure of ``benchmarks/memory.py``."""

import sys
from pathlib import Path

import pytest

from benchmarks.memory import measure

MIB_FOR_A_THOUSAND = 75
"""Half more than they take: 48 to 52."""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_subscriber_that_waits_costs_little(tmp_path: Path) -> None:
    figures = measure(tmp_path, few=100, many=900)
    assert figures.mib_for_a_thousand < MIB_FOR_A_THOUSAND, figures
