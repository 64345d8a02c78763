"""Budgets: how much runs may use, alone and together in a day, and what happens beyond.

A run that has used up its budget, or works in a workspace that has used up its day, is stopped
with the reason ``budget`` as soon as it reports so much. Waiting runs of such a workspace are
held until the next day begins (UTC), or until the budget is raised.
"""

import math
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from models import Run, UsageTotal, Workspace, table_of
from models.enums import Permission
from models.event import SITE_STREAM
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import InvalidError
from resolvers.loading import loader
from resolvers.operation import operation
from resolvers.ports import Budget
from resolvers.run_totals import NANO, day_of, nano_dollars
from resolvers.task_access import check_version
from resolvers.usage import UsageSum, usage_of
from resolvers.validation import Unset
from resolvers.workspace_changes import change_workspace
from resolvers.workspaces import lock_workspace

WORKSPACE = table_of(Workspace).c
REASON = "budget"
TOKENS_MAX = 10**15
COST_MAX = 1e9


@operation
async def set_budget(
    ctx: Context, *, workspace_id: str, expected_version: int | None = None, **amounts: Any
) -> Workspace:
    """Set how much the runs of a workspace may use; what is not given stays, None lifts it.

    The operator's own budgets hold beside these; the smaller one decides.

    Args:
        ctx: needs ``admin`` in the workspace.
        workspace_id: which.
        expected_version: refuse with CONFLICT unless the workspace is at this version.
        amounts: of ``run_tokens``, ``day_tokens`` (input and output together) and
            ``run_cost_usd``, ``day_cost_usd``.

    Raises:
        NotFoundError, ForbiddenError, InvalidError, ConflictError.
    """
    workspace = await lock_workspace(ctx, workspace_id=workspace_id, permission=Permission.ADMIN)
    check_version(workspace.version, expected_version)
    given = {name: value for name, value in amounts.items() if not isinstance(value, Unset)}
    changes = {_COLUMNS[name]: check_amount(name, value) for name, value in given.items()}
    if all(getattr(workspace, name) == value for name, value in changes.items()):
        return workspace
    ctx.after_commit(ctx.services.dispatcher.wake)
    return await change_workspace(ctx, workspace, "workspace.updated", **changes)


_COLUMNS = {
    "run_tokens": "run_token_budget",
    "run_cost_usd": "run_cost_budget_usd",
    "day_tokens": "day_token_budget",
    "day_cost_usd": "day_cost_budget_usd",
}
_FIELDS = {
    "run_tokens": "runTokens",
    "run_cost_usd": "runCostUsd",
    "day_tokens": "dayTokens",
    "day_cost_usd": "dayCostUsd",
    "token_budget": "tokenBudget",
    "cost_budget_usd": "costBudgetUsd",
}


def check_amount(name: str, value: Any) -> Any:
    """A budget's amount, or None for none.

    Raises:
        InvalidError: not a whole number of tokens from 1, or not an amount above 0.
    """
    field = _FIELDS[name]
    if value is None:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidError(f"{field} must be a finite number", field=field)
    if "token" in name:
        if value != int(value):
            raise InvalidError(f"{field} must be a whole number", field=field)
        return check.integer(int(value), field=field, minimum=1, maximum=TOKENS_MAX)
    if not 0 < value <= COST_MAX:
        raise InvalidError(f"{field} must be more than 0 and at most {COST_MAX:.0f}", field=field)
    return float(value)


def budget_of(workspace: Workspace) -> Budget:
    """The budget a workspace has set itself."""
    return Budget(
        run_tokens=workspace.run_token_budget,
        run_cost_usd=workspace.run_cost_budget_usd,
        day_tokens=workspace.day_token_budget,
        day_cost_usd=workspace.day_cost_budget_usd,
    )


def day_is_spent(ctx: Context) -> sa.ColumnElement[bool]:
    """SQL over workspaces: today's budget of the workspace, or of the whole server, is used up."""
    today = table_of(UsageTotal).alias("today").c
    tokens = today.input_tokens + today.output_tokens
    cost = today.cost_nano_usd
    own = sa.and_(
        today.workspace_id == WORKSPACE.id,
        sa.or_(tokens >= WORKSPACE.day_token_budget, cost >= WORKSPACE.day_cost_budget_usd * NANO),
    )
    budget = ctx.services.trust.budget
    server = sa.and_(
        today.workspace_id == SITE_STREAM,
        sa.or_(
            sa.false() if budget.day_tokens is None else tokens >= budget.day_tokens,
            sa.false()
            if budget.day_cost_usd is None
            else cost >= nano_dollars(budget.day_cost_usd),
        ),
    )
    return sa.exists(
        sa.select(sa.literal(1)).where(
            today.subject == "day", today.subject_id == day_of(ctx.now), sa.or_(own, server)
        )
    )


async def find_overspending(ctx: Context, before: Run, after: Run) -> str | None:
    """Why a run has to end by what it has used now, in a sentence; None while it may go on.

    Args:
        ctx: in the operation that added to what the run used.
        before: the run without it.
        after: the run with it.
    """
    today, site = (table_of(UsageTotal).alias(name) for name in ("today", "site"))
    day = day_of(ctx.now)
    row = await ctx.transaction.first(
        sa.select(
            WORKSPACE.run_token_budget,
            WORKSPACE.run_cost_budget_usd,
            WORKSPACE.day_token_budget,
            WORKSPACE.day_cost_budget_usd,
            (today.c.input_tokens + today.c.output_tokens).label("day_tokens"),
            today.c.cost_nano_usd.label("day_cost"),
            (site.c.input_tokens + site.c.output_tokens).label("site_tokens"),
            site.c.cost_nano_usd.label("site_cost"),
        )
        .outerjoin(today, _is_day(today.c, WORKSPACE.id, day))
        .outerjoin(site, _is_day(site.c, sa.literal(SITE_STREAM), day))
        .where(WORKSPACE.id == after.workspace_id)
    )
    if row is None:
        return None
    server = ctx.services.trust.budget
    new_tokens = _tokens(after) - _tokens(before)
    new_cost = nano_dollars(after.cost_usd) - nano_dollars(before.cost_usd)
    cost = nano_dollars(after.cost_usd)
    limits = (
        ("run", _tokens(after), (after.token_budget, row.run_token_budget, server.run_tokens)),
        (
            "run",
            cost,
            _dollars(after.cost_budget_usd, row.run_cost_budget_usd, server.run_cost_usd),
        ),
        ("workspace's day", (row.day_tokens or 0) + new_tokens, (row.day_token_budget,)),
        ("workspace's day", (row.day_cost or 0) + new_cost, _dollars(row.day_cost_budget_usd)),
        ("server's day", (row.site_tokens or 0) + new_tokens, (server.day_tokens,)),
        ("server's day", (row.site_cost or 0) + new_cost, _dollars(server.day_cost_usd)),
    )
    for number, (whose, used, amounts) in enumerate(limits):
        amount = min((a for a in amounts if a is not None), default=None)
        if amount is not None and used >= amount:
            return _sentence(whose, used, amount, money=bool(number % 2))
    return None


def _is_day(columns: Any, workspace_id: Any, day: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        columns.workspace_id == workspace_id,
        columns.subject == "day",
        columns.subject_id == day,
    )


def _tokens(run: Run) -> int:
    return run.input_tokens + run.output_tokens


def _dollars(*amounts: float | None) -> tuple[int | None, ...]:
    return tuple(None if amount is None else nano_dollars(amount) for amount in amounts)


def _sentence(whose: str, used: int, amount: int, *, money: bool) -> str:
    if money:
        return f"The {whose} budget of ${amount / NANO:.4f} is used up: ${used / NANO:.4f}"
    return f"The {whose} budget of {amount} tokens is used up: {used} tokens"


async def used_today(ctx: Context, workspace_id: str) -> UsageSum:
    """What the runs of a workspace used today, UTC."""
    return await usage_of(ctx, workspace_id, "day", day_of(ctx.now))


async def is_exhausted(ctx: Context, workspace_id: str) -> bool:
    """Whether waiting runs of a workspace are held for what was used today; batched."""

    async def load(ids: Sequence[str]) -> Sequence[bool]:
        spent = await (await ctx.reader()).scalars(
            sa.select(WORKSPACE.id).where(WORKSPACE.id.in_(ids), day_is_spent(ctx))
        )
        return [key in spent for key in ids]

    return await loader(ctx, "is_exhausted", load).load(workspace_id)
