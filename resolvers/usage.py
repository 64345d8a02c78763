"""What runs used, as sums that are kept: of a task, an agent, a workspace, a day; of a sprint."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from models import Task, UsageTotal, table_of
from resolvers.context import Context
from resolvers.loading import in_sprints, loader
from resolvers.run_totals import NANO, day_of

USAGE = table_of(UsageTotal).c
TASK = table_of(Task).c
DAYS_MAX = 90

_SUMS = ("input_tokens", "output_tokens", "cached_tokens", "cost_nano_usd")


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Tokens and US dollars; cached tokens are some of the input's."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def tokens(self) -> int:
        """What budgets of tokens count: what was sent and what was answered."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class DayUsage(UsageSum):
    """What was used on one day, UTC."""

    day: str


def usage_from(row: Any) -> UsageSum:
    """The sum in a row of kept totals; no row is nothing."""
    if row is None or row.input_tokens is None:
        return UsageSum()
    return UsageSum(
        int(row.input_tokens),
        int(row.output_tokens),
        int(row.cached_tokens),
        int(row.cost_nano_usd) / NANO,
    )


async def usage_of(ctx: Context, workspace_id: str, subject: str, subject_id: str) -> UsageSum:
    """The sum of a ``task``, an ``agent`` or a ``workspace``, batched over those of a page."""

    async def load(keys: Sequence[tuple[str, str]]) -> Sequence[UsageSum]:
        rows = await (await ctx.reader()).records(
            UsageTotal,
            sa.select(*USAGE).where(
                USAGE.workspace_id.in_({workspace for workspace, _ in keys}),
                USAGE.subject == subject,
                USAGE.subject_id.in_({key for _, key in keys}),
            ),
        )
        found = {(row.workspace_id, row.subject_id): usage_from(row) for row in rows}
        return [found.get(key, UsageSum()) for key in keys]

    return await loader(ctx, ("usage", subject), load).load((workspace_id, subject_id))


async def sprint_usage(ctx: Context, workspace_id: str, number: int) -> UsageSum:
    """What was used for the tasks that are planned into a sprint now, deleted ones too.

    It is summed over the kept totals of those tasks: a task that is planned into another sprint
    takes what it used along.
    """

    async def load(keys: Sequence[tuple[str, int]]) -> Sequence[UsageSum]:
        rows = await (await ctx.reader()).rows(
            sa.select(
                TASK.workspace_id,
                TASK.sprint_number,
                *(sa.func.sum(USAGE[name]).label(name) for name in _SUMS),
            )
            .join(
                table_of(UsageTotal),
                sa.and_(
                    USAGE.workspace_id == TASK.workspace_id,
                    USAGE.subject == "task",
                    USAGE.subject_id == TASK.id,
                ),
            )
            .where(in_sprints(TASK.workspace_id, TASK.sprint_number, keys))
            .group_by(TASK.workspace_id, TASK.sprint_number)
        )
        found = {(row.workspace_id, row.sprint_number): usage_from(row) for row in rows}
        return [found.get(key, UsageSum()) for key in keys]

    return await loader(ctx, "sprint_usage", load).load((workspace_id, number))


async def daily_usage(
    ctx: Context, workspace_ids: Sequence[str], *, days: int
) -> list[list[DayUsage]]:
    """What each workspace used on each of the last days, today included, oldest first."""
    wanted = [day_of(ctx.now - timedelta(days=back)) for back in reversed(range(days))]
    rows = await (await ctx.reader()).records(
        UsageTotal,
        sa.select(*USAGE).where(
            USAGE.workspace_id.in_(set(workspace_ids)),
            USAGE.subject == "day",
            USAGE.subject_id.in_(wanted),
        ),
    )
    found = {(row.workspace_id, row.subject_id): usage_from(row) for row in rows}
    return [
        [DayUsage(day=day, **asdict(found.get((key, day), UsageSum()))) for day in wanted]
        for key in workspace_ids
    ]
