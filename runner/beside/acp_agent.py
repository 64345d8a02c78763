"""The edges of the ACP client: the agent's pipes, and the lines told to the server."""

import asyncio
import json
from typing import Any

from runner.beside.orders import write_whole

CHUNK_SECONDS = 0.1
CHUNK_CHARACTERS = 16 << 10
_CHUNKS = {"agent_message_chunk", "agent_thought_chunk"}
_OPTION_CHARACTERS = 200
_OPTION_KINDS = ("allow_once", "allow_always", "reject_once", "reject_always")
_MAX_OPTIONS = 20


class Teller:
    """Writes the lines. Pieces of one text that follow each other quickly become one line."""

    def __init__(self, fd: int = 1) -> None:
        self._fd = fd
        self._chunk: dict[str, Any] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, kind: str, /, **members: Any) -> None:
        """One line, after all that was told before."""
        self.flush()
        self._write(kind, members)

    def update(self, update: dict[str, Any]) -> None:
        """What the agent says of its work, as it says it."""
        if update.get("sessionUpdate") not in _CHUNKS or _text(update) is None:
            self.tell("update", update=update)
            return
        if self._chunk is not None and _place(self._chunk) == _place(update):
            self._chunk["content"]["text"] += _text(update)
        else:
            self.flush()
            self._chunk = update
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(CHUNK_SECONDS, self.flush)
        if len(self._chunk["content"]["text"]) > CHUNK_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write what is held back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._chunk is not None:
            chunk, self._chunk = self._chunk, None
            self._write("update", {"update": chunk})

    def _write(self, kind: str, members: dict[str, Any]) -> None:
        told = {name: value for name, value in members.items() if value is not None}
        write_whole(self._fd, json.dumps({"acp": kind, **told}).encode() + b"\n")


def _text(update: dict[str, Any]) -> str | None:
    content = update.get("content")
    text = content.get("text") if isinstance(content, dict) else None
    return text if isinstance(text, str) else None


def _place(update: dict[str, Any]) -> tuple[Any, Any]:
    return update["sessionUpdate"], update.get("messageId")


class AgentPipes:
    """The agent's standard output and input, as a transport of the library.

    A line that is no message, or is longer than the reader's limit, is told and passed over.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, teller: Teller
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._teller = teller

    async def send(self, message: dict[str, Any]) -> None:
        """Write one message."""
        self._writer.write(json.dumps(message).encode() + b"\n")
        await self._writer.drain()

    async def receive(self) -> dict[str, Any] | None:
        """The next message; None when the agent has closed its output."""
        while (line := await self._read_line()) is not None:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            if isinstance(message, dict) and isinstance(message.get("id"), int | str | None):
                return message
            if line.strip():
                self._teller.tell("text", text=line.decode(errors="replace").rstrip("\n"))
        return None

    async def close(self) -> None:
        """Close the agent's input."""
        self._writer.close()

    async def _read_line(self) -> bytes | None:
        is_cut = False
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                return error.partial or None
            except asyncio.LimitOverrunError as error:
                await self._reader.readexactly(max(1, error.consumed))
                is_cut = True
                continue
            if not is_cut:
                return line
            self._teller.tell("warning", text="The agent wrote a line too long to be read")
            is_cut = False


def offered(options: Any) -> list[dict[str, str]]:
    """The options of a permission request that can be shown and chosen, at most 20."""
    found = []
    for option in options if isinstance(options, list) else []:
        if isinstance(option, dict) and isinstance(option.get("optionId"), str):
            name, kind = option.get("name") or option["optionId"], option.get("kind")
            kind = kind if kind in _OPTION_KINDS else "other"
            texts = {"id": option["optionId"], "name": str(name), "kind": kind}
            if all(len(text) <= _OPTION_CHARACTERS for text in texts.values()):
                found.append(texts)
    return found[:_MAX_OPTIONS]


def pick_option(options: list[dict[str, str]], *, allow: bool) -> str | None:
    """The option that allows or rejects, for once rather than for ever; None where none does."""
    kinds = ("allow_once", "allow_always") if allow else ("reject_once", "reject_always")
    for kind in kinds:
        for option in options:
            if option["kind"] == kind:
                return option["id"]
    return None


def texts_of(details: dict[str, Any]) -> str:
    """What a tool call is about, in a line."""
    given = details.get("rawInput")
    command = given.get("command") if isinstance(given, dict) else None
    text = command if isinstance(command, str) else details.get("title")
    return text if isinstance(text, str) and text else "Use a tool"
