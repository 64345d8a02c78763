import sqlite3
import stat
import sys
from pathlib import Path

import pytest

from server import doctor, migrations
from server.doctor import examine
from server.settings import load_settings
from tests.support.server import POSTGRES, REDIS, a_server


@pytest.fixture(autouse=True)
def new_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.51.3")
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))


def line_of(said: str, name: str) -> str:
    [line] = [line for line in said.splitlines() if f" {name} " in f"{line} "]
    return line


def script(folder: Path, text: str) -> str:
    program = folder / "my-agent"
    program.write_text(f"#!{sys.executable} -IS\n{text}\n")
    program.chmod(0o700)
    return str(program)


async def test_a_folder_that_is_not_there_is_no_problem_and_is_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(data_dir=tmp_path / "new", custom_command=[sys.executable])
    assert await examine(settings) == 0
    said = capsys.readouterr().out
    assert "the first start makes it" in line_of(said, "data folder")
    assert "not there yet" in line_of(said, "database file")
    assert said.strip().endswith("no problems, no warnings.")
    assert not (tmp_path / "new").exists()


async def test_an_executor_is_asked_for_its_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = script(tmp_path, "print('my-agent 7.1')")
    command = [program, "{prompt_file}"]
    assert await examine(load_settings(data_dir=tmp_path, custom_command=command)) == 0
    assert f"{program} (my-agent 7.1)" in line_of(capsys.readouterr().out, "CUSTOM")


async def test_a_program_that_hangs_does_not_hold_up_the_examination(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.doctor_report.VERSION_SECONDS", 0.5)
    program = script(tmp_path, "import time; time.sleep(600)")
    assert await examine(load_settings(data_dir=tmp_path, custom_command=[program])) == 0
    assert "tells no version" in line_of(capsys.readouterr().out, "CUSTOM")


async def test_each_problem_is_counted_and_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAGOMAN_CUSTOM_COMAND", "[]")
    settings = load_settings(
        data_dir=tmp_path,
        custom_command=["no-such-program"],
        executors={"CODEX": {"argv": ["{prompt}"]}},
        repository_roots=[str(tmp_path / "nowhere")],
        broadcast_url="redis://:geheim@127.0.0.1:1/0",
    )
    assert await examine(settings) == 5
    said = capsys.readouterr().out
    assert sum(line.startswith("!!") for line in said.splitlines()) == 5
    assert "not on the PATH" in line_of(said, "no-such-program is")
    assert "without placeholders" in line_of(said, "CODEX")
    assert "cannot be reached" in line_of(said, "broadcast")
    assert "did you mean DRAGOMAN_CUSTOM_COMMAND?" in said
    assert "geheim" not in said


async def test_settings_that_differ_are_shown_without_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(
        data_dir=tmp_path,
        port=9000,
        secret_keys="A" * 43 + "=",
        executors={"CUSTOM": {"argv": [sys.executable], "env": {"KEY": "geheim"}}},
        webhook_allow_loopback=True,
    )
    await examine(settings)
    said = capsys.readouterr().out
    assert line_of(said, "DRAGOMAN_PORT").split() == ["DRAGOMAN_PORT", "9000"]
    assert "AAAA" not in said
    assert "geheim" not in said
    assert "can reach this machine's" in said
    assert "DRAGOMAN_HOST" not in said


async def test_a_token_for_the_demo_is_not_taken_for_a_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAGOMAN_TOKEN", "dgm_secret")
    assert await examine(load_settings(data_dir=tmp_path)) == 0
    assert "dgm_secret" not in capsys.readouterr().out


@pytest.mark.parametrize(("version", "warns"), [((3, 51, 2), True), ((3, 51, 3), False)])
async def test_an_old_sqlite_library_is_a_warning(
    version: tuple[int, ...],
    warns: bool,  # noqa: FBT001  # a parameter of the test
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    assert await examine(load_settings(data_dir=tmp_path)) == 0
    assert line_of(capsys.readouterr().out, "sqlite library").startswith(" !") is warns


async def test_secret_keys_that_others_may_read_are_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "secret.keys"
    keys.write_text("A" * 43 + "=\n")
    keys.chmod(0o644)
    assert await examine(load_settings(data_dir=tmp_path)) == 1
    assert "others may read it" in line_of(capsys.readouterr().out, "secret keys")


async def test_an_old_revision_is_told_apart_from_a_damaged_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(data_dir=tmp_path)
    await migrations.migrate(settings.database_dsn)
    found = migrations.HEAD
    monkeypatch.setattr(migrations, "HEAD", "9999")
    assert await examine(settings) == 0
    assert f"revision {found}, this program's is 9999" in capsys.readouterr().out


@pytest.mark.postgres
@pytest.mark.redis
async def test_services_are_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], postgres_url: str
) -> None:
    settings = load_settings(
        data_dir=tmp_path, database_url=postgres_url, broadcast_url=f"{REDIS}/0"
    )
    assert await examine(settings) == 0
    said = capsys.readouterr().out
    assert "reachable, empty" in said
    assert int(line_of(said, "postgresql server").split()[2].split(".")[0]) >= 13
    assert line_of(said, "broadcast").endswith("redis://127.0.0.1:6379/0 answers")


@pytest.mark.postgres
async def test_a_database_that_is_not_there_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(
        data_dir=tmp_path, database_url=f"{POSTGRES}/no_such_database", broadcast_url=POSTGRES
    )
    assert await examine(settings) == 1
    said = capsys.readouterr().out
    assert 'database "no_such_database" does not exist' in line_of(said, "cannot be used:")


async def test_one_broken_check_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("boo")

    monkeypatch.setitem(doctor._CHECKS, "Versions", broken)
    assert await examine(load_settings(data_dir=tmp_path)) == 1
    said = capsys.readouterr().out
    assert "RuntimeError: boo" in said
    assert "data folder" in said


def test_the_command_works_beside_a_running_server(tmp_path: Path) -> None:
    with a_server(tmp_path) as server:
        result = server.command("doctor", check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "reachable, revision" in result.stdout
    folder = tmp_path / "data"
    folder.chmod(stat.S_IRWXU | stat.S_IROTH)
    result = server.command("doctor", check=False)
    assert "is open to others" in result.stdout


async def test_a_built_in_executor_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CODEX_API_KEY", "OPENAI_API_KEY", "CODEX_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    program = script(tmp_path, "print('codex-cli 7.1')")
    executors = {"CODEX": {"program": program}, "GEMINI": {"program": "no-gemini"}, "IFLOW": {}}
    assert await examine(load_settings(data_dir=tmp_path, executors=executors)) == 2
    said = capsys.readouterr().out
    assert f"{program} (codex-cli 7.1)" in said
    assert "no credential was found" in said
    assert "no-gemini is not on the PATH" in said
    assert "IFLOW is not available" in said
