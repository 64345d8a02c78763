"""A headless chromium driven over the DevTools protocol, with nothing but localhost in reach.

``browser`` is the program, one per test; ``await browser.open(url)`` gives a ``Page``.
"""

import asyncio
import contextlib
import itertools
import json
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 30.0  # seconds for anything a page should do
KEYS = {"Enter": 13, "Tab": 9, "Escape": 27, "Backspace": 8, "Delete": 46}
CTRL = 2
CONDITION = """new Promise((done) => {
  const look = () => {
    let met = false;
    try { met = (%s); } catch { met = false; }
    if (met) done(true); else setTimeout(look, 25);
  };
  look();
})"""


class PageError(AssertionError):
    """The page did not do what the test asked for."""


class Page:
    """One tab. ``problems`` are its exceptions, console errors and policy violations."""

    def __init__(self, browser: "Browser", session: str) -> None:
        self._browser = browser
        self._session = session
        self.problems: list[str] = []
        self.requests: list[str] = []

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._browser.send(method, session=self._session, **params)

    async def goto(self, url: str) -> None:
        await self.send("Page.navigate", url=url)
        await self.wait_for(
            f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'"
        )

    async def evaluate(self, expression: str) -> Any:
        answer = await self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise PageError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    async def wait_for(self, condition: str, *, within: float = PATIENCE) -> None:
        """Wait until the JavaScript expression is true, through reloads too."""
        try:
            async with asyncio.timeout(within):
                while True:
                    with contextlib.suppress(ConnectionError):  # the page was being replaced
                        await self.evaluate(CONDITION % condition)
                        return
        except TimeoutError:
            text = await self.evaluate("document.body.innerText.slice(0, 3000)")
            raise PageError(f"never true: {condition}\n{self.problems}\n{text}") from None

    async def click(self, selector: str) -> None:
        quoted = json.dumps(selector)
        await self.wait_for(f"document.querySelector({quoted}) !== null")
        box = await self.evaluate(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({quoted}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.send(
                "Input.dispatchMouseEvent",
                type=kind, x=box[0], y=box[1], button="left", clickCount=1,
            )  # fmt: skip

    async def insert(self, text: str) -> None:
        """Put text where the cursor is, as a paste would."""
        await self.send("Input.insertText", text=text)

    async def press(self, key: str, *, ctrl: bool = False) -> None:
        code = KEYS.get(key, ord(key.upper()[0]))
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self.send(
                "Input.dispatchKeyEvent",
                type=kind, key=key, code=key if key in KEYS else f"Key{key.upper()}",
                windowsVirtualKeyCode=code, nativeVirtualKeyCode=code,
                modifiers=CTRL if ctrl else 0, **text,
            )  # fmt: skip

    def hear(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:500])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.problems.append(json.dumps(params["args"])[:500])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])


class Browser:
    """The program and the connection to it."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}

    async def send(
        self, method: str, *, session: str | None = None, **params: Any
    ) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        await self._connection.send(json.dumps(message))
        return await answer

    async def open(self, url: str) -> Page:
        target = await self.send("Target.createTarget", url="about:blank")
        attached = await self.send(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.send(f"{domain}.enable")
        await page.goto(url)
        return page

    async def listen(self) -> None:
        async for text in self._connection:
            message = json.loads(text)
            answer = self._answers.pop(message.get("id", 0), None)
            if answer is None:
                page = self._pages.get(message.get("sessionId", ""))
                if page is not None:
                    page.hear(message["method"], message["params"])
            elif "error" in message:
                answer.set_exception(ConnectionError(json.dumps(message["error"])))
            elif not answer.done():
                answer.set_result(message["result"])


async def _start(profile: Path) -> tuple[Process, str]:
    program = next(path for path in map(shutil.which, PROGRAMS) if path)
    process = await asyncio.create_subprocess_exec(
        program,
        "--headless=new",
        "--no-sandbox",  # root has no other way, and the pages are ours
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-extensions",
        "--no-first-run",
        "--no-proxy-server",
        "--window-size=1400,900",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        async for line in process.stderr:
            if line.startswith(b"DevTools listening on "):
                return process, line.decode().split()[-1]
    raise PageError(f"{program} ended without listening")


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(1 << 16):
        pass


@pytest.fixture
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    profile = tmp_path_factory.mktemp("chromium")
    process, address = await _start(profile)
    assert process.stderr is not None
    tasks = [asyncio.create_task(_drain(process.stderr))]
    try:
        async with connect(address, max_size=None, ping_interval=None) as connection:
            driven = Browser(connection)
            tasks.append(asyncio.create_task(driven.listen()))
            yield driven
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await driven.send("Browser.close")
                    await process.wait()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        shutil.rmtree(profile, ignore_errors=True)
