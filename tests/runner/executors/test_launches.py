"""How each agent program is started, resumed and kept from what it must not do."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.beside.acp_policy import Policy
from runner.configuration import ExecutorSettings
from runner.environment import build_environment
from runner.executors.base import ExecutorSettingsError, LaunchRefusedError, RunSpec
from runner.executors.custom import CustomExecutor
from runner.executors.native import NativeSettings, Permissions
from runner.executors.registry import ACP_ONLY, ADAPTERS, UNAVAILABLE
from runner.instructions import MAX_BYTES, find_instructions

SPEC = RunSpec(
    run_id="run-1",
    prompt="-rf --help\nDo it",
    worktree=Path("/w"),
    branch="task/1",
    files=Path("/runs/r1/files"),
    new_session="11111111-2222-4333-8444-555555555555",
)
NATIVE = tuple(name for name in ADAPTERS if name not in ACP_ONLY)


def launch(name: str, spec: RunSpec = SPEC, **settings: Any) -> Any:
    return ADAPTERS[name](name, NativeSettings(**settings)).build(spec)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "CLAUDE_CODE",
            (
                "claude -p --output-format=stream-json --verbose --permission-mode=acceptEdits "
                "--setting-sources=user --strict-mcp-config "
                "--session-id=11111111-2222-4333-8444-555555555555"
            ),
        ),
        (
            "CODEX",
            (
                "codex exec --json --sandbox=workspace-write --skip-git-repo-check "
                "-c check_for_update_on_startup=false -c analytics.enabled=false "
                "-c features.plugins=false -c features.remote_plugin=false -c features.apps=false "
                """-c 'shell_environment_policy.inherit="core"' """
                """-c 'shell_environment_policy.set.DRAGOMAN_RUN_ID="run-1"' -"""
            ),
        ),
        (
            "GEMINI",
            (
                "gemini -p '' --output-format=stream-json --approval-mode=auto_edit --skip-trust "
                "--session-id=11111111-2222-4333-8444-555555555555"
            ),
        ),
        ("OPENCODE", "opencode run --format=json"),
        ("KILO", "kilo run --format=json"),
        ("CURSOR", "cursor-agent -p --output-format=stream-json --trust"),
    ],
)
def test_a_new_session_is_started(name: str, line: str) -> None:
    assert list(launch(name).argv) == shlex.split(line)


@pytest.mark.parametrize("name", NATIVE)
def test_the_prompt_is_standard_input_and_nowhere_else(name: str) -> None:
    """An agent that waits for more input waits for ever, so its input is a file that ends."""
    made = launch(name)
    assert made.stdin_text == SPEC.prompt
    assert not any("Do it" in word for word in made.argv)


@pytest.mark.parametrize(
    ("name", "ending", "forked"),
    [
        ("CLAUDE_CODE", ["--resume=s1"], ["--resume=s1", "--fork-session"]),
        ("CODEX", ["resume", "s1", "-"], ["fork", "s1", "-"]),
        ("GEMINI", ["--resume=s1"], ["--resume=s1"]),
        ("OPENCODE", ["--session=s1"], ["--session=s1", "--fork"]),
        ("KILO", ["--session=s1"], ["--session=s1", "--fork"]),
        ("CURSOR", ["--resume=s1"], ["--resume=s1"]),
    ],
)
def test_a_session_is_resumed_and_forked(name: str, ending: list[str], forked: list[str]) -> None:
    resumed = replace(SPEC, resume_session="s1")
    argv = list(launch(name, resumed).argv)
    assert argv[-len(ending) :] == ending
    # A used id is refused, so a resumed session gets none.
    assert SPEC.new_session not in " ".join(argv)
    argv = list(launch(name, replace(resumed, fork_session=True)).argv)
    assert argv[-len(forked) :] == forked


@pytest.mark.parametrize("name", NATIVE)
def test_a_session_id_that_could_be_an_option_is_refused(name: str) -> None:
    for session_id in ("--yolo", "a b", ""):
        with pytest.raises(LaunchRefusedError, match="session"):
            launch(name, replace(SPEC, resume_session=session_id))


@pytest.mark.parametrize("name", NATIVE)
def test_what_the_operator_says_is_obeyed(name: str) -> None:
    made = launch(name, program="/opt/agent", args=("--extra", "x"), model="m1", env={"K": "v"})
    assert made.argv[0] == "/opt/agent"
    assert made.argv.index("--extra") + 1 == made.argv.index("x")
    assert "--model=m1" in made.argv
    assert made.env["K"] == "v"
    assert "--model=--evil" in launch(name, replace(SPEC, model="--evil"), model="m1").argv
    with pytest.raises(LaunchRefusedError, match="NUL"):
        launch(name, replace(SPEC, model="a\0"))


def test_codex_reads_options_before_the_word_resume() -> None:
    argv = launch("CODEX", replace(SPEC, resume_session="s1"), args=("-c", "a=1"), model="m").argv
    place = argv.index("resume")
    assert all(argv.index(word) < place for word in ("--json", "--model=m", "a=1"))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("CLAUDE_CODE", "--permission-mode=bypassPermissions"),
        ("CODEX", "--sandbox=danger-full-access"),
        ("GEMINI", "--approval-mode=yolo"),
        ("OPENCODE", "--auto"),
        ("KILO", "--auto"),
        ("CURSOR", "--force"),
    ],
)
def test_all_permissions_are_given_only_where_the_operator_says_so(name: str, word: str) -> None:
    assert word not in launch(name).argv
    assert word in launch(name, permissions=Permissions.FULL).argv


def test_claude_as_root_is_refused_before_it_refuses_itself() -> None:
    root = replace(SPEC, is_root=True)
    assert launch("CLAUDE_CODE", root).argv
    with pytest.raises(LaunchRefusedError, match="IS_SANDBOX"):
        launch("CLAUDE_CODE", root, permissions=Permissions.FULL)
    made = launch("CLAUDE_CODE", root, permissions=Permissions.FULL, env={"IS_SANDBOX": "1"})
    assert made.env["IS_SANDBOX"] == "1"


# --- repositories that attack ---


def test_claude_reads_nothing_of_the_repositorys_configuration_but_its_instructions() -> None:
    made = launch("CLAUDE_CODE", replace(SPEC, instructions="Use tabs"))
    assert {"--setting-sources=user", "--strict-mcp-config"} <= set(made.argv)
    assert "--append-system-prompt-file=/runs/r1/files/CLAUDE.md" in made.argv
    assert made.files == {"CLAUDE.md": "Use tabs"}
    assert launch("CLAUDE_CODE").files == {}


def test_instructions_are_a_regular_file_or_none(tmp_path: Path) -> None:
    worktree, name = tmp_path / "w", "CLAUDE.md"
    worktree.mkdir()
    assert find_instructions(worktree, name) is None
    (tmp_path / "secret").write_text("key")
    (worktree / name).symlink_to(tmp_path / "secret")
    assert find_instructions(worktree, name) is None
    (worktree / name).unlink()
    (worktree / name).mkdir()
    assert find_instructions(worktree, name) is None
    (worktree / name).rmdir()
    (worktree / name).write_bytes(b"Use tabs\0\xff\n" + b"x" * 2 * MAX_BYTES)
    text = find_instructions(worktree, name)
    assert text is not None
    assert text.startswith("Use tabs\ufffd\ufffd")
    assert len(text) <= MAX_BYTES


@pytest.mark.parametrize(("name", "prefix"), [("OPENCODE", "OPENCODE_"), ("KILO", "KILO_")])
def test_opencode_is_kept_from_the_projects_configuration_and_from_asking(
    name: str, prefix: str
) -> None:
    made = launch(name)
    assert made.env[f"{prefix}DISABLE_PROJECT_CONFIG"] == "1"
    configuration = json.loads(made.env[f"{prefix}CONFIG_CONTENT"])
    assert configuration["permission"] == {
        "edit": "allow",
        "bash": "deny",
        "webfetch": "deny",
        "external_directory": "deny",
    }
    free = launch(name, permissions=Permissions.FULL).env[f"{prefix}CONFIG_CONTENT"]
    assert set(json.loads(free)["permission"].values()) == {"allow"}


@pytest.mark.parametrize(
    ("name", "entry"),
    [("OPENCODE", ".opencode"), ("OPENCODE", "opencode.JSONC"), ("KILO", ".kilo")],
)
def test_a_repository_that_brings_plugins_needs_all_permissions(name: str, entry: str) -> None:
    """No switch of opencode keeps it from running the plugins of a repository."""
    brought = replace(SPEC, entries=frozenset({"README.md", entry}))
    with pytest.raises(LaunchRefusedError, match=entry):
        launch(name, brought)
    assert launch(name, brought, permissions=Permissions.FULL).argv
    assert launch(name, replace(SPEC, entries=frozenset({"README.md"}))).argv


def test_the_operators_own_configuration_of_opencode_wins() -> None:
    name = "OPENCODE_CONFIG_CONTENT"
    mine = {"provider": {"x": {}}, "share": "manual"}
    merged = json.loads(launch("OPENCODE", env={name: json.dumps(mine)}).env[name])
    assert (merged["share"], merged["provider"]) == ("manual", {"x": {}})
    assert merged["permission"]["bash"] == "deny"
    for odd in ("// a comment\n{}", "[]"):
        assert launch("OPENCODE", env={name: odd}).env[name] == odd


def test_gemini_finds_every_dangerous_variable_set_before_the_repository_sets_it() -> None:
    pinned = launch("GEMINI").env
    assert pinned["GOOGLE_GEMINI_BASE_URL"] == pinned["NODE_OPTIONS"] == ""
    url = {"GOOGLE_GEMINI_BASE_URL": "https://proxy.example"}
    assert launch("GEMINI", env=url).env.items() >= url.items()
    # What the operator hands on must not be covered by an empty value.
    passed = launch("GEMINI", passed=("GOOGLE_*",)).env
    assert "GOOGLE_GEMINI_BASE_URL" not in passed
    assert passed["NODE_OPTIONS"] == ""


def test_codex_gives_its_tools_neither_the_key_nor_a_way_to_hide() -> None:
    argv = launch("CODEX").argv
    assert 'shell_environment_policy.inherit="core"' in argv
    assert 'shell_environment_policy.set.DRAGOMAN_RUN_ID="run-1"' in argv


@pytest.mark.parametrize("name", NATIVE)
def test_no_agent_gets_the_servers_own_environment(name: str) -> None:
    server = {
        "PATH": "/bin",
        "HOME": "/home/x",
        "DATABASE_URL": "postgresql://secret",
        "DRAGOMAN_SECRET_KEYS": "secret",
        "ANTHROPIC_API_KEY": "secret",
        "OPENAI_API_KEY": "secret",
        "GITHUB_TOKEN": "secret",
        "CLAUDE_CODE_SSE_PORT": "secret",
        "NODE_OPTIONS": "secret",
    }
    made = launch(name)
    environment = build_environment(
        server, run_id="run-1", temporary=Path("/runs/r1/tmp"), extras=made.env
    )
    assert "secret" not in " ".join(environment.values())
    assert environment["DRAGOMAN_RUN_ID"] == "run-1"
    assert "secret" not in repr(launch(name, env={"KEY": "secret"}))


# --- which name is what ---


@pytest.mark.parametrize("name", UNAVAILABLE)
def test_names_without_an_adapter_say_why(name: str) -> None:
    with pytest.raises(ExecutorSettingsError, match=f"{name} is not available: its|the"):
        ExecutorSettings().make(name)
    made = ExecutorSettings(("my-agent", "{prompt_file}")).make(name)
    assert isinstance(made, CustomExecutor)


def test_a_command_goes_before_the_adapter_and_unknown_names_need_one() -> None:
    assert isinstance(ExecutorSettings(("claude-2",)).make("CLAUDE_CODE"), CustomExecutor)
    assert ExecutorSettings(program="c2").make("CLAUDE_CODE").program == "c2"
    assert ExecutorSettings().make("CODEX").name == "CODEX"
    with pytest.raises(ExecutorSettingsError, match="argv"):
        ExecutorSettings().make("CUSTOM")


# --- over the Agent Client Protocol ---


def acp(name: str, spec: RunSpec = SPEC, **settings: Any) -> tuple[Any, dict[str, Any]]:
    made = ExecutorSettings(protocol="acp", **settings).make(name).build(spec)
    return made, json.loads(made.files["acp.json"])


@pytest.mark.parametrize(
    ("name", "line", "mode"),
    [
        ("CLAUDE_CODE", "claude-agent-acp --x", "acceptEdits"),
        ("CODEX", "codex-acp --x", "auto"),
        ("GEMINI", "gemini --acp --approval-mode=auto_edit --skip-trust --model=m --x", None),
        ("OPENCODE", "opencode acp --x", None),
        ("KILO", "kilo acp --x", None),
        ("CURSOR", "cursor-agent --model=m acp --x", None),
        ("KIRO", "kiro-cli acp --model=m --x", None),
    ],
)
def test_our_client_starts_the_agent(name: str, line: str, mode: str | None) -> None:
    made, told = acp(name, replace(SPEC, resume_session="s1"), model="m", args=("--x",))
    assert made.argv[1] == "-I"
    assert made.argv[-1] == str(SPEC.files / "acp.json")
    assert (made.stdin_text, made.interactive) == (SPEC.prompt, True)
    assert told["argv"] == shlex.split(line)
    assert (told["session"], told["model"], told["mode"]) == ("s1", "m", mode)
    assert told["permissions"] == "edits"
    with pytest.raises(LaunchRefusedError, match="session"):
        acp(name, replace(SPEC, resume_session="--yolo"))
    _, told = acp(name, replace(SPEC, read_only=True), permissions=Permissions.FULL)
    assert told["permissions"] == "read"


def test_repositories_that_would_configure_an_agent_are_refused_over_acp_too() -> None:
    for name, entry in (("CLAUDE_CODE", ".mcp.json"), ("OPENCODE", "opencode.json")):
        with pytest.raises(LaunchRefusedError, match=entry):
            acp(name, replace(SPEC, entries=frozenset({entry})))


def test_claude_asks_through_a_client_of_ours() -> None:
    made = launch("CLAUDE_CODE", permissions=Permissions.ASK)
    assert made.argv[1] == "-I"
    assert made.interactive
    argv = json.loads(made.files["claude.json"])["argv"]
    assert argv[:2] == ["claude", "-p"]
    assert {"--input-format=stream-json", "--permission-prompt-tool=stdio"} <= set(argv)
    # Who only answers has nothing to ask.
    assert not launch(
        "CLAUDE_CODE", replace(SPEC, read_only=True), permissions=Permissions.ASK
    ).interactive


@pytest.mark.parametrize(
    ("mode", "call", "decision"),
    [
        ("full", {"kind": "execute"}, True),
        ("edits", {"kind": "execute"}, False),
        ("ask", {"kind": "execute"}, None),
        ("ask", {"kind": "edit", "locations": [{"path": "a/b"}]}, True),
        ("edits", {"kind": "edit", "locations": [{"path": "../b"}]}, False),
        ("edits", {"kind": "edit", "locations": [{"path": "a"}, {"path": "/etc/passwd"}]}, False),
        ("edits", {"kind": "edit", "locations": [{"path": "out/x"}]}, False),
        ("edits", {"kind": "edit", "content": [{"type": "diff", "path": 7}]}, False),
        ("edits", {"kind": "edit"}, False),
        ("edits", {"kind": "think"}, True),
        ("read", {"kind": "read", "locations": [{"path": "a"}]}, True),
        ("read", {"kind": "edit", "locations": [{"path": "a"}]}, False),
    ],
)
def test_what_is_permitted_without_asking(
    mode: str, call: dict[str, Any], decision: object, tmp_path: Path
) -> None:
    worktree = tmp_path / "w"
    worktree.mkdir()
    (worktree / "out").symlink_to(tmp_path)
    assert Policy(mode, worktree).decide(call) is decision
