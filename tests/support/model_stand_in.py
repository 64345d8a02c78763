"""A language model that does as it is told, for real agent programs on a machine without one.

It speaks as much of Anthropic's Messages, OpenAI's Responses and Google's generateContent (all
streaming) as the agents need. What it answers stands in the prompt, one order a line, one order a
turn:

``do: write FILE TEXT`` · ``do: run COMMAND`` (with the agent's shell tool) · ``do: refuse STATUS``
(an HTTP error, every time) · ``do: remember`` (says the first word it was ever told to keep:
``keep: WORD``). When the orders are used up it says ``All done``.

Nothing is kept between requests: the agents send the whole conversation each time.
"""

import json
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

INPUT_TOKENS, OUTPUT_TOKENS = 100, 10
_ORDER = re.compile(r"^do: (\w+) ?(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Turn:
    """What the model does next: says something, uses a tool, or refuses."""

    text: str = ""
    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    status: int = 200


def _new_id() -> str:
    # Agents take an id that comes again for the same thing.
    return uuid.uuid4().hex


def decide(texts: list[str], *, results: int, tools: set[str]) -> Turn:
    """The next turn.

    Args:
        texts: what the user said, in order; the last one with orders counts.
        results: how many tool results came since then.
        tools: names of the tools the agent offers.
    """
    orders = next((found for text in reversed(texts) if (found := _ORDER.findall(text))), [])
    if orders and orders[0][0] == "refuse":
        return Turn(status=int(orders[0][1]))
    if not tools or results >= len(orders):
        return Turn("All done")
    verb, argument = orders[results]
    if verb == "remember":
        kept = re.search(r"keep: (\w+)", "\n".join(texts))
        return Turn(f"The word was {kept[1] if kept else 'never told'}")
    if verb == "write":
        name, _, text = argument.partition(" ")
        for tool, path in (
            ("Write", "file_path"),
            ("write_file", "file_path"),
            ("write", "filePath"),
        ):
            if tool in tools:
                return Turn("", tool, {path: name, "content": f"{text}\n"})
        argument = f"printf '%s\\n' '{text}' > {name}"
    return _shell(argument, tools)


def _shell(command: str, tools: set[str]) -> Turn:
    words = {
        "Bash": {"command": command},
        "bash": {"command": command, "description": "As told"},
        "run_shell_command": {"command": command},
        "exec_command": {"cmd": command},
        "shell_command": {"command": command},
        "shell": {"command": ["bash", "-c", command]},
    }
    for name, arguments in words.items():
        if name in tools:
            return Turn("", name, arguments)
    return Turn(f"There is no shell among {sorted(tools)}")


# --- Anthropic's Messages ---


def _anthropic_turn(request: dict[str, Any]) -> Turn:
    texts: list[str] = []
    results = 0
    for message in request.get("messages", []):
        if message["role"] != "user":
            continue
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            if block["type"] == "text":
                texts.append(block["text"])
                results = 0 if _ORDER.search(block["text"]) else results
            elif block["type"] == "tool_result":
                results += 1
    tools = {tool["name"] for tool in request.get("tools", [])}
    return decide(texts, results=results, tools=tools)


def _anthropic_events(turn: Turn, model: str) -> Iterator[dict[str, Any]]:
    usage = {"input_tokens": INPUT_TOKENS, "output_tokens": 1}
    message = {
        "id": f"msg_{_new_id()}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    yield {"type": "message_start", "message": message}
    if turn.tool:
        block = {"type": "tool_use", "id": f"toolu_{_new_id()}", "name": turn.tool, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(turn.arguments)}
    else:
        block = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": turn.text}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    reason = "tool_use" if turn.tool else "end_turn"
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": None},
        "usage": {"output_tokens": OUTPUT_TOKENS},
    }
    yield {"type": "message_stop"}


# --- OpenAI's Responses ---


def _openai_turn(request: dict[str, Any]) -> Turn:
    texts: list[str] = []
    results = 0
    for item in request.get("input", []):
        if item.get("type") == "message" and item.get("role") == "user":
            text = "".join(part.get("text", "") for part in item["content"])
            texts.append(text)
            results = 0 if _ORDER.search(text) else results
        elif item.get("type") in {"function_call_output", "custom_tool_call_output"}:
            results += 1
    tools = {tool.get("name", tool["type"]) for tool in request.get("tools", [])}
    return decide(texts, results=results, tools=tools)


def _openai_events(turn: Turn, model: str) -> Iterator[dict[str, Any]]:
    response = {"id": f"resp_{_new_id()}", "object": "response", "model": model, "output": []}
    yield {"type": "response.created", "response": {**response, "status": "in_progress"}}
    item: dict[str, Any]
    if turn.tool:
        item = {
            "type": "function_call",
            "id": f"fc_{_new_id()}",
            "call_id": f"call_{_new_id()}",
            "name": turn.tool,
            "arguments": json.dumps(turn.arguments),
            "status": "completed",
        }
    else:
        part = {"type": "output_text", "text": turn.text, "annotations": []}
        item = {
            "type": "message",
            "id": f"msg_{_new_id()}",
            "role": "assistant",
            "content": [part],
            "status": "completed",
        }
    yield {"type": "response.output_item.added", "output_index": 0, "item": item}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    usage = {
        "input_tokens": INPUT_TOKENS,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": OUTPUT_TOKENS,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    done = {**response, "status": "completed", "output": [item], "usage": usage}
    yield {"type": "response.completed", "response": done}


# --- Google's generateContent ---


def _google_turn(request: dict[str, Any]) -> Turn:
    texts: list[str] = []
    results = 0
    for content in request.get("contents", []):
        for part in content.get("parts", []):
            if "functionResponse" in part:
                results += 1
            elif content.get("role") == "user" and "text" in part:
                texts.append(part["text"])
                results = 0 if _ORDER.search(part["text"]) else results
    offered = [tool.get("functionDeclarations", []) for tool in request.get("tools", [])]
    tools = {function["name"] for functions in offered for function in functions}
    return decide(texts, results=results, tools=tools)


def _google_events(turn: Turn, model: str) -> Iterator[dict[str, Any]]:
    call = {"functionCall": {"id": _new_id(), "name": turn.tool, "args": turn.arguments}}
    parts = [call if turn.tool else {"text": turn.text}]
    yield {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": INPUT_TOKENS,
            "candidatesTokenCount": OUTPUT_TOKENS,
            "totalTokenCount": INPUT_TOKENS + OUTPUT_TOKENS,
        },
        "modelVersion": model,
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    paths: ClassVar[dict[str, Any]] = {
        "/v1/messages": (_anthropic_turn, _anthropic_events),
        "/v1/responses": (_openai_turn, _openai_events),
        "google": (_google_turn, _google_events),
    }
    server: "_Server"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        self.server.bodies.append(body.decode())
        self.server.keys.update(
            value
            for name in ("x-api-key", "authorization", "x-goog-api-key")
            if (value := self.headers.get(name))
        )
        if path.endswith(":streamGenerateContent"):
            path = "google"
        if path not in self.paths:
            self._answer(404, "application/json", b'{"error": {"message": "no such path"}}')
            return
        read, events = self.paths[path]
        request = json.loads(body)
        turn = read(request)
        if turn.status != 200:
            problem = {"type": "error", "error": {"type": "api_error", "message": "as told"}}
            self._answer(turn.status, "application/json", json.dumps(problem).encode())
            return
        stream = "".join(
            (f"event: {event['type']}\n" if "type" in event else "")
            + f"data: {json.dumps(event)}\n\n"
            for event in events(turn, request.get("model", "model"))
        )
        self._answer(200, "text/event-stream", stream.encode())

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self._answer(404, "application/json", b"{}")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """What is asked is kept in ``asked``; nothing is printed."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.bodies: list[str] = []
        self.keys: set[str] = set()

    def handle_error(self, *_: object) -> None:
        """An agent that was stopped hangs up in the middle; that is its right."""


@dataclass(frozen=True)
class StandIn:
    """A running model."""

    url: str
    asked: list[str]
    """Paths of all requests so far."""
    bodies: list[str]
    """Bodies of all POST requests so far."""
    keys: set[str]
    """Credentials that were sent."""


@contextmanager
def model_stand_in() -> Iterator[StandIn]:
    """A model on a free port of this machine, for the length of the block."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        yield StandIn(url, server.asked, server.bodies, server.keys)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
