"""An environment with the wheel, what ``requirements.txt`` names, and nothing else."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENT = re.compile(r"^([a-z0-9-]+)(?:\[.*\])?==", re.MULTILINE)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this working tree."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    [file] = folder.glob("dragoman-*.whl")
    return file


@pytest.fixture(scope="session")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` folder of an environment in which the wheel is installed.

    The libraries are links to those installed here, which are pinned by the same hashes; those
    that only developers have are not there, so a forgotten dependency shows.
    """
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False)
    paths = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})
    site = Path(paths["purelib"])
    for name in REQUIREMENT.findall((ROOT / "requirements.txt").read_text()):
        _link(name, site)
    python = home / "bin" / "python"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(python), "--no-input", "install"),
            *("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", str(wheel)),
        ],
        check=True,
        capture_output=True,
        timeout=120,
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
    )
    return home / "bin"


@pytest.fixture
def hostile_folder(tmp_path: Path) -> Path:
    """A folder with packages and modules named like ours and like what Python loads by itself."""
    folder = tmp_path / "hostile"
    trap = "raise SystemExit('the hostile folder was loaded: ' + __file__)\n"
    ours = (
        *("schema", "resolvers", "models", "subscriptions", "rest_compat", "runner", "compiler"),
        *("workers", "server", "migrations"),
    )
    for name in ours:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(trap)
        (folder / name / "env.py").write_text(trap)
    for name in ("sitecustomize", "orjson", "strawberry", "logging", "asyncio"):
        (folder / f"{name}.py").write_text(trap)
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = migrations\n")
    (folder / ".env").write_text("DRAGOMAN_PORT=1\n")
    return folder


def _link(name: str, site: Path) -> None:
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return  # pinned for another platform
    source = Path(str(found.locate_file("")))
    for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
        if not (site / top).exists() and top != "__pycache__":
            (site / top).symlink_to(source / top)
