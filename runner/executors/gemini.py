"""Executor GEMINI: ``gemini -p`` with its events as JSON lines.

It works headless in trusted folders only, and then sets every variable that a file ``.env`` of the
repository names and the environment does not: another address for the model, to which the key would
go, or options of its interpreter. So those variables are always there, empty where the operator
gives none. Its settings, log-in and sessions are those of HOME. What would keep it from asking for
updates and sending statistics can only be said there: the file of the machine, which would win, is
believed in folders of root's only.

It writes no event of a changed file: a tool's result names none, and a tool's call may yet fail.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from runner.executors.base import NOTHING, Facts, Launch, Parsed, RunSpec, Verdict
from runner.executors.native import Credentials, NativeExecutor, session_of
from runner.executors.reading import (
    Events,
    count_of,
    event,
    find_object,
    find_session_id,
    find_text,
    model_log,
    shown,
    tool_call,
    usage,
)

_PINNED = (
    "GOOGLE_GEMINI_BASE_URL",
    "GOOGLE_VERTEX_BASE_URL",
    "CODE_ASSIST_ENDPOINT",
    "GEMINI_CLI_HOME",
    "GEMINI_CLI_SYSTEM_SETTINGS_PATH",
    "GEMINI_CLI_SYSTEM_DEFAULTS_PATH",
    "GEMINI_SANDBOX",
    "NODE_OPTIONS",
)


@dataclass(frozen=True, slots=True)
class GeminiExecutor(NativeExecutor):
    """See the module's text."""

    default_program: ClassVar[str] = "gemini"
    install_hint: ClassVar[str] = "npm install -g @google/gemini-cli"
    credentials: ClassVar[Credentials] = Credentials(
        variables=("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS"),
        files=(("GEMINI_CLI_HOME", ".gemini", "oauth_creds.json"),),
    )

    acp_auth: ClassVar[str | None] = "gemini-api-key"

    def build(self, spec: RunSpec) -> Launch:
        """A new session under the server's id, or a resumed one."""
        resumed = session_of(spec)
        chosen = (f"--session-id={spec.new_session}",) if spec.new_session else ()
        return self.launch(
            spec,
            "-p",
            "",
            "--output-format=stream-json",
            f"--approval-mode={self._mode(spec)}",
            "--skip-trust",
            *(chosen if resumed is None else (f"--resume={resumed}",)),
            *self.model_option(spec),
            *self.settings.args,
            env={"GEMINI_TELEMETRY_ENABLED": "false", **self._pinned()},
        )

    def build_acp(self, spec: RunSpec) -> Launch:
        """The same, speaking the Agent Client Protocol; it then names the files it changes."""
        return self.launch(
            spec,
            "--acp",
            f"--approval-mode={self._mode(spec)}",
            "--skip-trust",
            *self.model_option(spec),
            *self.settings.args,
            env={"GEMINI_TELEMETRY_ENABLED": "false", **self._pinned()},
        )

    def acp_while_exists(self, spec: RunSpec) -> str | None:
        """A session is lost when it is loaded in the minute it was begun in.

        Version 0.61 then begins a file anew before it reads it: its name ends with the minute.
        """
        if spec.resume_session is None:
            return None
        return f".gemini/tmp/*/chats/session-%Y-%m-%dT%H-%M-{spec.resume_session[:8]}*"

    def _pinned(self) -> dict[str, str]:
        passed = self.settings.passed
        return {
            name: ""
            for name in _PINNED
            if not any(fnmatchcase(name, pattern) for pattern in passed)
        }

    def _mode(self, spec: RunSpec) -> str:
        if spec.read_only:
            return "default"
        return "yolo" if self.is_free else "auto_edit"

    def read(self, value: dict[str, Any]) -> Parsed:
        """See the module's text."""
        match value.get("type"):
            case "init":
                facts = Facts(session_id=find_session_id(value, "session_id"))
                return Parsed(model_log(find_text(value, "model")), facts)
            case "message" if value.get("role") == "assistant":
                return _message(value)
            case "tool_use":
                call_id, name = value.get("tool_id"), value.get("tool_name")
                return Parsed(tool_call(call_id, name, value.get("parameters")))
            case "tool_result":
                return Parsed(_tool_result(value))
            case "error":
                text = find_text(value, "message") or "An error without a text"
                return Parsed(event("warning", code="agent_warning", text=text), Facts(error=text))
            case "result":
                return _result(value)
        return NOTHING


def _message(value: dict[str, Any]) -> Parsed:
    text = find_text(value, "content")
    if text is None:
        return NOTHING
    facts = Facts(result_text=text) if text.strip() else Facts()
    return Parsed(event("message", text=text, partial=value.get("delta") is True), facts)


def _tool_result(value: dict[str, Any]) -> Events:
    output = shown(value.get("output")) or find_text(find_object(value, "error"), "message")
    ok = value.get("status") == "success"
    return event("tool_result", id=value.get("tool_id"), ok=ok, output=output or "")


def _result(value: dict[str, Any]) -> Parsed:
    stats = find_object(value, "stats")
    used = usage(
        input=count_of(stats, "input_tokens"),
        output=count_of(stats, "output_tokens"),
        cached=count_of(stats, "cached"),
        scope="run",
    )
    if value.get("status") == "success":
        closing = event("result", verdict="success")
        return Parsed(closing + used, Facts(verdict=Verdict.SUCCESS))
    error = find_text(find_object(value, "error"), "message") or "The agent reported an error"
    closing = event("result", verdict="error", error=error)
    return Parsed(closing + used, Facts(verdict=Verdict.ERROR, error=error))
