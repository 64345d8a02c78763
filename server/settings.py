"""The settings of a server: every one is an environment variable ``DRAGOMAN_…``.

``load_settings`` reads and checks them. What the text of a variable may look like is in
``setting_values``; ``settings_listing`` shows them to people; ``secret_keys`` keeps the keys.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from server import setting_values as values
from server.setting_values import (
    Argv,
    Commands,
    CommandTemplates,
    Duration,
    ExecutorCommand,
    Executors,
    PathList,
    RateLimits,
    SecretList,
    Size,
    TextList,
)

PREFIX = "DRAGOMAN_"
DATABASE_FILE = "dragoman.db"
_MINUTE = 60.0
_HOUR = 3600.0
_MIB = 1 << 20


class SettingsError(ValueError):
    """One or more settings are wrong; ``problems`` has one line for each, variable first."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _setting(default: Any, group: str, description: str, **constraints: Any) -> Any:
    """A field whose description and group appear in the documentation."""
    return Field(
        default=default,
        description=description,
        json_schema_extra={"group": group},
        validate_default=False,
        **constraints,
    )


class Settings(BaseSettings):
    """All settings; instances are frozen and hold checked values (seconds, bytes, paths)."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    # Place and address
    data_dir: Path = _setting(
        Path("data"), "place", "Folder of the database, secret keys, run output and worktrees."
    )
    database_url: SecretStr | None = _setting(
        None,
        "place",
        "sqlite:///file or postgresql://user:password@host/database. Default: a SQLite file "
        "dragoman.db in the data folder.",
    )
    broadcast_url: SecretStr = _setting(
        SecretStr("memory://"),
        "place",
        "Wake-ups between servers: memory:// (one process), redis://host:6379/0 or "
        "postgresql://host/database. Losing it delays streams by up to a second, nothing more.",
    )
    artifacts_url: str | None = _setting(
        None,
        "place",
        "Where files of runs are kept, such as s3://bucket/prefix, with AWS_ACCESS_KEY_ID and the "
        "other AWS_… variables. Default: the folder artifacts in the data folder. Servers that "
        "share a database need the same.",
    )
    host: str = _setting("127.0.0.1", "address", "Address to listen on.", min_length=1)
    port: int = _setting(
        8000, "address", "Port to listen on; 0 takes any free one.", ge=0, le=65535
    )
    public_url: str | None = _setting(
        None,
        "address",
        "Address under which users reach the server, such as https://board.example.org; it "
        "stands in links and webhooks. Default: as the request says.",
    )
    trusted_proxies: TextList = _setting(
        (),
        "address",
        "Addresses or networks of proxies whose X-Forwarded-For and -Proto are believed, "
        "with commas; * believes everyone.",
    )
    allowed_origins: TextList = _setting(
        (),
        "address",
        "Origins of other sites whose pages may call this server from a browser, with commas. "
        "Default: only its own pages.",
    )
    compat_root: Literal["viban", "viben", "toban", "claude_cli_web_ui", "posthog"] | None = (
        _setting(
            None,
            "address",
            "REST language of original paths that several languages have, when neither the "
            "credential nor the method tells. Under /compat/<language>/ each is always served.",
        )
    )

    # Trust
    secret_keys: SecretList = _setting(
        (),
        "trust",
        "Keys that encrypt stored secrets: 32 bytes in URL-safe base64, with commas. The first "
        "encrypts, all decrypt, so put a new one first to rotate. Default: a key made on first "
        "start in secret.keys in the data folder. Servers that share a database need the same.",
    )
    repository_roots: PathList = _setting(
        (),
        "trust",
        "Absolute folders under which any developer may name a local repository, with commas. "
        "The site owner may name any.",
    )
    allow_local_repositories: bool = _setting(
        False, "trust", "Whether any developer may name any local repository."
    )
    allow_agent_commands: bool = _setting(
        False, "trust", "Whether the site owner may give single agents a command line of their own."
    )
    webhook_allow_loopback: bool = _setting(
        False, "trust", "Whether webhooks may go to this machine and to private networks."
    )
    introspection: bool = _setting(True, "trust", "Whether clients may ask for the GraphQL schema.")
    graphiql: bool = _setting(True, "trust", "Whether the query editor is served at /graphiql.")

    notifier_url: str | None = _setting(
        None,
        "trust",
        "Your own service that gets notifications about runs for the devices of users, such as "
        "http://127.0.0.1:9000/push; it may be on this machine. Default: none.",
    )
    notifier_token: SecretStr | None = _setting(
        None, "trust", "Sent to the notifier as Authorization: Bearer."
    )

    # Limits of requests
    max_body_bytes: Size = _setting(_MIB, "limits", "Longest request body, bytes.", ge=1024)
    max_document_bytes: Size = _setting(
        32 * 1024, "limits", "Longest GraphQL document, bytes.", ge=256
    )
    max_document_tokens: int = _setting(2000, "limits", "Most tokens in a GraphQL document.", ge=50)
    max_depth: int = _setting(12, "limits", "Deepest nesting of a GraphQL document.", ge=3)
    max_aliases: int = _setting(30, "limits", "Most aliases in a GraphQL document.", ge=0)
    max_directives: int = _setting(
        50, "limits", "Most directives in a GraphQL document; five at one place.", ge=0
    )
    max_cost: int = _setting(
        20_000, "limits", "Highest requested cost of a GraphQL operation, points.", ge=1
    )
    page_size: int = _setting(
        50, "limits", "Items of a list when the client asks for no number.", ge=1
    )
    max_page_size: int = _setting(100, "limits", "Most items of a list in one answer.", ge=1)
    max_concurrent_operations: int = _setting(
        16, "limits", "Queries and mutations of one user or key at the same time.", ge=1
    )
    max_subscriptions: int = _setting(
        100, "limits", "Subscriptions in one WebSocket connection.", ge=1
    )
    max_streams: int = _setting(
        200, "limits", "Open streams (WebSocket, SSE) of one user or key.", ge=1
    )

    rate_limits: RateLimits = _setting(
        {},
        "limits",
        'Requests of REST languages, where other than their documentation says: {"VIBAN": '
        '{"minute": 2000, "hour": 0}}; 0 is no limit. See docs/operator.md for the names.',
    )
    rate_limit_url: SecretStr = _setting(
        SecretStr("memory://"),
        "limits",
        "Where requests of REST languages are counted: memory:// (each server for itself) or "
        "redis://host:6379/0. While it cannot be reached, each server counts for itself.",
    )

    # Storage
    sqlite_synchronous: Literal["FULL", "NORMAL"] = _setting(
        "FULL",
        "storage",
        "FULL: an answered write survives a power cut. NORMAL: faster, the last ones may not.",
    )
    writer_wait: Duration = _setting(
        10.0,
        "storage",
        "Longest wait of a write for its turn, seconds; then the client is told to come again.",
        gt=0,
        le=_HOUR,
    )
    event_retention: Duration = _setting(
        0.0,
        "storage",
        "Age at which events are removed, such as 90d; 0 keeps them all. Never removes what a "
        "webhook still waits for.",
    )

    # Runs
    executors: Executors = _setting(
        {},
        "runs",
        'Executors by name. Built-in ones, each member optional: {"CLAUDE_CODE": {"program": '
        '"claude", "args": [], "model": "m", "permissions": "edits", "ask" or '
        '"full", "protocol": "native" or "acp", "env": {"KEY": '
        '"value"}, "pass_env": ["NAME"]}}; commands: {"NAME": {"argv": ["program", '
        '"{prompt_file}"]}}.',
    )
    custom_command: Argv = _setting(
        (),
        "runs",
        'Command of the executor CUSTOM as a JSON array: ["my-agent", "--task", "{prompt_file}"].',
    )
    max_concurrent_runs: int = _setting(
        4, "runs", "Runs at the same time on this server; 0 starts none.", ge=0, le=1000
    )
    run_time_limit: Duration = _setting(4 * _HOUR, "runs", "Longest time of a run, seconds.", gt=0)
    run_silence_limit: Duration = _setting(
        10 * _MINUTE, "runs", "Longest time without a byte of output, seconds.", gt=0
    )
    run_answer_limit: Duration = _setting(
        _HOUR,
        "runs",
        "Longest time a run waits for an answer, seconds; then what it asked for is refused and it "
        "works on.",
        gt=0,
    )
    run_start_limit: Duration = _setting(
        _MINUTE, "runs", "Longest time until the first byte of output, seconds.", gt=0
    )
    run_output_limit: Size = _setting(
        100 * _MIB, "runs", "Output of one run that is kept, bytes.", ge=64 * 1024
    )
    run_stop_grace: Duration = _setting(
        5.0, "runs", "Wait between the steps that stop a run, seconds.", ge=0.1, le=_MINUTE
    )
    run_orphan_after: Duration = _setting(
        10 * _MINUTE,
        "runs",
        "A run ends itself when its server has shown no sign of life for so long, seconds.",
        ge=1,
    )
    prompt_templates: Path | None = _setting(
        None,
        "runs",
        "Folder whose files plan.md.j2, implement.md.j2, check.md.j2, work.md.j2, resume.md.j2 "
        "and refine.md.j2 stand in for the built-in prompts of the same name.",
    )
    commit_author: str = _setting(
        "Dragoman <dragoman@localhost>",
        "runs",
        "Author and committer of what the server commits and merges, as Name <address>.",
        max_length=400,
    )
    worktree_copy: TextList = _setting(
        (),
        "runs",
        "Files, folders or patterns below a workspace's local repository that are copied into "
        "each new worktree, such as .env,config/*.local; the server never commits them.",
    )
    worktree_commands: Commands = _setting(
        (),
        "runs",
        'Commands run in each new worktree, as a JSON array of JSON arrays: [["npm", "ci"]].',
    )
    worktree_command_limit: Duration = _setting(
        10 * _MINUTE, "runs", "Longest time of one such command, seconds.", gt=0
    )
    run_token_budget: int = _setting(
        0, "runs", "Tokens, sent and answered, after which a run is stopped; 0 is no limit.", ge=0
    )
    run_cost_budget: float = _setting(
        0.0, "runs", "US dollars after which a run is stopped; 0 is no limit.", ge=0
    )
    day_token_budget: int = _setting(
        0,
        "runs",
        "Tokens all runs of this site may use together on one day (UTC); beyond, runs are stopped "
        "and held until the next day. 0 is no limit.",
        ge=0,
    )
    day_cost_budget: float = _setting(0.0, "runs", "The same in US dollars; 0 is no limit.", ge=0)
    gc_interval: Duration = _setting(
        0.0,
        "runs",
        "How often to remove what nothing needs any more, as dragoman gc does, such as 1d; 0 is "
        "never.",
    )
    allow_commands: bool = _setting(
        True,
        "commands",
        "Whether holders of execute may run command lines in workspace folders; see below.",
    )
    commands: CommandTemplates = _setting(
        {},
        "commands",
        'Programs beside the built-in ones, with templates of their arguments: {"npm": [["test"], '
        '["run", "*"]]}. * stands for one word that is no option, ** at the end for any number. '
        "null takes a built-in one away.",
    )
    command_path: str = _setting(
        "/usr/local/bin:/usr/bin:/bin",
        "commands",
        "Absolute folders in which their programs are looked for.",
        pattern=r"/[^:]*(?::/[^:]*)*",
    )
    command_time_limit: Duration = _setting(
        _HOUR, "commands", "Longest time of a command, seconds.", ge=1
    )
    command_output_limit: Size = _setting(
        10 * _MIB, "commands", "Output of one command that is kept, bytes.", ge=64 * 1024
    )
    max_concurrent_commands: int = _setting(
        5, "commands", "Commands at the same time on this server.", ge=1, le=1000
    )
    max_commands_per_user: int = _setting(
        2, "commands", "Commands of one user at the same time.", ge=1, le=1000
    )
    command_history: int = _setting(
        1000, "commands", "Commands kept per user and workspace.", ge=1, le=100_000
    )
    worktree_root: Path | None = _setting(
        None, "runs", "Folder of the git worktrees. Default: worktrees in the data folder."
    )

    # Pull requests
    pull_requests: Literal["api", "gh"] = _setting(
        "api",
        "pull requests",
        "How GitHub is asked: api, with a workspace's credential or DRAGOMAN_GITHUB_TOKEN; gh, "
        "with the program of that name and its log-in.",
    )
    github_api_url: str = _setting(
        "https://api.github.com",
        "pull requests",
        "Address of GitHub's API, such as https://github.example.org/api/v3 for a server of your "
        "own.",
    )
    github_token: SecretStr | None = _setting(
        None, "pull requests", "Token for workspaces that have no credential for GitHub's host."
    )
    merge_method: Literal["merge", "squash", "rebase"] = _setting(
        "merge", "pull requests", "How pull requests are merged when their task is approved."
    )

    # Operation
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "operation", "Least important lines that are logged."
    )
    log_format: Literal["auto", "console", "json"] = _setting(
        "auto", "operation", "auto: console on a terminal, JSON lines otherwise."
    )
    metrics_port: int = _setting(
        0, "operation", "Port of the Prometheus metrics; 0 is off.", ge=0, le=65535
    )
    metrics_host: str = _setting(
        "127.0.0.1", "operation", "Address the metrics listen on.", min_length=1
    )
    compile: bool = _setting(
        True,
        "operation",
        "Whether GraphQL documents that come again are compiled to Python; answers are the same.",
    )
    compile_shadow: float = _setting(
        0.0,
        "operation",
        "Share of compiled queries, 0 to 1, that graphql-core answers as well: differences are "
        "logged and counted; each of these costs several times as much.",
        ge=0,
        le=1,
    )
    shutdown_grace: Duration = _setting(
        10.0, "operation", "Longest wait for open requests at shutdown, seconds.", le=_HOUR
    )

    @field_validator("log_level", "compat_root", mode="before")
    @classmethod
    def _small_letters(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("sqlite_synchronous", mode="before")
    @classmethod
    def _capital_letters(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("data_dir", "worktree_root", "prompt_templates")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return None if value is None else _expanded(value)

    @field_validator("commit_author")
    @classmethod
    def _check_author(cls, value: str) -> str:
        values.parse_author(value)
        return value

    @field_validator("worktree_copy")
    @classmethod
    def _check_copy(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(values.check_copied(item) for item in value)

    @field_validator("repository_roots")
    @classmethod
    def _expand_roots(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        roots = tuple(_expanded(root) for root in value)
        if not all(root.is_absolute() for root in roots):
            raise ValueError("must be absolute folders")
        return roots

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        return SecretStr(values.normalise_database_url(value.get_secret_value()))

    @field_validator("broadcast_url")
    @classmethod
    def _check_broadcast(cls, value: SecretStr) -> SecretStr:
        return SecretStr(values.normalise_broadcast_url(value.get_secret_value()))

    @field_validator("rate_limit_url")
    @classmethod
    def _check_rates(cls, value: SecretStr) -> SecretStr:
        return SecretStr(values.normalise_rate_limit_url(value.get_secret_value()))

    @field_validator("public_url", "notifier_url")
    @classmethod
    def _check_public(cls, value: str | None) -> str | None:
        return None if value is None else values.normalise_web_url(value)

    @field_validator("github_api_url")
    @classmethod
    def _check_github(cls, value: str) -> str:
        return values.normalise_web_url(value)

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(values.check_proxy(item) for item in value)

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(values.normalise_origin(item) for item in value)

    @field_validator("secret_keys")
    @classmethod
    def _check_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in value:
            values.check_secret_key(key.get_secret_value())
        return value

    @model_validator(mode="after")
    def _check_pages(self) -> "Settings":
        if self.page_size > self.max_page_size:
            raise ValueError(f"{PREFIX}PAGE_SIZE: must be at most {PREFIX}MAX_PAGE_SIZE")
        return self

    @property
    def database_dsn(self) -> str:
        """The address for SQLAlchemy, with its async driver; it may hold a password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return values.sqlite_url(self.data_dir / DATABASE_FILE)

    @property
    def broadcast_dsn(self) -> str:
        """The address of the wake-up channel; it may hold a password."""
        return self.broadcast_url.get_secret_value()

    @property
    def uses_sqlite(self) -> bool:
        """Whether the database is a SQLite file."""
        return self.database_dsn.startswith("sqlite")

    @property
    def worktrees(self) -> Path:
        """Folder of the git worktrees."""
        return self.worktree_root or self.data_dir / "worktrees"

    @property
    def executor_commands(self) -> Mapping[str, ExecutorCommand]:
        """Commands by executor name; ``custom_command`` is the one named CUSTOM."""
        commands = dict(self.executors)
        if self.custom_command:
            commands["CUSTOM"] = ExecutorCommand(argv=self.custom_command)
        return commands


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; ``overrides`` (command line options) win unless they are None.

    Raises:
        SettingsError: with one line for each wrong value, naming its variable.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(_problems(error)) from None


def load_settings_or_exit(**overrides: Any) -> Settings:
    """``load_settings`` for the command line: wrong values end the program with code 2."""
    try:
        return load_settings(**overrides)
    except SettingsError as error:
        exit_with(error)


def exit_with(error: SettingsError) -> NoReturn:
    """Print the lines of the error to stderr and end the program with code 2."""
    for problem in error.problems:
        print(f"dragoman: {problem}", file=sys.stderr)  # noqa: T201  (the command line's voice)
    raise SystemExit(2)


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("begins with ~ but there is no home folder") from None


def _problems(error: ValidationError) -> list[str]:
    """One line per wrong value. Texts of the operator are never repeated: they may be secrets."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        text = problem["msg"].removeprefix("Value error, ").replace("\n", " ")
        if not problem["loc"]:
            problems.append(text)
            continue
        name, *inner = (str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden" and not inner:
            text = "no such setting"
        place = f" ({'.'.join(inner)})" if inner else ""
        problems.append(f"{variable_of(name)}{place}: {text[:1].lower()}{text[1:]}")
    return problems
