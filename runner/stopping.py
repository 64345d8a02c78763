"""Ending a run: the ladder from a polite request to SIGKILL, until no process is left.

The caller records the wish to stop before it calls, because some agents answer SIGINT with exit
code 0. The supervisor is the last to go and then writes exit.json as after any other end.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from runner import process_table
from runner.process_table import Process, ProcessId
from runner.processes import RunIdentity, find_processes, find_supervisor, read_identity

_LOOK_SECONDS = 0.05
_SCAN_SECONDS = 0.5
_SUPERVISOR_SECONDS = 1.0


class StopStage(StrEnum):
    """How far up the ladder a stop had to go."""

    NONE = "none"
    CANCEL = "cancel"
    INTERRUPT = "interrupt"
    TERMINATE = "terminate"
    KILL = "kill"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopLadder:
    """How long (seconds) each stage may take before the next one begins.

    ``cancel`` asks the agent through its own protocol, where it has one.
    """

    cancel: Callable[[], Awaitable[None]] | None = None
    cancel_seconds: float = 5.0
    interrupt_seconds: float = 5.0
    terminate_seconds: float = 5.0
    kill_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReport:
    """What a stop did. ``survivors`` is empty unless something could not be killed in time."""

    stage: StopStage
    signalled: int
    seconds: float
    survivors: tuple[ProcessId, ...]
    cancel_error: str | None = None

    @property
    def clean(self) -> bool:
        """Whether no process of the run is left."""
        return not self.survivors


class _Stop:
    def __init__(self, identity: RunIdentity, ladder: StopLadder) -> None:
        self.identity = identity
        self.ladder = ladder
        self.stage = StopStage.NONE
        self.cancel_error: str | None = None
        self.signalled: set[ProcessId] = set()
        self.supervisor: ProcessId | None = None

    async def find(self) -> list[Process]:
        return await asyncio.to_thread(self._find)

    def _find(self) -> list[Process]:
        # Read anew each time: the supervisor goes on recording what it sees.
        fresh = read_identity(self.identity.folder, run_id=self.identity.run_id)
        if fresh.supervisor or not self.identity.supervisor:
            self.identity = fresh
        self.supervisor = find_supervisor(self.identity)
        return find_processes(self.identity, supervisor=self.supervisor)

    async def send(self, number: signal.Signals, processes: Iterable[Process]) -> None:
        for process in processes:
            if process_table.send_signal(process.id, number):
                self.signalled.add(process.id)
        await asyncio.sleep(0)

    async def wait_until_gone(self, watched: Iterable[ProcessId], *, seconds: float) -> bool:
        """Whether all of the watched processes ended within the time."""
        left = list(watched)
        deadline = time.monotonic() + seconds
        while True:
            left = [process for process in left if process_table.is_alive(process)]
            if not left:
                return True
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_LOOK_SECONDS)

    async def cancel(self, found: list[Process]) -> None:
        if self.ladder.cancel is None:
            return
        self.stage = StopStage.CANCEL
        deadline = time.monotonic() + self.ladder.cancel_seconds
        try:
            async with asyncio.timeout(self.ladder.cancel_seconds):
                await self.ladder.cancel()
        except Exception as error:  # noqa: BLE001 - whatever the protocol did, the ladder goes on
            self.cancel_error = repr(error)
        else:
            left = max(0.0, deadline - time.monotonic())
            await self.wait_until_gone(self.main(found), seconds=left)

    def main(self, found: list[Process]) -> list[ProcessId]:
        """The agent itself where it is known and alive, else everything found."""
        ids = [process.id for process in found]
        return [self.identity.agent] if self.identity.agent in ids else ids

    async def interrupt(self, found: list[Process]) -> None:
        """SIGINT to the agent's process group; what is outside of it learns from the agent."""
        agent = self.identity.agent
        group = [process for process in found if agent and process.group == agent.pid]
        if group:
            self.stage = StopStage.INTERRUPT
            await self.send(signal.SIGINT, group)
            await self.wait_until_gone(self.main(found), seconds=self.ladder.interrupt_seconds)

    async def terminate(self, found: list[Process]) -> None:
        self.stage = StopStage.TERMINATE
        await self.send(signal.SIGTERM, found)
        ids = [process.id for process in found]
        await self.wait_until_gone(ids, seconds=self.ladder.terminate_seconds)

    async def kill(self) -> list[Process]:
        """SIGKILL in rounds until a look finds nothing, or the time is over."""
        deadline = time.monotonic() + self.ladder.kill_seconds
        while found := await self.find():
            if time.monotonic() >= deadline:
                return found
            self.stage = StopStage.KILL
            if self.identity.cgroup:
                await asyncio.to_thread(process_table.kill_cgroup, self.identity.cgroup)
            await self.send(signal.SIGKILL, found)
            await self.wait_until_gone([process.id for process in found], seconds=_SCAN_SECONDS)
        return []

    async def end_supervisor(self) -> None:
        """Let the supervisor record the end; one that does not end by itself is ended."""
        patience = (_SUPERVISOR_SECONDS, self.ladder.kill_seconds, self.ladder.kill_seconds)
        for number, seconds in zip((None, signal.SIGTERM, signal.SIGKILL), patience, strict=True):
            if self.supervisor is None:
                return
            if number is not None:
                process_table.send_signal(self.supervisor, number)
            if await self.wait_until_gone([self.supervisor], seconds=seconds):
                return

    async def run(self) -> list[ProcessId]:
        for step in (self.cancel, self.interrupt, self.terminate):
            if not (found := await self.find()):
                break
            await step(found)
        await self.kill()
        left: list[ProcessId] = []
        if self.supervisor is not None:
            await self.end_supervisor()
            # It may have been about to start the agent, or was killed with orphans.
            left = [process.id for process in await self.kill()]
        if self.supervisor and process_table.is_alive(self.supervisor):
            left.append(self.supervisor)
        if self.identity.cgroup and not left:
            await asyncio.to_thread(process_table.remove_cgroup, self.identity.cgroup)
        return left


async def stop_tree(identity: RunIdentity, *, ladder: StopLadder | None = None) -> StopReport:
    """End every process of a run and its supervisor; safe to call for a run that is over.

    Returns when a scan finds nothing more, or when killing took ``kill_seconds`` in vain; then
    the report names the survivors. Signals go only to processes whose start time still matches.
    If the caller is cancelled, the stop stays where it was and may be called again.
    """
    stop = _Stop(identity, ladder or StopLadder())
    began = time.monotonic()
    survivors = await stop.run()
    return StopReport(
        stage=stop.stage,
        signalled=len(stop.signalled),
        seconds=round(time.monotonic() - began, 3),
        survivors=tuple(survivors),
        cancel_error=stop.cancel_error,
    )
