"""Payloads of subscriptions: one event's data built by compiled code, to be shared or sent."""

from collections.abc import Iterator, Mapping
from typing import Any

from graphql import DocumentNode, ListValueNode, ObjectValueNode, OperationType, VariableNode

from compiler.codegen import RootField, generate
from compiler.coercion import variables_coercer
from compiler.execute import CompiledExecutor, Fallback
from compiler.info import Run
from compiler.outcome import Outcome, Reason
from compiler.plan import Plan, PlanField, Planner, Survey, survey
from compiler.waves import dispose, drive


class SelectionPlan:
    """The code of one subscription's selection, for all values of its variables.

    `depends_on_viewer` tells whether payloads may depend on the context, so that subscribers with
    different contexts must not share them. `variables` are the names of those that payloads may
    depend on: those below the root field, whose own arguments choose events only.
    """

    def __init__(self, executor: CompiledExecutor, plan: Plan) -> None:
        self.executor = executor
        self.plan = plan
        self.code = generate(executor.schema, plan, separate_roots=True)
        below = [part for part in plan.fields if part is not plan.root.fields[0]]
        self.depends_on_viewer = any(map(_depends_on_viewer, below))
        self.variables = tuple(dict.fromkeys(name for part in below for name in _variables(part)))


class CompiledSelection:
    """The selection of one subscription operation with its variables.

    `depends_on_viewer`: see `SelectionPlan`.
    """

    def __init__(self, plan: SelectionPlan, values: dict[str, Any]) -> None:
        self._plan = plan
        self._values = values
        self.source = plan.code.source
        self.depends_on_viewer = plan.depends_on_viewer

    async def render(
        self,
        event: Any,
        *,
        context: Any = None,
        operation_extensions: dict[str, Any] | None = None,
    ) -> Outcome:
        """The answer for one event of the source stream, or that graphql-core has to give it.

        Args:
            event: what the subscription's resolver has yielded.
            context: for resolvers below.
            operation_extensions: see `strawberry.Info.input_extensions`.

        Raises:
            Exception: of `Options.pass_through`.
        """
        executor, plan = self._plan.executor, self._plan.plan
        run = Run(
            executor.schema._schema,  # noqa: SLF001  # the only way to it
            plan,
            self._values,
            context,
            event,
            operation_extensions,
        )
        try:
            self._plan.code.bind(run)
        except Exception as error:  # noqa: BLE001  # no resolver has run; graphql-core says what is wrong
            return Outcome(fallback=Reason.VARIABLES, detail=str(error))
        (root,) = self._plan.code.roots
        assert isinstance(root, RootField)  # noqa: S101  # `plan_selection` has looked
        try:
            data: dict[str, Any] = {}
            root.land(run, [data], [None], [event])
            if run.begun or run.late:
                await drive(run)
        except executor.options.pass_through:
            raise
        except Exception as error:  # noqa: BLE001  # graphql-core meets it again, and reports it
            dispose(run)
            return Outcome(fallback=Reason.BAILED, detail=f"{type(error).__name__}: {error}")
        return Outcome(data=data)


def _depends_on_viewer(part: PlanField) -> bool:
    return part.call is not None and (part.call.wants_info or part.call.is_async)


def _variables(part: PlanField) -> Iterator[str]:
    """The variables in the arguments of a field."""
    stack: list[Any] = [a.value for one in part.details for a in one.node.arguments or ()]
    while stack:
        node = stack.pop()
        if isinstance(node, VariableNode):
            yield node.name.value
        elif isinstance(node, ListValueNode):
            stack.extend(node.values)
        elif isinstance(node, ObjectValueNode):
            stack.extend(field.value for field in node.fields)


def plan_selection(
    executor: CompiledExecutor, found: Survey, variables: Mapping[str, Any]
) -> SelectionPlan:
    """Compile the selection of a surveyed subscription for the values of its conditions.

    Raises:
        Fallback: graphql-core has to render the events.
    """
    if executor.obstacle is not None:
        raise Fallback(Reason.DISABLED, executor.obstacle)
    try:
        planner = Planner(executor.schema, max_fields=executor.options.max_fields)
        plan = planner.plan(found, found.flags(variables))
        is_subscription = found.operation.operation is OperationType.SUBSCRIPTION
        if is_subscription and len(plan.root.fields) == 1 and plan.root.fields[0].call:
            return SelectionPlan(executor, plan)
    except Exception as error:  # whatever stands against it, it stays with graphql-core
        raise Fallback(Reason.UNSUPPORTED, str(error)) from error
    raise Fallback(Reason.UNSUPPORTED, "not one field of a subscription")


def compile_selection(
    executor: CompiledExecutor,
    document: DocumentNode,
    *,
    operation_name: str | None = None,
    variables: Mapping[str, Any] | None = None,
) -> CompiledSelection:
    """Compile a subscription's selection for its events. The document has been validated.

    Raises:
        Fallback: graphql-core has to render the events.
    """
    given = variables or {}
    try:
        found = survey(document, operation_name)
        values = variables_coercer(executor.schema._schema, found.operation)(given)  # noqa: SLF001  # graphql-core's schema
    except Exception as error:
        raise Fallback(Reason.UNSUPPORTED, str(error)) from error
    return CompiledSelection(plan_selection(executor, found, given), values)
