"""A Strawberry schema whose operations run compiled where they can.

Only the step from a validated document to data is replaced. Parsing, validation, every hook of
operations, error processing and results of extensions remain Strawberry's.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from graphql import DocumentNode, ExecutionResult, GraphQLSchema
from strawberry import Schema
from strawberry.utils.await_maybe import await_maybe

from compiler.execute import CompiledExecutor, Options
from compiler.extensions import middleware_obstacle
from compiler.sharing import Selections, event_executor

_LEFT: ContextVar[bool] = ContextVar("left_to_reference", default=False)


@contextmanager
def leave_to_reference() -> Iterator[None]:
    """Within the block, schemas execute on graphql-core: what was tried compiled is not again."""
    token = _LEFT.set(True)
    try:
        yield
    finally:
        _LEFT.reset(token)


def is_left_to_reference() -> bool:
    """Whether this is inside of `leave_to_reference`."""
    return _LEFT.get()


def execute_function(
    executor: CompiledExecutor, reference: Callable[..., Any]
) -> Callable[..., Any]:
    """A function to call in place of graphql-core's `execute`.

    Args:
        executor: made with `Options.hooks_run_elsewhere`.
        reference: graphql-core's function, for what is not compiled.
    """
    compatible = executor.options.compatible

    async def run(
        schema: GraphQLSchema,
        document: DocumentNode,
        *,
        middleware: Any = None,
        variable_values: Mapping[str, Any] | None = None,
        operation_name: str | None = None,
        context_value: Any = None,
        root_value: Any = None,
        operation_extensions: dict[str, Any] | None = None,
        **others: Any,
    ) -> Any:
        if not _LEFT.get() and middleware_obstacle(middleware, compatible=compatible) is None:
            outcome = await executor.execute(
                document,
                operation_name=operation_name,
                variables=variable_values,
                context=context_value,
                root_value=root_value,
                operation_extensions=operation_extensions,
            )
            if outcome.is_answer:
                errors = list(outcome.errors) if outcome.errors else None
                return ExecutionResult(outcome.data, errors)
        answer = reference(
            schema,
            document,
            root_value=root_value,
            middleware=middleware,
            variable_values=variable_values,
            operation_name=operation_name,
            context_value=context_value,
            operation_extensions=operation_extensions,
            **others,
        )
        return await await_maybe(answer)

    def execute(schema: GraphQLSchema, document: DocumentNode, **arguments: Any) -> Any:
        if "is_async_iterable" in arguments:  # Strawberry asks for a synchronous execution
            return reference(schema, document, **arguments)
        return run(schema, document, **arguments)

    return execute


class CompiledSchema(Schema):
    """`strawberry.Schema` that runs queries and mutations compiled where it can.

    Also usable as the first base of a class that derives from another kind of schema. The
    executor (attribute `compiled`) is made by `compile_documents`; until then, and after
    `stop_compiling`, everything runs on graphql-core.
    """

    compiled: CompiledExecutor | None = None
    selections: Selections
    _event_executor: type[Any]

    def compile_documents(self, options: Options | None = None) -> CompiledExecutor:
        """Begin to compile; call it when the schema and its extensions are complete."""
        if options is None:
            options = Options(hooks_run_elsewhere=True)
        self.compiled = CompiledExecutor(self, options=options)
        self.selections = Selections(self.compiled)
        self._event_executor = event_executor(self.selections)
        return self.compiled

    def stop_compiling(self) -> None:
        """Leave everything to graphql-core again."""
        self.compiled = None

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        """See Strawberry; a subscription's events are rendered by shared selections."""
        if self.compiled is not None and self.compiled.obstacle is None:
            kwargs["execution_context_class"] = self._event_executor
        return super()._stream(*args, **kwargs)

    def _get_execute_function(self) -> Callable[..., Any]:
        reference = super()._get_execute_function()
        if self.compiled is None:
            return reference
        return execute_function(self.compiled, reference)
