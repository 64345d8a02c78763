"""The common progress events: what an agent of any kind tells while it works.

Each event is a frozen dataclass; ``to_dict`` gives its JSON object, whose ``type`` names it, and
``read_event`` makes an event of such an object. Texts hold neither NUL nor lone surrogates and at
most 64 KiB (UTF-8) each; ``truncated`` says that something was left out.
"""

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin

MAX_TEXT_BYTES = 64 << 10
MAX_NAME_CHARACTERS = 1000
MAX_PLAN_ITEMS = 200
MAX_DEPTH = 20
_MAX_INTEGER = 2**53


class NotAProgressEventError(ValueError):
    """A JSON value is not one of the common progress events."""


@dataclass(frozen=True, slots=True)
class Log:
    """A remark of the program itself, not of the model."""

    type: ClassVar = "log"
    text: str
    stream: Literal["stdout", "stderr"] = "stdout"
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """Something said; ``partial`` texts of one role are to be joined."""

    type: ClassVar = "message"
    text: str
    role: Literal["assistant", "user", "system"] = "assistant"
    partial: bool = False
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Thinking:
    """Reasoning that the model shows."""

    type: ClassVar = "thinking"
    text: str
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool is used; a later call of the same ``id`` brings its news."""

    type: ClassVar = "tool_call"
    id: str
    name: str
    kind: Literal["read", "edit", "execute", "search", "fetch", "think", "other"] = "other"
    title: str | None = None
    status: Literal["pending", "running", "completed", "failed"] = "running"
    input: Any = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the tool call ``id`` gave."""

    type: ClassVar = "tool_result"
    id: str
    ok: bool
    output: str = ""
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file the agent says it changed, relative to the worktree; the truth is git's."""

    type: ClassVar = "file_change"
    path: str
    kind: Literal["add", "update", "delete"] = "update"


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One step of a plan."""

    text: str
    status: Literal["pending", "in_progress", "completed"] = "pending"


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole plan as it stands now; it replaces the one before. At most 200 items are kept."""

    type: ClassVar = "plan"
    items: tuple[PlanItem, ...]
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and US dollars, counted over ``scope``.

    ``cached`` is the part of ``input`` that came from a cache, ``reasoning`` a part of ``output``.
    ``step``: to be added up; ``run``: of the agent's process so far; ``session``: since the session
    began, earlier processes included.
    """

    type: ClassVar = "usage"
    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    cost_usd: float | None = None
    scope: Literal["step", "run", "session"] = "run"


@dataclass(frozen=True, slots=True)
class WarningEvent:
    """Something that did not go well, yet did not end the run; ``code`` is one word."""

    type: ClassVar = "warning"
    code: str
    text: str
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class QuestionOption:
    """One answer that can be given; ``kind`` says what it means, where the agent says so."""

    id: str
    name: str
    kind: Literal["allow_once", "allow_always", "reject_once", "reject_always", "other"] = "other"


@dataclass(frozen=True, slots=True)
class Question:
    """The agent waits for permission. ``kind`` and ``input`` are those of the tool call."""

    type: ClassVar = "question"
    id: str
    text: str
    options: tuple[QuestionOption, ...]
    kind: Literal["read", "edit", "execute", "search", "fetch", "think", "other"] = "other"
    input: Any = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The question ``id`` is settled; without an option it was taken back."""

    type: ClassVar = "answer"
    id: str
    option: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The agent's own word on how it went; the last event of a run."""

    type: ClassVar = "result"
    verdict: Literal["success", "error"]
    text: str = ""
    error: str | None = None
    truncated: bool = False


ProgressEvent = (
    Log
    | Message
    | Thinking
    | ToolCall
    | ToolResult
    | FileChange
    | Plan
    | Usage
    | WarningEvent
    | Question
    | Answer
    | Result
)
_EVENTS: dict[str, type[ProgressEvent]] = {event.type: event for event in get_args(ProgressEvent)}
_HINTS = {
    event: typing.get_type_hints(event) for event in (*_EVENTS.values(), PlanItem, QuestionOption)
}
# Identifiers and names are for matching and showing in one line, not for reading.
_SHORT = {"id", "name", "title", "code", "path", "option"}


def to_dict(event: ProgressEvent) -> dict[str, Any]:
    """The event as a JSON object."""
    return {"type": event.type, **dataclasses.asdict(event)}


def cut_text(text: str, *, limit: int = MAX_TEXT_BYTES) -> tuple[str, bool]:
    """The text made storable and at most ``limit`` bytes long, and whether it was cut."""
    head = text[: limit + 1]
    if not head.isascii():
        # By way of UTF-16, lone surrogates become U+FFFD and pairs become their character.
        head = head.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    data = head.replace("\0", "\ufffd").encode()
    if len(data) <= limit and len(text) <= limit:
        return data.decode(), False
    return data[:limit].decode("utf-8", errors="ignore"), True


class _Reader:
    """Checks the values of one event against the types of its fields."""

    def __init__(self) -> None:
        self.truncated = False

    def text(self, value: Any, name: str) -> str:
        if not isinstance(value, str):
            raise NotAProgressEventError(f"{name} is not a text")
        limit = MAX_NAME_CHARACTERS if name in _SHORT else MAX_TEXT_BYTES
        text, cut = cut_text(value, limit=limit)
        self.truncated = self.truncated or cut
        return text

    def number(self, value: Any, kind: type, name: str) -> int | float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise NotAProgressEventError(f"{name} is not a number")
        if not (math.isfinite(value) and 0 <= value <= _MAX_INTEGER):
            raise NotAProgressEventError(f"{name} is out of range")
        if kind is int and value != int(value):
            raise NotAProgressEventError(f"{name} is not a whole number")
        return int(value) if kind is int else float(value)

    def items(self, value: Any, kind: type[Any]) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise NotAProgressEventError("items is not a list")
        self.truncated = self.truncated or len(value) > MAX_PLAN_ITEMS
        return tuple(kind(**self.fields(kind, item)) for item in value[:MAX_PLAN_ITEMS])

    def json(self, value: Any) -> Any:
        budget = [MAX_TEXT_BYTES]
        cleaned = _clean_json(value, budget, MAX_DEPTH)
        self.truncated = self.truncated or budget[0] < 0
        return cleaned

    def value(self, value: Any, hint: Any, name: str) -> Any:
        if get_origin(hint) is types.UnionType:
            if value is None:
                return None
            hint = get_args(hint)[0]
        if get_origin(hint) is Literal:
            if not isinstance(value, str) or value not in get_args(hint):
                raise NotAProgressEventError(f"{name} is none of {', '.join(get_args(hint))}")
            return value
        if hint is bool:
            if not isinstance(value, bool):
                raise NotAProgressEventError(f"{name} is neither true nor false")
            return value
        if hint is str:
            return self.text(value, name)
        if hint in {int, float}:
            return self.number(value, hint, name)
        return self.json(value) if hint is Any else self.items(value, get_args(hint)[0])

    def fields(self, kind: type[Any], value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise NotAProgressEventError("this is not an object")
        found = {}
        for field in dataclasses.fields(kind):
            if field.name in value:
                hint = _HINTS[kind][field.name]
                found[field.name] = self.value(value[field.name], hint, field.name)
            elif field.default is dataclasses.MISSING:
                raise NotAProgressEventError(f"{field.name} is missing")
        return found


def _clean_json(value: Any, budget: list[int], depth: int) -> Any:
    """A storable copy of a JSON value; what exceeds the budget (bytes, roughly) is left out."""
    budget[0] -= 8
    if budget[0] < 0 or depth == 0:
        budget[0] = -1
        return None
    if isinstance(value, str):
        text, cut = cut_text(value, limit=budget[0])
        budget[0] = -1 if cut else budget[0] - len(text.encode())
        return text
    if isinstance(value, list):
        cleaned = []
        for item in value:
            if budget[0] < 0:
                break
            cleaned.append(_clean_json(item, budget, depth - 1))
        return cleaned
    if isinstance(value, dict):
        pairs = {}
        for name, item in value.items():
            if budget[0] < 0:
                break
            pairs[_clean_json(str(name), budget, depth)] = _clean_json(item, budget, depth - 1)
        return pairs
    if isinstance(value, int | float) and not isinstance(value, bool):
        storable = math.isfinite(value) and abs(value) <= _MAX_INTEGER
        return value if storable else str(value)[:MAX_NAME_CHARACTERS]
    return value


def read_event(value: Any) -> ProgressEvent:
    """The event that a JSON object describes. Raises NotAProgressEventError.

    Unknown members are passed over; long texts are cut (``truncated``).
    """
    kind = _EVENTS.get(value["type"]) if is_event_like(value) else None
    if kind is None:
        raise NotAProgressEventError("the type is none of the common progress events")
    reader = _Reader()
    fields = reader.fields(kind, value)
    if reader.truncated and "truncated" in _HINTS[kind]:
        fields["truncated"] = True
    return kind(**fields)


def is_event_like(value: Any) -> bool:
    """Whether a JSON value is an object with a type, as events are."""
    return isinstance(value, dict) and isinstance(value.get("type"), str)
