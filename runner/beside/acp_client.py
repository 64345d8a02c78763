"""Stand-alone client of one agent that speaks the Agent Client Protocol (ACP, version 1).

Started as ``python -I <this file> <configuration>`` in the agent's place: it starts the agent, in a
session of its own, speaks JSON-RPC with it over two pipes, and tells on its own standard output
what happens, one JSON object a line. So a run over ACP looks like any other run: its output is a
file, its supervisor watches one program, and the server may come and go. Standard input is the
prompt. SIGINT cancels the turn as the protocol wants it, which ends the agent's tools too.

The configuration is a JSON file: ``argv`` of the agent, ``permissions`` (read, edits, ask, full),
``session`` to go on with (``fork``: in a copy), ``while_exists`` (files below HOME, a pattern with
the time in it, during which no session is loaded), ``model``, ``mode`` and ``auth`` (a way to log
in) to choose where the agent offers them, ``orders`` (see ``runner.beside.orders``).

Lines have a member ``acp``: ``session`` ``update`` ``question`` ``answer`` ``refused`` ``heard``
``message`` ``turn`` ``error`` ``warning`` ``text``. Exit code 0: the last turn ended as it should.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Isolated mode leaves our own packages out; at the end of the path they shadow nothing.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from acp.connection import Connection
from acp.exceptions import RequestError
from acp.meta import AGENT_METHODS, CLIENT_METHODS, PROTOCOL_VERSION

from runner.beside.acp_agent import AgentPipes, Teller, offered, pick_option, texts_of
from runner.beside.acp_policy import Policy
from runner.beside.orders import LOOK_SECONDS, Orders

MAX_LINE_BYTES = 16 << 20
CANCEL_SECONDS = 4.0
EXIT_SECONDS = 5.0
QUIET_SECONDS = 0.3
LOOK_AGAIN_SECONDS = 2.0
NOISE = {"available_commands_update", "user_message_chunk"}
CALLS_REMEMBERED = 1000
AUTH_REQUIRED = -32000
SET_MODEL = "session/set_model"
"""Not in the library's table any more, and still what gemini understands."""


class StoppedError(Exception):
    """The run was asked to end."""


class AgentGoneError(Exception):
    """The agent ended, or closed its output, in the middle of something."""


class Client:
    """One run: a session, its turns, and the questions between them."""

    def __init__(self, configuration: dict[str, Any], prompt: str) -> None:
        self.configuration = configuration
        self.teller = Teller()
        self.policy = Policy(configuration["permissions"], Path.cwd())
        self.orders = Orders(configuration["orders"])
        self.messages: deque[tuple[int | None, str]] = deque([(None, prompt)])
        self.waiting: dict[str, asyncio.Future[str | None]] = {}
        self.calls: dict[str, dict[str, Any]] = {}
        self.stop = asyncio.Event()
        self.asked = 0
        self.session_id = ""
        self.is_listening = False
        self.last_update = time.monotonic()
        self.process: asyncio.subprocess.Process
        self.connection: Connection

    # --- talking ---

    async def _call(self, method: str, **params: Any) -> dict[str, Any]:
        """The agent's answer; raises StoppedError as soon as the run is to end."""
        return await self._unless_stopped(self._request(method, params))

    async def _request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in params.items() if value is not None}
        try:
            answer = await self.connection.send_request(method, given)
        except ConnectionError as error:
            raise AgentGoneError from error
        return answer if isinstance(answer, dict) else {}

    async def _unless_stopped(self, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        task, stop = asyncio.create_task(work), asyncio.create_task(self.stop.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            return task.result()
        if self.is_listening:
            with contextlib.suppress(ConnectionError):
                await self.connection.send_notification(
                    AGENT_METHODS["session_cancel"], {"sessionId": self.session_id}
                )
                await asyncio.wait({task}, timeout=CANCEL_SECONDS)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, RequestError, AgentGoneError):
            await task
        raise StoppedError

    async def _handle(self, method: str, params: Any, is_notification: bool) -> Any:  # noqa: FBT001  # as the library calls it
        """What the agent asks of us: to hear its news, and to permit things."""
        params = params if isinstance(params, dict) else {}
        if method == CLIENT_METHODS["session_update"]:
            self._hear(params)
        elif method == CLIENT_METHODS["session_request_permission"]:
            return {"outcome": await self._permit(params)}
        elif not is_notification:
            raise RequestError.method_not_found(method)
        return None

    def _hear(self, params: dict[str, Any]) -> None:
        update = params.get("update")
        self.last_update = time.monotonic()
        # Before the first turn comes what a resumed session was: it has been told before.
        if not self.is_listening or not isinstance(update, dict):
            return
        if update.get("sessionUpdate") in NOISE:
            return
        call = update.get("toolCallId")
        if isinstance(call, str):
            self.calls[call] = _over(self.calls.pop(call, {}), update)
            if len(self.calls) > CALLS_REMEMBERED:
                del self.calls[next(iter(self.calls))]
        self.teller.update(update)

    async def _permit(self, params: dict[str, Any]) -> dict[str, Any]:
        call = params.get("toolCall")
        call = call if isinstance(call, dict) else {}
        details = _over(self.calls.get(str(call.get("toolCallId")), {}), call)
        options = offered(params.get("options"))
        if self.stop.is_set() or not options:
            return {"outcome": "cancelled"}
        decision = self.policy.decide(details)
        if decision is None:
            chosen = await self._ask(details, options)
        else:
            chosen = pick_option(options, allow=decision)
            if not decision:
                self.teller.tell("refused", text=texts_of(details), kind=details.get("kind"))
        if chosen is None:
            return {"outcome": "cancelled"}
        return {"outcome": "selected", "optionId": chosen}

    async def _ask(self, details: dict[str, Any], options: list[dict[str, str]]) -> str | None:
        """The option somebody chose; None when the run ends first."""
        self.asked += 1
        question = f"{self.session_id}.{self.asked}"
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.waiting[question] = answer
        self.teller.tell(
            "question",
            question=question,
            text=texts_of(details),
            kind=details.get("kind"),
            call=details.get("toolCallId"),
            input=details.get("rawInput"),
            options=options,
        )
        chosen = await answer
        self.teller.tell("answer", question=question, option=chosen)
        return chosen

    # --- being told ---

    def _cancel(self) -> None:
        """End the turn that is under way, and begin no other."""
        self.messages.clear()
        self.stop.set()
        for answer in self.waiting.values():
            if not answer.done():
                answer.set_result(None)

    async def _obey_orders(self) -> None:
        while True:
            self._read_orders()
            await asyncio.sleep(LOOK_SECONDS)

    def _read_orders(self) -> None:
        for order in self.orders.read_new():
            match order:
                case {"do": "answer", "question": str(question), "option": str() | None as option}:
                    answer = self.waiting.pop(question, None)
                    if answer is not None and not answer.done():
                        answer.set_result(option)
                case {"do": "message", "number": int(number), "text": str(text)}:
                    self.messages.append((number, text))
                    self.teller.tell("heard", number=number)

    # --- the life of a run ---

    async def run(self) -> int:
        """From the agent's start to its end; the exit code."""
        try:
            # Its own session: SIGINT is for us, and cancelling is better than interrupting.
            self.process = await asyncio.create_subprocess_exec(
                *self.configuration["argv"],
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MAX_LINE_BYTES,
                start_new_session=True,
            )
        except OSError as error:
            self.teller.tell("error", text=f"{self.configuration['argv'][0]}: {error.strerror}")
            return 127
        assert self.process.stdin is not None  # noqa: S101  # a pipe was asked for
        assert self.process.stdout is not None  # noqa: S101
        pipes = AgentPipes(self.process.stdout, self.process.stdin, self.teller)
        self.connection = Connection(self._handle, pipes)
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._cancel)
        obeying = asyncio.create_task(self._obey_orders())
        try:
            return await self._work()
        except StoppedError:
            self.teller.tell("error", text="The turn was cancelled")
        except RequestError as error:
            self.teller.tell("error", text=str(error), code=error.code, data=error.data)
        except AgentGoneError:
            code = await self._find_exit_code()
            ended = "closed its output" if code is None else f"ended with exit code {code}"
            self.teller.tell("error", text=f"The agent {ended} in the middle of its work")
        finally:
            obeying.cancel()
            self.teller.flush()
            await self._close()
            self._read_orders()
            for _, text in self.messages:
                self.teller.tell("warning", text=f"This came too late: {text}")
        return 1

    async def _work(self) -> int:
        await self._open_session()
        reason = None
        while True:
            self._read_orders()
            if not self.messages:
                return 0 if reason == "end_turn" else 1
            reason = await self._take_turn(*self.messages.popleft())

    async def _open_session(self) -> None:
        agent = await self._call(
            AGENT_METHODS["initialize"],
            protocolVersion=PROTOCOL_VERSION,
            clientCapabilities={"fs": {"readTextFile": False, "writeTextFile": False}},
            clientInfo={"name": "dragoman", "version": "1"},
        )
        try:
            session = await self._begin_session(agent)
        except RequestError as error:
            methods = [method.get("id") for method in agent.get("authMethods") or []]
            if error.code != AUTH_REQUIRED or self.configuration["auth"] not in methods:
                raise
            await self._call(AGENT_METHODS["authenticate"], methodId=self.configuration["auth"])
            session = await self._begin_session(agent)
        self.session_id = session.get("sessionId") or self.configuration["session"] or ""
        await self._choose(session)
        info = agent.get("agentInfo") or {}
        self.teller.tell(
            "session", session=self.session_id, name=info.get("name"), version=info.get("version")
        )

    async def _begin_session(self, agent: dict[str, Any]) -> dict[str, Any]:
        """A new session, or one that goes on: resumed where it can be, else loaded."""
        where: dict[str, Any] = {"cwd": str(Path.cwd()), "mcpServers": []}
        earlier = self.configuration["session"]
        if earlier is None:
            return await self._call(AGENT_METHODS["session_new"], **where)
        abilities = agent.get("agentCapabilities") or {}
        ways = abilities.get("sessionCapabilities") or {}
        wanted = "fork" if self.configuration["fork"] else "resume"
        if ways.get(wanted) is not None:
            return await self._call(AGENT_METHODS[f"session_{wanted}"], sessionId=earlier, **where)
        if wanted == "fork" or not abilities.get("loadSession"):
            raise RequestError(-32601, f"The agent cannot {wanted} a session")
        await self._unless_stopped(self._wait_while_exists())
        session = await self._call(AGENT_METHODS["session_load"], sessionId=earlier, **where)
        # What the session was is told again, and not always before the answer comes.
        while time.monotonic() - self.last_update < QUIET_SECONDS:
            await self._unless_stopped(asyncio.sleep(QUIET_SECONDS, {}))
        return session

    async def _wait_while_exists(self) -> dict[str, Any]:
        while self._exists(self.configuration["while_exists"]):
            self.teller.tell("text", text="Waiting: the session cannot be loaded in this minute")
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return {}

    def _exists(self, pattern: str | None) -> bool:
        home = os.environ.get("GEMINI_CLI_HOME") or os.environ.get("HOME")
        if pattern is None or home is None:
            return False
        return any(Path(home).glob(datetime.now(UTC).strftime(pattern)))

    async def _choose(self, session: dict[str, Any]) -> None:
        """Model and mode, where the agent offers them and has another one."""
        model, mode = self.configuration["model"], self.configuration["mode"]
        models, modes = session.get("models") or {}, session.get("modes") or {}
        here = {"sessionId": self.session_id}
        if model and models and models.get("currentModelId") != model:
            await self._call(SET_MODEL, modelId=model, **here)
        for option in session.get("configOptions") or []:
            if model and option.get("category") == "model" and option["currentValue"] != model:
                way = AGENT_METHODS["session_set_config_option"]
                await self._call(way, configId=option["id"], value=model, **here)
        known = {found.get("id") for found in modes.get("availableModes") or []}
        if mode in known and modes.get("currentModeId") != mode:
            await self._call(AGENT_METHODS["session_set_mode"], modeId=mode, **here)

    async def _take_turn(self, number: int | None, text: str) -> str:
        if number is not None:
            self.teller.tell("message", number=number, text=text)
        self.is_listening = True
        answer = await self._call(
            AGENT_METHODS["session_prompt"],
            sessionId=self.session_id,
            prompt=[{"type": "text", "text": text}],
        )
        reason = str(answer.get("stopReason"))
        told = {"usage": answer.get("usage"), "meta": answer.get("_meta")}
        self.teller.tell("turn", reason=reason, **told)
        return reason

    async def _find_exit_code(self) -> int | None:
        try:
            return await asyncio.wait_for(self.process.wait(), timeout=1)
        except TimeoutError:
            return None

    async def _close(self) -> None:
        """The end of its input ends the agent; what is left of it is the supervisor's to end."""
        with contextlib.suppress(ConnectionError):
            await self.connection.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), timeout=EXIT_SECONDS)


def _over(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    return {**earlier, **{name: value for name, value in later.items() if value}}


def main() -> None:
    """The whole life of the process."""
    configuration = json.loads(Path(sys.argv[1]).read_bytes())
    prompt = sys.stdin.buffer.read().decode(errors="replace")

    async def run() -> int:
        return await Client(configuration, prompt).run()

    sys.exit(asyncio.run(run()))


if __name__ == "__main__":
    main()
