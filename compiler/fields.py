"""How each field of a schema may be called: decided once per field, from what Strawberry built.

A  a plain attribute: read inline.
B  a synchronous resolver of the application: called directly.
C  an asynchronous one: all parents of a level are called, then awaited together; or, with a batch
   resolver in its metadata, called once with all parents.
D  everything that wraps a resolver (permission classes, field extensions, exception handlers,
   fields of other libraries): always called through the wrapped resolver that Strawberry built.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import Enum
from inspect import isasyncgenfunction
from typing import Any

from graphql import GraphQLField, GraphQLObjectType
from graphql.execution import default_field_resolver
from strawberry import Schema
from strawberry.types.field import StrawberryField

BATCH = "compiler.batch"
"""Metadata key of a batch resolver: ``async def f(parents, info, **arguments) -> list``.

It answers for all parents, in order; `info` is that of the first one. The field's own resolver
still answers where a document runs on graphql-core, so both must agree. Not used in class D.
"""
CARRIED = "compiler.carried"
"""Metadata key of a field without arguments whose value its parent may come with.

Such a parent has the value as the attribute of the field's Python name, and it is read inline, as
in class A. The metadata's value is the application's; see `CARRIES`.
"""
CARRIES = "compiler.carries"
"""Metadata key of a field whose objects come with the values of `CARRIED` fields selected of them.

It is true or absent. Its resolver is told which ones (`compiler.carried_of`): none where a document
runs on graphql-core. Both keys are not used in class D.
"""


class FieldClass(Enum):
    """See the module."""

    ATTRIBUTE = "A"
    SYNC = "B"
    ASYNC = "C"
    WRAPPED = "D"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldCall:
    """How to call one field.

    `attribute` is set in class A, `resolver` in the others. `info_as`, `parent_as` and `root_as`
    name the parameters that get the info and the parent; with `wants_self` the parent goes first.
    `carries`: see `CARRIES`; `from_parent` is the call where a parent carries the value, and has
    the field's metadata in `carried`.
    """

    kind: FieldClass
    definition: GraphQLField
    strawberry: StrawberryField | None
    attribute: str | None = None
    resolver: Callable[..., Any] | None = None
    batch: Callable[..., Awaitable[list[Any]]] | None = None
    is_async: bool = False
    wants_self: bool = False
    info_as: str | None = None
    parents_as: tuple[str, ...] = ()
    carries: bool = False
    carried: Any = None
    from_parent: "FieldCall | None" = None

    @property
    def wants_info(self) -> bool:
        """Whether a call needs an info."""
        is_told = self.info_as is not None or self.batch is not None
        return is_told or self.kind is FieldClass.WRAPPED


def classify(schema: Schema, parent: GraphQLObjectType, name: str) -> FieldCall:
    """How to call a field of an object type.

    Raises:
        KeyError: there is no such field.
    """
    definition = parent.fields[name]
    field = definition.extensions.get("strawberry-definition")
    if not isinstance(field, StrawberryField) or not _is_built_by_strawberry(definition, field):
        field = field if isinstance(field, StrawberryField) else None
        return _wrapped(definition, field)
    if type(field).get_result is not StrawberryField.get_result or field.extensions:
        return _wrapped(definition, field)
    if schema.schema_converter._get_field_exception_handlers(field):  # noqa: SLF001  # no other way to ask
        return _wrapped(definition, field)
    if field.base_resolver is None:
        return _attribute(schema, definition, field)
    return _direct(schema, definition, field)


def _is_built_by_strawberry(definition: GraphQLField, field: StrawberryField) -> bool:
    """Whether the resolver is the closure that Strawberry's converter made for this field."""
    resolve: Any = definition.resolve
    code = getattr(resolve, "__code__", None)
    if code is None or "GraphQLCoreConverter.from_resolver.<locals>" not in resolve.__qualname__:
        return False
    cells = dict(zip(code.co_freevars, resolve.__closure__ or (), strict=True))
    inner: Any = cells.get("field") or cells.get("_strawberry_info_from_graphql")
    if inner is None:
        return False
    held = inner.cell_contents
    if held is field:
        return True
    inner_cells = dict(zip(held.__code__.co_freevars, held.__closure__ or (), strict=True))
    return "field" in inner_cells and inner_cells["field"].cell_contents is field


def _attribute(schema: Schema, definition: GraphQLField, field: StrawberryField) -> FieldCall:
    name = field.python_name
    if schema.config.default_resolver is getattr and name.isidentifier():
        return FieldCall(
            kind=FieldClass.ATTRIBUTE, definition=definition, strawberry=field, attribute=name
        )
    default = schema.config.default_resolver

    def read(parent: Any) -> Any:
        return default(parent, name)

    return FieldCall(
        kind=FieldClass.SYNC,
        definition=definition,
        strawberry=field,
        resolver=read,
        wants_self=True,
    )


def _direct(schema: Schema, definition: GraphQLField, field: StrawberryField) -> FieldCall:
    base = field.base_resolver
    assert base is not None  # noqa: S101  # the caller has looked
    wrapped: Any = base.wrapped_func
    if not callable(wrapped) or isasyncgenfunction(base._unbound_wrapped_func):  # noqa: SLF001  # the function under Strawberry's wrapper
        return _wrapped(definition, field)
    is_async = bool(field.is_async)
    named = (base.parent_parameter, base.root_parameter)
    carried = None if definition.args else field.metadata.get(CARRIED)
    from_parent = None
    if carried is not None:
        from_parent = replace(_attribute(schema, definition, field), carried=carried)
    return FieldCall(
        kind=FieldClass.ASYNC if is_async else FieldClass.SYNC,
        definition=definition,
        strawberry=field,
        resolver=wrapped,
        batch=field.metadata.get(BATCH),
        is_async=is_async,
        wants_self=base.self_parameter is not None,
        info_as=base.info_parameter.name if base.info_parameter else None,
        parents_as=tuple(parameter.name for parameter in named if parameter is not None),
        carries=bool(field.metadata.get(CARRIES)),
        from_parent=from_parent,
    )


def _wrapped(definition: GraphQLField, field: StrawberryField | None) -> FieldCall:
    return FieldCall(
        kind=FieldClass.WRAPPED,
        definition=definition,
        strawberry=field,
        resolver=definition.resolve or default_field_resolver,
        is_async=bool(field is not None and field.is_async),
    )
