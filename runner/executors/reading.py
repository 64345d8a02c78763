"""Reading what agents write: values of unknown shape in, bounded progress events out.

Event shapes change between releases of the agents, so nothing here insists: what is missing or of
another type reads as None, empty or zero, and an event that cannot be made is left out.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from runner.executors.progress import NotAProgressEventError, ProgressEvent, read_event

_SESSION_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_TITLE_NAMES = (
    "command",
    "file_path",
    "filePath",
    "path",
    "pattern",
    "query",
    "url",
    "description",
    "prompt",
)
_TITLE_CHARACTERS = 200
_KIND_WORDS = {
    "think": ("think", "todo", "plan", "task"),
    "edit": ("write", "edit", "replace", "patch", "create", "delete", "move"),
    "execute": ("bash", "shell", "command", "exec", "terminal"),
    "search": ("grep", "glob", "search", "find"),
    "fetch": ("fetch", "web", "browse"),
    "read": ("read", "list", "view", "ls"),
}
"""First match wins, in this order: a tool that may change something is never shown as a reader."""
_PLAN_STATES = {
    "completed": "completed",
    "complete": "completed",
    "done": "completed",
    "cancelled": "completed",
    "in_progress": "in_progress",
    "in-progress": "in_progress",
}

Events = tuple[ProgressEvent, ...]


def event(type_: str, /, **members: Any) -> Events:
    """The progress event of these members, as a tuple of one; empty where they make none.

    Members that are None are left out. Texts are cut to what an event may hold.
    """
    told = {name: value for name, value in members.items() if value is not None}
    try:
        return (read_event({**told, "type": type_}),)
    except NotAProgressEventError:
        return ()


def find_object(value: Any, *names: str) -> dict[str, Any]:
    """The object reached by these member names; empty where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def find_text(value: Any, *names: str) -> str | None:
    """The first of the members that is a text with something in it."""
    if isinstance(value, dict):
        for name in names:
            if isinstance(found := value.get(name), str) and found:
                return found
    return None


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """The objects in a list; nothing for anything else."""
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))


def count_of(value: Any, *names: str) -> int:
    """The sum of those members that are counts; what cannot be a count is zero."""
    total = 0
    for name in names:
        found = value.get(name) if isinstance(value, dict) else None
        if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 1 << 50:
            total += found
    return total


def find_cost(value: Any) -> float | None:
    """US dollars, None for anything that is not an amount of them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1 << 50 else None


def find_session_id(value: Any, name: str) -> str | None:
    """A session id that may become an argument of a later command; None for any other text.

    What an agent writes must never be read as an option when its session is resumed.
    """
    found = find_text(value, name)
    return found if found and is_session_id(found) else None


def is_session_id(text: str) -> bool:
    """Whether a text can be the id of an agent's session."""
    return _SESSION_ID.fullmatch(text) is not None


def shown(value: Any) -> str:
    """A value for people: a text as it is, content blocks as their texts, anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, dict) and isinstance(value.get("content"), list):
        value = value["content"]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and any(find_text(item, "text") for item in value):
        return "\n".join(find_text(item, "text") or "" for item in value)
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return ""


def usage(**counts: Any) -> Events:
    """The event of tokens and dollars used; nothing where all of them are zero."""
    is_something = any(count for name, count in counts.items() if name != "scope")
    return event("usage", **counts) if is_something else ()


def model_log(model: str | None, *rest: str) -> Events:
    """The event that tells which model works, and what else the agent says of itself at first."""
    told = (*((f"Model {model}",) if model else ()), *rest)
    return event("log", text=", ".join(told)) if told else ()


def tool_kind(name: str) -> str:
    """The kind of a tool call, guessed from the tool's name."""
    words = name.lower()
    for kind, marks in _KIND_WORDS.items():
        if any(mark in words for mark in marks):
            return kind
    return "other"


def tool_title(arguments: Any) -> str | None:
    """One line that tells calls of a tool apart: its command, its file, what it looks for."""
    found = find_text(arguments, *_TITLE_NAMES)
    if found is None:
        return None
    return " ".join(found[: 4 * _TITLE_CHARACTERS].split())[:_TITLE_CHARACTERS] or None


def tool_call(
    call_id: Any, name: Any, arguments: Any, *, kind: str | None = None, status: str = "running"
) -> Events:
    """The event of a tool being used."""
    if not isinstance(name, str):
        return ()
    return event(
        "tool_call",
        id=call_id,
        name=name,
        kind=kind or tool_kind(name),
        title=tool_title(arguments),
        status=status,
        input=arguments,
    )


def plan(items: Any, *, text: str, status: str = "status") -> Events:
    """The plan in a list of objects; ``text`` and ``status`` name their members."""
    if not isinstance(items, list):
        return ()
    steps = [
        {"text": found, "status": _PLAN_STATES.get(find_text(item, status) or "", "pending")}
        for item in objects(items)
        if (found := find_text(item, text))
    ]
    return event("plan", items=steps)
