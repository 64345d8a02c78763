"""The graphql-transport-ws protocol with deadlines, close codes and strict messages."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final, Protocol, cast, runtime_checkable

from graphql import GraphQLError
from starlette.websockets import WebSocketDisconnect
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
    Operation,
    _OperationStreamClosed,
)
from strawberry.subscriptions.protocols.graphql_transport_ws.types import (
    ConnectionInitMessage,
    Message,
    SubscribeMessage,
)
from strawberry.types.execution import ExecutionResult, PreExecutionError

from subscriptions.delivery import Batch, Delivery, Payload, Selection, current_delivery
from subscriptions.transports.frames import text_frames
from subscriptions.transports.limits import (
    Frames,
    TransportLimits,
    abort_connection,
    frame_writer,
)

logger = logging.getLogger("dragoman.transports")

UNAUTHENTICATED: Final = 4401
FORBIDDEN: Final = 4403
TOO_MANY: Final = 4429
INTERNAL: Final = 4500
SLOW_READER: Final = 4503
GOING_AWAY: Final = 1012
TRY_AGAIN_LATER: Final = 1013

SLOW_READER_REASON: Final = "Reading too slowly. Resume from the last cursor you received."

MAX_ID_LENGTH: Final = 100
MAX_REASON_BYTES: Final = 123  # what a close frame holds

connection_params: ContextVar[Mapping[str, Any]] = ContextVar(
    "connection_params", default=MappingProxyType({})
)
"""The payload of this connection's `connection_init`."""

# Why a connection is refused at connection_init, by the code of the error.
REFUSALS: Final = {
    "UNAUTHENTICATED": (UNAUTHENTICATED, "Unauthorized"),
    "FORBIDDEN": (FORBIDDEN, "Forbidden"),
    "LIMIT_EXCEEDED": (TOO_MANY, "Too many connections"),
    "RATE_LIMITED": (TOO_MANY, "Too many requests"),
    "UNAVAILABLE": (TRY_AGAIN_LATER, "Try again later"),
}


@runtime_checkable
class Shareable(Protocol):
    """A result that comes with the payload and the selection it is shared by."""

    payload: Payload
    selection: Selection
    errors: Any
    extensions: Any


class SocketOutlet:
    """Writes an operation's results to its WebSocket without waiting."""

    __slots__ = ("_handler", "_head", "_operation", "selection")

    def __init__(
        self, handler: TransportWSHandler, operation: Operation[Any, Any], selection: Selection
    ) -> None:
        self.selection = selection
        self._handler = handler
        self._operation = operation
        self._head = b'{"id":%b,"type":"next","payload":' % json.dumps(operation.id).encode()

    def message(self, payload: Payload) -> bytes:
        """The whole message."""
        return b"%b%b}" % (self._head, payload.json)

    def push(self, batch: Batch) -> int:
        """See `subscriptions.delivery.Outlet`."""
        write = self._handler.write
        if write is None or not self._handler.is_running(self._operation):
            return 0
        return write(batch.form(self._operation.id, self._frames))

    def _frames(self, payloads: Sequence[Payload]) -> Frames:
        texts = [payload.json for payload in payloads]
        return text_frames(texts, before=self._head, after=b"}")


class TransportWSHandler(BaseGraphQLTransportWSHandler[Any, Any]):
    """One WebSocket connection. Its view is a `DragomanGraphQL`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits: TransportLimits = cast("Any", self.view).transport_limits
        self._extensions: dict[str, dict[str, Any] | None] = {}
        self._is_closing = False
        self.write = frame_writer(cast("Any", self.websocket).ws.scope)

    async def handle_message(self, message: Message) -> None:
        """Act on one message; one that has not the protocol's form closes the connection (4400)."""
        problem = _problem_of(message)
        if problem is not None:
            await self.handle_invalid_message(problem)
            return
        await super().handle_message(message)

    async def handle_invalid_message(self, error_message: str) -> None:
        """Close the connection, saying what was wrong."""
        await self._close(4400, error_message)

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        """Let the application look at the client; what it raises becomes a close code."""
        connection_params.set(message.get("payload") or {})
        try:
            await super().handle_connection_init(message)
            # It has been cancelled; a connection need not hold its traceback and frames for ever.
            self.connection_init_timeout_task = None
        except WebSocketDisconnected:
            raise
        except Exception as error:
            refusal = REFUSALS.get(str(getattr(error, "code", "")))
            if refusal is None:
                logger.exception("connection_init failed")
                refusal = (INTERNAL, "Internal server error")
            await self._close(*refusal)

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        """Start an operation, keeping its extensions (Strawberry drops them)."""
        self._extensions[message["id"]] = message["payload"].get("extensions")
        try:
            await super().handle_subscribe(message)
        finally:
            if message["id"] not in self.operations:
                self._extensions.pop(message["id"], None)

    async def run_operation(self, operation: Operation[Any, Any]) -> None:
        """Run one operation, in a task of its own, to its end."""
        delivery = Delivery()
        current_delivery.set(delivery)
        extensions = self._extensions.pop(operation.id, None)
        try:
            await self._run(operation, extensions)
        except (_OperationStreamClosed, WebSocketDisconnected):
            return
        except Exception:
            logger.exception("an operation over a WebSocket failed")
            error = GraphQLError("Internal error", extensions={"code": "INTERNAL"})
            await self._end_with(operation, error)
        finally:
            if self.operations.get(operation.id) is operation:
                del self.operations[operation.id]
        await self._close_after(delivery.closed)

    async def _run(self, operation: Operation[Any, Any], extensions: dict[str, Any] | None) -> None:
        context = await cast("Any", self.view).get_operation_context(self.context)
        results = await self.schema.stream(
            operation.query,
            variable_values=operation.variables,
            context_value=context,
            root_value=self.root_value,
            operation_name=operation.operation_name,
            operation_extensions=extensions,
        )
        async with aclosing(results):
            await self._send_result_stream(operation, results)
        await operation.send_operation_message({"id": operation.id, "type": "complete"})

    async def _send_result_stream(self, operation: Operation[Any, Any], result_source: Any) -> None:
        """Send what the schema yields; payloads that are shared as they are."""
        is_first = True
        async for result in result_source:
            if is_first and isinstance(result, PreExecutionError):
                await self._handle_pre_execution_error(operation, result)
                return
            if not isinstance(result, ExecutionResult):
                await self._reject_incremental_delivery(operation)
                return
            if isinstance(result, Shareable) and not result.errors and not result.extensions:
                await self._send_shared(operation, result)
            else:
                await operation.send_next(result)
            is_first = False

    async def _send_shared(self, operation: Operation[Any, Any], result: Shareable) -> None:
        outlet = SocketOutlet(self, operation, result.selection)
        delivery = current_delivery.get()
        if delivery is not None and self.write is not None:
            delivery.outlet = outlet
        if not outlet.push(Batch([result.payload])) and not operation.completed:
            text = outlet.message(result.payload).decode()
            await self._send(lambda: cast("Any", self.websocket).ws.send_text(text))

    async def _end_with(self, operation: Operation[Any, Any], error: GraphQLError) -> None:
        try:
            await operation.send_initial_errors([error])
        except (WebSocketDisconnected, KeyError):
            logger.debug("the client had left")

    async def _close_after(self, reason: str | None) -> None:
        """Close when a stream's end concerns the whole connection."""
        if reason == "UNAUTHENTICATED":
            await self._close(UNAUTHENTICATED, "The credential is no longer valid")
        elif self.operations:
            return  # the others may go on
        elif reason == "FORBIDDEN":
            await self._close(FORBIDDEN, "Forbidden")
        elif reason == "GOING_AWAY":
            await self._close(GOING_AWAY, "Going away. Resume from the last cursor you received.")

    async def send_message(self, message: Message) -> None:
        """Send one message within its deadline; a client that does not read is let go."""
        await self._send(lambda: self.websocket.send_json(message))

    async def _send(self, send: Callable[[], Awaitable[None]]) -> None:
        if self._is_closing:
            raise WebSocketDisconnected
        try:
            async with asyncio.timeout(self._limits.send_timeout):
                await send()
        except TimeoutError:
            await self._close(SLOW_READER, SLOW_READER_REASON)
            raise WebSocketDisconnected from None
        except (RuntimeError, WebSocketDisconnect) as error:  # closed between two messages
            raise WebSocketDisconnected from error

    def is_running(self, operation: Operation[Any, Any]) -> bool:
        """Whether messages of this operation may be sent."""
        return not self._is_closing and self.operations.get(operation.id) is operation

    async def _close(self, code: int, reason: str) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        try:
            async with asyncio.timeout(self._limits.close_timeout):
                await self.websocket.close(code, _short(reason))
        except TimeoutError:
            abort_connection(cast("Any", self.websocket).ws.scope)
        except (RuntimeError, WebSocketDisconnected, WebSocketDisconnect):
            logger.debug("the client had left")


def _problem_of(message: object) -> str | None:
    """Why this is no message of the protocol, or None."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return "A message must be an object with a type"
    kind, payload = message["type"], message.get("payload")
    if kind not in {"subscribe", "complete"}:
        return None if isinstance(payload, dict | None) else "The payload must be an object"
    if not isinstance(message.get("id"), str) or not 0 < len(message["id"]) <= MAX_ID_LENGTH:
        return f"The id must be a text of 1 to {MAX_ID_LENGTH} characters"
    if kind == "subscribe":
        return _problem_of_operation(payload)
    return None


def _problem_of_operation(payload: object) -> str | None:
    if not isinstance(payload, dict) or not isinstance(payload.get("query"), str):
        return "The payload must be an object with a query"
    if not isinstance(payload.get("variables"), dict | None):
        return "The variables must be an object"
    if not isinstance(payload.get("operationName"), str | None):
        return "The operation name must be a text"
    if not isinstance(payload.get("extensions"), dict | None):
        return "The extensions must be an object"
    return None


def _short(reason: str) -> str:
    return reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
