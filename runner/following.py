"""Following a run's output files: lines into the log, progress into facts, each exactly once."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from models import Run
from resolvers.context import Context
from resolvers.run_execution import OutputFacts, append_output
from runner.executors.base import NO_FACTS, Executor, Facts, OutputStream
from runner.executors.progress import (
    Message,
    Plan,
    Thinking,
    ToolCall,
    Usage,
    to_dict,
)
from runner.folder import RunFolder
from runner.output import Line, read_new_lines

BATCH_LINES = 500
BATCH_CHARACTERS = 1 << 20
ANNOUNCE_SECONDS = 1.0
ACTIVITY_LENGTH = 500
TAIL_LINES = 20
TAIL_CHARACTERS = 2_000


@dataclass(slots=True)
class Follower:
    """Reads a run's two output files from where the log stands, and appends what is new.

    Offsets and lines are committed together, so a crash at any moment neither loses nor repeats a
    line: the next follower starts from the offsets in the run's row.
    """

    system: Context
    run: Run
    token: int
    folder: RunFolder
    executor: Executor
    offsets: dict[OutputStream, int] = field(default_factory=dict)
    facts: Facts = NO_FACTS
    tail: list[str] = field(default_factory=list)
    last_output: float = field(default_factory=time.monotonic)
    has_output: bool = False
    _announced: float = 0.0
    _counted: tuple[float, ...] = (0, 0, 0, 0.0)
    _pending: OutputFacts = field(default_factory=OutputFacts)

    def __post_init__(self) -> None:
        self.offsets = {"stdout": self.run.stdout_offset, "stderr": self.run.stderr_offset}
        self.has_output = self.run.output_lines > 0
        run = self.run
        self._counted = (run.input_tokens, run.output_tokens, run.cached_tokens, run.cost_usd)

    async def read(self, *, ended: bool = False) -> bool:
        """Take what is new; whether there may be more right now.

        Args:
            ended: nothing will be written any more, so a last line without newline counts too.
        """
        more = False
        streams: tuple[OutputStream, ...] = ("stdout", "stderr")
        for stream in streams:
            more = await self._read_stream(stream, ended=ended) or more
        await self._announce_late()
        return more

    async def drain(self) -> None:
        """Take everything there is, after the end."""
        while await self.read(ended=True):
            continue

    async def note(self, text: str) -> None:
        """Add a line of the server's own."""
        await self._append([_entry("server", text, None)], {})

    async def _read_stream(self, stream: OutputStream, *, ended: bool) -> bool:
        path = self.folder.stdout if stream == "stdout" else self.folder.stderr
        before = self.offsets[stream]
        reading = await read_new_lines(path, before, ended=ended)
        if reading.next_offset != before:
            self.last_output, self.has_output = time.monotonic(), True
        entries: list[dict[str, Any]] = []
        if reading.shrunk:
            entries.append(_entry("server", f"The agent emptied {stream}: unread is lost", None))
        size, reached = 0, before
        for line in reading.lines:
            entries.append(self._take(line, stream))
            size += len(line.text)
            reached = line.offset + line.size
            if len(entries) >= BATCH_LINES or size >= BATCH_CHARACTERS:
                await self._append(entries, {stream: reached})
                entries, size = [], 0
        if entries or reading.next_offset != reached:
            await self._append(entries, {stream: reading.next_offset})
        return reading.more

    def _take(self, line: Line, stream: OutputStream) -> dict[str, Any]:
        parsed = self.executor.parse(line.text, stream=stream)
        self.facts = self.facts.merge(parsed.facts)
        self.tail.append(line.text[:TAIL_CHARACTERS])
        del self.tail[:-TAIL_LINES]
        for told in parsed.events:
            self._learn(told)
        if parsed.facts.session_id:
            self._pending.session_id = parsed.facts.session_id[:200]
        if not parsed.events and line.text.strip():
            self._pending.activity = line.text.strip()[:ACTIVITY_LENGTH]
        event = to_dict(parsed.events[0]) if parsed.events else None
        return _entry(stream, line.text, event)

    def _learn(self, event: Any) -> None:
        pending = self._pending
        match event:
            case Message(text=text) | Thinking(text=text):
                pending.activity = " ".join(text.split())[:ACTIVITY_LENGTH] or pending.activity
            case ToolCall():
                pending.activity = f"{event.name}: {event.title or event.kind or ''}"[
                    :ACTIVITY_LENGTH
                ].rstrip(": ")
            case Plan(items=items) if items:
                done = sum(item.status == "completed" for item in items)
                pending.progress = round(100 * done / len(items))
            case Usage():
                self._count(event)

    def _count(self, usage: Usage) -> None:
        """Add what is new: a step's usage as it is, a total beyond what was counted already."""
        told = (usage.input, usage.output, usage.cached, usage.cost_usd or 0.0)
        new: tuple[float, ...] = told
        if usage.scope != "step":
            new = tuple(max(0, t - c) for t, c in zip(told, self._counted, strict=True))
        self._counted = tuple(c + n for c, n in zip(self._counted, new, strict=True))
        pending = self._pending
        pending.input_tokens += int(new[0])
        pending.output_tokens += int(new[1])
        pending.cached_tokens += int(new[2])
        pending.cost_usd += new[3]

    async def _announce_late(self) -> None:
        """Activity that came within the same second as the last announcement is not lost."""
        waiting = self._pending.activity is not None or self._pending.progress is not None
        if waiting and time.monotonic() - self._announced >= ANNOUNCE_SECONDS:
            await self._append([], {})

    async def _append(self, entries: list[dict[str, Any]], offsets: dict[Any, int]) -> None:
        facts, self._pending = self._pending, OutputFacts()
        news = facts.activity is not None or facts.progress is not None
        facts.announce = news and time.monotonic() - self._announced >= ANNOUNCE_SECONDS
        if facts.announce:
            self._announced = time.monotonic()
        elif news:
            self._pending.activity, self._pending.progress = facts.activity, facts.progress
        if not entries and not offsets and not facts.announce:
            return
        await append_output(
            self.system,
            run_id=self.run.id,
            token=self.token,
            entries=entries,
            offsets={f"{stream}_offset": offset for stream, offset in offsets.items()},
            facts=facts,
        )
        self.offsets.update(offsets)

    def last_words(self) -> str:
        """The end of the output, for the error of a failed run."""
        return "\n".join(self.tail)[-TAIL_CHARACTERS:].strip()


def _entry(stream: str, text: str, event: dict[str, Any] | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"s": stream, "t": text, "at": datetime.now(UTC).isoformat()}
    if event is not None:
        entry["e"] = event
    return entry
