"""What graphql-core may leave behind where errors are provoked."""

from typing import Any

import pytest

# graphql-core leaves coroutines behind when a field fails beside others that wait. Python reports
# each wherever it happens to be collected, which may be where that cannot even be reported.
_COROUTINES = (
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
)


def tolerant(test: Any) -> Any:
    """A test that does not mind; it collects garbage at its end, so that no other test has to."""
    for mark in _COROUTINES:
        test = mark(test)
    return test
