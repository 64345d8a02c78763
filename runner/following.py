"""Following a run's output files: lines into the log, progress into facts, each exactly once."""

import asyncio
import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from models import Run
from resolvers.context import Context
from resolvers.run_execution import OutputFacts, append_output
from runner.executors.base import NO_FACTS, Executor, Facts, OutputStream
from runner.executors.native import place
from runner.executors.progress import (
    Answer,
    Message,
    Plan,
    Question,
    Thinking,
    ToolCall,
    Usage,
    WarningEvent,
    to_dict,
)
from runner.folder import RunFolder
from runner.output import Line, has_nothing_new, read_new, read_new_lines
from runner.usage import UsageMeter, make_meter

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
    answer_limit: float = 3600.0
    """Seconds after which a question is overdue."""
    open_questions: dict[str, float] = field(default_factory=dict)
    """Questions the agent waits for, by id, and when (monotonic) each is overdue."""
    offsets: dict[OutputStream, int] = field(default_factory=dict)
    facts: Facts = NO_FACTS
    tail: list[str] = field(default_factory=list)
    last_output: float = field(default_factory=time.monotonic)
    has_output: bool = False
    _announced: float = 0.0
    _meter: UsageMeter = field(default_factory=UsageMeter)
    _pending: OutputFacts = field(default_factory=OutputFacts)

    def __post_init__(self) -> None:
        self.offsets = {"stdout": self.run.stdout_offset, "stderr": self.run.stderr_offset}
        # Of this process, not of one before a pause.
        self.has_output = any(self.offsets.values())
        self._meter = make_meter(self.run)
        for question in self.run.questions:
            left = datetime.fromisoformat(question["expires_at"]) - datetime.now(UTC)
            self.open_questions[question["id"]] = time.monotonic() + left.total_seconds()

    async def recall(self) -> None:
        """Learn again what the lines before the offsets told for certain.

        They were read by a server that is gone; without this, a good last word of the agent that
        was read just before that server's death would be forgotten.
        """
        if self.has_output:
            self.facts = await asyncio.to_thread(self._recall)

    def _recall(self) -> Facts:
        facts = NO_FACTS
        for stream, end in self.offsets.items():
            path = self.folder.stdout if stream == "stdout" else self.folder.stderr
            offset, more = 0, True
            while more and offset < end:
                reading = read_new(path, offset, ended=True)
                for line in reading.lines:
                    if line.offset < end:
                        facts = facts.merge(self.executor.parse(line.text, stream=stream).facts)
                offset, more = reading.next_offset, reading.more
        return facts

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

    async def note(self, text: str, *, warning: str | None = None) -> None:
        """Add a line of the server's own; ``warning`` is the code of one."""
        event = None if warning is None else to_dict(WarningEvent(warning, text))
        await self._append([_entry("server", text, event)], {})

    async def _read_stream(self, stream: OutputStream, *, ended: bool) -> bool:
        path = self.folder.stdout if stream == "stdout" else self.folder.stderr
        before = self.offsets[stream]
        if not ended and has_nothing_new(path, before):
            return False  # most looks: no thread is needed to see it
        reading = await read_new_lines(path, before, ended=ended)
        if reading.next_offset != before:
            self.last_output, self.has_output = time.monotonic(), True
        entries: list[dict[str, Any]] = []
        if reading.shrunk:
            entries.append(_entry("server", f"The agent emptied {stream}: unread is lost", None))
        size, reached = 0, before
        for line in reading.lines:
            entries.extend(self._take(line, stream))
            size += len(line.text)
            reached = line.offset + line.size
            if len(entries) >= BATCH_LINES or size >= BATCH_CHARACTERS:
                await self._append(entries, {stream: reached})
                entries, size = [], 0
        if entries or reading.next_offset != reached:
            await self._append(entries, {stream: reading.next_offset})
        return reading.more

    def _take(self, line: Line, stream: OutputStream) -> list[dict[str, Any]]:
        """The line's entry with its event; further events are lines of the server's, textless."""
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
        worktree = Path(self.run.worktree_path) if self.run.worktree_path else None
        events = [to_dict(place(told, worktree)) for told in parsed.events]
        return [
            _entry(stream, line.text, events[0] if events else None),
            *(_entry("server", "", event) for event in events[1:]),
        ]

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
            case Question():
                self._ask(event)
            case Answer(id=question):
                self.open_questions.pop(question, None)
                pending.questions.settled.add(question)
                pending.questions.asked = [
                    q for q in pending.questions.asked if q["id"] != question
                ]

    def _ask(self, question: Question) -> None:
        self.open_questions[question.id] = time.monotonic() + self.answer_limit
        told = to_dict(question)
        shown = {name: told[name] for name in ("id", "text", "kind", "options")}
        news = self._pending.questions
        news.asked.append(shown)
        news.expires_at = datetime.now(UTC) + timedelta(seconds=self.answer_limit)
        self._pending.activity = f"Asks: {' '.join(question.text.split())}"[:ACTIVITY_LENGTH]

    def find_overdue(self) -> bool:
        """Whether a question is overdue; asked once of each."""
        now = time.monotonic()
        overdue = [question for question, end in self.open_questions.items() if end <= now]
        for question in overdue:
            self.open_questions[question] = math.inf
        return bool(overdue)

    def _count(self, usage: Usage) -> None:
        new, pending = self._meter.take(usage), self._pending
        pending.input_tokens += int(new.input)
        pending.output_tokens += int(new.output)
        pending.cached_tokens += int(new.cached)
        pending.cost_usd += new.cost_usd

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
