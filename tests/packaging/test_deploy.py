import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from server.settings import Settings, variable_of

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


@pytest.mark.parametrize("file", sorted(DEPLOY.iterdir()), ids=lambda file: file.name)
def test_only_settings_that_exist_are_named(file: Path) -> None:
    known = {variable_of(name) for name in Settings.model_fields}
    named = set(re.findall(r"DRAGOMAN_[A-Z_]*[A-Z]", file.read_text()))
    assert {name for name in named if not name.startswith("DRAGOMAN_TEST_")} <= known


def test_compose_starts_what_the_server_needs() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services["dragoman"]["depends_on"]) < set(services)
    assert (ROOT / services["dragoman"]["build"]["dockerfile"]).is_file()
    for port in services["dragoman"]["ports"]:
        assert port.startswith("127.0.0.1:")


def test_the_image_copies_files_that_exist() -> None:
    recipe = (DEPLOY / "Dockerfile").read_text()
    for name in re.findall(r"requirements[a-z-]*\.txt", recipe):
        assert (ROOT / name).is_file()
    assert 'ENTRYPOINT ["tini"' in recipe


def test_the_unit_leaves_runs_alone() -> None:
    lines = (DEPLOY / "dragoman.service").read_text().splitlines()
    assert "KillMode=process" in lines
    assert "PrivateTmp=no" in lines


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "dragoman.service"
    text = (DEPLOY / "dragoman.service").read_text()
    unit.write_text(text.replace("/opt/dragoman/.venv/bin/dragoman", "/bin/true"))
    result = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert [line for line in result.stderr.splitlines() if "dragoman" in line] == []


def test_pins_have_hashes_and_no_addresses() -> None:
    for file in ROOT.glob("requirements*.txt"):
        text = file.read_text()
        assert "://" not in text
        assert "--index-url" not in text
        assert text.count("==") <= text.count("--hash=sha256:")
