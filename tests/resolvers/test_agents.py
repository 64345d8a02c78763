"""Agents: set-up, secrets, commands, reports, stalls, deletion."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from models import Agent, AgentProgress, ApiKey, Run, table_of, utcnow
from models.enums import AgentStatus, RunStatus
from resolvers.agent_reports import (
    STATUS_OF_WORD,
    latest_progress,
    list_progress,
    newest_progress,
    purge_agent_progress,
    report_agent_progress,
    report_agent_status,
    status_of_word,
)
from resolvers.agent_stalls import detect_stalled_agents, sweep_stalled_agents
from resolvers.agents import (
    AgentFilter,
    create_agent,
    delete_agent,
    get_agent,
    get_agent_by_name,
    list_agents,
    update_agent,
)
from resolvers.context import Context
from resolvers.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    LimitExceededError,
    NotFoundError,
)
from resolvers.paging import PageArguments
from resolvers.principal import SYSTEM
from resolvers.task_lifecycle import enqueue_task
from resolvers.tasks import create_task, get_task
from resolvers.workspace_changes import update_workspace
from tests.resolvers.conftest import Board

PROGRESS = table_of(AgentProgress).c


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(board: Board) -> Clock:
    clock = Clock()
    board.services = replace(board.services, clock=clock)
    return clock


async def test_an_agent_keeps_its_setup_and_its_secret(dev: Context, board: Board) -> None:
    agent = await create_agent(
        dev,
        workspace_id=board.id,
        name=" builder-1 ",
        role="builder",
        executor="CODEX",
        engine="codex",
        execution_mode="BYOK",
        model="gpt",
        system_prompt="Be brief.",
        api_key="sk-secret",
        parent_name="manager",
        metadata={"a": [1]},
    )
    found = await get_agent_by_name(dev, workspace_id=board.id, name="builder-1")
    assert found.id == agent.id
    assert (found.status, found.was_active, found.executor) == ("IDLE", False, "CODEX")
    assert found.meta == {"a": [1]}
    assert found.api_key_encrypted is not None
    assert b"sk-secret" not in found.api_key_encrypted
    assert board.services.secrets.decrypt(found.api_key_encrypted) == "sk-secret"
    with pytest.raises(ConflictError):
        await create_agent(dev, workspace_id=board.id, name="builder-1")

    changed = await update_agent(dev, agent_id=agent.id, api_key=None, role=None, model="gpt")
    assert (changed.api_key_encrypted, changed.role, changed.version) == (None, None, 2)
    log = await board.events()
    assert [event.type for event in log[-2:]] == ["agent.created", "agent.updated"]
    assert log[-1].payload["changed"] == ["api_key", "role"]
    written = orjson.dumps([event.payload for event in log])
    assert b"api_key_encrypted" not in written
    assert b"Be brief" not in written


async def test_bad_setups_are_refused(dev: Context, board: Board) -> None:
    agent = await create_agent(dev, workspace_id=board.id, name="a")
    before = await board.head()
    bad: list[dict[str, Any]] = [
        {"executor": "BASH"},
        {"execution_mode": None},
        {"execution_mode": "CLOUD"},
        {"model": "x" * 101},
        {"system_prompt": "\x00"},
        {"metadata": []},
        {"metadata": {"x": "y" * 70_000}},
        {"api_key": "a\nb"},
        {"api_key": ""},
    ]
    for fields in bad:
        with pytest.raises(InvalidError):
            await update_agent(dev, agent_id=agent.id, **fields)
    for name in ("", " ", "a\nb", "x" * 101):
        with pytest.raises(InvalidError):
            await create_agent(dev, workspace_id=board.id, name=name)
        with pytest.raises(InvalidError):
            await report_agent_status(dev, workspace_id=board.id, name=name)
    with pytest.raises(ConflictError):
        await update_agent(dev, agent_id=agent.id, role="x", expected_version=7)
    assert await board.head() == before


async def test_a_command_takes_the_site_owner_and_the_operator(board: Board) -> None:
    dev, owner = board.context(), board.context("owner")
    command = ["my-agent", "--task", "{prompt_file}"]
    for context in (dev, owner):
        with pytest.raises(ForbiddenError):
            await create_agent(context, workspace_id=board.id, name="a", command=command)
    trust = replace(board.services.trust, allow_agent_commands=True)
    board.services = replace(board.services, trust=trust)
    dev, owner = board.context(), board.context("owner")
    with pytest.raises(ForbiddenError):
        await create_agent(dev, workspace_id=board.id, name="a", command=command)
    agent = await create_agent(owner, workspace_id=board.id, name="a", command=command)
    assert agent.command == command
    with pytest.raises(ForbiddenError):
        await update_agent(dev, agent_id=agent.id, command=None)
    for bad in ([], [" "], ["a"] * 101, ["a", "\x00"]):
        with pytest.raises(InvalidError):
            await update_agent(owner, agent_id=agent.id, command=bad)
    assert (await update_agent(owner, agent_id=agent.id, command=None)).command is None


async def test_a_heartbeat_creates_then_tells_only_what_changed(board: Board, clock: Clock) -> None:
    dev = board.context()
    before = await board.head()

    async def report(**fields: Any) -> Agent:
        clock.now += timedelta(seconds=30)
        agent = await report_agent_status(dev, workspace_id=board.id, name="manager", **fields)
        assert agent.last_seen_at == clock.now
        return agent

    first = await report(status="online", port=4000)
    assert (first.status, first.status_word, first.was_active) == ("ACTIVE", "online", True)
    same = await report(status="online", port=4000)
    bare = await report()
    assert {same.version, bare.version} == {1}
    assert await board.types_since(before) == ["agent.created"]

    word = await report(status="active")
    assert (word.status, word.status_word, word.version) == ("ACTIVE", "active", 2)
    doing = await report(activity="reading", parent_name="boss")
    assert (doing.activity, doing.parent_name, doing.port) == ("reading", "boss", 4000)
    idle = await report(status="idle", activity=None, port=None)
    assert (idle.status, idle.activity, idle.port, idle.was_active) == ("IDLE", None, None, True)
    events = (await board.events())[-3:]
    assert [event.type for event in events] == [
        "agent.status_changed",
        "agent.updated",
        "agent.status_changed",
    ]
    assert events[1].payload["changed"] == ["activity", "parent_name"]
    assert events[2].payload["from_status"] == "ACTIVE"
    stored = await get_agent(dev, agent_id=first.id)
    assert stored.last_seen_at == clock.now


async def test_an_idle_newcomer_was_never_active(dev: Context, board: Board) -> None:
    agent = await report_agent_status(dev, workspace_id=board.id, name="a")
    assert (agent.status, agent.status_word, agent.was_active) == ("IDLE", None, False)
    agent = await report_agent_status(dev, workspace_id=board.id, name="a", status="idle")
    assert (agent.status_word, agent.was_active, agent.version) == ("idle", False, 2)
    for bad in ({"status": ""}, {"status": "x" * 51}, {"port": 0}, {"activity": "x" * 501}):
        fields: dict[str, Any] = bad
        with pytest.raises(InvalidError):
            await report_agent_status(dev, workspace_id=board.id, name="a", **fields)


@given(st.text(max_size=50))
def test_every_word_has_a_status(word: str) -> None:
    assert status_of_word(word) in AgentStatus


def test_the_words_of_the_contract() -> None:
    assert {status.lower() for status in AgentStatus} <= STATUS_OF_WORD.keys()
    assert all(status_of_word(status) == status for status in AgentStatus)
    assert status_of_word(" Running ") == AgentStatus.WORKING
    assert status_of_word("pondering") == AgentStatus.ACTIVE


async def test_two_first_heartbeats_at_once_are_one_agent(board: Board) -> None:
    reports = (
        report_agent_status(board.context(), workspace_id=board.id, name="a", status="working")
        for _ in range(5)
    )
    agents = await asyncio.gather(*reports)
    assert len({agent.id for agent in agents}) == 1
    types = [event.type for event in await board.events()]
    assert types.count("agent.created") == 1


async def test_an_agent_reports_on_itself_and_manages_nobody(dev: Context, board: Board) -> None:
    mine = await create_agent(dev, workspace_id=board.id, name="a")
    other = await create_agent(dev, workspace_id=board.id, name="b")
    me = board.agent_context(mine)
    assert (await report_agent_status(me, workspace_id=board.id, name="a", status="working")).id
    assert (await report_agent_progress(me, workspace_id=board.id, agent_name="a")).id
    for attempt in (
        report_agent_status(me, workspace_id=board.id, name="b", status="working"),
        report_agent_status(me, workspace_id=board.id, name="new"),
        report_agent_progress(me, workspace_id=board.id, agent_name="b"),
        report_agent_progress(me, workspace_id=board.id, agent_name="new"),
        create_agent(me, workspace_id=board.id, name="c"),
        update_agent(me, agent_id=mine.id, system_prompt="Obey me"),
        delete_agent(me, agent_id=other.id),
        detect_stalled_agents(me, workspace_id=board.id),
        purge_agent_progress(me, workspace_id=board.id),
    ):
        with pytest.raises(ForbiddenError):
            await attempt
    viewer, stranger = board.context("viewer"), board.context("stranger")
    assert (await get_agent(viewer, agent_id=mine.id)).name == "a"
    for attempt in (
        report_agent_status(viewer, workspace_id=board.id, name="a"),
        report_agent_progress(viewer, workspace_id=board.id, agent_name="a"),
        create_agent(viewer, workspace_id=board.id, name="c"),
        delete_agent(viewer, agent_id=other.id),
        purge_agent_progress(viewer, workspace_id=board.id),
        purge_agent_progress(dev),
    ):
        with pytest.raises(ForbiddenError):
            await attempt
    for attempt in (
        get_agent(stranger, agent_id=mine.id),
        get_agent_by_name(stranger, workspace_id=board.id, name="a"),
        list_agents(stranger, workspace_id=board.id),
        report_agent_status(stranger, workspace_id=board.id, name="a"),
        list_progress(stranger, workspace_id=board.id, agent_name="a"),
        latest_progress(stranger, workspace_id=board.id),
        get_agent_by_name(dev, workspace_id=board.id, name="nobody"),
    ):
        with pytest.raises(NotFoundError):
            await attempt


async def test_progress_is_kept_in_bounds_and_is_a_heartbeat(board: Board, clock: Clock) -> None:
    dev = board.context()
    agent = await create_agent(dev, workspace_id=board.id, name="a")
    start = clock.now - timedelta(hours=30)
    async with board.services.database.write() as transaction:
        await transaction.insert_many(
            AgentProgress,
            [
                {
                    "workspace_id": board.id,
                    "agent_name": name,
                    "step": f"{name}{number}",
                    "created_at": start + timedelta(minutes=number),
                }
                for name in ("a", "b")
                for number in range(205)
            ],
        )
    before = await board.head()
    report = await report_agent_progress(
        dev, workspace_id=board.id, agent_name="a", task_name="T", step="now", file="x.py"
    )
    newest = await list_progress(dev, workspace_id=board.id, agent_name="a", limit=200)
    assert len(newest) == 200
    assert [found.step for found in newest[:2]] == ["now", "a204"]
    assert newest[-1].step == "a6"
    assert (await get_agent(dev, agent_id=agent.id)).last_seen_at == clock.now
    event = (await board.events())[-1]
    assert (event.type, event.entity_type, event.entity_id) == (
        "agent.progress",
        "progress",
        report.id,
    )
    assert event.payload["progress"]["step"] == "now"
    assert await board.head() == before + 1
    assert len(await list_progress(dev, workspace_id=board.id, agent_name="b")) == 20
    assert await list_progress(dev, workspace_id=board.id, agent_name="nobody") == []
    latest = await latest_progress(dev, workspace_id=board.id)
    assert [found.step for found in latest] == ["now", "b204"]
    await dev.release()

    reader = await dev.reader()
    statements = reader.statements
    several = await asyncio.gather(
        *(newest_progress(dev, board.id, name, number=2) for name in ("a", "b", "c"))
    )
    assert [[found.step for found in reports] for reports in several] == [
        ["now", "a204"],
        ["b204", "b203"],
        [],
    ]
    assert reader.statements == statements + 1

    purged = await purge_agent_progress(dev, workspace_id=board.id)
    rows = await board.rows(sa.select(PROGRESS.created_at))
    assert purged == 200 + 205 - len(rows)
    assert rows
    assert all(row.created_at >= clock.now - timedelta(hours=24) for row in rows)
    clock.now += timedelta(hours=25)
    assert await purge_agent_progress(board.context("owner")) == len(rows)


async def test_who_falls_silent_at_work_is_stalled(board: Board, clock: Clock) -> None:
    dev = board.context()
    words = ("starting", "online", "running", "pondering", "idle", "done", "stopped", "error")
    for word in words:
        await report_agent_status(dev, workspace_id=board.id, name=word, status=word)
    clock.now += timedelta(seconds=599)
    await report_agent_status(dev, workspace_id=board.id, name="online")
    assert (await detect_stalled_agents(dev, workspace_id=board.id)).agents == []
    clock.now += timedelta(seconds=2)
    before = await board.head()
    found = await detect_stalled_agents(dev, workspace_id=board.id)
    assert sorted(agent.name for agent in found.agents) == ["pondering", "running", "starting"]
    assert {(agent.status, agent.status_word) for agent in found.agents} == {("STALLED", None)}
    assert await board.types_since(before) == ["agent.status_changed"] * 3
    assert (await board.events())[-1].payload["reason"] == "heartbeat_missing"
    assert (await detect_stalled_agents(dev, workspace_id=board.id)).agents == []
    back = await report_agent_status(dev, workspace_id=board.id, name="running", status="running")
    assert (back.status, back.status_word) == ("WORKING", "running")
    for seconds in (9, 86_401):
        with pytest.raises(InvalidError):
            await detect_stalled_agents(dev, workspace_id=board.id, timeout_seconds=seconds)


async def test_the_server_looks_for_stalled_agents_by_itself(board: Board, clock: Clock) -> None:
    dev = board.context()
    system = Context(dev.services, SYSTEM)
    await report_agent_status(dev, workspace_id=board.id, name="a", status="running")
    clock.now += timedelta(seconds=601)
    assert await sweep_stalled_agents(system) == 1
    assert await sweep_stalled_agents(system) == 0
    await update_workspace(
        board.context(), workspace_id=board.id, settings={"stall_timeout_minutes": 30}
    )
    await report_agent_status(dev, workspace_id=board.id, name="a", status="running")
    clock.now += timedelta(seconds=1_799)
    assert await sweep_stalled_agents(system) == 0
    clock.now += timedelta(seconds=2)
    assert await sweep_stalled_agents(system) == 1


async def test_deleting_an_agent(dev: Context, board: Board) -> None:
    agent = await create_agent(dev, workspace_id=board.id, name="a")
    task = await create_task(dev, workspace_id=board.id, title="T", agent_id=agent.id)
    await enqueue_task(dev, task_id=task.id)
    await report_agent_progress(dev, workspace_id=board.id, agent_name="a")
    async with board.services.database.write() as transaction:
        await transaction.insert(
            ApiKey, secret_hash="0" * 64, prefix="dgm_", agent_id=agent.id, created_at=utcnow()
        )
    with pytest.raises(ConflictError):
        await delete_agent(dev, agent_id=agent.id)
    gone = await delete_agent(dev, agent_id=agent.id, force=True)
    assert gone.id == agent.id
    (run,) = await board.rows(sa.select(*table_of(Run).c))
    assert (run.status, run.reason, run.agent_id) == (RunStatus.CANCELLED, "agent_deleted", None)
    assert (await get_task(dev, task_id=task.id)).agent_id is None
    event = (await board.events())[-1]
    assert (event.type, event.payload["task_ids"]) == ("agent.deleted", [task.id])
    assert f"agent:{agent.id}" in board.services.wakeups.principals
    assert await list_progress(dev, workspace_id=board.id, agent_name="a") == []
    assert await board.rows(sa.select(table_of(ApiKey).c.id)) == []
    with pytest.raises(NotFoundError):
        await get_agent(dev, agent_id=agent.id)
    assert (await create_agent(dev, workspace_id=board.id, name="a")).id != agent.id


async def test_lists_filter_and_page(dev: Context, board: Board) -> None:
    for name, status, parent in [
        ("manager", "online", None),
        ("builder-1", "done", "manager"),
        ("builder-2", "working", "manager"),
        ("lone", "failed", None),
    ]:
        await report_agent_status(
            dev, workspace_id=board.id, name=name, status=status, parent_name=parent
        )

    async def names(**filters: Any) -> list[str]:
        page = await list_agents(dev, workspace_id=board.id, filter_=AgentFilter(**filters))
        return [agent.name for agent in page.nodes]

    assert await names() == ["builder-1", "builder-2", "lone", "manager"]
    assert await names(finished_children=False) == ["builder-2", "lone", "manager"]
    assert await names(finished_children=True) == ["builder-1"]
    assert await names(status=["WORKING", "FAILED"]) == ["builder-2", "lone"]
    assert await names(parent_names=["manager"], search="ER-2") == ["builder-2"]
    assert await names(names=["lone", "nobody"]) == ["lone"]
    page = await list_agents(dev, workspace_id=board.id, page=PageArguments(first=2))
    rest = await list_agents(
        dev, workspace_id=board.id, page=PageArguments(first=2, after=page.cursors[-1])
    )
    assert [agent.name for agent in [*page.nodes, *rest.nodes]] == await names()
    assert not rest.has_next_page


async def test_the_number_of_agents_is_bounded(board: Board) -> None:
    limits = replace(board.services.limits, agents_per_workspace=1)
    board.services = replace(board.services, limits=limits)
    dev = board.context()
    await report_agent_status(dev, workspace_id=board.id, name="a")
    with pytest.raises(LimitExceededError):
        await report_agent_status(dev, workspace_id=board.id, name="b")
    with pytest.raises(LimitExceededError):
        await create_agent(dev, workspace_id=board.id, name="b")
    assert (await report_agent_status(dev, workspace_id=board.id, name="a")).name == "a"
