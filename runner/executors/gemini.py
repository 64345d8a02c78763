"""Executor GEMINI: ``gemini -p`` with its events as JSON lines.

Its configuration has four layers; the topmost one (the machine's) wins over what a repository
brings. Its place can be told by a variable, so each run gets a file of its own there: no
statistics, no updates, no hooks. The user's own settings, log-in and sessions stay in HOME.

It writes no event of a changed file: a tool's result names none, and a tool's call may yet fail.
"""

import json
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

SETTINGS_FILE = "gemini-settings.json"
_KEY = "GEMINI_API_KEY"
_QUIET: dict[str, Any] = {
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
    "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
}


@dataclass(frozen=True, slots=True)
class GeminiExecutor(NativeExecutor):
    """See the module's text."""

    default_program: ClassVar[str] = "gemini"
    install_hint: ClassVar[str] = "npm install -g @google/gemini-cli"
    credentials: ClassVar[Credentials] = Credentials(
        variables=(_KEY, "GOOGLE_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS"),
        files=(("GEMINI_CLI_HOME", ".gemini", "oauth_creds.json"),),
    )

    def build(self, spec: RunSpec) -> Launch:
        """A new session under the server's id, or a resumed one."""
        resumed = session_of(spec)
        chosen = (f"--session-id={spec.new_session}",) if spec.new_session else ()
        return self.launch(
            spec,
            "-p",
            "",
            "--output-format=stream-json",
            f"--approval-mode={'yolo' if self.is_free else 'auto_edit'}",
            "--skip-trust",
            *(chosen if resumed is None else (f"--resume={resumed}",)),
            *self.model_option(spec),
            *self.settings.args,
            env={"GEMINI_CLI_SYSTEM_SETTINGS_PATH": str(spec.files / SETTINGS_FILE)},
            files={SETTINGS_FILE: json.dumps(self._configuration())},
        )

    def _configuration(self) -> dict[str, Any]:
        # With a key in the environment alone it asks how to log in, and there is nobody to answer.
        patterns = (*self.settings.env, *self.settings.passed)
        if not any(fnmatchcase(_KEY, pattern) for pattern in patterns):
            return _QUIET
        return {**_QUIET, "security": {"auth": {"selectedType": "gemini-api-key"}}}

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
