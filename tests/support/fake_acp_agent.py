"""Programs that speak the Agent Client Protocol as the real agents do, ways and whims included.

Run by ``tests.support.fake_agents`` for ``gemini --acp``, ``opencode acp``, ``kilo acp``,
``cursor-agent acp`` and ``kiro-cli acp``. A turn does what the lines ``do: …`` of its prompt say:

``do: write FILE TEXT`` · ``do: ask COMMAND`` (for permission; permitted, it makes ``asked.txt``) ·
``do: tool`` (a process in a session of its own, until the turn is cancelled) · ``do: await FILE`` ·
``do: say TEXT`` · ``do: big N`` (one message of N characters) · ``do: pieces N`` (a message in N
pieces) · ``do: junk`` (a line that is no message) · ``do: refuse TEXT`` (an error) · ``do: die
CODE`` · ``do: reason WORD`` · ``do: remember`` (says what all prompts of the session were)

gemini wants a log-in first and loads sessions, which repeats them; opencode and kilo resume them.
Standard input's end is the end of the program. Its standard library is all it needs.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
import traceback
import uuid
from pathlib import Path
from typing import Any

AUTH_REQUIRED = {"code": -32000, "message": "Authentication required"}
OPTIONS = [
    {"optionId": "always", "name": "Always allow", "kind": "allow_always"},
    {"optionId": "once", "name": "Allow once", "kind": "allow_once"},
    {"optionId": "reject", "name": "Reject", "kind": "reject_once"},
]


class RefusedError(Exception):
    """An error of JSON-RPC."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error


class AcpAgent:
    """One agent process."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name
        self.arguments = arguments
        self.home = Path(os.environ["HOME"])
        self.lock = threading.Lock()
        self.answers: queue.Queue[Any] = queue.Queue()
        self.cancelled = threading.Event()
        self.is_logged_in = name != "gemini"
        self.asked = 0
        self.model = "small"

    @property
    def resumes(self) -> bool:
        return self.name in {"opencode", "kilo"}

    def serve(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            method = message.get("method")
            if method is None:
                self.answers.put(message.get("result"))
            elif method == "session/cancel":
                self.cancelled.set()
                self.answers.put(None)
            elif method == "session/prompt":
                threading.Thread(target=self.answer, args=(message,), daemon=True).start()
            else:
                self.answer(message)

    def send(self, **message: Any) -> None:
        data = (json.dumps({"jsonrpc": "2.0", **message}) + "\n").encode()
        with self.lock:
            while data:
                data = data[os.write(1, data) :]

    def answer(self, message: dict[str, Any]) -> None:
        handler = getattr(self, f"do_{message['method'].replace('/', '_')}", None)
        try:
            if handler is None:
                raise RefusedError({"code": -32601, "message": "Method not found"})
            self.send(id=message["id"], result=handler(message["params"]))
        except RefusedError as refusal:
            self.send(id=message["id"], error=refusal.error)
        except BaseException:  # noqa: BLE001  # a thread that dies must take the program with it
            traceback.print_exc()
            os._exit(70)

    # --- methods of the protocol ---

    def do_initialize(self, params: dict[str, Any]) -> dict[str, Any]:
        assert params["protocolVersion"] == 1
        ways = {"resume": {}, "fork": {}} if self.resumes else {}
        return {
            "protocolVersion": 1,
            "agentCapabilities": {"loadSession": True, "sessionCapabilities": ways},
            "authMethods": [{"id": "gemini-api-key", "name": "Key"}],
            "agentInfo": {"name": self.name, "version": "9.9.9"},
        }

    def do_authenticate(self, params: dict[str, Any]) -> dict[str, Any]:
        assert params["methodId"] == "gemini-api-key"
        self.is_logged_in = True
        return {}

    def do_session_new(self, params: dict[str, Any]) -> dict[str, Any]:
        if not self.is_logged_in:
            raise RefusedError(AUTH_REQUIRED)
        assert params == {"cwd": str(Path.cwd()), "mcpServers": []}
        session_id = str(uuid.uuid4())
        self.file(session_id).write_text("[]")
        return {"sessionId": session_id, **self.choices()}

    def do_session_load(self, params: dict[str, Any]) -> dict[str, Any]:
        if not self.is_logged_in:
            raise RefusedError(AUTH_REQUIRED)
        for text in self.history(params["sessionId"]):
            self.update(params["sessionId"], "user_message_chunk", text=text)
            self.update(params["sessionId"], "agent_message_chunk", text="All done")
        return self.choices()

    def do_session_resume(self, params: dict[str, Any]) -> dict[str, Any]:
        self.history(params["sessionId"])
        return self.choices()

    def do_session_set_model(self, params: dict[str, Any]) -> dict[str, Any]:
        self.model = params["modelId"]
        return {}

    def do_session_set_config_option(self, params: dict[str, Any]) -> dict[str, Any]:
        assert params["configId"] == "model"
        self.model = params["value"]
        return {}

    def do_session_prompt(self, params: dict[str, Any]) -> dict[str, Any]:
        [block] = params["prompt"]
        session_id, text = params["sessionId"], block["text"]
        history = [*self.history(session_id), text]
        self.file(session_id).write_text(json.dumps(history))
        self.note(text)
        self.cancelled.clear()
        reason = "end_turn"
        for line in text.splitlines():
            verb, _, argument = line.removeprefix("do: ").strip().partition(" ")
            if line.startswith("do: ") and not self.cancelled.is_set():
                reason = self.obey(session_id, verb, argument) or reason
        if self.cancelled.is_set():
            return {"stopReason": "cancelled"}
        self.update(session_id, "agent_message_chunk", text="All done")
        usage = {"inputTokens": 100, "outputTokens": 10, "totalTokens": 110}
        if self.resumes:
            cost = {"amount": 0.01 * len(history), "currency": "USD"}
            self.update(session_id, "usage_update", used=100, size=1000, cost=cost)
            return {"stopReason": reason, "usage": usage}
        counts = {"token_count": {"input_tokens": 100, "output_tokens": 10}}
        return {"stopReason": reason, "_meta": {"quota": counts}}

    # --- what a turn does ---

    def obey(self, session_id: str, verb: str, argument: str) -> str | None:
        """Do one order; the turn's reason to end, where it names one."""
        reason: str | None = getattr(self, f"order_{verb}")(session_id, argument)
        return reason

    def order_say(self, session_id: str, argument: str) -> None:
        self.update(session_id, "agent_message_chunk", text=f"{argument} ({self.model})")

    def order_big(self, session_id: str, argument: str) -> None:
        self.update(session_id, "agent_thought_chunk", text="x" * int(argument))

    def order_pieces(self, session_id: str, argument: str) -> None:
        for number in range(int(argument)):
            self.update(session_id, "agent_message_chunk", text=f"{number} ")

    def order_junk(self, session_id: str, _: str) -> None:
        os.write(1, b"This is no message\n[1, 2]\n")
        self.update(session_id, "news_of_tomorrow", text="?")

    def order_remember(self, session_id: str, _: str) -> None:
        said = " | ".join(self.history(session_id)).replace("\n", " ")
        self.update(session_id, "agent_message_chunk", text=said)

    def order_refuse(self, _: str, argument: str) -> None:
        raise RefusedError({"code": -32603, "message": f"Internal error: {argument}"})

    def order_die(self, _: str, argument: str) -> None:
        os._exit(int(argument))

    def order_reason(self, _: str, argument: str) -> str:
        return argument

    def order_await(self, _: str, argument: str) -> None:
        while not Path(argument).exists() and not self.cancelled.is_set():
            time.sleep(0.01)

    def order_write(self, session_id: str, argument: str) -> None:
        name, _, text = argument.partition(" ")
        path = Path.cwd() / name
        call = {"toolCallId": f"call-{uuid.uuid4().hex}", "kind": "edit", "title": f"Write {name}"}
        self.update(session_id, "tool_call", **call, status="pending", rawInput={"path": name})
        path.write_text(f"{text}\n")
        if self.resumes:
            details = {"filepath": str(path), "exists": False}
            end: dict[str, Any] = {"rawOutput": {"output": "Wrote it", "metadata": details}}
        else:
            diff = {"type": "diff", "path": str(path), "oldText": None, "newText": f"{text}\n"}
            end = {"content": [diff]}
        self.update(session_id, "tool_call_update", **call, status="completed", **end)

    def order_ask(self, session_id: str, command: str) -> None:
        call = {"toolCallId": f"call-{uuid.uuid4().hex}", "kind": "execute", "title": command}
        self.update(
            session_id, "tool_call", **call, status="pending", rawInput={"command": command}
        )
        self.asked += 1
        request = {"sessionId": session_id, "toolCall": call, "options": OPTIONS}
        self.send(id=f"ask-{self.asked}", method="session/request_permission", params=request)
        outcome = (self.answers.get() or {}).get("outcome", {})
        chosen = outcome.get("optionId", "cancelled")
        if chosen in {"once", "always"}:
            Path("asked.txt").write_text(f"{command} {chosen}\n")
        status = "completed" if chosen in {"once", "always"} else "failed"
        text = {"type": "content", "content": {"type": "text", "text": chosen}}
        self.update(session_id, "tool_call_update", **call, status=status, content=[text])

    def order_tool(self, session_id: str, _: str) -> None:
        sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
        tool = subprocess.Popen(sleep, start_new_session=True)
        call = {"toolCallId": f"call-{tool.pid}", "kind": "execute", "title": "sleep"}
        self.update(session_id, "tool_call", **call, status="in_progress")
        self.cancelled.wait()
        tool.kill()
        tool.wait()

    # --- what it keeps ---

    def choices(self) -> dict[str, Any]:
        if self.resumes:
            option = {"id": "model", "category": "model", "currentValue": self.model}
            return {"configOptions": [option]}
        return {"models": {"availableModels": [], "currentModelId": self.model}}

    def update(
        self, session_id: str, kind: str, /, text: str | None = None, **members: Any
    ) -> None:
        if text is not None:
            members["content"] = {"type": "text", "text": text}
        update = {"sessionUpdate": kind, **members}
        self.send(method="session/update", params={"sessionId": session_id, "update": update})

    def file(self, session_id: str) -> Path:
        return self.home / f"session-acp-{self.name}-{session_id}"

    def history(self, session_id: str) -> list[str]:
        if not self.file(session_id).exists():
            raise RefusedError({"code": -32602, "message": f"Session not found: {session_id}"})
        found: list[str] = json.loads(self.file(session_id).read_text())
        return found

    def note(self, prompt: str) -> None:
        told = {
            "program": self.name,
            "argv": self.arguments,
            "stdin": prompt,
            "env": dict(os.environ),
            "cwd": str(Path.cwd()),
        }
        with (self.home / "started.jsonl").open("a") as file:
            file.write(json.dumps(told) + "\n")
