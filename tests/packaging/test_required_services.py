import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
NO_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # they would take most of the time
SUITE = """
import pytest

@pytest.mark.browser
def test_with_a_browser():
    pass

def test_without():
    pass
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A small suite with our conftest, to be run where no browser can be found."""
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "test_small.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    browser\n")
    return tmp_path


def run(suite: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if "DRAGOMAN" not in name}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(suite)],
        cwd=suite,
        env={**environment, "PATH": "/nowhere", **NO_PLUGINS, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_missing_service_skips_with_its_reason(suite: Path) -> None:
    result = run(suite)
    assert result.returncode == 0
    assert "needs browser: none of chromium" in result.stdout
    assert "1 passed, 1 skipped" in result.stdout


def test_a_missing_service_that_is_required_fails_the_session(suite: Path) -> None:
    result = run(suite, DRAGOMAN_TEST_REQUIRE="browser")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "asks for browser, but none of chromium" in result.stderr


def test_an_unknown_service_fails_the_session(suite: Path) -> None:
    result = run(suite, DRAGOMAN_TEST_REQUIRE="browsers")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "'browsers' is none of" in result.stderr


def test_settings_of_the_developer_do_not_reach_the_tests(suite: Path) -> None:
    (suite / "test_small.py").write_text(
        "import os\ndef test_it():\n    assert 'DRAGOMAN_PORT' not in os.environ\n"
        "    assert os.environ['DRAGOMAN_TEST_CHAOS_SECONDS'] == '5'\n"
    )
    result = run(suite, DRAGOMAN_PORT="1", DRAGOMAN_TEST_CHAOS_SECONDS="5")
    assert result.returncode == 0, result.stdout
