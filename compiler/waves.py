"""Awaiting level by level: all parents of a field are called, then awaited together.

Coroutines are started at once, in the caller's task; what finishes without waiting costs no task.
While one is being started no task is current, so that code that would take hold of the current
task (`asyncio.timeout`, task groups) fails loudly instead of taking the wrong one, and the
document is answered by graphql-core. Newer Pythons start tasks eagerly themselves.
"""

import asyncio
import sys
from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextvars import copy_context
from types import CoroutineType, coroutine
from typing import Any, cast

from compiler.info import Token
from compiler.values import KINDS, Bail, close_quietly

Parent = tuple[dict[str, Any], Any, Token | None]
"""A parent's answer so far, the parent, and its place in the response."""

HAS_EAGER_TASKS = sys.version_info >= (3, 12)


class Group:
    """One asynchronous field of a plan during one execution.

    Compiled code adds to `parents` who is to be called, and to `waiting` what a synchronous
    resolver has returned to be awaited.
    """

    __slots__ = ("call", "complete", "is_batch", "key", "parents", "waiting")

    def __init__(
        self,
        key: str,
        call: Callable[..., Any],
        complete: Callable[[Any, Token | None], Any],
        parents: list[Parent],
        waiting: list[Parent],
        *,
        is_batch: bool = False,
    ) -> None:
        self.key = key
        self.call = call
        self.complete = complete
        self.parents = parents
        self.waiting = waiting
        self.is_batch = is_batch


async def drive(groups: Sequence[Group]) -> None:
    """Call, await and complete until nothing is left.

    Raises:
        Exception: whatever a resolver or a completion raises first; everything started is
            cancelled and has ended by then.
    """
    flights = _Flights()
    try:
        while True:
            await _launch_all(groups, flights)
            if not flights.running:
                return
            await flights.some_done()
            for flight in flights.take_done():
                _land(flight.group, flight.parents, flight.results)
    finally:
        # Not only on errors: a resolver's exception must not leave siblings at work.
        await flights.stop()
        for group in groups:
            for _, awaitable, _ in group.waiting:
                close_quietly(awaitable)


async def _launch_all(groups: Sequence[Group], flights: "_Flights") -> None:
    """Start everything that can start; complete what ends at once, which may add more."""
    while True:
        ready = [group for group in groups if group.parents or group.waiting]
        if not ready:
            return
        if len(ready) == 1 and not flights.running:
            group = ready[0]
            if len(group.parents) + len(group.waiting) == 1:
                await _run_alone(group)
                continue
        for group in ready:
            flight = _start(group, flights)
            if flight.remaining == 0:
                flights.running.discard(flight)
                _land(flight.group, flight.parents, flight.results)


async def _run_alone(group: Group) -> None:
    """The only work there is: awaited in this very task."""
    if group.waiting:
        parents = _take(group.waiting)
        results = [await parents[0][1]]
    else:
        parents = _take(group.parents)
        results = [await _called(group, parents)]
        if group.is_batch:
            results = results[0]
    _land(group, parents, results)


def _called(group: Group, parents: list[Parent]) -> Awaitable[Any]:
    if group.is_batch:
        return cast("Awaitable[Any]", group.call([one for _, one, _ in parents], parents[0][2]))
    _, one, place = parents[0]
    return cast("Awaitable[Any]", group.call(one, place))


def _take(items: list[Parent]) -> list[Parent]:
    taken = items[:]
    items.clear()
    return taken


def _land(group: Group, parents: list[Parent], results: Any) -> None:
    if len(results) != len(parents):
        raise Bail(f"{len(results)} results for {len(parents)} parents")
    key = group.key
    complete = group.complete
    for (answer, _, place), value in zip(parents, results, strict=True):
        answer[key] = complete(value, place)


class _Flight:
    """Calls of one field that were started together and are completed together."""

    __slots__ = ("flights", "group", "parents", "remaining", "results")

    def __init__(self, group: Group, parents: list[Parent], flights: "_Flights") -> None:
        self.group = group
        self.parents = parents
        self.flights = flights
        self.results: list[Any] = [None] * len(parents)
        self.remaining = 0

    def wait_for(self, index: int, awaitable: Any, loop: AbstractEventLoop) -> None:
        """Have the result of an awaitable put into its place."""
        future: Future[Any] = awaitable
        if not asyncio.isfuture(awaitable):
            future = loop.create_task(_awaited(awaitable))
            self.flights.tasks.add(future)
        self.remaining += 1

        def done(ended: Future[Any]) -> None:
            self.flights.tasks.discard(ended)
            self.remaining -= 1
            if ended.cancelled():
                self.flights.fail(asyncio.CancelledError())
            elif (error := ended.exception()) is not None:
                self.flights.fail(error)
            else:
                self._put(index, ended.result())
                if self.remaining == 0:
                    self.flights.land(self)

        future.add_done_callback(done)

    def put(self, index: int, value: Any) -> None:
        """Take a result that was there at once."""
        self._put(index, value)

    def _put(self, index: int, value: Any) -> None:
        if self.group.is_batch:
            self.results = value
        else:
            self.results[index] = value


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


class _Flights:
    """All flights of one execution and the way to wait for the next one to end."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.running: set[_Flight] = set()
        self.done: list[_Flight] = []
        self.tasks: set[Future[Any]] = set()
        self.error: BaseException | None = None
        self._waiter: Future[None] | None = None

    def land(self, flight: _Flight) -> None:
        """A flight has all its results."""
        self.done.append(flight)
        self._wake()

    def fail(self, error: BaseException) -> None:
        """A call has failed: the execution ends with the first error."""
        if self.error is None:
            self.error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def some_done(self) -> None:
        """Wait for a flight to land or a call to fail.

        Raises:
            BaseException: of the failed call.
        """
        if not self.done and self.error is None:
            self._waiter = self.loop.create_future()
            await self._waiter
            self._waiter = None
        if self.error is not None:
            raise self.error

    def take_done(self) -> list[_Flight]:
        """The flights that have landed since the last time, in the order of landing."""
        taken, self.done = self.done, []
        self.running.difference_update(taken)
        return taken

    async def stop(self) -> None:
        """Cancel what is still at work and wait for its end."""
        if self.tasks:
            tasks = list(self.tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def _start(group: Group, flights: _Flights) -> _Flight:
    """Call everyone in a group, the parents first, and start what they return."""
    waiting = _take(group.waiting)
    parents = _take(group.parents)
    flight = _Flight(group, waiting + parents, flights)
    flights.running.add(flight)
    for index, (_, awaitable, _) in enumerate(waiting):
        flight.wait_for(index, awaitable, flights.loop)
    if group.is_batch and parents:
        _begin(flight, 0, _called(group, parents))
        return flight
    call = group.call
    for index, (_, parent, place) in enumerate(parents, len(waiting)):
        _begin(flight, index, call(parent, place))
    return flight


def _begin(flight: _Flight, index: int, called: Any) -> None:
    """Start what a resolver returned: a coroutine to its first wait, anything else as it is."""
    if type(called) is not CoroutineType:
        if KINDS[type(called)] == 0:
            flight.put(index, called)
        else:
            flight.wait_for(index, called, flight.flights.loop)
        return
    loop = flight.flights.loop
    if HAS_EAGER_TASKS:
        task = Task(called, loop=loop, eager_start=True)  # type: ignore[call-arg,unused-ignore]  # since 3.12
        if task.done():
            flight.put(index, task.result())
        else:
            flight.flights.tasks.add(task)
            flight.wait_for(index, task, loop)
        return
    context = copy_context()
    current = asyncio.current_task(loop)
    assert current is not None  # noqa: S101  # only coroutines of a task get here
    asyncio.tasks._leave_task(loop, current)  # noqa: SLF001  # see the module
    try:
        first = context.run(called.send, None)
    except StopIteration as stop:
        flight.put(index, stop.value)
        return
    finally:
        asyncio.tasks._enter_task(loop, current)  # noqa: SLF001  # see the module
    if asyncio.isfuture(first):
        # As a task does: another coroutine may wait for the same future meanwhile.
        first._asyncio_future_blocking = False  # noqa: SLF001
    rest = cast("Coroutine[Any, Any, Any]", _resumed(called, first))
    task = loop.create_task(rest, context=context)
    flight.flights.tasks.add(task)
    flight.wait_for(index, task, loop)


@coroutine
def _resumed(started: Any, first: Any) -> Generator[Any, Any, Any]:
    """The rest of a coroutine that was run to its first wait."""
    waited_for = first
    if asyncio.isfuture(first):
        first._asyncio_future_blocking = True  # noqa: SLF001  # it is being waited for now
    while True:
        try:
            sent = yield waited_for
        except GeneratorExit:
            started.close()
            raise
        except BaseException as error:  # noqa: BLE001  # it belongs to the coroutine
            try:
                waited_for = started.throw(error)
            except StopIteration as stop:
                return stop.value
        else:
            try:
                waited_for = started.send(sent)
            except StopIteration as stop:
                return stop.value
