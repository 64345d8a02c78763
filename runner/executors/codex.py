"""Executor CODEX: ``codex exec --json``.

Its state (log-in, configuration, sessions to resume) stays in the ``CODEX_HOME`` of the server's
user, ``~/.codex``, or where the operator's ``env`` says, because a session can only be resumed
where it was made: a folder per run would lose it. What this server needs beside that is given as
``-c`` options, which win over the file there and vanish with the run.

``edits`` is codex's own sandbox: commands run, without network, and write in the worktree only.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from runner.executors.base import NOTHING, Facts, Launch, Parsed, RunSpec, Verdict
from runner.executors.native import Credentials, NativeExecutor, Permissions, session_of
from runner.executors.reading import (
    Events,
    count_of,
    event,
    find_object,
    find_session_id,
    find_text,
    objects,
    plan,
    shown,
    tool_call,
    usage,
)
from runner.processes import RUN_TAG

_QUIET = (
    "check_for_update_on_startup=false",
    "analytics.enabled=false",
    "features.plugins=false",
    "features.remote_plugin=false",
    "features.apps=false",
)
"""All of them are needed to keep it from looking up addresses that are not the model's."""


@dataclass(frozen=True, slots=True)
class CodexExecutor(NativeExecutor):
    """See the module's text."""

    default_program: ClassVar[str] = "codex"
    install_hint: ClassVar[str] = "npm install -g @openai/codex"
    credentials: ClassVar[Credentials] = Credentials(
        variables=("CODEX_API_KEY", "OPENAI_API_KEY"),
        files=(("CODEX_HOME", ".codex", "auth.json"),),
    )

    default_acp_program: ClassVar[str | None] = "codex-acp"
    acp_modes: ClassVar[Mapping[Permissions, str]] = {
        Permissions.EDITS: "auto",
        Permissions.ASK: "auto",
        Permissions.FULL: "full-access",
    }

    def build_acp(self, spec: RunSpec) -> Launch:
        """The adapter program of codex for the Agent Client Protocol."""
        return replace(self.launch(spec), argv=(self.acp_program, *self.settings.args))

    def build(self, spec: RunSpec) -> Launch:
        """A new thread, or a resumed or forked one; options stand before ``resume``."""
        resumed = session_of(spec)
        settings = (
            *_QUIET,
            # Its tools print their environment: they get the basics, not the key, and the tag by
            # which this server finds every process of the run.
            'shell_environment_policy.inherit="core"',
            f"shell_environment_policy.set.{RUN_TAG}={json.dumps(spec.run_id)}",
        )
        then = () if resumed is None else ("fork" if spec.fork_session else "resume", resumed)
        return self.launch(
            spec,
            "exec",
            "--json",
            f"--sandbox={self._sandbox(spec)}",
            "--skip-git-repo-check",
            *(word for setting in settings for word in ("-c", setting)),
            *self.model_option(spec),
            *self.settings.args,
            *then,
            "-",
        )

    def _sandbox(self, spec: RunSpec) -> str:
        if spec.read_only:
            return "read-only"
        return "danger-full-access" if self.is_free else "workspace-write"

    def read(self, value: dict[str, Any]) -> Parsed:
        """See the module's text."""
        match value.get("type"):
            case "thread.started":
                return Parsed((), Facts(session_id=find_session_id(value, "thread_id")))
            case "item.started" | "item.updated" | "item.completed":
                completed = value["type"] == "item.completed"
                return _item(find_object(value, "item"), completed=completed)
            case "turn.completed":
                facts = Facts(verdict=Verdict.SUCCESS)
                return Parsed(event("result", verdict="success") + _usage(value), facts)
            case "turn.failed":
                error = find_text(find_object(value, "error"), "message") or "The turn failed"
                facts = Facts(verdict=Verdict.ERROR, error=error)
                return Parsed(event("result", verdict="error", error=error), facts)
            case "error":
                # "Reconnecting…" comes as an error and is none; only turn.failed is final.
                text = find_text(value, "message") or "An error without a text"
                return Parsed(event("warning", code="model_error", text=text), Facts(error=text))
        return NOTHING


def _usage(value: dict[str, Any]) -> Events:
    used = find_object(value, "usage")
    return usage(
        input=count_of(used, "input_tokens"),
        output=count_of(used, "output_tokens"),
        cached=count_of(used, "cached_input_tokens"),
        reasoning=count_of(used, "reasoning_output_tokens"),
        scope="session",
    )


def _item(item: dict[str, Any], *, completed: bool) -> Parsed:
    match item.get("type"):
        case "agent_message" if completed and (text := find_text(item, "text")):
            return Parsed(event("message", text=text), Facts(result_text=text))
        case "reasoning" if completed and (text := find_text(item, "text")):
            return Parsed(event("thinking", text=text))
        case "command_execution":
            ok = item.get("exit_code") == 0 and item.get("status") == "completed"
            output = shown(item.get("aggregated_output"))
            return _tool(item, "command", "execute", completed=completed, ok=ok, output=output)
        case "file_change":
            return _file_change(item, completed=completed)
        case "mcp_tool_call" | "collab_tool_call" | "web_search" as name:
            ok = item.get("status") in {None, "completed"} and not item.get("error")
            output = shown(item.get("error") or item.get("result"))
            named = find_text(item, "tool") or name
            return _tool(item, named, None, completed=completed, ok=ok, output=output)
        case "todo_list":
            steps = [
                {**step, "status": "completed" if step.get("completed") is True else "pending"}
                for step in objects(item.get("items"))
            ]
            return Parsed(plan(steps, text="text"))
        case "error" if completed:
            text = find_text(item, "message") or "An error without a text"
            code = "unknown_model" if "model metadata" in text.lower() else "agent_warning"
            return Parsed(event("warning", code=code, text=text))
    return NOTHING


def _tool(
    item: dict[str, Any], name: str, kind: str | None, *, completed: bool, ok: bool, output: str
) -> Parsed:
    if completed:
        return Parsed(event("tool_result", id=item.get("id"), ok=ok, output=output))
    arguments = item.get("arguments")
    if arguments is None:
        arguments = {key: item[key] for key in ("command", "query", "prompt") if key in item}
    return Parsed(tool_call(item.get("id"), name, arguments, kind=kind))


def _file_change(item: dict[str, Any], *, completed: bool) -> Parsed:
    changes = list(objects(item.get("changes")))
    if not completed:
        paths = {"path": ", ".join(find_text(change, "path") or "" for change in changes)}
        return Parsed(tool_call(item.get("id"), "file_change", paths, kind="edit"))
    ok = item.get("status") == "completed"
    events: Events = ()
    for change in changes if ok else ():
        events += event("file_change", path=change.get("path"), kind=change.get("kind"))
    return Parsed(events + event("tool_result", id=item.get("id"), ok=ok))
