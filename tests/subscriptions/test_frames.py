"""Frames written past the protocol's own messages: joined, whole, and at the client's pace."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import Protocol, Side, State

from subscriptions.transports.frames import TOGETHER, text_frames
from subscriptions.transports.uvicorn_protocols import AbortableWebSocketProtocol, _Gate, _Inbox

SIZES = st.one_of(st.integers(0, 300), st.sampled_from([125, 126, 65_535, 65_536, 70_000]))


class Wire:
    """A transport that holds `room` bytes before it asks to wait, as those of asyncio do."""

    def __init__(self, protocol: Any, room: int) -> None:
        self.protocol = protocol
        self.room = room
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        assert self.protocol.writable.is_set(), "written although the client does not read"
        self.written.append(data)
        if sum(map(len, self.written)) > self.room:
            self.protocol.writable.clear()


def connection(room: int, state: State = State.OPEN) -> tuple[Any, Wire]:
    protocol: Any = AbortableWebSocketProtocol.__new__(AbortableWebSocketProtocol)
    protocol.writable = asyncio.Event()
    protocol.writable.set()
    protocol.conn = Protocol(Side.SERVER, state=state)
    protocol.transport = Wire(protocol, room)
    return protocol, protocol.transport


def received(wire: Wire) -> list[bytes]:
    client = Protocol(Side.CLIENT, state=State.OPEN)
    client.receive_data(b"".join(wire.written))
    frames: list[Any] = client.events_received()
    assert all(frame.opcode is Opcode.TEXT and frame.fin for frame in frames)
    return [bytes(frame.data) for frame in frames]


@settings(max_examples=200, deadline=None)
@given(sizes=st.lists(SIZES, max_size=40), room=st.integers(0, 400_000))
def test_a_client_gets_the_first_ones_whole_and_nobody_writes_far_ahead(
    sizes: list[int], room: int
) -> None:
    texts = [b"%c" % (65 + number % 26) * size for number, size in enumerate(sizes)]
    protocol, wire = connection(room)
    count = protocol.write_frames(text_frames(texts))
    assert received(wire) == texts[:count]
    assert (count == len(texts)) or not protocol.writable.is_set()
    assert sum(map(len, wire.written)) <= room + TOGETHER + 70_010 + 10 * len(texts)
    assert len(wire.written) <= 1 + sum(sizes) // TOGETHER


def test_nothing_is_written_to_who_does_not_read_or_has_left() -> None:
    protocol, wire = connection(room=0)
    assert protocol.write_frames(text_frames([b"a", b"b"])) == 2
    assert protocol.write_frames(text_frames([b"c"])) == 0
    assert received(wire) == [b"a", b"b"]
    for state in (State.CONNECTING, State.CLOSING, State.CLOSED):
        protocol, wire = connection(room=100, state=state)
        assert protocol.write_frames(text_frames([b"a"])) == 0
        assert wire.written == []


async def test_messages_of_a_client_come_in_order_to_the_one_who_receives() -> None:
    inbox = _Inbox()
    first = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await inbox.get()
    for number in range(5):
        inbox.put_nowait(number)
    assert [await first] + [await inbox.get() for _ in range(4)] == list(range(5))
    assert inbox.empty()
    leaving = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    inbox.put_nowait("kept")
    assert await inbox.get() == "kept"


async def test_who_comes_to_a_gate_waits_while_it_is_shut_and_no_longer() -> None:
    gate = _Gate()
    await gate.wait()
    for _ in range(2):
        gate.clear()
        gate.clear()
        assert not gate.is_set()
        waiting = [asyncio.create_task(gate.wait()) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        gate.set()
        gate.set()
        assert gate.is_set()
        gate.clear()  # shut again before they have had their turn: they came in time
        await asyncio.gather(*waiting)
        gate.set()
