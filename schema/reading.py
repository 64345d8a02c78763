"""Which columns a document needs: selections of fields become lists of columns for readers.

A field without a resolver needs the column of its name. One with a resolver says what it needs in
its metadata (`READS`); where one that says nothing is selected, records are read whole. The id is
always there.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any

from graphql import GraphQLOutputType, get_named_type
from sqlmodel import SQLModel

from compiler import BATCH, CARRIED, Carried, Selection, carried_of, constant_of, selection_of
from models.base import column_names
from models.prepared import Link
from resolvers.loading import Columns, find_by_ids, load_by_id, loader, with_columns
from schema.context import Info

READS = "reads"
"""Metadata key of a field with a resolver: names of the columns it needs of its parent's record."""
NODES = (("nodes",), ("edges", "node"))
"""Where the records of a connection are."""
_ID = attrgetter("id")
REMEMBERED = 2_048


def columns_of(info: Info, model: type[SQLModel], *paths: tuple[str, ...]) -> Columns:
    """The columns of a model that a document needs below a field; None for all of them.

    What the records themselves come with (:func:`links_of`) needs none.

    Args:
        info: of the field's resolver.
        model: the records' model.
        paths: where below the field the records are; by default they are its own value.
    """
    raw: Any = info._raw_info  # noqa: SLF001  # the only way to the type
    carried = () if paths else tuple(one.name for one in carried_of(raw))
    return _columns(raw.return_type, model, selection_of(raw), paths or ((),), carried)


@lru_cache(maxsize=REMEMBERED)
def _columns(
    return_type: GraphQLOutputType,
    model: type[SQLModel],
    selection: Selection,
    paths: tuple[tuple[str, ...], ...],
    carried: tuple[str, ...] = (),
) -> Columns:
    needed = {"id"}
    for path in paths:
        named: Any = get_named_type(return_type)
        for step in path:
            named = get_named_type(named.fields[step].type)
        definition = named.extensions["strawberry-definition"]
        if definition.is_interface:
            return None
        reads = _reads(definition.origin, model)
        for name in selection.below(*path):
            columns = () if name in carried else reads[name]
            if columns is None:
                return None
            needed.update(columns)
    return tuple(name for name in column_names(model) if name in needed)


@cache
def _reads(type_: Any, model: type[SQLModel]) -> dict[str, Iterable[str] | None]:
    own = set(column_names(model))
    reads: dict[str, Iterable[str] | None] = {}
    for field in type_.__strawberry_definition__.fields:
        name = field.python_name
        is_column = field.base_resolver is None and name in own
        reads[name] = (name,) if is_column else field.metadata.get(READS)
    return reads


def shows_cursors(info: Info) -> bool:
    """Whether a document asks for parts of a connection that are made with cursors."""
    selection = selection_of(info)
    return "edges" in selection or "page_info" in selection


def reads(*columns: str, **metadata: Any) -> dict[str, Any]:
    """Metadata of a field whose resolver needs no more than some columns of its parent."""
    return {READS: columns, **metadata}


def link(model: type[SQLModel], attribute: str) -> dict[str, Any]:
    """Metadata of a field that leads to a record by an id of its parent; see :func:`follow`.

    Where the parent was read with the record (:func:`links_of`), nothing is left to be read.

    Args:
        model: the record's model.
        attribute: of the parent: the id, or None.
    """
    id_of = attrgetter(attribute)

    def columns(info: Info) -> Columns:
        return columns_of(info, model)

    async def batch(parents: list[Any], info: Info) -> list[Any]:
        ids = list(map(id_of, parents))
        return await find_by_ids(info.context, model, ids, constant_of(info, columns))

    return {READS: (attribute,), BATCH: batch, CARRIED: (model, attribute)}


def links_of(info: Info) -> tuple[Link, ...]:
    """What a document wants to be read together with a field's record; see ``compiler.CARRIES``.

    Args:
        info: of the field's resolver.
    """
    carried = carried_of(info)
    return _links(carried) if carried else ()


@lru_cache(maxsize=REMEMBERED)
def _links(carried: tuple[Carried, ...]) -> tuple[Link, ...]:
    links = []
    for one in carried:
        model, attribute = one.metadata
        columns = _columns(one.type, model, one.selection, ((),)) or column_names(model)
        links.append(Link(one.name, model, columns, attribute))
    return tuple(links)


def ids_of(parents: Iterable[Any]) -> list[str]:
    """The ids of records, in order."""
    return list(map(_ID, parents))


Level = Callable[..., Awaitable[Sequence[Any]]]
"""Reads a field of all parents of a level: ``async def f(parents, info, **arguments)``.

It returns what is found for each, in order; an error stands where one is refused.
"""


def level(read: Level) -> dict[str, Any]:
    """Metadata of a field that is read for all parents of a level together; see :func:`one_of`."""
    return {BATCH: read}


async def one_of(info: Info, read: Level, parent: Any, /, **arguments: Any) -> Any:
    """A field of one parent, read together with those of its siblings.

    Args:
        info: of the field's resolver.
        read: reads the level.
        parent: whose field.
        arguments: of the field: the same for all siblings.

    Raises:
        OperationError: the parent is refused.
    """
    raw: Any = info._raw_info  # noqa: SLF001  # the only way to the nodes

    async def load(parents: Sequence[Any]) -> Sequence[Any]:
        return await read(list(parents), info, **arguments)

    # Siblings come from the same nodes. `load` keeps these alive, so that none gets another's id.
    name = (read, *map(id, raw.field_nodes))
    return await loader(info.context, name, load).load(parent)


async def follow(info: Info, model: type[SQLModel], entity_id: str | None, *more: str) -> Any:
    """The record a link leads to, batched with its siblings'; None where it leads nowhere.

    Args:
        info: of the field's resolver.
        model: the record's model.
        entity_id: its id, if there is one.
        more: columns that the resolver itself looks at.
    """
    columns = with_columns(model, columns_of(info, model), *more)
    return await load_by_id(info.context, model, entity_id, columns)
