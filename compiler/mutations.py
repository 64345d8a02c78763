"""Mutations: each root resolver is called exactly once; only payloads are completed by plans.

When completing a payload fails, that payload is completed by graphql-core, out of the same value
and with the right path; an error of a resolver is located and propagated by graphql-core's rules.
"""

from collections.abc import Mapping
from typing import Any

from graphql import DocumentNode, GraphQLError
from graphql.execution import Executor
from graphql.pyutils import Path
from strawberry import Schema
from strawberry.execution import optimized_is_awaitable

from compiler.codegen import Bound, RootField
from compiler.info import Run
from compiler.outcome import Outcome
from compiler.plan import Plan, PlanField
from compiler.values import close_quietly
from compiler.waves import drive

COMPLETED_BY_REFERENCE = "completed by graphql-core"


class _Reference:
    """graphql-core's executor for the same request, made when it is needed first."""

    def __init__(
        self,
        schema: Schema,
        document: DocumentNode,
        run: Run,
        given: Mapping[str, Any],
        operation_name: str | None,
    ) -> None:
        self._class: Any = schema.execution_context_class
        self._request = (document, run, dict(given), operation_name)
        self._made: Executor[Any] | None = None

    @property
    def executor(self) -> Executor[Any]:
        """The executor."""
        if self._made is None:
            document, run, given, operation_name = self._request
            made = self._class.build(
                run.schema,
                document,
                root_value=run.root_value,
                context_value=run.context,
                raw_variable_values=given,
                operation_name=operation_name,
                is_awaitable=optimized_is_awaitable,
                operation_extensions=run.operation_extensions,
            )
            assert isinstance(made, Executor)  # noqa: S101  # the same variables were good before
            self._made = made
        return self._made

    @property
    def errors(self) -> list[GraphQLError] | None:
        """The errors so far, in order; None where there are none."""
        return (self._made.collected_errors.errors or None) if self._made else None

    def handle(self, error: Exception, part: PlanField) -> None:
        """Locate the error of a root field.

        Raises:
            GraphQLError: the field must not be null.
        """
        assert part.definition is not None  # noqa: S101  # __typename does not fail
        self.executor.handle_field_error(error, part.definition.type, part.details, _path(part))

    async def complete(self, part: PlanField, value: Any) -> Any:
        """Complete the value of a root field.

        Raises:
            GraphQLError: the field must not be null.
        """
        executor = self.executor
        assert part.definition is not None  # noqa: S101  # __typename does not fail
        assert part.facts is not None  # noqa: S101  # __typename does not fail
        path = _path(part)
        info = executor.build_resolve_info(
            part.definition, part.facts.field_nodes, part.facts.parent_type, path
        )
        try:
            completed = executor.complete_value(
                part.definition.type, part.details, info, path, value, None
            )
            return await completed if optimized_is_awaitable(completed) else completed
        except Exception as error:  # noqa: BLE001  # as graphql-core: whatever a resolver raises is an error
            self.handle(error, part)
            return None


def _path(part: PlanField) -> Path:
    assert part.facts is not None  # noqa: S101  # __typename does not fail
    return Path(None, *part.facts.step)


async def run_mutation(
    schema: Schema,
    plan: Plan,
    bound: Bound,
    run: Run,
    document: DocumentNode,
    given: Mapping[str, Any],
    operation_name: str | None,
) -> Outcome:
    """Run the root fields one after another.

    Returns:
        The answer; its `detail` tells whether graphql-core had to complete a payload.
    """
    reference = _Reference(schema, document, run, given, operation_name)
    data: dict[str, Any] = {}
    detail = ""
    try:
        for root in bound.roots:
            if isinstance(root, PlanField):
                data[root.key] = plan.root.type.name
                continue
            try:
                value = root.call(run.root_value, None)
                if optimized_is_awaitable(value):
                    value = await value
            except Exception as error:  # noqa: BLE001  # as graphql-core: whatever a resolver raises is an error
                reference.handle(error, root.field)
                data[root.field.key] = None
                continue
            answer = await _complete(root, value, bound)
            if answer is None:
                detail = COMPLETED_BY_REFERENCE
                answer = [await reference.complete(root.field, value)]
            data[root.field.key] = answer[0]
    except GraphQLError as error:
        reference.executor.collected_errors.add(error, None)
        return Outcome(data=None, errors=reference.errors, detail=detail)
    return Outcome(data=data, errors=reference.errors, detail=detail)


async def _complete(root: RootField, value: Any, bound: Bound) -> list[Any] | None:
    """The completed value, in a list; None where graphql-core has to complete it."""
    if hasattr(value, "__next__"):
        return None  # it could not be read a second time
    try:
        completed = root.complete(value, None)
        if bound.groups:
            await drive(bound.groups)
    except Exception:  # noqa: BLE001  # graphql-core meets it again, and reports it
        for group in bound.groups:
            group.parents.clear()
            for _, awaitable, _ in group.waiting:
                close_quietly(awaitable)
            group.waiting.clear()
        return None
    return [completed]
