"""What compiled code asks about values: their kind, their leaf form, their items."""

from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from types import GeneratorType, NoneType
from typing import Any, TypeVar

from graphql import (
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLFloat,
    GraphQLID,
    GraphQLInt,
    GraphQLLeafType,
    GraphQLString,
    Undefined,
)
from graphql.pyutils import is_iterable
from strawberry.execution import optimized_is_awaitable

PLAIN = 0
NULL = 1
AWAITABLE = 2
UNUSUAL = 3
DYNAMIC = 4

MAX_KNOWN_CLASSES = 4_096


class Bail(Exception):  # noqa: N818  # not an error: the reference executor has to answer
    """The compiled code met something that graphql-core has to answer."""


class Kinds(dict[type, int]):
    """What a value is, by its class.

    PLAIN, NULL, AWAITABLE, UNUSUAL (an error to raise), or DYNAMIC (only the value itself tells).
    """

    def __missing__(self, cls: type) -> int:
        """Find out about a class seen for the first time."""
        if len(self) >= MAX_KNOWN_CLASSES:
            self.clear()
        kind = self[cls] = _kind(cls)
        return kind


def _kind(cls: type) -> int:
    if cls is NoneType or cls is type(Undefined):
        return NULL
    if issubclass(cls, Exception):
        return UNUSUAL
    if hasattr(cls, "__await__"):
        return AWAITABLE
    names = {name for base in cls.__mro__ if base is not object for name in base.__dict__}
    if issubclass(cls, GeneratorType) or names & {"__class__", "__getattr__", "__getattribute__"}:
        return DYNAMIC
    return PLAIN


KINDS = Kinds()


def an_object(value: Any) -> Any:
    """An object that is not PLAIN and must not be null.

    Raises:
        Bail: it is null, an error or something to await.
    """
    if KINDS[type(value)] != DYNAMIC or optimized_is_awaitable(value):
        raise Bail(f"no object: {type(value).__name__}")
    return value


def an_object_or_null(value: Any) -> Any:
    """The same where null is allowed."""
    return None if KINDS[type(value)] == NULL else an_object(value)


class Known(set[type]):
    """Classes whose every instance is an object of a type, found out as they come.

    Args:
        type_name: of the type.
        test: its `is_type_of` where that looks at classes alone.
    """

    def __init__(self, type_name: str, test: Callable[..., Any] | None) -> None:
        super().__init__()
        self.type_name = type_name
        self.test = test

    def judge(self, value: Any) -> Any:
        """The value, of a class that is not known.

        Raises:
            Bail: it is null, an error, something to await or not of the type.
        """
        is_plain = KINDS[type(value)] == PLAIN
        if not is_plain:
            an_object(value)
        if self.test is not None and (answer := self.test(value, None)) is not True:
            untyped(answer, self.type_name)
        if is_plain:
            if len(self) >= MAX_KNOWN_CLASSES:
                self.clear()
            self.add(type(value))
        return value

    def judge_or_null(self, value: Any) -> Any:
        """The same where null is allowed."""
        return None if KINDS[type(value)] == NULL else self.judge(value)


def listed(value: Any) -> list[Any] | tuple[Any, ...]:
    """The items of any iterable that graphql-core takes for a list.

    Raises:
        Bail: it is none.
    """
    if type(value) is tuple:
        return value
    if (
        optimized_is_awaitable(value)
        or hasattr(value, "__aiter__")
        or hasattr(value, "__next__")  # graphql-core could not read it a second time
        or not is_iterable(value)
    ):
        raise Bail(f"not a list: {type(value).__name__}")
    items: Iterable[Any] = value
    return list(items)


def listed_or_null(value: Any) -> list[Any] | tuple[Any, ...] | None:
    """The items of an iterable, or None for null."""
    return None if KINDS[type(value)] == NULL else listed(value)


def leaf_serializer(leaf: GraphQLLeafType, *, nullable: bool) -> Callable[[Any], Any]:
    """The function that completes any value of a leaf type as graphql-core does.

    It raises whatever the type's own coercion raises, or Bail.
    """
    coerce = leaf.coerce_output_value

    def serialize(value: Any) -> Any:
        kind = KINDS[type(value)]
        if kind and (kind != DYNAMIC or optimized_is_awaitable(value)):
            if kind == NULL and nullable:
                return None
            raise Bail(f"{leaf.name}: {type(value).__name__}")
        coerced = coerce(value)
        if coerced is None or coerced is Undefined:
            raise Bail(f"{leaf.name} became null")
        return coerced

    return serialize


def exact_test(leaf: GraphQLLeafType) -> str | None:
    """A Python expression on ``{x}``, true only where a value is complete as it is; or None."""
    return _EXACT_TESTS.get(leaf.name) if leaf in _BUILT_IN else None


_BUILT_IN = (GraphQLString, GraphQLID, GraphQLInt, GraphQLFloat, GraphQLBoolean)
_EXACT_TESTS = {
    "String": "type({x}) is str",
    "ID": "type({x}) is str",
    # Small ones only, and no chain: this is what Python compares fastest.
    "Int": "type({x}) is int and -1073741823 <= {x} and {x} <= 1073741823",
    "Float": "type({x}) is float and -1e999 < {x} and {x} < 1e999",
    "Boolean": "type({x}) is bool",
}


def enum_table(leaf: GraphQLLeafType) -> dict[Any, str | None] | None:
    """Names by member and by raw text, for enums of texts; None where equality could mislead."""
    wrapped = getattr(leaf, "wrapped_cls", None)
    if not isinstance(leaf, GraphQLEnumType) or not isinstance(wrapped, type):
        return None
    members = list(wrapped) if issubclass(wrapped, Enum) else []
    if not members or not all(type(member.value) is str for member in members):
        return None
    table: dict[Any, str | None] = {}
    for member in members:
        for value in (member, member.value):
            try:
                table.setdefault(value, leaf.coerce_output_value(value))
            except (ValueError, KeyError):
                return None
    return table


T = TypeVar("T", bound=Callable[..., Any])


def by_class(test: T) -> T:
    """Mark a type's `is_type_of`: it looks at a value's class alone, so it is asked once per class.

    It gets None for the info.
    """
    test.__dict__["answers_by_class"] = True
    return test


def asks_each(test: Callable[..., Any] | None) -> bool:
    """Whether an `is_type_of` has to be asked about every value, with an info."""
    return test is not None and not getattr(test, "answers_by_class", False)


def untyped(answer: Any, type_name: str) -> None:
    """Judge what a type check said instead of True, or a type resolver instead of a name.

    Raises:
        Bail: it is nothing that stands for the type; a coroutine is disposed of.
    """
    if optimized_is_awaitable(answer):
        close_quietly(answer)
        raise Bail(f"{type_name} is found out asynchronously")
    if not answer or type(answer) is str:
        raise Bail(f"not of type {type_name}")


def close_quietly(awaitable: Awaitable[Any]) -> None:
    """Dispose of a coroutine that will not be awaited."""
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()
