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
from collections.abc import Callable, Generator, Iterable
from contextvars import copy_context
from dataclasses import dataclass
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType, coroutine
from typing import Any

from compiler.info import Run, Token
from compiler.values import KINDS, PLAIN, Bail, close_quietly

Landing = Callable[[Run, list[Any], list[Any], list[Any]], None]
"""`(run, answers, places, values)` completes values and puts them into the answers."""

HAS_EAGER_TASKS = sys.version_info >= (3, 12)


@dataclass(frozen=True, slots=True, eq=False)
class AwaitedField:
    """A field of a plan whose values are awaited.

    Attributes:
        land: completes them.
        is_batch: one call answers for all parents.
    """

    land: Landing
    is_batch: bool = False

    def complete(self, run: Run, answers: list[Any], places: list[Any], values: list[Any]) -> None:
        """Complete what came of the field's calls, or of the one that is for all parents.

        Raises:
            Bail: a batch resolver has not answered for each parent.
        """
        if len(values) != len(answers):
            raise Bail(f"{len(values)} results for {len(answers)} parents")
        self.land(run, answers, places, values)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AsyncField(AwaitedField):
    """An asynchronous field of a plan.

    Attributes:
        call: `(run, parent, place)`, or with `is_batch` `(run, parents, place of the first)`.
    """

    call: Callable[[Run, Any, Token | None], Any]


@dataclass(slots=True, eq=False)
class Level:
    """The asynchronous fields of an object of a plan: all are called on the same parents."""

    fields: list[AsyncField]


async def drive(run: Run) -> None:
    """Call, await and complete until nothing is left of what compiled code has left to await.

    Raises:
        Exception: whatever a resolver or a completion raises first; everything started is
            cancelled and has ended by then.
    """
    flights: _Flights | None = None
    try:
        while run.begun or run.late:
            begun = run.begun
            if len(begun) == 1 and not run.late:
                level, answers, parents, places = begun[0]
                field = level.fields[0]
                if len(level.fields) == 1 and (field.is_batch or len(parents) == 1):
                    # The only work there is: awaited in this very task.
                    run.begun = []
                    if field.is_batch:
                        values = await field.call(run, parents, places[0])
                    else:
                        values = [await field.call(run, parents[0], places[0])]
                    field.complete(run, answers, places, values)
                    continue
            flights = _Flights(run)
            flights.launch(_call(run))
            if flights.running:
                await flights.all_landed()
    finally:
        # Not only on errors: nothing may be left at work or unused.
        if flights is not None:
            flights.is_over = True
            if flights.tasks:
                await flights.stop()
        if run.begun or run.late:
            dispose(run)


def dispose(run: Run) -> None:
    """Close what resolvers returned to be awaited and will not be."""
    run.begun.clear()
    for _, _, awaitable, _ in run.late:
        close_quietly(awaitable)
    run.late.clear()


class _Flight:
    """Calls of one field that are started together and completed together."""

    __slots__ = ("answers", "field", "is_starting", "places", "remaining", "values")

    def __init__(
        self, field: AwaitedField, answers: list[Any], places: list[Any], values: list[Any]
    ) -> None:
        self.field = field
        self.answers = answers
        self.places = places
        self.values = values
        """What the calls returned, then what came of it; of a batch, one for all."""
        self.remaining = 0
        self.is_starting = True

    def land(self, run: Run) -> None:
        """All calls have ended: complete their values."""
        field = self.field
        values = self.values[0] if field.is_batch else self.values
        field.complete(run, self.answers, self.places, values)


class _Flights:
    """All calls of one execution that are under way."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.loop = asyncio.get_running_loop()
        self.running = 0
        self.tasks: list[Task[None]] = []
        self.is_over = False
        self._error: BaseException | None = None
        self._end: Future[None] | None = None

    def launch(self, called: list[_Flight]) -> None:
        """Start all that was called; complete what ends at once, and go on below."""
        run = self.run
        while True:
            try:
                self._start(called)
            except BaseException:
                _abandon(called)
                raise
            for flight in called:
                flight.is_starting = False
                if flight.remaining:
                    self.running += 1
                else:
                    flight.land(run)
            if not run.begun and not run.late:
                break
            called = _call(run)
        if self.running == 0:
            self._finish()

    def _start(self, called: list[_Flight]) -> None:
        """Start what was called: a coroutine to its first wait, anything else as it is."""
        loop = self.loop
        current = None if HAS_EAGER_TASKS else asyncio.current_task(loop)
        if current is not None:
            asyncio.tasks._leave_task(loop, current)  # noqa: SLF001  # see the module
        try:
            for flight in called:
                values = flight.values
                for index, value in enumerate(values):
                    if type(value) is not CoroutineType:
                        self._await(flight, index, value)
                    elif HAS_EAGER_TASKS:
                        self._begin_newer(flight, index, value)
                    else:
                        context = copy_context()
                        try:
                            first = context.run(value.send, None)
                        except StopIteration as stop:
                            values[index] = stop.value
                        else:
                            self._go_on(flight, index, value, first, context)
        finally:
            if current is not None:
                asyncio.tasks._enter_task(loop, current)  # noqa: SLF001  # see the module

    def _await(self, flight: _Flight, index: int, called: Any) -> None:
        if KINDS[type(called)] == PLAIN:
            return
        flight.remaining += 1
        if asyncio.isfuture(called):
            called.add_done_callback(lambda future: self._take_future(flight, index, future))
        else:
            self.tasks.append(self.loop.create_task(self._finished(flight, index, called)))

    def _begin_newer(self, flight: _Flight, index: int, called: Any) -> None:
        flight.remaining += 1
        task: Task[None] = Task(
            self._finished(flight, index, called),
            loop=self.loop,
            eager_start=True,  # type: ignore[call-arg,unused-ignore]  # since Python 3.12
        )
        if not task.done():
            self.tasks.append(task)

    def _go_on(self, flight: _Flight, index: int, called: Any, first: Any, context: Any) -> None:
        flight.remaining += 1
        if asyncio.isfuture(first):
            # As a task does: another coroutine may wait for the same future meanwhile.
            first._asyncio_future_blocking = False  # noqa: SLF001  # the protocol of asyncio's tasks
        rest = self._finished(flight, index, resumed(called, first))
        self.tasks.append(self.loop.create_task(rest, context=context))

    async def _finished(self, flight: _Flight, index: int, awaitable: Any) -> None:
        """What each task does; it lands the flight itself, so that no turn of the loop is lost."""
        try:
            value = await awaitable
        except Exception as error:  # noqa: BLE001  # it is raised where the execution waits
            self.fail(error)
        except BaseException as error:
            self.fail(error)
            raise
        else:
            self.settle(flight, index, value)

    def _take_future(self, flight: _Flight, index: int, future: "Future[Any]") -> None:
        if future.cancelled():
            self.fail(asyncio.CancelledError())
        elif (error := future.exception()) is not None:
            self.fail(error)
        else:
            self.settle(flight, index, future.result())

    def settle(self, flight: _Flight, index: int, value: Any) -> None:
        """Take the result of one call; the last one lands the flight, and starts what is below."""
        flight.values[index] = value
        flight.remaining -= 1
        if flight.remaining or flight.is_starting or self.is_over:
            return
        self.running -= 1
        try:
            flight.land(self.run)
            self.launch(_call(self.run))
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
        if any(not task.done() for task in self.tasks):
            # A task that is cancelled before its first turn would not tell its coroutine.
            await asyncio.sleep(0)
        tasks = [task for task in self.tasks if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _call(run: Run) -> list[_Flight]:
    """Call all that can be called now.

    Raises:
        Exception: of a resolver; what others have returned is disposed of.
    """
    begun = run.begun
    run.begun = []
    if len(begun) > 1:
        begun = _merged(begun)
    flights: list[_Flight] = []
    try:
        for level, answers, parents, places in begun:
            for field in level.fields:
                values: list[Any] = []
                flights.append(_Flight(field, answers, places, values))
                if field.is_batch:
                    values.append(field.call(run, parents, places[0]))
                    continue
                for parent, place in zip(parents, places, strict=True):
                    values.append(field.call(run, parent, place))
    except BaseException:
        _abandon(flights)
        raise
    return [*flights, *_late(run)] if run.late else flights


def _abandon(flights: Iterable[_Flight]) -> None:
    """Dispose of coroutines that were made and not started."""
    for flight in flights:
        for value in flight.values:
            if type(value) is CoroutineType and getcoroutinestate(value) == CORO_CREATED:
                value.close()


def _merged(begun: list[Any]) -> list[Any]:
    """Parents of one level that were completed apart, together."""
    found: dict[int, Any] = {}
    for chunk in begun:
        known = found.setdefault(id(chunk[0]), chunk)
        if known is not chunk:
            for whole, more in zip(known[1:], chunk[1:], strict=True):
                whole.extend(more)
    return list(found.values())


def _late(run: Run) -> Iterable[_Flight]:
    """What synchronous resolvers have left to be awaited, by field."""
    flights: dict[int, _Flight] = {}
    for field, answer, awaitable, place in run.late:
        flight = flights.setdefault(id(field), _Flight(field, [], [], []))
        flight.answers.append(answer)
        flight.places.append(place)
        flight.values.append(awaitable)
    run.late.clear()
    return flights.values()


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
