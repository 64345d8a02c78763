"""Awaiting level by level: all parents of a field are called, then awaited together.

Coroutines are started at once, in the caller's task; what finishes without waiting costs no task.
While one is being started no task is current, so that code that would take hold of the current
task (`asyncio.timeout`, task groups) fails loudly instead of taking the wrong one, and the
document is answered by graphql-core. Newer Pythons start tasks eagerly themselves.

The last of a field's calls to end completes all their values and calls what is below them in the
same turn of the event loop, as graphql-core would: so loads that graphql-core brings together in
one batch of a DataLoader are together here too.
"""

import asyncio
import sys
from asyncio import Future, Task
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextvars import copy_context
from types import CoroutineType, coroutine
from typing import Any, cast

from compiler.info import Token
from compiler.values import KINDS, PLAIN, Bail, close_quietly

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
    flights = _Flights(groups)
    try:
        while (group := flights.only_one()) is not None:
            await _run_alone(group)
        flights.launch()
        await flights.all_landed()
    finally:
        # Not only on errors: nothing may be left at work or unused.
        await flights.stop()
        for group in groups:
            group.parents.clear()
            for _, awaitable, _ in _take(group.waiting):
                close_quietly(awaitable)


async def _run_alone(group: Group) -> None:
    """The only work there is: awaited in this very task."""
    results: Any
    if group.waiting:
        parents = _take(group.waiting)
        results = [await parents[0][1]]
    else:
        parents = _take(group.parents)
        result = await _called(group, parents)
        results = result if group.is_batch else [result]
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


class _Flights:
    """All calls of one execution that are under way."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.loop = asyncio.get_running_loop()
        self.running = 0
        self.tasks: list[Task[None]] = []
        self.is_over = False
        self._error: BaseException | None = None
        self._end: Future[None] | None = None

    def only_one(self) -> Group | None:
        """The group with the only call there is to make; None where there are none or more."""
        ready = [group for group in self.groups if group.parents or group.waiting]
        if len(ready) == 1 and len(ready[0].parents) + len(ready[0].waiting) == 1:
            return ready[0]
        return None

    def launch(self) -> None:
        """Start everything that can start; complete what ends at once, which may add more."""
        while ready := [group for group in self.groups if group.parents or group.waiting]:
            for group in ready:
                flight = _Flight(group, self)
                self.running += 1
                flight.start()
                if flight.remaining == 0:
                    self.running -= 1
                    _land(group, flight.parents, flight.results)
        if self.running == 0:
            self._finish()

    def land(self, flight: "_Flight") -> None:
        """All calls of a flight have ended: complete them and go on below."""
        if self.is_over:
            return
        self.running -= 1
        try:
            _land(flight.group, flight.parents, flight.results)
            self.launch()
        except Exception as error:  # noqa: BLE001  # it is raised where the execution waits
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """A call has failed: the execution ends with the first error."""
        if self._error is None:
            self._error = error
        self._finish()

    def _finish(self) -> None:
        self.is_over = True
        if self._end is not None and not self._end.done():
            self._end.set_result(None)

    async def all_landed(self) -> None:
        """Wait for the end.

        Raises:
            BaseException: of the call or completion that failed first.
        """
        if not self.is_over:
            self._end = self.loop.create_future()
            await self._end
        if self._error is not None:
            raise self._error

    async def stop(self) -> None:
        """Cancel what is still at work and wait for its end."""
        self.is_over = True
        if any(not task.done() for task in self.tasks):
            # A task that is cancelled before its first turn would not tell its coroutine.
            await asyncio.sleep(0)
        tasks = [task for task in self.tasks if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class _Flight:
    """Calls of one field that are started together and completed together."""

    __slots__ = ("flights", "group", "is_starting", "parents", "remaining", "results")

    def __init__(self, group: Group, flights: _Flights) -> None:
        self.group = group
        self.flights = flights
        self.parents = _take(group.waiting)
        self.remaining = 0
        self.results: Any = []
        self.is_starting = True

    def start(self) -> None:
        """Call all parents of the group and start what they return."""
        group = self.group
        called = _take(group.parents)
        waiting = self.parents
        self.parents = waiting + called
        self.results = [None] * len(self.parents)
        for index, (_, awaitable, _) in enumerate(waiting):
            self._begin(index, awaitable)
        if group.is_batch:
            if called:
                self._begin(0, _called(group, called))
        else:
            call = group.call
            for index, (_, parent, place) in enumerate(called, len(waiting)):
                self._begin(index, call(parent, place))
        self.is_starting = False

    def _begin(self, index: int, called: Any) -> None:
        """Start what a resolver returned: a coroutine to its first wait, anything else as it is."""
        self.remaining += 1
        if type(called) is CoroutineType:
            if HAS_EAGER_TASKS:
                self._begin_newer(index, called)
            else:
                self._begin_coroutine(index, called)
        elif asyncio.isfuture(called):
            called.add_done_callback(lambda future: self._take_future(index, future))
        elif KINDS[type(called)] == PLAIN:
            self.settle(index, called)
        else:
            task = self.flights.loop.create_task(self._finish(index, called))
            self.flights.tasks.append(task)

    def _begin_newer(self, index: int, called: Any) -> None:
        task: Task[None] = Task(
            self._finish(index, called),
            loop=self.flights.loop,
            eager_start=True,  # type: ignore[call-arg,unused-ignore]  # since Python 3.12
        )
        if not task.done():
            self.flights.tasks.append(task)

    def _begin_coroutine(self, index: int, called: Any) -> None:
        loop = self.flights.loop
        context = copy_context()
        current = asyncio.current_task(loop)
        if current is not None:
            asyncio.tasks._leave_task(loop, current)  # noqa: SLF001  # see the module
        try:
            first = context.run(called.send, None)
        except StopIteration as stop:
            self.settle(index, stop.value)
            return
        finally:
            if current is not None:
                asyncio.tasks._enter_task(loop, current)  # noqa: SLF001  # see the module
        if asyncio.isfuture(first):
            # As a task does: another coroutine may wait for the same future meanwhile.
            first._asyncio_future_blocking = False  # noqa: SLF001  # the protocol of asyncio's tasks
        rest = self._finish(index, resumed(called, first))
        self.flights.tasks.append(loop.create_task(rest, context=context))

    async def _finish(self, index: int, awaitable: Any) -> None:
        """What each task does; it lands the flight itself, so that no turn of the loop is lost."""
        try:
            value = await awaitable
        except Exception as error:  # noqa: BLE001  # it is raised where the execution waits
            self.flights.fail(error)
        except BaseException as error:
            self.flights.fail(error)
            raise
        else:
            self.settle(index, value)

    def _take_future(self, index: int, future: "Future[Any]") -> None:
        if future.cancelled():
            self.flights.fail(asyncio.CancelledError())
        elif (error := future.exception()) is not None:
            self.flights.fail(error)
        else:
            self.settle(index, future.result())

    def settle(self, index: int, value: Any) -> None:
        """Take the result of one call; the last one lands the flight."""
        if self.group.is_batch:
            self.results = value
        else:
            self.results[index] = value
        self.remaining -= 1
        if self.remaining == 0 and not self.is_starting:
            self.flights.land(self)


@coroutine
def resumed(started: Any, first: Any) -> Generator[Any, Any, Any]:
    """The rest of a coroutine that was run to its first wait, for which it yielded `first`."""
    waited_for = first
    is_new_turn = first is None  # it only let others go first, which has happened
    if asyncio.isfuture(first):
        first._asyncio_future_blocking = True  # noqa: SLF001  # it is being waited for now
    while True:
        try:
            sent = None if is_new_turn else (yield waited_for)
        except GeneratorExit:
            started.close()
            raise
        except BaseException as error:  # noqa: BLE001  # it belongs to the coroutine
            try:
                waited_for = started.throw(error)
            except StopIteration as stop:
                return stop.value
        else:
            is_new_turn = False
            try:
                waited_for = started.send(sent)
            except StopIteration as stop:
                return stop.value
