import asyncio
import io
import json
import logging
import re
import socket
import time
import warnings
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx2
import pytest
import structlog
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from server.logs import bind_operation, configure_logging
from server.redaction import redact, redact_text
from server.request_log import RequestLog, request_id_of
from server.settings import load_settings

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
SECRETS = ["dgm_abcdefghijkl", "tb_ws12_sk_abcdefgh", "phx_abcdefghijkl", JWT, "hunter2hunter2"]


class Lines(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)

    def parsed(self) -> list[dict[str, Any]]:
        for handler in logging.getLogger().handlers:
            handler.flush()
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def requests(self) -> list[dict[str, Any]]:
        return [line for line in self.parsed() if line["event"] == "request"]


@pytest.fixture
def lines() -> Iterator[Lines]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = Lines()
    configure_logging(load_settings(log_format="json", log_level="debug"), stream=stream)
    yield stream
    root.handlers, root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


async def work(request: Request) -> PlainTextResponse:
    request.state.principal_id = "user-1"
    bind_operation("CreateTask")
    logging.getLogger("some.library").warning("slow: %d ms", 7)
    return PlainTextResponse(request_id_of(request.scope))


def refuse() -> None:
    raise RuntimeError(f"cannot log in with {SECRETS[0]}")


async def fail(request: Request) -> PlainTextResponse:
    refuse()
    return PlainTextResponse("never")


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive_text()
    await websocket.close(4403)


def client(**options: Any) -> httpx2.AsyncClient:
    app = Starlette(
        routes=[Route("/work", work), Route("/fail", fail), WebSocketRoute("/talk", talk)]
    )
    transport = httpx2.ASGITransport(app=RequestLog(app), **options)
    return httpx2.AsyncClient(transport=transport, base_url="http://board.test")


async def test_a_request_gives_one_line_without_its_query(lines: Lines) -> None:
    async with client() as http:
        answer = await http.get("/work?token=hunter2hunter2")
    UUID(answer.headers["x-request-id"])
    assert answer.text == answer.headers["x-request-id"]
    [line] = lines.requests()
    assert line["method"] == "GET"
    assert line["path"] == "/work"
    assert line["status"] == 200
    assert line["principal"] == "user-1"
    assert line["operation"] == "CreateTask"
    assert line["request_id"] == answer.text
    assert line["duration_ms"] >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"])
    assert "hunter2" not in lines.getvalue()


async def test_lines_of_one_turn_are_written_together_in_their_order(lines: Lines) -> None:
    async with client() as http:
        for path in ("/a", "/b"):
            await http.get(path)
        assert lines.writes == 0
        logging.getLogger("some.library").warning("between")
        for path in ("/c", "/d", "/e"):
            await http.get(path)
        assert lines.writes == 2
        await asyncio.sleep(0)
        assert lines.writes == 3
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    told = [line.get("path", line["event"]) for line in found]
    assert told == ["/a", "/b", "between", "/c", "/d", "/e"]


@pytest.mark.parametrize("count", [1, 1_000])
def test_no_line_is_missing_when_the_loop_has_ended(lines: Lines, count: int) -> None:
    async def ask() -> None:
        async with client() as http:
            for _ in range(count):
                await http.get("/none")

    asyncio.run(ask())
    assert lines.getvalue().count("\n") == count
    asyncio.run(ask())
    assert lines.getvalue().count("\n") == 2 * count


async def test_lines_of_libraries_carry_the_id_of_the_request(lines: Lines) -> None:
    async with client() as http:
        answer = await http.get("/work")
    [line] = [line for line in lines.parsed() if line["logger"] == "some.library"]
    assert line["event"] == "slow: 7 ms"
    assert line["level"] == "warning"
    assert line["request_id"] == answer.text


async def test_the_next_request_knows_nothing_of_the_last(lines: Lines) -> None:
    async with client() as http:
        await http.get("/work")
        await http.get("/none")
    last = lines.requests()[-1]
    assert last["status"] == 404
    assert "operation" not in last
    assert "principal" not in last


@pytest.mark.parametrize(
    ("given_id", "adopted"),
    [
        ("906998af-5797-4b87-9a72-47aad19b01d3", True),
        ("", False),
        ("42", False),
        ("x" * 36, False),
        ("f" * 32, True),
        ("a" * 10_000, False),
    ],
)
async def test_only_a_uuid_is_adopted(lines: Lines, given_id: str, *, adopted: bool) -> None:
    async with client() as http:
        answer = await http.get("/work", headers={"x-request-id": given_id})
    assert UUID(answer.text)
    assert (answer.text.replace("-", "") == given_id.replace("-", "")) is adopted


async def test_an_exception_is_told_with_its_trace_but_without_the_secret(lines: Lines) -> None:
    async with client(raise_app_exceptions=False) as http:
        answer = await http.get("/fail")
    assert answer.status_code == 500
    [line] = lines.requests()
    assert line["status"] == 500
    assert line["level"] == "error"
    try:
        refuse()
    except RuntimeError:
        logging.getLogger("x").exception("unexpected")
    trace = lines.parsed()[-1]["exception"]
    assert "RuntimeError" in trace
    assert SECRETS[0] not in lines.getvalue()


async def test_a_path_cannot_forge_a_line(lines: Lines) -> None:
    async with client() as http:
        await http.get("/a%0Ab%1B[31m" + "c" * 5000)
    [line] = lines.requests()
    assert line["path"].startswith("/a\\nb\\x1b[31mc")
    assert len(line["path"]) < 1100


async def test_health_checks_are_quiet_at_the_usual_level(lines: Lines) -> None:
    logging.getLogger().setLevel(logging.INFO)
    async with client() as http:
        await http.get("/healthz")
    assert lines.requests() == []


async def test_a_websocket_gives_one_line_and_uvicorn_none(lines: Lines) -> None:
    app = Starlette(routes=[WebSocketRoute("/talk", talk)])
    config = uvicorn.Config(
        RequestLog(app), log_config=None, access_log=False, ws="websockets-sansio", lifespan="off"
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    address = f"ws://127.0.0.1:{listener.getsockname()[1]}/talk?token=hunter2hunter2"
    async with connect(address) as websocket:
        assert websocket.response is not None
        request_id = websocket.response.headers["x-request-id"]
        await websocket.send("x")
        await websocket.wait_closed()
        assert websocket.close_code == 4403
    server.should_exit = True
    await task
    [line] = lines.requests()
    assert line["method"] == "WEBSOCKET"
    assert line["status"] == 4403
    assert line["request_id"] == request_id
    assert "hunter2" not in lines.getvalue()


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer {}",
        '{{"password": "{}"}}',
        "password={}&x=1",
        "api_key = '{}'",
        "postgresql://u:{}@h/d",
        "personal_api_key={}",
    ],
)
def test_secrets_in_texts_are_covered(text: str, secret: str) -> None:
    assert secret not in redact_text(text.format(secret))


@pytest.mark.parametrize("secret", SECRETS[:4])
def test_secrets_of_a_known_shape_are_covered_anywhere(secret: str) -> None:
    assert secret not in redact_text(f"({secret}), and so on")
    assert redact_text("a dragoman_board and eyJ") == "a dragoman_board and eyJ"


def test_secrets_in_fields_are_covered_at_every_level(lines: Lines) -> None:
    structlog.stdlib.get_logger("x").info(
        "connected",
        headers={"Authorization": "abc", "cookie": "c=1", "accept": "x"},
        body=[{"new_password": "abc", "deep": [{"apiKey": "abc"}]}],
        tokens_used=12,
        token_id="5f1c",
    )
    [line] = lines.parsed()
    assert line["headers"] == {"Authorization": "[redacted]", "cookie": "[redacted]", "accept": "x"}
    assert line["body"] == [{"new_password": "[redacted]", "deep": [{"apiKey": "[redacted]"}]}]
    assert line["tokens_used"] == 12
    assert line["token_id"] == "5f1c"


@given(st.recursive(st.none() | st.text() | st.binary() | st.floats(), st.lists, max_leaves=20))
def test_redaction_never_fails(value: Any) -> None:
    redact({"value": value})


@pytest.mark.parametrize("piece", ["-eyJ", "a.", "bearer ", "x://", "password", "token=", "\\'"])
def test_redaction_of_a_hostile_text_takes_little_time(piece: str) -> None:
    text = piece * (20_000 // len(piece))
    started = time.process_time()
    assert len(redact_text(text)) < 200_000
    assert time.process_time() - started < 0.5


def test_odd_values_are_still_json(lines: Lines) -> None:
    logger = structlog.stdlib.get_logger("x")
    logger.info("odd", text="\ud800", number=2**70, kind=object)
    logger.info("keys", value={1: "one"})
    assert len(lines.parsed()) == 2


def test_columns_for_a_terminal() -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    try:
        configure_logging(load_settings(log_format="console"), stream=stream)
        configure_logging(load_settings(log_format="console"), stream=stream)
        structlog.stdlib.get_logger("board").info("hello", who="world", password="abc")
        try:
            refuse()
        except RuntimeError:
            structlog.stdlib.get_logger("board").exception("failed")
    finally:
        root.handlers, root.level = handlers, level
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()
    text = stream.getvalue()
    assert text.count("hello") == 1
    assert "who=world" in text
    assert "abc" not in text
    assert "RuntimeError: cannot log in" in text


def test_warnings_of_python_become_lines(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old way", DeprecationWarning, stacklevel=1)
    assert any("old way" in line["event"] for line in lines.parsed())
