"""Stand-alone client of one claude that may ask: it holds claude's input open, and answers.

Started as ``python -I <this file> <configuration>`` in claude's place. What claude writes is
written on as it is. Standard input is the prompt; the configuration names claude's ``argv`` and the
file of ``orders`` (see ``runner.beside.orders``). Lines of our own have the types ``told_answer``,
``told_heard``, ``told_message`` and ``told_late``. A message is held back until the present turn
has ended; when none is left, claude's input ends, and so does claude. It is in our process group,
so that an interrupt reaches it. The exit code is claude's.
"""

import asyncio
import contextlib
import json
import signal
import sys
from collections import deque
from pathlib import Path
from typing import Any

# Isolated mode leaves our own packages out; at the end of the path they shadow nothing.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from runner.beside.orders import LOOK_SECONDS, Orders, write_whole

MAX_LINE_BYTES = 64 << 20
DENIAL = "This was not permitted"


class ClaudeClient:
    """One claude process, its questions and its messages."""

    def __init__(self, configuration: dict[str, Any], prompt: str) -> None:
        self.argv: list[str] = configuration["argv"]
        self.orders = Orders(configuration["orders"])
        self.prompt = prompt
        self.messages: deque[tuple[int, str]] = deque()
        self.asked: dict[str, dict[str, Any]] = {}
        self.writer: asyncio.StreamWriter

    async def run(self) -> int:
        """From claude's start to its end; the exit code."""
        process = await asyncio.create_subprocess_exec(
            *self.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
        )
        assert process.stdin is not None  # noqa: S101  # a pipe was asked for
        assert process.stdout is not None  # noqa: S101
        self.writer = process.stdin
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
        self._say(self.prompt)
        obeying = asyncio.create_task(self._obey_orders())
        async for line in process.stdout:
            write_whole(1, line)
            self._hear(line)
        obeying.cancel()
        code = await process.wait()
        self._read_orders()
        for _, text in self.messages:
            _tell("told_late", text=text)
        return code if code >= 0 else 128 - code

    def _send(self, **message: Any) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):  # it has ended
            self.writer.write(json.dumps(message).encode() + b"\n")

    def _say(self, text: str) -> None:
        content = [{"type": "text", "text": text}]
        self._send(type="user", message={"role": "user", "content": content})

    def _hear(self, line: bytes) -> None:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return
        match value:
            case {"type": "control_request", "request_id": str(asked), "request": dict(request)}:
                if request.get("subtype") == "can_use_tool":
                    self.asked[asked] = request
            case {"type": "result"}:
                self._read_orders()
                if self.messages:
                    number, text = self.messages.popleft()
                    _tell("told_message", number=number, text=text)
                    self._say(text)
                else:
                    self.writer.close()

    async def _obey_orders(self) -> None:
        while True:
            self._read_orders()
            await asyncio.sleep(LOOK_SECONDS)

    def _read_orders(self) -> None:
        for order in self.orders.read_new():
            match order:
                case {"do": "answer", "question": str(question), "option": option}:
                    if (request := self.asked.pop(question, None)) is not None:
                        self._answer(question, request, option)
                case {"do": "message", "number": int(number), "text": str(text)}:
                    self.messages.append((number, text))
                    _tell("told_heard", number=number)

    def _answer(self, question: str, request: dict[str, Any], option: str | None) -> None:
        answer: dict[str, Any] = {"behavior": "deny", "message": DENIAL}
        if option in {"allow_once", "allow_always"}:
            answer = {"behavior": "allow", "updatedInput": request.get("input") or {}}
        if option == "allow_always":
            answer["updatedPermissions"] = request.get("permission_suggestions") or []
        response = {"subtype": "success", "request_id": question, "response": answer}
        self._send(type="control_response", response=response)
        _tell("told_answer", question=question, option=option)


def _tell(kind: str, **members: Any) -> None:
    write_whole(1, json.dumps({"type": kind, **members}).encode() + b"\n")


def main() -> None:
    """The whole life of the process."""
    configuration = json.loads(Path(sys.argv[1]).read_bytes())
    prompt = sys.stdin.buffer.read().decode(errors="replace")

    async def run() -> int:
        return await ClaudeClient(configuration, prompt).run()

    sys.exit(asyncio.run(run()))


if __name__ == "__main__":
    main()
