"""Phases and refinements: root mutations."""

from enum import StrEnum
from typing import Annotated, Any

import strawberry

from models.enums import Executor
from resolvers import phases
from schema.common import INPUT, fields_of, mutate
from schema.context import Info
from schema.task_mutations import RunPayload


@strawberry.enum(description="A phase of a task that can be run by itself.")
class Phase(StrEnum):
    """See resolvers.phases.PHASES."""

    PLAN = "plan"
    IMPLEMENT = "implement"
    CHECK = "check"


@strawberry.input(description="A phase to run.")
class StartPhaseInput:
    """See resolvers.phases.start_phase."""

    task_id: strawberry.ID = strawberry.field(
        description="A task that is neither COMPLETED nor CANCELLED."
    )
    phase: Phase = strawberry.field(description="Which; its prompt is made for it.")
    executor: Executor | None = strawberry.field(
        default=None, description="By default the task's, its agent's, the server's."
    )
    model: str | None = strawberry.field(default=None, description="By default the task's.")
    agent_id: strawberry.ID | None = strawberry.field(
        default=None, description="The agent it runs as; by default the task's."
    )


@strawberry.input(description="A refinement to ask for.")
class RefineTaskInput:
    """See resolvers.phases.refine_task."""

    task_id: strawberry.ID = strawberry.field(description="Whose title and description.")
    executor: Executor | None = strawberry.field(
        default=None, description="By default the task's, else the server's."
    )
    model: str | None = strawberry.field(default=None, description="By default the task's.")
    timeout_seconds: int = strawberry.field(
        default=phases.REFINE_SECONDS, description="Ends it after so long: 1 to 600."
    )
    wait_seconds: float = strawberry.field(
        default=0, description="How long to wait for its end, 0 to 120 seconds."
    )


@strawberry.type
class PhaseMutation:
    """Root mutations of phases."""

    @strawberry.mutation(
        description="Queue a run of one phase; the task stays where it is on the board."
    )
    async def start_phase(self, info: Info, input: Annotated[StartPhaseInput, INPUT]) -> RunPayload:
        values = fields_of(input, leave_out=frozenset({"phase"}))
        run: Any = await mutate(
            info, lambda ctx: phases.start_phase(ctx, phase=input.phase.value, **values)
        )
        return RunPayload(run=run)

    @strawberry.mutation(
        description="Let an agent rewrite a task's text; the task is not changed, the text is the "
        "run's result. With waitSeconds the answer waits for it."
    )
    async def refine_task(self, info: Info, input: Annotated[RefineTaskInput, INPUT]) -> RunPayload:
        values = fields_of(input)
        run: Any = await mutate(info, lambda ctx: phases.refine_task(ctx, **values))
        return RunPayload(run=run)
