"""A run that is this server's: what it is told of, always under the lease of its claim."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from models.enums import RunStatus
from resolvers.context import Context
from resolvers.errors import ConflictError, UnavailableError
from resolvers.run_claims import ClaimedRun
from resolvers.run_execution import RunOutcome, append_output, finish_run
from runner.configuration import RunnerSettings
from runner.ending import Outcome

log = structlog.get_logger("dragoman.runs")

RETRY_SECONDS = 1.0


class LeaseLostError(Exception):
    """Another server has taken the run over; this one leaves it alone."""


@dataclass(slots=True)
class OwnedRun:
    """A claimed run and the way to tell the board about it."""

    system: Context
    settings: RunnerSettings
    claimed: ClaimedRun

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.claimed.run.id

    async def tell(self, lines: Sequence[str]) -> None:
        """Add lines of the server's own to the output, before the agent has started."""
        entries = [{"s": "server", "t": line, "at": self.system.now.isoformat()} for line in lines]
        if entries:
            await self.insist(
                lambda: append_output(
                    self.system,
                    run_id=self.run_id,
                    token=self.claimed.token,
                    entries=entries,
                    offsets={},
                )
            )

    async def settle(
        self,
        outcome: Outcome,
        facts: dict[str, Any],
        *,
        exit_code: int | None = None,
        text: str | None = None,
    ) -> None:
        """Record the end of the run, and move its task.

        Args:
            outcome: the judgement.
            facts: of the branch, as ``RunOutcome.task_facts``.
            exit_code: the agent's, negative for a signal.
            text: the agent's closing words.
        """
        status = RunStatus[outcome.status.name]
        await self.insist(
            lambda: finish_run(
                self.system,
                run_id=self.run_id,
                token=self.claimed.token,
                outcome=RunOutcome(
                    status=status,
                    reason=outcome.reason,
                    error=outcome.error,
                    exit_code=exit_code,
                    task_facts=facts,
                    text=text,
                ),
            )
        )
        log.info("run ended", run_id=self.run_id, status=status, reason=outcome.reason)

    async def insist(self, operation: Any) -> Any:
        """Repeat an operation until the database can be had.

        Raises:
            LeaseLostError: the run is another server's now.
        """
        while True:
            try:
                return await operation()
            except UnavailableError as error:
                log.warning("database is busy", run_id=self.run_id, error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            except ConflictError as error:
                raise LeaseLostError(str(error)) from error
