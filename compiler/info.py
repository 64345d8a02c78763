"""What a resolver is told about its place: made cheaply, complete when asked."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any, TypeVar

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    GraphQLSchema,
    OperationDefinitionNode,
)
from graphql.pyutils import Path, gather_with_cancel
from graphql.type.definition import GraphQLResolveInfoHelpers
from strawberry.execution import optimized_is_awaitable

from compiler.selection import Carried, Selection

if TYPE_CHECKING:
    from asyncio import Future

    from compiler.plan import Plan
    from compiler.waves import AwaitedField, Level

NO_ZONE = object()

Token = tuple[Any, Any]
"""A place in the response: (place of the parent or None, list index or (key, type name))."""


def path_of(token: Token) -> Path:
    """A place as graphql-core's path."""
    keys: list[Any] = []
    place: Token | None = token
    while place is not None:
        keys.append(place[1])
        place = place[0]
    path: Path | None = None
    for key in reversed(keys):
        path = Path(path, key, None) if type(key) is int else Path(path, *key)
    assert path is not None  # noqa: S101  # a token has at least one key
    return path


class FieldFacts:
    """What is the same for every call of one field of a plan."""

    __slots__ = (
        "carried",
        "constants",
        "field_name",
        "field_nodes",
        "parent_type",
        "return_type",
        "selection",
        "step",
    )

    def __init__(
        self,
        *,
        field_nodes: list[FieldNode],
        parent_type: GraphQLObjectType,
        return_type: GraphQLOutputType,
        response_key: str,
        selection: Selection,
        carried: tuple[Carried, ...],
    ) -> None:
        self.field_name = field_nodes[0].name.value
        self.field_nodes = field_nodes
        self.parent_type = parent_type
        self.return_type = return_type
        self.step = (response_key, parent_type.name)
        self.selection = selection
        self.carried = carried
        self.constants: dict[Any, Any] = {}
        """See `constant_of`."""


class Run:
    """One execution: what is the same for every call, and what is left to await.

    Attributes:
        arguments: those that compiled code has computed for all calls.
        begun: parents whose awaited fields are to be called: their level, then in parallel lists
            the answers so far, the parents, and their places.
        late: what synchronous resolvers returned to be awaited: field, answer, awaitable, place.
    """

    __slots__ = (
        "arguments",
        "background",
        "begun",
        "context",
        "late",
        "operation_extensions",
        "plan",
        "root_value",
        "schema",
        "spelled_zone",
        "variables",
    )

    def __init__(
        self,
        schema: GraphQLSchema,
        plan: "Plan",
        variables: dict[str, Any],
        context: Any,
        root_value: Any,
        operation_extensions: dict[str, Any] | None,
        for_json: bool = False,  # noqa: FBT001, FBT002  # no keyword: a class is called in half the time
    ) -> None:
        self.schema = schema
        self.plan = plan
        self.variables = variables
        self.context = context
        self.root_value = root_value
        self.operation_extensions = operation_extensions
        # Moments of this zone stay as they are: what writes the JSON spells them alike, faster.
        self.spelled_zone: object = UTC if for_json else NO_ZONE
        self.background: set[Future[Any]] | None = None
        self.arguments: tuple[dict[str, Any], ...] = ()
        self.begun: list[tuple[Level, list[Any], list[Any], list[Any]]] = []
        self.late: list[tuple[AwaitedField, dict[str, Any], Any, Token | None]] = []

    def track(self, values: Sequence[Any]) -> None:
        """Settle abandoned awaitables in the background, as graphql-core does."""
        import asyncio

        awaitables = [value for value in values if optimized_is_awaitable(value)]
        if awaitables:
            future = asyncio.gather(*awaitables, return_exceptions=True)
            if self.background is None:
                self.background = set()
            self.background.add(future)
            future.add_done_callback(self.background.discard)


T = TypeVar("T")


def constant_of(info: Any, make: Callable[[Any], T]) -> T:
    """What `make(info)` returns, made once for a field of a plan.

    `make` is a function of a module, and depends on nothing but the field's type, its selection
    and what it carries. Where a document runs on graphql-core it is called each time.

    Args:
        info: `strawberry.Info`, or graphql-core's own.
        make: gets the info.
    """
    raw = getattr(info, "_raw_info", info)
    if type(raw) is not RawInfo:
        return make(info)
    constants = raw._facts.constants  # noqa: SLF001  # of the same module
    found: T
    try:
        found = constants[make]
    except KeyError:
        found = constants[make] = make(info)
    return found


def _gather(values: Sequence[Awaitable[Any]]) -> Awaitable[list[Any]]:
    return gather_with_cancel(*values)


class RawInfo:
    """The members of graphql-core's `GraphQLResolveInfo`, as Strawberry extends it.

    And `selection` and `carried`: see `compiler.selection`.
    """

    __slots__ = ("_facts", "_place", "_run", "context")

    def __init__(self, run: Run, facts: FieldFacts, place: Token | None) -> None:
        self.context = run.context
        self._run = run
        self._facts = facts
        self._place = place

    @property
    def field_name(self) -> str:
        """See GraphQLResolveInfo."""
        return self._facts.field_name

    @property
    def field_nodes(self) -> list[FieldNode]:
        """See GraphQLResolveInfo."""
        return self._facts.field_nodes

    @property
    def return_type(self) -> GraphQLOutputType:
        """See GraphQLResolveInfo."""
        return self._facts.return_type

    @property
    def parent_type(self) -> GraphQLObjectType:
        """See GraphQLResolveInfo."""
        return self._facts.parent_type

    @property
    def path(self) -> Path:
        """See GraphQLResolveInfo."""
        return path_of((self._place, self._facts.step))

    @property
    def schema(self) -> GraphQLSchema:
        """See GraphQLResolveInfo."""
        return self._run.schema

    @property
    def fragments(self) -> dict[str, FragmentDefinitionNode]:
        """See GraphQLResolveInfo."""
        return self._run.plan.fragments

    @property
    def root_value(self) -> Any:
        """See GraphQLResolveInfo."""
        return self._run.root_value

    @property
    def operation(self) -> OperationDefinitionNode:
        """See GraphQLResolveInfo."""
        return self._run.plan.operation

    @property
    def variable_values(self) -> dict[str, Any]:
        """The coerced values, as Strawberry's executor gives them."""
        return self._run.variables

    @property
    def is_awaitable(self) -> Callable[[Any], bool]:
        """See GraphQLResolveInfo."""
        return optimized_is_awaitable

    @property
    def abort_signal(self) -> None:
        """Nothing aborts a compiled execution but cancellation."""
        return

    @property
    def async_helpers(self) -> GraphQLResolveInfoHelpers:
        """See GraphQLResolveInfo."""
        return GraphQLResolveInfoHelpers(gather=_gather, track=self._run.track)

    @property
    def operation_extensions(self) -> dict[str, Any] | None:
        """See `strawberry.Info.input_extensions`."""
        return self._run.operation_extensions

    @property
    def selection(self) -> Selection:
        """See `compiler.selection.selection_of`."""
        return self._facts.selection

    @property
    def carried(self) -> tuple[Carried, ...]:
        """See `compiler.selection.carried_of`."""
        return self._facts.carried

    def _asdict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in GraphQLResolveInfo._fields}
