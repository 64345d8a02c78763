"""What runs used is summed exactly, and budgets end what goes beyond them."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from models import Run, UsageTotal, table_of
from models.enums import RunHold, RunStatus, TaskStatus
from resolvers import queue_queries, usage
from resolvers.agents import create_agent
from resolvers.budgets import is_exhausted, set_budget, used_today
from resolvers.context import Context
from resolvers.errors import ForbiddenError, InvalidError, NotFoundError
from resolvers.ports import Budget
from resolvers.principal import SYSTEM
from resolvers.run_claims import ClaimedRun, claim_run
from resolvers.run_execution import OutputFacts, RunOutcome, append_output, finish_run
from resolvers.run_queries import get_run
from resolvers.runs import retry_run, start_run
from resolvers.sprints import create_sprint
from resolvers.task_access import get_task
from resolvers.tasks import create_task, update_task
from resolvers.usage import UsageSum
from tests.resolvers.conftest import Board, make_board

RUN, USAGE = table_of(Run).c, table_of(UsageTotal).c
STOPPED = RunOutcome(RunStatus.CANCELLED, "user")


@pytest.fixture
def times() -> list[datetime]:
    """The time it is: the last one."""
    return [datetime(2026, 3, 1, 23, 59, tzinfo=UTC)]


@pytest.fixture
async def timed(board_services: Any, times: list[datetime]) -> Any:
    board = await make_board(replace(board_services, clock=lambda: times[-1]))
    yield board
    await board.close()


def system(board: Board) -> Context:
    return Context(board.services, SYSTEM)


async def started(board: Board, **given: Any) -> ClaimedRun:
    """A new task's run, executing."""
    dev = board.context()
    task = await create_task(
        dev, workspace_id=board.id, title="T", sprint_number=given.pop("sprint", None)
    )
    await start_run(dev, task_id=task.id, **given)
    claimed = await claim_run(system(board), host="h", executors=["CUSTOM"], maximum=99)
    assert claimed is not None
    return claimed


async def use(board: Board, claimed: ClaimedRun, **used: Any) -> Run:
    """What the run's server does when its agent reports usage; the run after it."""
    ctx = system(board)
    await append_output(
        ctx, run_id=claimed.run.id, token=claimed.token, entries=[], offsets={},
        facts=OutputFacts(**used),
    )  # fmt: skip
    run = await get_run(ctx, run_id=claimed.run.id)
    await ctx.release()
    return run


async def check_sums(board: Board) -> None:
    """Every kept sum is what the runs' own rows add up to, to the last billionth."""
    runs = await board.rows(sa.select(*RUN).where(RUN.workspace_id == board.id))
    expected: dict[tuple[str, str], list[int]] = {}
    for run in runs:
        used = [run.input_tokens, run.output_tokens, run.cached_tokens, round(run.cost_usd * 1e9)]
        for subject in (("workspace", board.id), ("task", run.task_id), ("agent", run.agent_id)):
            if subject[1] is not None and any(used):
                sums = expected.setdefault(subject, [0, 0, 0, 0])
                expected[subject] = [a + b for a, b in zip(sums, used, strict=True)]
    kept = {
        (row.subject, row.subject_id): list(row[3:])
        for row in await board.rows(sa.select(*USAGE).where(USAGE.workspace_id == board.id))
    }
    days = [kept.pop(key) for key in list(kept) if key[0] == "day"]
    assert kept == expected
    together = [sum(column) for column in zip(*days, strict=True)] or [0, 0, 0, 0]
    assert together == expected.get(("workspace", board.id), [0, 0, 0, 0])


async def test_sums_are_exact_over_runs_retries_and_days(
    timed: Board, times: list[datetime]
) -> None:
    seed = random.Random(11)  # noqa: S311  # no secret
    dev = timed.context()
    agent = await create_agent(timed.context("manager"), workspace_id=timed.id, name="a")
    await create_sprint(dev, workspace_id=timed.id, number=3)
    claims = [
        await started(timed, sprint=3, agent_id=agent.id),
        await started(timed, sprint=3),
        await started(timed),
    ]
    for _ in range(30):
        claimed = seed.choice(claims)
        await use(
            timed, claimed, input_tokens=seed.randint(0, 10**9), output_tokens=seed.randint(0, 50),
            cached_tokens=seed.randint(0, 9), cost_usd=seed.random() / 7,
        )  # fmt: skip
        times.append(times[-1] + timedelta(seconds=7))
    first = claims[0]
    failed = RunOutcome(RunStatus.FAILED, "exit_code")
    await finish_run(system(timed), run_id=first.run.id, token=first.token, outcome=failed)
    await retry_run(dev, run_id=first.run.id)
    again = await claim_run(system(timed), host="h", executors=["CUSTOM"], maximum=99)
    assert again is not None
    await use(timed, again, input_tokens=5, cost_usd=0.1)
    await check_sums(timed)

    of_task = [
        await usage.usage_of(dev, timed.id, "task", claimed.run.task_id or "") for claimed in claims
    ]
    sprint = await usage.sprint_usage(dev, timed.id, 3)
    assert sprint.input_tokens == of_task[0].input_tokens + of_task[1].input_tokens > 2**31
    await dev.release()
    await update_task(dev, task_id=claims[1].run.task_id or "", sprint_number=None)
    sprint = await usage.sprint_usage(dev, timed.id, 3)
    assert sprint == of_task[0]
    (days,) = await usage.daily_usage(dev, [timed.id], days=2)
    assert [day.day for day in days] == ["2026-03-01", "2026-03-02"]
    assert all(day.input_tokens for day in days)


async def test_a_run_beyond_its_budget_is_stopped_with_that_reason(board: Board) -> None:
    claimed = await started(board, token_budget=100)
    assert (await use(board, claimed, input_tokens=60, output_tokens=39)).stop_reason is None
    run = await use(board, claimed, output_tokens=1, cached_tokens=50)
    assert run.stop_reason == "budget"
    assert run.error == "The run budget of 100 tokens is used up: 100 tokens"
    run = await finish_run(system(board), run_id=run.id, token=claimed.token, outcome=STOPPED)
    assert (run.status, run.reason) == (RunStatus.CANCELLED, "budget")
    assert run.error is not None
    viewer = board.context("viewer")
    task = await get_task(viewer, task_id=run.task_id or "")
    assert (task.status, task.status_reason) == (TaskStatus.BACKLOG, run.error)
    types = [event.type for event in await board.events()]
    assert types[-4:] == [
        "task.started", "run.stop_requested", "run.cancelled", "task.dequeued",
    ]  # fmt: skip


@pytest.mark.parametrize("whose", ["run", "workspace", "server"])
async def test_the_smallest_budget_of_a_run_decides(board: Board, whose: str) -> None:
    amounts = {name: 0.5 if name == whose else 2.0 for name in ("run", "workspace", "server")}
    trust = replace(board.services.trust, budget=Budget(run_cost_usd=amounts["server"]))
    board.services = replace(board.services, trust=trust)
    await set_budget(
        board.context("owner"), workspace_id=board.id, run_cost_usd=amounts["workspace"]
    )
    claimed = await started(board, cost_budget_usd=amounts["run"])
    assert (await use(board, claimed, cost_usd=0.49)).stop_reason is None
    assert (await use(board, claimed, cost_usd=0.02)).stop_reason == "budget"


@pytest.mark.parametrize("whose", ["workspace", "server"])
async def test_a_spent_day_stops_and_holds_until_the_next(
    timed: Board, times: list[datetime], whose: str
) -> None:
    if whose == "workspace":
        await set_budget(timed.context("owner"), workspace_id=timed.id, day_tokens=1_000)
    else:
        trust = replace(timed.services.trust, budget=Budget(day_tokens=1_000))
        timed.services = replace(timed.services, trust=trust)
    first, second = await started(timed), await started(timed)
    dev = timed.context()
    task = await create_task(dev, workspace_id=timed.id, title="waits")
    waiting = await start_run(dev, task_id=task.id)
    assert (await use(timed, first, input_tokens=999)).stop_reason is None
    run = await use(timed, second, input_tokens=1)
    assert run.stop_reason == "budget"
    assert f"The {whose}'s day budget of 1000 tokens is used up" in (run.error or "")
    # The other one ends with its own next word; one that uses nothing more may finish.
    assert (await use(timed, first, output_tokens=1)).stop_reason == "budget"
    viewer = timed.context("viewer")
    assert await queue_queries.run_hold(viewer, waiting) == RunHold.BUDGET
    assert await claim_run(system(timed), host="h", executors=["CUSTOM"], maximum=99) is None
    assert (await used_today(viewer, timed.id)).tokens == 1_001
    assert await is_exhausted(viewer, timed.id)
    await viewer.release()
    times.append(datetime(2026, 3, 2, tzinfo=UTC))
    assert await queue_queries.run_hold(viewer, waiting) == RunHold.TURN
    claimed = await claim_run(system(timed), host="h", executors=["CUSTOM"], maximum=99)
    assert claimed is not None
    assert claimed.run.id == waiting.id


async def test_a_raised_budget_lets_runs_go_on(board: Board) -> None:
    owner = board.context("owner")
    await set_budget(owner, workspace_id=board.id, day_cost_usd=1)
    claimed = await started(board)
    await use(board, claimed, cost_usd=1.0)
    dev = board.context()
    task = await create_task(dev, workspace_id=board.id, title="waits")
    await start_run(dev, task_id=task.id)
    assert await claim_run(system(board), host="h", executors=["CUSTOM"], maximum=99) is None
    workspace = await set_budget(owner, workspace_id=board.id, day_cost_usd=None)
    assert workspace.day_cost_budget_usd is None
    assert await claim_run(system(board), host="h", executors=["CUSTOM"], maximum=99) is not None


async def test_who_may_set_budgets_and_which(board: Board) -> None:
    for name in ("manager", "developer", "viewer"):
        with pytest.raises(ForbiddenError):
            await set_budget(board.context(name), workspace_id=board.id, day_tokens=1)
    with pytest.raises(NotFoundError):
        await set_budget(board.context("stranger"), workspace_id=board.id, day_tokens=1)
    owner = board.context("owner")
    for wrong in (
        {"day_tokens": 0}, {"day_tokens": 1.5}, {"run_tokens": -1}, {"run_tokens": 10**16},
        {"day_cost_usd": 0}, {"run_cost_usd": float("nan")}, {"run_cost_usd": float("inf")},
    ):  # fmt: skip
        with pytest.raises(InvalidError):
            await set_budget(owner, workspace_id=board.id, **wrong)
    changed = await set_budget(owner, workspace_id=board.id, run_tokens=2**40)
    same = await set_budget(owner, workspace_id=board.id, run_tokens=2**40)
    assert (changed.run_token_budget, same.version) == (2**40, changed.version)
    assert await usage.usage_of(owner, board.id, "workspace", board.id) == UsageSum()
