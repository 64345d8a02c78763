"""The figures of ``benchmarks/startup.py``, within margins that only a blunder leaves."""

import statistics
import sys
from pathlib import Path

import pytest

from benchmarks.startup import measure


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_server_is_ready_soon_and_small(tmp_path: Path) -> None:
    figures = measure(tmp_path, starts=3)
    # The libraries' own imports tell how fast and how busy this machine is.
    unit = max(figures.imports, 0.5)
    assert statistics.median(figures.later_starts) < 4 * unit, figures
    assert figures.first_start < 6 * unit, figures
    assert figures.server.pss < 160, figures
    assert figures.supervisor.pss < 15, figures
