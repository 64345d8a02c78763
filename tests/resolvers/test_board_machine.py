"""A board under any sequence of operations, compared with a model after each one."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from models import Run, Task, TaskDependency, table_of
from models.database import Database, DatabaseOptions
from models.enums import DependencyKind, TaskStatus
from models.lifecycle import RUN_LIVE, TRANSITIONS
from resolvers.context import Context, Services
from resolvers.dependencies import MET_BY, set_dependencies
from resolvers.errors import IllegalTransitionError, InvalidError
from resolvers.task_board import move_task
from resolvers.task_bulk import label_task
from resolvers.tasks import NewDependency, archive_task, create_task, delete_task, get_task
from tests.resolvers.conftest import Board, make_board, offline_services
from tests.resolvers.test_lifecycle_laws import STRICT

TASK, RUN, DEPENDENCY = (table_of(m).c for m in (Task, Run, TaskDependency))
INDEX = st.integers(0, 30)
SLOW = {TaskStatus.COMPLETED, TaskStatus.FAILED}


@dataclass
class Card:
    """What the model knows of a task."""

    id: str
    version: int = 1
    status: TaskStatus = TaskStatus.BACKLOG
    before: TaskStatus | None = None
    waits_for: dict[int, DependencyKind] = field(default_factory=dict)
    archived: bool = False
    deleted: bool = False


class BoardMachine(RuleBasedStateMachine):
    """Rules are operations; after each, rows, totals, runs and log are what the model says."""

    runner: asyncio.Runner
    services: Services

    @initialize()
    def begin(self) -> None:
        self.board: Board = self.runner.run(make_board(self.services))
        self.dev: Context = self.board.context()
        self.cards: list[Card] = []
        self.add()
        self.add()

    def teardown(self) -> None:
        self.runner.run(self.board.close())

    def call(self, operation: Any, **arguments: Any) -> Any:
        return self.runner.run(operation(self.dev, **arguments))

    def pick(self, index: int) -> Card:
        return self.cards[index % len(self.cards)]

    def add(self) -> None:
        task = self.call(create_task, workspace_id=self.board.id, title="T")
        self.cards.append(Card(task.id))

    @rule()
    def create(self) -> None:
        self.add()

    def enter(self, card: Card, status: TaskStatus, *, resumed: bool = False) -> None:
        """The model of entering a status, with everything that follows."""
        remembers = status in {TaskStatus.PAUSED, TaskStatus.BLOCKED} and not resumed
        card.before = card.status if remembers else None
        card.status = status
        card.version += 1
        if status in SLOW:
            self.release(card)

    def release(self, ended: Card) -> None:
        number = self.cards.index(ended)
        for card in self.cards:
            waits = card.status == TaskStatus.BLOCKED and number in card.waits_for
            if waits and not card.deleted and not self.unmet(card):
                card.status, card.before = TaskStatus.BACKLOG, None
                card.version += 1

    def unmet(self, card: Card) -> bool:
        return any(
            not self.cards[number].deleted and self.cards[number].status not in MET_BY[kind]
            for number, kind in card.waits_for.items()
        )

    @rule(index=INDEX, name=st.sampled_from(sorted(STRICT)))
    def strict(self, index: int, name: str) -> None:
        card, row = self.pick(index), TRANSITIONS[name]
        if card.deleted:
            return
        if card.status not in row.allowed_from:
            with pytest.raises(IllegalTransitionError) as refused:
                self.call(STRICT[name], task_id=card.id)
            assert refused.value.details["allowed_from"] == sorted(row.allowed_from)
            return
        self.call(STRICT[name], task_id=card.id)
        self.enter(card, row.to or card.before or TaskStatus.QUEUED, resumed=row.to is None)

    @rule(index=INDEX, status=st.sampled_from(TaskStatus))
    def move(self, index: int, status: TaskStatus) -> None:
        card = self.pick(index)
        if card.deleted:
            return
        self.call(move_task, task_id=card.id, status=status)
        if status != card.status:
            self.enter(card, status)

    @rule(index=INDEX, others=st.dictionaries(INDEX, st.sampled_from(DependencyKind), max_size=3))
    def depend(self, index: int, others: dict[int, DependencyKind]) -> None:
        card = self.pick(index)
        if card.deleted:
            return
        wanted = {number % len(self.cards): kind for number, kind in others.items()}
        given = [NewDependency(self.cards[n].id, kind) for n, kind in wanted.items()]
        own = self.cards.index(card)
        bad = any(self.cards[n].deleted or self.reaches(n, own) for n in wanted)
        if wanted == card.waits_for:
            self.call(set_dependencies, task_id=card.id, depends_on=given)
        elif bad:
            with pytest.raises(InvalidError):
                self.call(set_dependencies, task_id=card.id, depends_on=given)
        else:
            self.call(set_dependencies, task_id=card.id, depends_on=given)
            card.waits_for = wanted
            card.version += 1

    def reaches(self, start: int, target: int) -> bool:
        return start == target or any(
            self.reaches(number, target) for number in self.cards[start].waits_for
        )

    @rule(index=INDEX, archived=st.booleans())
    def archive(self, index: int, archived: bool) -> None:  # noqa: FBT001  # drawn by name
        card = self.pick(index)
        if not card.deleted:
            self.call(archive_task, task_id=card.id, archived=archived)
            card.version += card.archived != archived
            card.archived = archived

    @rule(index=INDEX)
    def delete(self, index: int) -> None:
        card = self.pick(index)
        if not card.deleted:
            self.call(delete_task, task_id=card.id)
            card.deleted = True
            card.version += 1
            self.release(card)

    @rule(index=INDEX, label=st.sampled_from("abc"))
    def label(self, index: int, label: str) -> None:
        card = self.pick(index)
        if not card.deleted:
            labels = self.call(get_task, task_id=card.id).labels
            self.runner.run(self.dev.release())
            self.call(label_task, task_id=card.id, add=[label])
            card.version += label not in labels

    @invariant()
    def rows_are_what_the_model_says(self) -> None:
        if not hasattr(self, "cards"):
            return
        self.runner.run(self.check())

    async def check(self) -> None:
        rows = await self.board.rows(
            sa.select(
                TASK.id, TASK.status, TASK.status_before, TASK.version,
                TASK.archived_at.is_not(None), TASK.deleted_at.is_not(None),
            ).where(TASK.workspace_id == self.board.id).order_by(TASK.number)
        )  # fmt: skip
        assert [tuple(row) for row in rows] == [
            (card.id, card.status, card.before, card.version, card.archived, card.deleted)
            for card in self.cards
        ]
        await self.board.check_totals()
        log = await self.board.events()
        for card in self.cards:
            assert sum(event.entity_id == card.id for event in log) == card.version
        live = await self.board.rows(
            sa.select(RUN.task_id, RUN.status).where(
                RUN.workspace_id == self.board.id, RUN.status.in_(sorted(RUN_LIVE))
            )
        )
        waiting = {row.task_id for row in live if row.status == "QUEUED"}
        assert len(live) == len({row.task_id for row in live})
        queued = {
            card.id for card in self.cards if card.status == TaskStatus.QUEUED and not card.deleted
        }
        assert queued <= waiting


@pytest.fixture
def machine(database_url: str) -> Iterator[type[BoardMachine]]:
    with asyncio.Runner() as runner:
        database = Database(database_url, DatabaseOptions(synchronous="NORMAL"))
        members = {"runner": runner, "services": offline_services(database)}
        yield type("Machine", (BoardMachine,), members)
        runner.run(database.close())


def check(machine: type[BoardMachine], *, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_board_under_some_sequences(machine: type[BoardMachine]) -> None:
    check(machine, examples=6, steps=20)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_board_under_many_sequences(machine: type[BoardMachine]) -> None:
    check(machine, examples=60, steps=40)
