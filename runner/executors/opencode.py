"""Executors OPENCODE and KILO (a fork of it): ``run --format json``.

What the repository configures is switched off, since MCP servers in it are started without a
question. The switch does not reach its plugins: version 1.18 runs ``.opencode/plugin/*.js`` all the
same, so a repository with such files is refused unless the agent may do everything anyway.
Permissions are set in the configuration, because a run has nobody to answer:
what is not allowed is denied, never asked. Ours is the inline configuration, which wins over files;
the operator's own inline configuration wins over ours.

There is no closing event: the last step's end says whether more was to come. Wrong keys and wrong
requests are repeated for ever without a word, so that only the silence limit ends such a run.
KILO's flags and variables are taken from its documentation and source, not from a run.
"""

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from runner.executors.base import (
    NOTHING,
    Facts,
    Launch,
    LaunchRefusedError,
    Parsed,
    RunSpec,
    Verdict,
)
from runner.executors.native import Credentials, NativeExecutor, Permissions, session_of
from runner.executors.reading import (
    Events,
    count_of,
    event,
    find_cost,
    find_object,
    find_session_id,
    find_text,
    plan,
    shown,
    tool_call,
    usage,
)

_SWITCHES = (
    "DISABLE_PROJECT_CONFIG",
    "DISABLE_AUTOUPDATE",
    "DISABLE_MODELS_FETCH",
    "DISABLE_LSP_DOWNLOAD",
    "DISABLE_SHARE",
)
_ALLOWED = {Permissions.EDITS: "deny", Permissions.ASK: "ask", Permissions.FULL: "allow"}
_WRITING_TOOLS = {"write", "edit", "patch"}


@dataclass(frozen=True, slots=True)
class OpencodeExecutor(NativeExecutor):
    """See the module's text."""

    default_program: ClassVar[str] = "opencode"
    install_hint: ClassVar[str] = "npm install -g opencode-ai"
    credentials: ClassVar[Credentials] = Credentials(
        variables=(
            "OPENCODE_CONFIG",
            "OPENCODE_CONFIG_CONTENT",
            "OPENCODE_AUTH_CONTENT",
            "ANTHROPIC_API_KEY",
            "OPENAI_API_KEY",
            "GEMINI_API_KEY",
            "OPENROUTER_API_KEY",
        ),
        files=(("XDG_DATA_HOME", ".local/share", "opencode/auth.json"),),
    )
    prefix: ClassVar[str] = "OPENCODE_"
    configuration_names: ClassVar[frozenset[str]] = frozenset(
        {".opencode", "opencode.json", "opencode.jsonc"}
    )

    def build(self, spec: RunSpec) -> Launch:
        """A new session, or a resumed or forked one; a prompt is needed for both.

        Raises:
            LaunchRefusedError: the repository could run programs through its configuration.
        """
        self._refuse_plugins(spec)
        resumed = session_of(spec)
        fork = ("--fork",) if spec.fork_session else ()
        return self.launch(
            spec,
            "run",
            "--format=json",
            *self.model_option(spec),
            *(("--auto",) if self.is_free and not spec.read_only else ()),
            *((f"--session={resumed}", *fork) if resumed else ()),
            *self.settings.args,
            env=self._switches(),
            own={f"{self.prefix}CONFIG_CONTENT": self._configuration(spec)},
        )

    def build_acp(self, spec: RunSpec) -> Launch:
        """The same, speaking the Agent Client Protocol. Raises LaunchRefusedError as above."""
        self._refuse_plugins(spec)
        model = self.find_model(spec)
        configuration = self._configuration(spec, **({"model": model} if model else {}))
        return self.launch(
            spec,
            "acp",
            *self.settings.args,
            env=self._switches(),
            own={f"{self.prefix}CONFIG_CONTENT": configuration},
        )

    def _refuse_plugins(self, spec: RunSpec) -> None:
        theirs = sorted(n for n in spec.entries if n.lower() in self.configuration_names)
        if theirs and not self.is_free:
            raise LaunchRefusedError(
                f"The repository brings {', '.join(theirs)}, and {self.program} runs the plugins "
                "such files name without a question. Remove them from the branch, or let the "
                f'operator allow everything: "permissions": "full" for {self.name}'
            )

    def _switches(self) -> dict[str, str]:
        return {f"{self.prefix}{name}": "1" for name in _SWITCHES}

    def _configuration(self, spec: RunSpec, **more: str) -> str:
        allowed = "deny" if spec.read_only else _ALLOWED[self.settings.permissions]
        ours = {
            "share": "disabled",
            "autoupdate": False,
            "permission": {
                "edit": "deny" if spec.read_only else "allow",
                "bash": allowed,
                "webfetch": allowed,
                "external_directory": allowed,
            },
        }
        given = self.settings.env.get(f"{self.prefix}CONFIG_CONTENT")
        if given is None:
            return json.dumps({**ours, **more})
        try:
            theirs = json.loads(given)
        except (ValueError, RecursionError):
            return given  # JSON with comments, say: theirs alone, as they wrote it
        return json.dumps({**ours, **theirs, **more}) if isinstance(theirs, dict) else given

    def read(self, value: dict[str, Any]) -> Parsed:
        """See the module's text."""
        part = find_object(value, "part")
        session_id = find_session_id(value, "sessionID")
        match value.get("type"):
            case "step_start":
                return Parsed((), Facts(session_id=session_id, verdict=Verdict.OPEN))
            case "text" if text := find_text(part, "text"):
                facts = Facts(session_id=session_id, result_text=text)
                return Parsed(event("message", text=text), facts)
            case "reasoning" if text := find_text(part, "text"):
                return Parsed(event("thinking", text=text))
            case "tool_use":
                return Parsed(_tool(part))
            case "step_finish":
                verdict = Verdict.SUCCESS if part.get("reason") == "stop" else Verdict.OPEN
                return Parsed(_usage(part), Facts(session_id=session_id, verdict=verdict))
            case "error":
                return _error(value)
        return NOTHING


@dataclass(frozen=True, slots=True)
class KiloExecutor(OpencodeExecutor):
    """See the module's text."""

    default_program: ClassVar[str] = "kilo"
    install_hint: ClassVar[str] = "npm install -g @kilocode/cli"
    credentials: ClassVar[Credentials] = Credentials(
        variables=("KILO_API_KEY", "KILO_CONFIG", "KILO_CONFIG_CONTENT"),
        files=(("XDG_DATA_HOME", ".local/share", "kilo/auth.json"),),
    )
    prefix: ClassVar[str] = "KILO_"
    configuration_names: ClassVar[frozenset[str]] = frozenset(
        {".kilo", ".kilocode", "kilo.json", "kilo.jsonc", *OpencodeExecutor.configuration_names}
    )


def _tool(part: dict[str, Any]) -> Events:
    """A call comes once, when it is over: with its result."""
    state, name = find_object(part, "state"), part.get("tool")
    call_id = find_text(part, "callID", "id")
    ok = state.get("status") == "completed"
    details, arguments = find_object(state, "metadata"), state.get("input")
    status = "completed" if ok else "failed"
    events = tool_call(call_id, name, arguments, status=status)
    if name == "todowrite" and ok:
        events += plan(details.get("todos"), text="content")
    path = find_text(arguments, "filePath") or find_text(details, "filepath")
    if name in _WRITING_TOOLS and ok and path:
        kind = "add" if details.get("exists") is False else "update"
        events += event("file_change", path=path, kind=kind)
    output = shown(state.get("output")) or find_text(state, "error") or ""
    return events + event("tool_result", id=call_id, ok=ok, output=output)


def _usage(part: dict[str, Any]) -> Events:
    tokens = find_object(part, "tokens")
    cache = find_object(tokens, "cache")
    reasoning = count_of(tokens, "reasoning")
    return usage(
        input=count_of(tokens, "input") + count_of(cache, "read", "write"),
        output=count_of(tokens, "output") + reasoning,
        cached=count_of(cache, "read"),
        reasoning=reasoning,
        cost_usd=find_cost(part.get("cost")),
        scope="step",
    )


def _error(value: dict[str, Any]) -> Parsed:
    problem = find_object(value, "error")
    text = (
        find_text(find_object(problem, "data"), "message")
        or find_text(problem, "message", "name")
        or "The agent reported an error"
    )
    facts = Facts(verdict=Verdict.ERROR, error=text)
    return Parsed(event("result", verdict="error", error=text), facts)
