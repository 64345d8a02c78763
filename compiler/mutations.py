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

from compiler.codegen import Code
from compiler.info import Run
from compiler.outcome import Outcome
from compiler.plan import Plan, PlanField
from compiler.reference import reference_executor
from compiler.waves import dispose, drive

COMPLETED_BY_REFERENCE = "completed by graphql-core"


class _Reference:
    """graphql-core's executor for the same request, made when it is needed first."""

    __slots__ = ("_made", "_request")

    def __init__(self, *request: Any) -> None:
        """Take the arguments of `reference_executor`."""
        self._request = request
        self._made: Executor[Any] | None = None

    @property
    def executor(self) -> Executor[Any]:
        """The executor."""
        if self._made is None:
            self._made = reference_executor(*self._request)
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
    code: Code,
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
        for root in code.roots:
            if isinstance(root, PlanField):
                data[root.key] = plan.root.type.name
                continue
            try:
                value = root.call(run, run.root_value, None)
                if optimized_is_awaitable(value):
                    value = await value
            except Exception as error:  # noqa: BLE001  # as graphql-core: whatever a resolver raises is an error
                reference.handle(error, root.field)
                data[root.field.key] = None
                continue
            if not hasattr(value, "__next__"):  # that could not be read a second time
                try:
                    root.land(run, [data], [None], [value])
                    if run.begun or run.late:
                        await drive(run)
                except Exception:  # noqa: BLE001  # graphql-core meets it again, and reports it
                    dispose(run)
                else:
                    continue
            detail = COMPLETED_BY_REFERENCE
            data[root.field.key] = await reference.complete(root.field, value)
    except GraphQLError as error:
        reference.executor.collected_errors.add(error, None)
        return Outcome(data=None, errors=reference.errors, detail=detail)
    return Outcome(data=data, errors=reference.errors, detail=detail)
