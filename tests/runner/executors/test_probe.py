"""Looking at programs: on PATH or not, their version, whether a credential lies ready."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from runner import probe
from runner.configuration import ExecutorSettings
from runner.executors.native import Permissions
from runner.probe import Prober, probe_executor

CREDENTIALS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    for name in (*CREDENTIALS, "CLAUDE_CONFIG_DIR", "CODEX_HOME"):
        monkeypatch.delenv(name, raising=False)
    return home


def program(folder: Path, source: str, name: str = "claude") -> Path:
    path = folder / name
    path.write_text(f"#!{sys.executable} -IS\nimport os, sys, time\n{source}\n")
    path.chmod(0o700)
    return path


async def test_a_program_tells_its_version(tmp_path: Path) -> None:
    path = program(tmp_path, "print('\\x1b[1m2.1.330\\x1b[0m (Claude Code)\\nmore', sys.argv[1:])")
    found = await probe_executor("CLAUDE_CODE", ExecutorSettings())
    assert (found.path, found.version, found.reason) == (str(path), "2.1.330 (Claude Code)", None)
    assert found.installed


async def test_a_missing_program_is_named_with_what_installs_it(tmp_path: Path) -> None:
    found = await probe_executor("CLAUDE_CODE", ExecutorSettings())
    assert not found.installed
    assert "claude is not on the PATH" in str(found.reason)
    assert "npm install" in str(found.reason)
    found = await probe_executor("CODEX", ExecutorSettings(program=str(tmp_path / "none")))
    assert str(tmp_path / "none") in str(found.reason)


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("CLAUDE_CODE", None, 'add {"CLAUDE_CODE": {}} to DRAGOMAN_EXECUTORS'),
        ("CUSTOM", None, "DRAGOMAN_CUSTOM_COMMAND"),
        ("IFLOW", None, "closed"),
        ("KIRO", ExecutorSettings(protocol="native"), "ACP only"),
        ("KIRO", ExecutorSettings(), "kiro-cli is not on the PATH"),
        ("GEMINI", ExecutorSettings(permissions=Permissions.ASK), 'add "protocol": "acp"'),
        ("ANTIGRAVITY", ExecutorSettings(), "not available"),
        ("CUSTOM", ExecutorSettings(("x", "{what}")), "unknown placeholder"),
        ("CLAUDE_CODE", ExecutorSettings(env={"DRAGOMAN_X": "1"}), "DRAGOMAN_X"),
    ],
)
async def test_what_cannot_start_says_why(
    tmp_path: Path, name: str, settings: ExecutorSettings | None, text: str
) -> None:
    program(tmp_path, "print(1)")
    assert text in str((await probe_executor(name, settings)).reason)


async def test_an_operators_own_command_is_looked_up_and_not_started(tmp_path: Path) -> None:
    path = program(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')", "mine")
    found = await probe_executor("CUSTOM", ExecutorSettings(("mine", "{prompt_file}")))
    assert (found.path, found.version, found.reason) == (str(path), None, None)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "source", ["time.sleep(600)", "sys.exit(0)", "print('\\0\\1')", "sys.stderr.write('1.2')"]
)
async def test_a_program_that_tells_no_version_is_a_reason(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "VERSION_SECONDS", 0.5)
    program(tmp_path, source)
    found = await probe_executor("CLAUDE_CODE", ExecutorSettings())
    assert found.version is None
    assert "--version" in str(found.reason)


async def test_a_process_left_behind_does_not_hold_up_the_answer(tmp_path: Path) -> None:
    source = "print('1.0', flush=True)\nif os.fork() == 0: time.sleep(600)"
    program(tmp_path, source)
    begun = time.monotonic()
    assert (await probe_executor("CLAUDE_CODE", ExecutorSettings())).version == "1.0"
    assert time.monotonic() - begun < 5


async def test_the_question_does_not_carry_the_servers_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "secret")
    monkeypatch.setenv("DRAGOMAN_SECRET_KEYS", "secret")
    program(tmp_path, "print(len([v for v in os.environ.values() if v == 'secret']))")
    assert (await probe_executor("CLAUDE_CODE", ExecutorSettings())).version == "0"


async def test_a_credential_is_a_variable_the_agent_gets_or_a_file_of_its_own(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "print(1)")

    async def has_one(settings: ExecutorSettings) -> bool | None:
        return (await probe_executor("CLAUDE_CODE", settings)).credential_configured

    plain = ExecutorSettings()
    assert await has_one(plain) is False
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    assert await has_one(plain) is False  # the server's own, which no agent gets
    assert await has_one(ExecutorSettings(pass_env=("ANTHROPIC_*",))) is True
    assert await has_one(ExecutorSettings(env={"ANTHROPIC_API_KEY": "k"})) is True
    assert await has_one(ExecutorSettings(env={"ANTHROPIC_API_KEY": ""})) is False
    elsewhere = ExecutorSettings(env={"CLAUDE_CONFIG_DIR": str(tmp_path / "state")})
    (home / ".claude").mkdir()
    (home / ".claude" / ".credentials.json").write_text("{}")
    assert (await has_one(plain), await has_one(elsewhere)) == (True, False)


async def test_a_program_is_asked_once_per_file(tmp_path: Path) -> None:
    count = tmp_path / "count"
    source = f"open({str(count)!r}, 'a').write('x')\nprint('v%s')"
    path = program(tmp_path, source % 1)
    look = Prober({"CLAUDE_CODE": ExecutorSettings()})
    found = await asyncio.gather(*(look("CLAUDE_CODE") for _ in range(5)))
    assert {one.version for one in found} == {"v1"}
    assert count.read_text() == "x"
    program(tmp_path, source % 2)
    os.utime(path, (1, 1))
    assert (await look("CLAUDE_CODE")).version == "v2"
    path.unlink()
    assert "not on the PATH" in str((await look("CLAUDE_CODE")).reason)
    assert "Not configured" in str((await look("CODEX")).reason)
