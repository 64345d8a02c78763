"""A run's log as PostHog's clients read it: stored notifications, one JSON object a line.

What a client logged comes back as it was. Of a run that the server executes, each progress event
becomes an ACP ``session/update`` and each other line a ``_posthog/console`` notification.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from models import Run
from resolvers.context import Context
from resolvers.run_queries import OutputEntry, read_run_output

CLIENT_STREAM = "log"
PAGE = 500
DROPPED_UPDATE = "agent_message_chunk"
_TOOL_STATUS = {"running": "in_progress"}
_PLAN_PRIORITY = "medium"


def is_kept(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is stored: all but the chunks of messages that follow whole."""
    return update_kind(entry) != DROPPED_UPDATE


def update_kind(entry: Mapping[str, Any]) -> str | None:
    """The ``sessionUpdate`` of a ``session/update`` entry; None for any other."""
    notification = entry.get("notification")
    if not isinstance(notification, dict) or notification.get("method") != "session/update":
        return None
    params = notification.get("params")
    update = params.get("update") if isinstance(params, dict) else None
    kind = update.get("sessionUpdate") if isinstance(update, dict) else None
    return kind if isinstance(kind, str) else None


def kind_of(entry: Mapping[str, Any]) -> str | None:
    """What filters call an entry: its ``sessionUpdate``, else its method."""
    notification = entry.get("notification")
    method = notification.get("method") if isinstance(notification, dict) else None
    return update_kind(entry) or (method if isinstance(method, str) else None)


def logged_line(entry: OutputEntry) -> str:
    """A line of the log."""
    if entry.stream == CLIENT_STREAM:
        return entry.text
    return line_of(entry.stream, entry.text, at=entry.at, event=entry.event, run_id=entry.run_id)


def line_of(
    stream: str, text: str, *, at: datetime, event: Mapping[str, Any] | None, run_id: str
) -> str:
    """An output line of a run the server executes, as a stored notification."""
    update = _update(event) if event is not None else None
    if update is not None:
        method, params = "session/update", {"sessionId": run_id, "update": update}
    else:
        level = "error" if stream == "stderr" else "info"
        method, params = "_posthog/console", {"sessionId": run_id, "level": level, "message": text}
    stored = {
        "type": "notification",
        "timestamp": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "notification": {"jsonrpc": "2.0", "method": method, "params": params},
    }
    return orjson.dumps(stored).decode()


def _update(event: Mapping[str, Any]) -> dict[str, Any] | None:
    match event.get("type"):
        case "message":
            return {"sessionUpdate": "agent_message", "content": _text(event["text"])}
        case "thinking":
            return {"sessionUpdate": "agent_thought_chunk", "content": _text(event["text"])}
        case "tool_call":
            status = str(event["status"])
            return {
                "sessionUpdate": "tool_call",
                "toolCallId": event["id"],
                "title": event.get("title") or event["name"],
                "kind": event["kind"],
                "status": _TOOL_STATUS.get(status, status),
                "rawInput": event.get("input"),
            }
        case "tool_result":
            return {
                "sessionUpdate": "tool_call_update",
                "toolCallId": event["id"],
                "status": "completed" if event["ok"] else "failed",
                "content": [{"type": "content", "content": _text(event["output"])}],
            }
        case "plan":
            entries = [
                {"content": item["text"], "status": item["status"], "priority": _PLAN_PRIORITY}
                for item in event["items"]
            ]
            return {"sessionUpdate": "plan", "entries": entries}
    return None


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


async def log_lines(ctx: Context, runs: list[Run]) -> AsyncIterator[str]:
    """The lines of runs, one run after the other, read page by page."""
    for run in runs:
        line = 0
        while True:
            page = await read_run_output(ctx, run_id=run.id, after=line, limit=PAGE)
            if not page.entries:
                break
            for entry in page.entries:
                yield logged_line(entry)
            line = page.entries[-1].line
