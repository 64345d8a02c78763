"""Executors over the Agent Client Protocol: one adapter for every agent that speaks it.

The program that runs is our own client (``runner.beside.acp_client``), which starts the agent and
tells what it says; so this adapter, like all others, builds an argument list and reads lines. What
is the agent's own (its command line, its environment, its refusals) stays in its native adapter.

Over this protocol an agent can ask, be answered, be told more while it works, and be cancelled in a
way that ends its tools. What it tells of tokens is less than natively: opencode counts the last
step of a turn only, gemini shows no output of commands.
"""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.ending import ExitInfo, Outcome, StopCause
from runner.executors.base import (
    NOTHING,
    Facts,
    Launch,
    OutputStream,
    Parsed,
    RunSpec,
    Verdict,
    find_json_object,
)
from runner.executors.native import NativeExecutor, session_of
from runner.executors.reading import (
    Events,
    count_of,
    event,
    find_cost,
    find_object,
    find_session_id,
    find_text,
    objects,
    plan,
    shown,
    tool_title,
    usage,
)
from runner.folder import ORDERS_FILE

CLIENT = Path(__file__).resolve().parents[1] / "beside" / "acp_client.py"
CONFIGURATION_FILE = "acp.json"
_KINDS = {
    "read": "read",
    "edit": "edit",
    "delete": "edit",
    "move": "edit",
    "search": "search",
    "execute": "execute",
    "think": "think",
    "fetch": "fetch",
}
_STATES = {"pending": "pending", "completed": "completed", "failed": "failed"}
_REASONS = {
    "max_tokens": "The agent used up its tokens for one answer",
    "max_turn_requests": "The agent asked the model as often as it may in one turn",
    "refusal": "The agent refused to go on",
    "cancelled": "The turn was cancelled",
}


@dataclass(frozen=True, slots=True)
class AcpExecutor:
    """The adapter; ``agent`` knows the agent's command for this protocol."""

    agent: NativeExecutor

    @property
    def name(self) -> str:
        """Name of the executor."""
        return self.agent.name

    @property
    def program(self) -> str:
        """The agent's program."""
        return self.agent.acp_program

    def build(self, spec: RunSpec) -> Launch:
        """Our client in the agent's place. Raises LaunchRefusedError."""
        command = self.agent.build_acp(spec)
        configuration = {
            "argv": command.argv,
            "permissions": "read" if spec.read_only else self.agent.settings.permissions,
            "session": session_of(spec),
            "fork": spec.fork_session,
            "model": self.agent.find_model(spec),
            "mode": None if spec.read_only else self.agent.acp_mode,
            "auth": self.agent.acp_auth,
            "while_exists": self.agent.acp_while_exists(spec),
            "orders": str(spec.files / ORDERS_FILE),
        }
        return replace(
            command,
            argv=(sys.executable, "-I", str(CLIENT), str(spec.files / CONFIGURATION_FILE)),
            stdin_text=spec.prompt,
            files={**command.files, CONFIGURATION_FILE: json.dumps(configuration)},
            interactive=True,
        )

    def parse(self, line: str, *, stream: OutputStream = "stdout") -> Parsed:
        """Progress and facts of a line of our client."""
        value = find_json_object(line) if stream == "stdout" else None
        if value is None:
            return NOTHING
        match value.get("acp"):
            case "session":
                return _session(value)
            case "update":
                return _update(find_object(value, "update"))
            case "turn":
                return _turn(value)
            case "error":
                details = find_text(find_object(value, "data"), "details", "message")
                text = find_text(value, "text") or "The agent reported an error"
                return _failed(f"{text}: {details}" if details else text)
            case "message":
                return Parsed(_said(value), Facts(verdict=Verdict.OPEN))
        return Parsed(_said(value))

    def classify(self, end: ExitInfo, facts: Facts, *, stop: StopCause | None) -> Outcome:
        """As of every agent: its last word, and our client's exit code."""
        return self.agent.classify(end, facts, stop=stop)


def _session(value: dict[str, Any]) -> Parsed:
    facts = Facts(session_id=find_session_id(value, "session"))
    name = find_text(value, "name")
    told = " ".join(filter(None, (name, find_text(value, "version"))))
    return Parsed(event("log", text=told) if told else (), facts)


def _update(update: dict[str, Any]) -> Parsed:
    match update.get("sessionUpdate"):
        case "agent_message_chunk":
            text = find_text(find_object(update, "content"), "text")
            facts = Facts(result_text=text) if text and text.strip() else Facts()
            return Parsed(event("message", text=text, partial=True) if text else (), facts)
        case "agent_thought_chunk":
            text = find_text(find_object(update, "content"), "text")
            return Parsed(event("thinking", text=text) if text else ())
        case "tool_call" | "tool_call_update":
            return Parsed(_tool(update))
        case "plan":
            return Parsed(plan(update.get("entries"), text="content"))
        case "usage_update":
            cost = find_object(update, "cost")
            amount = find_cost(cost.get("amount")) if cost.get("currency") == "USD" else None
            return Parsed(usage(cost_usd=amount, scope="session"))
    return NOTHING


def _tool(update: dict[str, Any]) -> Events:
    """A call; when it is over, its result and the files it changed; else its news."""
    call_id, status = update.get("toolCallId"), update.get("status")
    output = shown(_contents(update))
    is_over = status in {"completed", "failed"}
    told: Events = ()
    is_new = update.get("sessionUpdate") == "tool_call"
    if is_new or (not is_over and not output and update.get("rawInput")):
        told = event(
            "tool_call",
            id=call_id,
            name=find_text(update, "kind") or "tool",
            kind=_KINDS.get(find_text(update, "kind") or "", "other"),
            title=tool_title(update.get("rawInput")) or find_text(update, "title"),
            status=_STATES.get(find_text(update, "status") or "", "running"),
            input=update.get("rawInput"),
        )
    if not is_over:
        return told
    ok = status == "completed"
    raw = find_object(update, "rawOutput")
    output = output or find_text(raw, "output", "error") or ""
    return (
        told
        + (_changes(update, raw) if ok else ())
        + event("tool_result", id=call_id, ok=ok, output=output)
    )


def _contents(update: dict[str, Any]) -> list[dict[str, Any]] | None:
    texts = [find_object(entry, "content") for entry in objects(update.get("content"))]
    return [text for text in texts if find_text(text, "text")] or None


def _changes(update: dict[str, Any], raw: dict[str, Any]) -> Events:
    changed: Events = ()
    for entry in objects(update.get("content")):
        if entry.get("type") == "diff":
            said = find_text(find_object(entry, "_meta"), "kind")
            kind = said if said in {"add", "delete"} else "update"
            if said is None and entry.get("oldText") is None:
                kind = "add"
            changed += event("file_change", path=entry.get("path"), kind=kind)
    details = find_object(raw, "metadata")
    path = find_text(details, "filepath")
    if not changed and path:  # opencode's
        kind = "add" if details.get("exists") is False else "update"
        changed = event("file_change", path=path, kind=kind)
    return changed


def _said(value: dict[str, Any]) -> Events:
    """What passes between the agent and people."""
    text = find_text(value, "text")
    match value.get("acp"):
        case "question":
            return event(
                "question",
                id=value.get("question"),
                text=text,
                kind=_KINDS.get(find_text(value, "kind") or "", "other"),
                input=value.get("input"),
                options=value.get("options"),
            )
        case "answer":
            return event("answer", id=value.get("question"), option=value.get("option"))
        case "message":
            return event("message", role="user", text=text)
        case "heard":
            return event("log", text="A message waits for the end of this turn")
        case "refused":
            told = f"Not permitted: {text or 'a tool'}"
            return event("warning", code="permission_denied", text=told)
        case "warning":
            return event("warning", code="agent_warning", text=text)
    return ()


def _turn(value: dict[str, Any]) -> Parsed:
    meta, reason = find_object(value, "meta"), find_text(value, "reason") or ""
    used = find_object(value, "usage")
    cached = count_of(used, "cachedReadTokens")
    reasoning = count_of(used, "thoughtTokens")
    counted = usage(
        input=count_of(used, "inputTokens", "cachedWriteTokens") + cached,
        output=count_of(used, "outputTokens") + reasoning,
        cached=cached,
        reasoning=reasoning,
        scope="step",
    )
    if not used:  # gemini's
        quota = find_object(meta, "quota", "token_count")
        counted = usage(
            input=count_of(quota, "input_tokens"),
            output=count_of(quota, "output_tokens"),
            scope="step",
        )
    if '"systemError"' in shown(meta):
        reason = "systemError"  # codex tells the error itself as a message
    if reason == "end_turn":
        closing = event("result", verdict="success")
        return Parsed(closing + counted, Facts(verdict=Verdict.SUCCESS))
    failed = _failed(_REASONS.get(reason, f"The agent ended its turn with {reason or 'no reason'}"))
    return Parsed(failed.events + counted, failed.facts)


def _failed(text: str) -> Parsed:
    closing = event("result", verdict="error", error=text)
    return Parsed(closing, Facts(verdict=Verdict.ERROR, error=text))
