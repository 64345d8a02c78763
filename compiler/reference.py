"""graphql-core's executor for a request that is executed compiled."""

from collections.abc import Mapping
from typing import Any

from graphql import DocumentNode
from graphql.execution import Executor
from strawberry import Schema
from strawberry.execution import optimized_is_awaitable

from compiler.info import Run


def reference_executor(
    schema: Schema,
    document: DocumentNode,
    run: Run,
    given: Mapping[str, Any],
    operation_name: str | None,
) -> Executor[Any]:
    """An executor of the schema's own kind; nothing has run yet.

    Args:
        schema: Strawberry's.
        document: has been validated.
        run: the compiled execution of the same request.
        given: the variables as the client sent them, found good for `run`.
        operation_name: which operation.
    """
    kind: Any = schema.execution_context_class
    made = kind.build(
        run.schema,
        document,
        root_value=run.root_value,
        context_value=run.context,
        raw_variable_values=dict(given),
        operation_name=operation_name,
        is_awaitable=optimized_is_awaitable,
        operation_extensions=run.operation_extensions,
    )
    assert isinstance(made, Executor)  # noqa: S101  # the same variables were good before
    return made
