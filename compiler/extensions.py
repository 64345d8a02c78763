"""Which schema extensions a compiled execution honours; with any other it does not take place."""

from collections.abc import Collection, Iterable
from typing import Any

from graphql import MiddlewareManager
from strawberry import Schema
from strawberry.extensions import SchemaExtension
from strawberry.extensions.base_extension import HOOK_METHODS
from strawberry.extensions.directives import DirectivesExtension, DirectivesExtensionSync
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

HARMLESS: tuple[type[Any], ...] = (DirectivesExtension, DirectivesExtensionSync)
"""Act on custom directives only, and documents with those are never compiled."""


def obstacle(
    schema: Schema,
    *,
    compatible: Collection[type[SchemaExtension]],
    hooks_run_elsewhere: bool,
) -> str | None:
    """Why nothing may be compiled for a schema; None where nothing stands against it.

    Args:
        schema: Strawberry's.
        compatible: extensions declared to need no part in an execution, or to be taken care of by
            the caller.
        hooks_run_elsewhere: whether Strawberry runs the operation's hooks around the compiled
            execution, so that only hooks of single fields stand against it.
    """
    executor_class = schema.execution_context_class
    if executor_class is not StrawberryGraphQLCoreExecutionContext:
        return f"executor class {getattr(executor_class, '__name__', executor_class)}"
    for extension in schema.get_extensions():
        kind = type(extension)
        if kind in HARMLESS or kind in compatible:
            continue
        if kind._implements_resolve():  # noqa: SLF001  # Strawberry's own way to ask
            return f"{kind.__name__} looks at every field"
        if not hooks_run_elsewhere and (hooks := _own_hooks(kind)):
            return f"{kind.__name__} has {', '.join(hooks)}"
    return None


def _own_hooks(kind: type[SchemaExtension]) -> list[str]:
    names = [*sorted(HOOK_METHODS), "get_results"]
    return [name for name in names if getattr(kind, name) is not getattr(SchemaExtension, name)]


def honoured(schema: Schema, *, compatible: Iterable[type[SchemaExtension]]) -> list[str]:
    """Names of the schema's extensions that a compiled execution is compatible with."""
    known = (*HARMLESS, *compatible)
    return [type(one).__name__ for one in schema.get_extensions() if type(one) in known]


def middleware_obstacle(
    middleware: object, *, compatible: Collection[type[SchemaExtension]]
) -> str | None:
    """Why the middleware of one request stands against a compiled execution."""
    if middleware is None:
        return None
    if not isinstance(middleware, MiddlewareManager):
        return "unknown middleware"
    for one in middleware.middlewares:
        if type(one) not in HARMLESS and type(one) not in compatible:
            return f"{type(one).__name__} looks at every field"
    return None
