import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from server.settings import Settings, SettingsError, load_settings, load_settings_or_exit
from server.settings_listing import describe, shown_values, unknown_variables

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def problems(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return caught.value.problems


def test_defaults_need_no_environment() -> None:
    settings = load_settings()
    assert settings.database_dsn == f"sqlite+aiosqlite:///{Path('data').absolute()}/dragoman.db"
    assert settings.uses_sqlite
    assert settings.broadcast_dsn == "memory://"
    assert settings.worktrees == Path("data/worktrees")
    assert settings.run_orphan_after == 600


def test_a_data_folder_with_odd_characters_is_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20#?+ü"
    url = make_url(load_settings(data_dir=folder).database_dsn)
    assert url.database == str(folder / "dragoman.db")


def test_options_win_over_the_environment_unless_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_PORT", "9001")
    assert load_settings(port=None).port == 9001
    assert load_settings(port=9002).port == 9002


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_PORT", "")
    assert load_settings().port == 8000


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("sqlite:///a.db", "sqlite+aiosqlite:///a.db"),
        ("sqlite:////srv/a.db", "sqlite+aiosqlite:////srv/a.db"),
        ("sqlite+aiosqlite:///a.db", "sqlite+aiosqlite:///a.db"),
        ("postgres://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
        ("postgresql://u:p@h:5/d?sslmode=require", "postgresql+asyncpg://u:p@h:5/d?ssl=require"),
        ("postgresql+asyncpg://h/d", "postgresql+asyncpg://h/d"),
    ],
)
def test_database_addresses_get_their_async_driver(given_url: str, expected: str) -> None:
    settings = load_settings(database_url=given_url)
    assert settings.database_dsn == expected
    assert load_settings(database_url=settings.database_dsn).database_dsn == expected


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("memory://", "memory://"),
        ("redis://:pw@h:6379/1", "redis://:pw@h:6379/1"),
        ("valkey://h", "redis://h"),
        ("postgres://u@h/d", "postgresql://u@h/d"),
    ],
)
def test_broadcast_addresses(given_url: str, expected: str) -> None:
    assert load_settings(broadcast_url=given_url).broadcast_dsn == expected


def test_lists_are_json_or_have_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_ALLOWED_ORIGINS", "https://A.example, http://b.example:81/")
    monkeypatch.setenv("DRAGOMAN_REPOSITORY_ROOTS", '["/srv/a,b", "/srv/c"]')
    monkeypatch.setenv("DRAGOMAN_TRUSTED_PROXIES", "10.1.2.3/8,::1")
    settings = load_settings()
    assert settings.allowed_origins == ("https://a.example", "http://b.example:81")
    assert settings.repository_roots == (Path("/srv/a,b"), Path("/srv/c"))
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1")


def test_executors_and_the_custom_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_CUSTOM_COMMAND", '["agent", "{prompt_file}"]')
    monkeypatch.setenv(
        "DRAGOMAN_EXECUTORS",
        '{"CODEX": {"argv": ["codex"], "env": {"K": "v"}, "pass_env": ["HOME"]}}',
    )
    commands = load_settings().executor_commands
    assert commands["CUSTOM"].argv == ("agent", "{prompt_file}")
    assert commands["CODEX"].env["K"].get_secret_value() == "v"
    assert commands["CODEX"].pass_env == ("HOME",)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("500ms", 0.5), ("10m", 600), ("10 min", 600), ("2h", 7200), ("1.5s", 1.5)],
)
def test_durations(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    monkeypatch.setenv("DRAGOMAN_RUN_TIME_LIMIT", text)
    assert load_settings().run_time_limit == seconds


@pytest.mark.parametrize(("text", "size"), [("65536", 65536), ("64K", 65536), ("1MiB", 1 << 20)])
def test_sizes(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("DRAGOMAN_MAX_BODY_BYTES", text)
    assert load_settings().max_body_bytes == size


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("PORT", "70000", "should be less than or equal to 65535"),
        ("PORT", "web", "should be a valid integer"),
        ("GRAPHIQL", "perhaps", "should be a valid boolean"),
        ("DATABASE_URL", "mysql://u:hunter2@h/d", "must begin with sqlite:/// or postgresql://"),
        ("DATABASE_URL", "sqlite://", "must name a file"),
        ("DATABASE_URL", "sqlite:///:memory:", "must name a file"),
        ("DATABASE_URL", "postgresql://hunter2@h", "must name a database"),
        ("DATABASE_URL", "postgresql://u:hun#ter2@h/d", "must be sqlite:///file or"),
        ("BROADCAST_URL", "kafka://h", "must begin with memory://"),
        ("BROADCAST_URL", "redis://", "must name a host"),
        ("PUBLIC_URL", "board.example.org", "must be an address such as"),
        ("PUBLIC_URL", "https://u:hunter2@h", "must have no user"),
        ("ALLOWED_ORIGINS", "https://a.example/path", "must be origins, which have no path"),
        ("TRUSTED_PROXIES", "proxy.local", "must be addresses or networks"),
        ("SECRET_KEYS", "hunter2", "must be keys of 32 bytes"),
        ("REPOSITORY_ROOTS", "here", "must be absolute folders"),
        ("CUSTOM_COMMAND", "agent --task", "must be a JSON array of texts; it is not valid JSON"),
        ("CUSTOM_COMMAND", '{"a": 1}', "must be a JSON array of texts"),
        ("EXECUTORS", '{"A": {"argv": []}}', "(A.argv): tuple should have at least 1 item"),
        ("EXECUTORS", '{"A": {"argv": ["a"], "shell": 1}}', "(A.shell): extra inputs are not"),
        ("RUN_SILENCE_LIMIT", "soon", "must be a duration such as"),
        ("RUN_SILENCE_LIMIT", "-1", "must be a duration such as"),
        ("MAX_BODY_BYTES", "big", "must be a size such as"),
        ("SQLITE_SYNCHRONOUS", "OFF", "should be 'FULL' or 'NORMAL'"),
        ("LOG_LEVEL", "loud", "should be 'debug', 'info', 'warning' or 'error'"),
        ("PAGE_SIZE", "500", "must be at most DRAGOMAN_MAX_PAGE_SIZE"),
    ],
)
def test_a_bad_value_gives_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, expected: str
) -> None:
    name = f"DRAGOMAN_{variable}"
    [line] = problems(monkeypatch, **{name: text})
    assert line.startswith(name)
    assert expected in line
    assert "\n" not in line
    assert "hun" not in line


def test_several_bad_values_give_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = problems(monkeypatch, DRAGOMAN_PORT="x", DRAGOMAN_MAX_DEPTH="0")
    assert [line.split(":")[0] for line in lines] == ["DRAGOMAN_PORT", "DRAGOMAN_MAX_DEPTH"]


def test_the_command_line_ends_with_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRAGOMAN_PORT", "70000")
    with pytest.raises(SystemExit) as caught:
        load_settings_or_exit()
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "dragoman: DRAGOMAN_PORT: input should be less than or equal to 65535\n"
    )


def test_secrets_are_never_shown() -> None:
    settings = load_settings(
        database_url="postgresql://u:hunter2@h/d",
        broadcast_url="redis://:hunter2@h",
        secret_keys=KEY,
        executors='{"A": {"argv": ["a"], "env": {"K": "hunter2"}}}',
    )
    for text in (repr(settings), str(settings), str(shown_values(settings))):
        assert "hunter2" not in text
        assert KEY not in text
    assert shown_values(settings)["DRAGOMAN_DATABASE_URL"] == "(set, not shown)"
    assert shown_values(load_settings())["DRAGOMAN_BROADCAST_URL"] == "memory://"


def test_every_setting_is_described() -> None:
    rows = list(describe())
    assert {row.name for row in rows} == set(Settings.model_fields)
    for row in rows:
        assert row.variable == f"DRAGOMAN_{row.name.upper()}"
        assert row.group
        assert row.description.endswith(".")
    defaults = {row.name: row.default for row in rows}
    assert defaults["port"] == "8000"
    assert defaults["graphiql"] == "1"
    assert defaults["run_orphan_after"] == "600"
    assert defaults["database_url"] == ""


def test_a_misspelt_variable_is_told() -> None:
    assert unknown_variables({"DRAGOMAN_POTR": "1", "DRAGOMAN_TEST_X": "1", "PATH": ""}) == [
        "DRAGOMAN_POTR: no such setting; did you mean DRAGOMAN_PORT?"
    ]


def test_settings_load_without_heavy_libraries() -> None:
    code = (
        "import sys, server.settings; server.settings.load_settings();"
        "print([m for m in ('sqlalchemy', 'strawberry', 'starlette', 'cryptography', 'structlog')"
        " if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert result.stdout.strip() == "[]"


@given(st.text())
def test_any_text_as_an_address_is_accepted_or_refused_precisely(text: str) -> None:
    try:
        settings = load_settings(database_url=text, broadcast_url=text, public_url=text)
    except SettingsError as error:
        assert all(line.startswith("DRAGOMAN_") for line in error.problems)  # noqa: PT017  (property)
    else:
        assert settings.database_dsn


def test_built_in_executors_need_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "DRAGOMAN_EXECUTORS",
        '{"CLAUDE_CODE": {}, "CODEX": {"program": "/opt/codex", "args": ["-c", "a=1"], '
        '"model": "m", "permissions": "full"}}',
    )
    commands = load_settings().executor_commands
    assert commands["CLAUDE_CODE"].argv is None
    assert commands["CLAUDE_CODE"].permissions == "edits"
    codex = commands["CODEX"]
    assert (codex.program, codex.args, codex.model) == ("/opt/codex", ("-c", "a=1"), "m")
    assert codex.permissions == "full"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"A": {"argv": ["a"], "model": "m"}}', "argv says everything; model is for built-in"),
        ('{"A": {"permissions": "all"}}', "input should be 'edits', 'ask' or 'full'"),
        ('{"A": {"args": ["a\\u0000"]}}', "no argument can hold a NUL"),
        ('{"A": {"program": ""}}', "(A.program)"),
    ],
)
def test_what_contradicts_itself_in_an_executor_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    monkeypatch.setenv("DRAGOMAN_EXECUTORS", text)
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert expected in str(refusal.value)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("DRAGOMAN_COMMIT_AUTHOR", "only a name", "Name <name@example.org>"),
        ("DRAGOMAN_COMMIT_AUTHOR", "<a@b>", "Name <name@example.org>"),
        ("DRAGOMAN_WORKTREE_COMMANDS", '["npm ci"]', "JSON array of JSON arrays"),
        ("DRAGOMAN_WORKTREE_COMMANDS", "[[]]", "JSON array of JSON arrays"),
        ("DRAGOMAN_WORKTREE_COMMANDS", "npm ci", "JSON array of JSON arrays"),
        ("DRAGOMAN_WORKTREE_COPY", "../secret", "below the checkout"),
        ("DRAGOMAN_WORKTREE_COPY", ".env,/etc/passwd", "below the checkout"),
        ("DRAGOMAN_GITHUB_API_URL", "github.com", "must be an address"),
        ("DRAGOMAN_MERGE_METHOD", "octopus", "'merge', 'squash' or 'rebase'"),
    ],
)
def test_settings_of_git_are_checked(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    [problem] = problems(monkeypatch, **{variable: value})
    assert problem.startswith(variable)
    assert told in problem


def test_the_forge_s_host_follows_from_its_api() -> None:
    from server.services import make_forge

    assert make_forge(load_settings()).host == "github.com"
    own = load_settings(github_api_url="https://git.example.org:8443/api/v3/")
    assert make_forge(own).host == "git.example.org:8443"
