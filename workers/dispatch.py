"""The dispatcher of this server: starts runs when their turn comes, takes up those left behind.

It lives in the server process. One for many machines will stand on an existing engine; what it
needs from the board is ``claim_run`` and what follows it, nothing else.
"""

import asyncio
import time
from collections.abc import Iterable
from datetime import timedelta

import structlog

from models import Run
from models.enums import RunKind
from resolvers.context import Context, Services
from resolvers.errors import UnavailableError
from resolvers.principal import SYSTEM
from resolvers.run_claims import (
    ClaimedRun,
    adopt_run,
    any_command_waits,
    any_run_waits,
    claim_command,
    claim_run,
    executing_runs,
    give_up_leases,
    renew_leases,
    stops_requested,
)
from resolvers.run_execution import fail_lost_run
from runner.command_run import CommandRun
from runner.configuration import RunnerSettings
from runner.managed import LOOK_SECONDS as LOOK_RUN_SECONDS
from runner.managed import ManagedRun
from runner.owned_run import LeaseLostError
from workers.leftovers import remove_leftovers

log = structlog.get_logger("dragoman.dispatch")

LOOK_SECONDS = 1.0
RENEW_SECONDS = 15.0
HEARTBEAT_SECONDS = 2.0


class RunDispatcher:
    """The port ``resolvers.ports.Dispatcher``, and the loop behind it.

    ``sole``: no other server uses this database, so whatever counts as executing at the start was
    left by a dead one and is taken up at once instead of when its lease ends.
    """

    def __init__(self, settings: RunnerSettings, *, sole: bool) -> None:
        self.settings = settings
        self.sole = sole
        self._news = asyncio.Event()
        self._active: dict[str, tuple[ManagedRun, asyncio.Task[None]]] = {}
        self._services: Services | None = None
        self._renewed = 0.0
        self._beaten = 0.0

    @property
    def active(self) -> int:
        """How many runs this server executes now."""
        return len(self._active)

    def wake(self) -> None:
        """A run may be ready to start."""
        self._news.set()

    def stop(self, run_id: str) -> None:
        """A run's stop was requested."""
        if (found := self._active.get(run_id)) is not None:
            found[0].request_stop()

    def deliver(self, run_id: str) -> None:
        """A run was told something."""
        if (found := self._active.get(run_id)) is not None:
            found[0].deliver()

    def _system(self) -> Context:
        assert self._services is not None  # noqa: S101  # set by run_for_ever
        return Context(self._services, SYSTEM)

    async def run_for_ever(self, services: Services) -> None:
        """Dispatch until cancelled. Runs are left running: the next server takes them up."""
        self._services = services
        self._beat()
        try:
            if self.sole:
                ctx = self._system()
                try:
                    running = await executing_runs(ctx)
                finally:
                    await ctx.release()  # a snapshot that stays keeps SQLite's log growing
                await self._take_up(running)
            await remove_leftovers(self._system(), self.settings)
            while True:
                try:
                    await self._step()
                except UnavailableError as error:
                    log.warning("database is busy", error=str(error))
                await self._wait()
        finally:
            await self._let_go()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return

    async def _step(self) -> None:
        self._news.clear()
        self._beat()
        await self._renew()
        await self._hear_stops()
        if not self.sole:
            await self._take_up_lost()
        await self._start_commands()
        while self._runs() < self.settings.max_concurrent and await self._any_waits():
            claimed = await claim_run(
                self._system(),
                host=self.settings.host,
                executors=self.settings.executors.keys(),
                maximum=self.settings.max_concurrent,
            )
            if claimed is None:
                return
            self._begin(claimed, adopted=False)

    def _pace(self) -> float:
        """Seconds between two looks at one run's output, longer where there are many runs.

        From ten runs on the looks together cost the same; no line waits longer than a second.
        """
        return min(1.0, LOOK_RUN_SECONDS * max(1.0, len(self._active) / 10))

    def _runs(self) -> int:
        """How many runs that are no commands this server executes."""
        return sum(not isinstance(run, CommandRun) for run, _ in self._active.values())

    async def _start_commands(self) -> None:
        policy = self._system().services.trust.commands
        while policy is not None and len(self._active) - self._runs() < policy.concurrent:
            ctx = self._system()
            try:
                waits = await any_command_waits(ctx)
            finally:
                await ctx.release()
            if not waits:
                return
            claimed = await claim_command(
                self._system(), host=self.settings.host, maximum=policy.concurrent
            )
            if claimed is None:
                return
            self._begin(claimed, adopted=False)

    async def _any_waits(self) -> bool:
        ctx = self._system()
        try:
            return await any_run_waits(ctx, executors=self.settings.executors.keys())
        finally:
            await ctx.release()

    def _begin(self, claimed: ClaimedRun, *, adopted: bool) -> None:
        kind = CommandRun if claimed.run.kind == RunKind.COMMAND else ManagedRun
        run = kind(self._system(), self.settings, claimed, pace=self._pace)
        log.info("run begins", run_id=run.run_id, adopted=adopted)
        task = asyncio.create_task(self._see_to_its_end(run, adopted=adopted))
        self._active[run.run_id] = (run, task)

    async def _see_to_its_end(self, run: ManagedRun, *, adopted: bool) -> None:
        try:
            await (run.take_up() if adopted else run.execute())
        except LeaseLostError as error:
            log.warning("lease lost", run_id=run.run_id, error=str(error))
        except Exception:
            # One run's failure must not take the others down; the lease ends, and it is taken up.
            log.exception("run failed in the server", run_id=run.run_id)
        finally:
            self._active.pop(run.run_id, None)
            self._news.set()

    def _beat(self) -> None:
        """Show the supervisors that their server lives."""
        if time.monotonic() - self._beaten >= HEARTBEAT_SECONDS:
            self.settings.heartbeat.parent.mkdir(parents=True, exist_ok=True)
            self.settings.heartbeat.touch()
            self._beaten = time.monotonic()

    async def _renew(self) -> None:
        if not self._active or time.monotonic() - self._renewed < RENEW_SECONDS:
            return
        tokens = {run_id: run.claimed.token for run_id, (run, _) in self._active.items()}
        owned = await renew_leases(self._system(), tokens=tokens)
        for run_id in tokens.keys() - owned:
            if (found := self._active.get(run_id)) is not None:
                found[1].cancel()
        self._renewed = time.monotonic()

    async def _hear_stops(self) -> None:
        """Stops that were requested, and what was told, through another server."""
        if self._active and not self.sole:
            ctx = self._system()
            try:
                for run_id in await stops_requested(ctx, run_ids=list(self._active)):
                    self.stop(run_id)
            finally:
                await ctx.release()
            for run, _ in self._active.values():
                run.deliver()

    async def _take_up(self, runs: Iterable[Run]) -> None:
        for run in runs:
            claimed = await adopt_run(self._system(), run_id=run.id, token=run.lease_token)
            if claimed is not None:
                self._begin(claimed, adopted=True)

    async def _take_up_lost(self) -> None:
        """Runs whose lease ended: ours are taken up, those of hosts long gone are failed."""
        ctx = self._system()
        try:
            lost = await executing_runs(ctx, lease_ended=True)
        finally:
            await ctx.release()
        await self._take_up(r for r in lost if r.host == self.settings.host)
        grace = timedelta(seconds=self.settings.orphan_after)
        for run in lost:
            expired = run.lease_expires_at
            if run.host != self.settings.host and expired and ctx.now - expired > grace:
                await fail_lost_run(
                    self._system(), run_id=run.id, token=run.lease_token, reason="host_lost"
                )

    async def _let_go(self) -> None:
        """Stop following; processes go on, and the next server need not wait for leases to end."""
        tokens = {run_id: run.claimed.token for run_id, (run, _) in self._active.items()}
        tasks = [task for _, task in self._active.values()]
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        await asyncio.wait(tasks)
        try:
            await give_up_leases(self._system(), tokens=tokens)
        except UnavailableError as error:
            log.warning("leases not given up", error=str(error))
