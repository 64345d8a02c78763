"""Executor CURSOR: ``cursor-agent -p`` with its events as JSON lines.

Written from public documentation; this adapter has not been run with the real program, which has
an installer of its own and needs an account. (The package of that name on npm is another program.)
It tells no tokens. Without all permissions it is only told to trust the worktree.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from runner.executors.base import NOTHING, Facts, Launch, Parsed, RunSpec, Verdict
from runner.executors.native import Credentials, NativeExecutor, session_of
from runner.executors.reading import (
    Events,
    event,
    find_object,
    find_session_id,
    find_text,
    model_log,
    objects,
    shown,
    tool_call,
)

_TOOL_ENDING = "ToolCall"


@dataclass(frozen=True, slots=True)
class CursorExecutor(NativeExecutor):
    """See the module's text."""

    default_program: ClassVar[str] = "cursor-agent"
    install_hint: ClassVar[str] = "see Cursor's own documentation of its command line"
    credentials: ClassVar[Credentials] = Credentials(
        variables=("CURSOR_API_KEY",), files=(("XDG_CONFIG_HOME", ".config", "cursor/auth.json"),)
    )

    def build(self, spec: RunSpec) -> Launch:
        """A new session, or a resumed one."""
        resumed = session_of(spec)
        return self.launch(
            spec,
            "-p",
            "--output-format=stream-json",
            "--force" if self.is_free and not spec.read_only else "--trust",
            *self.model_option(spec),
            *((f"--resume={resumed}",) if resumed else ()),
            *self.settings.args,
        )

    def build_acp(self, spec: RunSpec) -> Launch:
        """The same, speaking the Agent Client Protocol."""
        return self.launch(spec, *self.model_option(spec), "acp", *self.settings.args)

    def read(self, value: dict[str, Any]) -> Parsed:
        """See the module's text."""
        session = Facts(session_id=find_session_id(value, "session_id"))
        match value.get("type"):
            case "system" if value.get("subtype") == "init":
                return Parsed(model_log(find_text(value, "model")), session)
            case "assistant":
                blocks = objects(find_object(value, "message").get("content"))
                said = "".join(find_text(block, "text") or "" for block in blocks)
                return Parsed(event("message", text=said) if said else (), session)
            case "thinking" if text := find_text(value, "text"):
                return Parsed(event("thinking", text=text))
            case "tool_call":
                return Parsed(_tool(value))
            case "result":
                return _result(value)
        return NOTHING


def _tool(value: dict[str, Any]) -> Events:
    """``tool_call`` has one member, named after the tool, with its arguments and its result."""
    calls = find_object(value, "tool_call")
    name = next((key for key in calls if key.endswith(_TOOL_ENDING)), None)
    if name is None:
        return ()
    call, call_id = find_object(calls, name), value.get("call_id")
    arguments = find_object(call, "args")
    tool = name.removesuffix(_TOOL_ENDING)
    if value.get("subtype") == "started":
        return tool_call(call_id, tool, arguments)
    if value.get("subtype") != "completed":
        return ()
    result = find_object(call, "result")
    ok = "success" in result
    events: Events = ()
    path = find_text(arguments, "path")
    if ok and path and tool in {"write", "edit", "delete"}:
        events = event("file_change", path=path, kind="delete" if tool == "delete" else "update")
    output = shown(result.get("success") if ok else result or None)
    return events + event("tool_result", id=call_id, ok=ok, output=output)


def _result(value: dict[str, Any]) -> Parsed:
    text = find_text(value, "result") or ""
    success = value.get("subtype") == "success" and value.get("is_error") is False
    error = None if success else text or "The agent reported an error"
    closing = event("result", verdict="success" if success else "error", text=text, error=error)
    facts = Facts(
        session_id=find_session_id(value, "session_id"),
        verdict=Verdict.SUCCESS if success else Verdict.ERROR,
        result_text=text,
        error=error,
    )
    return Parsed(closing, facts)
