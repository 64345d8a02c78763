"""An agent inherits what it needs and nothing of the server."""

import os
from pathlib import Path

import pytest

from runner.environment import (
    EnvironmentRefusedError,
    build_environment,
    create_temporary_folder,
    remove_temporary_folder,
)

SERVER = {
    "PATH": "/usr/bin",
    "HOME": "/home/owner",
    "https_proxy": "http://proxy",
    "DATABASE_URL": "postgresql://secret",
    "DRAGOMAN_SECRET_KEYS": "secret",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "GIT_DIR": "/elsewhere",
    "PYTHONPATH": "/elsewhere",
    "CORP_REGION": "eu",
    "CORP_TOKEN": "t",
}


def test_only_allowed_names_and_what_the_operator_named(tmp_path: Path) -> None:
    environment = build_environment(
        SERVER,
        run_id="r1",
        temporary=tmp_path,
        pass_through=("CORP_*",),
        extras={"ANTHROPIC_API_KEY": "k", "HOME": "/srv/agents"},
    )
    assert environment == {
        "PATH": "/usr/bin",
        "HOME": "/srv/agents",
        "https_proxy": "http://proxy",
        "CORP_REGION": "eu",
        "CORP_TOKEN": "t",
        "ANTHROPIC_API_KEY": "k",
        "TMPDIR": str(tmp_path),
        "DRAGOMAN_RUN_ID": "r1",
    }


def test_tag_and_temporary_folder_cannot_be_changed_and_a_path_is_always_there(
    tmp_path: Path,
) -> None:
    environment = build_environment(
        {}, run_id="r1", temporary=tmp_path, extras={"TMPDIR": "/elsewhere"}
    )
    assert environment == {
        "PATH": os.defpath,
        "TMPDIR": str(tmp_path),
        "DRAGOMAN_RUN_ID": "r1",
    }


@pytest.mark.parametrize("name", ["", "A B", "A=B", "DRAGOMAN_RUN_ID", "1A", "Ä", "A\0"])
def test_extras_that_cannot_be_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(EnvironmentRefusedError):
        build_environment({}, run_id="r", temporary=tmp_path, extras={name: "x"})


def test_values_with_nul_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentRefusedError):
        build_environment({}, run_id="r", temporary=tmp_path, extras={"A": "x\0y"})


@pytest.mark.parametrize("pattern", ["*", "D*", "DRAGOMAN_*", "DRAGOMAN_SECRET_KEYS", "A?", "[A]"])
def test_patterns_that_take_in_the_servers_own_are_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(EnvironmentRefusedError):
        build_environment(SERVER, run_id="r", temporary=tmp_path, pass_through=(pattern,))


def test_a_temporary_folder_is_private_short_and_deleted_with_all_that_is_in_it(
    tmp_path: Path,
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    folder = create_temporary_folder(tmp_path / "t")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(folder.name) <= 12
    closed = folder / "a" / "closed"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    (folder / "link").symlink_to(outside)
    closed.chmod(0)
    (folder / "a").chmod(0o500)
    assert remove_temporary_folder(folder)
    assert not folder.exists()
    assert (outside / "kept").exists()
    assert remove_temporary_folder(folder)


def test_no_other_folder_is_ever_deleted(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "dgm-link").symlink_to(tmp_path / "home")
    assert not remove_temporary_folder(tmp_path / "home")
    assert not remove_temporary_folder(tmp_path / "dgm-link")
    assert (tmp_path / "home").is_dir()
