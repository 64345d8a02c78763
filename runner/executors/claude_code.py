"""Executor CLAUDE_CODE: ``claude -p`` with its events as JSON lines.

A repository must not configure the agent: hooks, key helpers, another address for the model and
MCP servers all run without a question in this mode. So only the user's own settings are read and
only MCP servers of the command line are started. That also drops the project's CLAUDE.md, which is
therefore handed over as text.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
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
    model_log,
    objects,
    plan,
    shown,
    tool_call,
    tool_kind,
    tool_title,
    usage,
)
from runner.folder import ORDERS_FILE

INSTRUCTIONS_FILE = "CLAUDE.md"
CLIENT = Path(__file__).resolve().parents[1] / "beside" / "claude_client.py"
CONFIGURATION_FILE = "claude.json"
_ASKING = ("--input-format=stream-json", "--permission-prompt-tool=stdio")
_OPTIONS = [
    {"id": "allow_once", "name": "Allow", "kind": "allow_once"},
    {"id": "allow_always", "name": "Allow from now on", "kind": "allow_always"},
    {"id": "reject_once", "name": "Reject", "kind": "reject_once"},
]
_ROOT_SWITCH = "IS_SANDBOX"
_FREE = "bypassPermissions"
_ENVIRONMENT = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
"""Enough by itself: no connection but the model's."""


@dataclass(frozen=True, slots=True)
class ClaudeCodeExecutor(NativeExecutor):
    """See the module's text."""

    default_program: ClassVar[str] = "claude"
    install_hint: ClassVar[str] = "npm install -g @anthropic-ai/claude-code"
    can_ask: ClassVar[bool] = True
    credentials: ClassVar[Credentials] = Credentials(
        variables=(
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_USE_VERTEX",
        ),
        files=(("CLAUDE_CONFIG_DIR", ".claude", ".credentials.json"),),
    )

    default_acp_program: ClassVar[str | None] = "claude-agent-acp"
    acp_modes: ClassVar[Mapping[Permissions, str]] = {
        Permissions.EDITS: "acceptEdits",
        Permissions.ASK: "acceptEdits",
        Permissions.FULL: "bypassPermissions",
    }

    def build_acp(self, spec: RunSpec) -> Launch:
        """The adapter program of claude for the Agent Client Protocol.

        Raises:
            LaunchRefusedError: it reads the repository's settings, which could run programs.
        """
        theirs = sorted(spec.entries & {".claude", ".mcp.json"})
        if theirs and not self.is_free:
            raise LaunchRefusedError(
                f"The repository brings {', '.join(theirs)}, and {self.acp_program} starts what "
                "they name without a question. Remove them from the branch, or use the protocol "
                f"native for {self.name}"
            )
        command = self.launch(spec, env=_ENVIRONMENT)
        return replace(command, argv=(self.acp_program, *self.settings.args))

    def build(self, spec: RunSpec) -> Launch:
        """A new session under the server's id, or a resumed one.

        Raises:
            LaunchRefusedError: claude would refuse to run as root with all permissions.
        """
        if self._mode(spec) == _FREE and spec.is_root and not self.settings.env.get(_ROOT_SWITCH):
            raise LaunchRefusedError(
                f"{self.program} refuses all permissions to root. Run the server as another user, "
                f'or set "env": {{"{_ROOT_SWITCH}": "1"}} for {self.name}, which tells it that '
                "this machine is a sandbox"
            )
        asks = self.settings.permissions is Permissions.ASK and not spec.read_only
        files = {} if spec.instructions is None else {INSTRUCTIONS_FILE: spec.instructions}
        launch = self.launch(
            spec,
            "-p",
            *(_ASKING if asks else ()),
            "--output-format=stream-json",
            "--verbose",
            f"--permission-mode={self._mode(spec)}",
            "--setting-sources=user",
            "--strict-mcp-config",
            *(f"--append-system-prompt-file={spec.files / name}" for name in files),
            *self.model_option(spec),
            *_session(spec),
            *self.settings.args,
            env=_ENVIRONMENT,
            files=files,
        )
        return self._with_client(launch, spec) if asks else launch

    def _with_client(self, launch: Launch, spec: RunSpec) -> Launch:
        """Our client in claude's place, which keeps its input open for answers and messages."""
        configuration = {"argv": launch.argv, "orders": str(spec.files / ORDERS_FILE)}
        return replace(
            launch,
            argv=(sys.executable, "-I", str(CLIENT), str(spec.files / CONFIGURATION_FILE)),
            files={**launch.files, CONFIGURATION_FILE: json.dumps(configuration)},
            interactive=True,
        )

    def _mode(self, spec: RunSpec) -> str:
        # Unattended, "default" refuses everything that would be asked about; "plan" would put the
        # answer into a tool call that is then refused.
        if spec.read_only:
            return "default"
        return _FREE if self.is_free else "acceptEdits"

    def read(self, value: dict[str, Any]) -> Parsed:
        """See the module's text."""
        match value.get("type"):
            case "system":
                return _system(value)
            case "assistant":
                return Parsed(_said(value), _session_fact(value))
            case "user":
                return Parsed(_answered(value))
            case "result":
                return _result(value)
            case "told_message":
                told = event("message", role="user", text=value.get("text"))
                return Parsed(told, Facts(verdict=Verdict.OPEN))
        return Parsed(_asked(value))


def _asked(value: dict[str, Any]) -> Events:
    """A question, and what our own client tells of answers and messages."""
    match value.get("type"):
        case "control_request":
            return _question(value)
        case "told_answer":
            return event("answer", id=value.get("question"), option=value.get("option"))
        case "told_heard":
            return event("log", text="A message waits for the end of this turn")
        case "told_late":
            text = f"This came too late: {find_text(value, 'text')}"
            return event("warning", code="undelivered", text=text)
    return ()


def _question(value: dict[str, Any]) -> Events:
    request = find_object(value, "request")
    tool = find_text(request, "tool_name")
    if request.get("subtype") != "can_use_tool" or tool is None:
        return ()
    about = tool_title(request.get("input"))
    always = bool(request.get("permission_suggestions"))
    return event(
        "question",
        id=value.get("request_id"),
        text=f"{tool}: {about}" if about else tool,
        kind=tool_kind(tool),
        input=request.get("input"),
        options=[option for option in _OPTIONS if always or option["kind"] != "allow_always"],
    )


def _session(spec: RunSpec) -> tuple[str, ...]:
    resumed = session_of(spec)
    if resumed is not None:
        fork = ("--fork-session",) if spec.fork_session else ()
        return (f"--resume={resumed}", *fork)
    return (f"--session-id={spec.new_session}",) if spec.new_session else ()


def _session_fact(value: dict[str, Any]) -> Facts:
    return Facts(session_id=find_session_id(value, "session_id"))


def _system(value: dict[str, Any]) -> Parsed:
    match value.get("subtype"):
        case "init":
            mode = find_text(value, "permissionMode")
            rest = (f"permission mode {mode}",) if mode else ()
            return Parsed(model_log(find_text(value, "model"), *rest), _session_fact(value))
        case "api_retry":
            status, attempt = count_of(value, "error_status"), count_of(value, "attempt")
            told = (
                f"The model did not answer (status {status or 'unknown'}): "
                f"attempt {attempt} of {count_of(value, 'max_retries')}"
            )
            return Parsed(event("warning", code="api_retry", text=told))
        case "permission_denied":
            text = find_text(value, "message", "decision_reason", "reason")
            tool = find_text(value, "tool_name", "tool") or "A tool"
            said = f"{tool} was refused" + (f": {text}" if text else "")
            return Parsed(event("warning", code="permission_denied", text=said))
    return NOTHING


def _blocks(value: dict[str, Any]) -> list[dict[str, Any]]:
    return list(objects(find_object(value, "message").get("content")))


def _said(value: dict[str, Any]) -> Events:
    events: Events = ()
    for block in _blocks(value):
        match block.get("type"):
            case "text" if find_text(block, "text"):
                events += event("message", text=block["text"])
            case "thinking" if find_text(block, "thinking"):
                events += event("thinking", text=block["thinking"])
            case "tool_use":
                events += tool_call(block.get("id"), block.get("name"), block.get("input"))
                if block.get("name") == "TodoWrite":
                    events += plan(find_object(block, "input").get("todos"), text="content")
    return events


def _answered(value: dict[str, Any]) -> Events:
    events: Events = ()
    for block in _blocks(value):
        if block.get("type") == "tool_result":
            events += event(
                "tool_result",
                id=block.get("tool_use_id"),
                ok=block.get("is_error") is not True,
                output=shown(block.get("content")),
            )
    return events + _changed(find_object(value, "tool_use_result"))


def _changed(details: dict[str, Any]) -> Events:
    if details.get("type") in {"create", "update"} or "structuredPatch" in details:
        kind = "add" if details.get("type") == "create" else "update"
        return event("file_change", path=details.get("filePath"), kind=kind)
    return ()


def _usage(value: dict[str, Any]) -> Events:
    """Tokens count this process, money the whole session: two events, each with its scope."""
    used = find_object(value, "usage")
    tokens: Events = ()
    if used:
        cached = count_of(used, "cache_read_input_tokens")
        tokens = usage(
            input=count_of(used, "input_tokens", "cache_creation_input_tokens") + cached,
            output=count_of(used, "output_tokens"),
            cached=cached,
            scope="run",
        )
    return tokens + usage(cost_usd=find_cost(value.get("total_cost_usd")), scope="session")


def _denials(value: dict[str, Any]) -> Events:
    names = [find_text(denial, "tool_name") for denial in objects(value.get("permission_denials"))]
    known = sorted({name or "a tool" for name in names})
    if not known:
        return ()
    text = f"Not permitted: {', '.join(known)} ({len(names)} times)"
    return event("warning", code="permission_denied", text=text)


def _result(value: dict[str, Any]) -> Parsed:
    """The last word. ``subtype`` says "success" for errors of the model too; ``is_error`` knows."""
    text = find_text(value, "result") or ""
    success = value.get("subtype") == "success" and value.get("is_error") is False
    error = None
    if not success:
        errors = value.get("errors")
        said = [one for one in errors if isinstance(one, str)] if isinstance(errors, list) else []
        reason = find_text(value, "terminal_reason", "subtype")
        error = "; ".join(said) or text or f"The agent ended with {reason}"
    closing = event("result", verdict="success" if success else "error", text=text, error=error)
    # The judgement first: an entry of the log shows the first event of its line.
    events = closing + _usage(value) + _denials(value)
    facts = Facts(
        session_id=find_session_id(value, "session_id"),
        verdict=Verdict.SUCCESS if success else Verdict.ERROR,
        result_text=text,
        error=error,
    )
    return Parsed(events, facts)
