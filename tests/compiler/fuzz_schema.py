# ruff: noqa: A002, ARG002, FBT001, FBT002 — the arguments are what the fuzzer plays with
"""A Strawberry schema with one of everything that the compiler claims to handle."""

import asyncio
import copy
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Annotated, Any, Generic, NewType, TypeVar

import strawberry
from strawberry.extensions import FieldExtension
from strawberry.permission import BasePermission
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig

from compiler import BATCH, CARRIED, CARRIES, CompiledSchema, carried_of, selection_of
from tests.compiler import fuzz_world
from tests.compiler.fuzz_world import DynamicRow, PersonRow, World

T = TypeVar("T")
Genre = strawberry.enum(fuzz_world.Genre)
Condition = strawberry.enum(fuzz_world.Condition)
Floor = strawberry.enum(fuzz_world.Floor)
Money = NewType("Money", int)
Info = strawberry.Info[World, Any]


def world_of(info: Info) -> World:
    return info.context


class IsAllowed(BasePermission):
    message = "not allowed"

    def has_permission(self, source: Any, info: Info, **kwargs: Any) -> bool:
        return info.context.allowed


class MayLater(BasePermission):
    message = "not now"

    async def has_permission(self, source: Any, info: Info, **kwargs: Any) -> bool:
        await asyncio.sleep(0)
        return info.context.allowed


class Shout(FieldExtension):
    def resolve(self, next_: Any, source: Any, info: Info, **kwargs: Any) -> Any:
        return f"{next_(source, info, **kwargs)}!"


@strawberry.interface
class Node:
    id: strawberry.ID


@strawberry.interface
class Titled:
    title: str

    @strawberry.field
    def initials(self, length: int = 1) -> str:
        return self.title[:length]


@strawberry.type
class PageInfo:
    has_next_page: bool
    end_cursor: str | None


@strawberry.type
class Edge(Generic[T]):
    node: T
    cursor: str


@strawberry.type
class Connection(Generic[T]):
    items: strawberry.Private[list[Any]]
    more: strawberry.Private[bool]

    @strawberry.field
    def nodes(self) -> list[T]:
        return self.items

    @strawberry.field
    def edges(self) -> list[Edge[T]]:
        return [Edge(node=item, cursor=f"c{index}") for index, item in enumerate(self.items)]

    @strawberry.field
    def page_info(self) -> PageInfo:
        return PageInfo(has_next_page=self.more, end_cursor=str(len(self.items)) or None)

    @strawberry.field
    async def total_count(self) -> int:
        return len(self.items)


def page(items: Iterable[Any], first: int | None) -> Any:
    listed = list(items)
    cut = listed if first is None or first < 0 else listed[:first]
    return Connection(items=cut, more=len(cut) < len(listed))


@strawberry.type
class Person(Node):
    """Served from PersonRow objects."""

    name: str
    born: int | None
    rating: float | None
    secret: str = strawberry.field(permission_classes=[IsAllowed])

    @classmethod
    def is_type_of(cls, value: Any, _info: Any) -> bool:
        return isinstance(value, PersonRow | cls)

    @strawberry.field
    def greeting(self, words: list[str] | None = None, loud: bool = False) -> str:
        if self.world.gate("Person.greeting", self.id):
            return None
        text = " ".join([*(words or ["hi"]), self.name])
        return text.upper() if loud else text

    @strawberry.field
    async def mentor(self, info: Info) -> "Person | None":
        if world_of(info).gate("Person.mentor", self.id) or self.mentor_id is None:
            return None
        return await info.context.person_loader.load(self.mentor_id)

    @strawberry.field
    async def books(
        self, info: Info, first: int | None = None
    ) -> Connection[Annotated["Book", strawberry.lazy("tests.compiler.fuzz_schema")]]:
        world = world_of(info)
        if world.gate("Person.books", self.id):
            return None
        mine = [b for b in world.books.values() if b.author_id == self.id]
        return page([b for b in mine if isinstance(b, Book)], first)

    @strawberry.field(permission_classes=[MayLater])
    async def diary(self, info: Info, day: int = 1) -> str | None:
        return f"{self.id} {day}"


def shelf_of(book: Any) -> Any:
    if book.world.gate("Book.shelf", book.id):
        return None
    return book.world.shelves.get(book.shelf_id)


def with_carried(info: Info, value: Any) -> Any:
    """The object with the fields that compiled code will look for."""
    for field in carried_of(info):
        if hasattr(value, "shelf_id"):
            value = copy.copy(value)
            setattr(value, field.name, field.metadata(value))
    return value


@strawberry.type
class Book(Node, Titled):
    world: strawberry.Private[Any]
    shelf_id: strawberry.Private[str]
    author_id: strawberry.Private[str | None]
    genre: Genre
    condition: Condition | None
    price: float
    pages: int | None
    printed: datetime | None
    tags: list[str]
    notes: list[str | None] | None
    grid: list[list[int]]
    extra: JSON | None
    available: bool

    @strawberry.field
    def author(self, info: Info) -> Person | None:
        if self.author_id is None or self.world.gate("Book.author", self.id):
            return None
        return info.context.person_loader.load(self.author_id)

    @strawberry.field(metadata={CARRIED: shelf_of})
    async def shelf(self, info: Info) -> "Shelf | None":
        return shelf_of(self)

    @strawberry.field
    async def place(self, info: Info) -> str:
        assert info.path.key
        return None if self.world.gate("Book.place", self.id) else f"{info.path.as_list()}"

    @strawberry.field(extensions=[Shout()])
    def cry(self, times: int = 1) -> str:
        return self.title * (times % 4)

    @strawberry.field
    def worth(self, factor: float, unit: Money | None = None) -> Money | None:
        if self.world.gate("Book.worth", self.id):
            return None
        return Money(int(self.price * factor) + (unit or 0))

    @strawberry.field
    def facts(self) -> "Facts":
        return DynamicRow({"size": self.pages or 1, "kind": "b"})

    @strawberry.field
    def self_again(root) -> "Book":  # noqa: N805  # Strawberry gives the parent by this name
        return root

    @strawberry.field
    def sibling(
        self, parent: strawberry.Parent[Any]
    ) -> Annotated["Magazine", strawberry.lazy("tests.compiler.fuzz_schema")] | None:
        return next((b for b in parent.world.books.values() if isinstance(b, Magazine)), None)


@strawberry.type
class Facts:
    size: int
    kind: str | None


@strawberry.type
class Magazine(Node, Titled):
    world: strawberry.Private[Any]
    shelf_id: strawberry.Private[str]
    author_id: strawberry.Private[str | None]
    issue: int
    weekly: bool | None

    @strawberry.field
    def author(self, info: Info) -> Person | None:
        return info.context.person_loader.load(self.author_id or "nobody")


Publication = Annotated[Book | Magazine, strawberry.union("Publication")]
Anything = Annotated[Book | Magazine | Person, strawberry.union("Anything")]


@strawberry.input
class Span:
    low: int | None = None
    high: int | None = 9


@strawberry.input
class BookFilter:
    genres: list[Genre] | None = None
    title: str | None = None
    tags: list[list[str]] | None = None
    pages: Span | None = None
    available: bool | None = strawberry.UNSET
    price_above: float = 0.0
    either: list["BookFilter"] | None = None


@strawberry.input(one_of=True)
class Pick:
    id: strawberry.ID | None = strawberry.UNSET
    index: int | None = strawberry.UNSET


async def neighbours(parents: list[Any], info: Info, limit: int = 2) -> list[Any]:
    info.context.batches.append(("neighbours", len(parents)))
    return [_neighbours(parent, limit) for parent in parents]


def _neighbours(shelf: Any, limit: int) -> list[Any]:
    if shelf.world.gate("Shelf.neighbours", shelf.id):
        return None
    return [one for one in shelf.world.shelves.values() if one.id != shelf.id][: max(limit, 0)]


@strawberry.type
class Shelf(Node):
    world: strawberry.Private[Any]
    label: str | None
    floor: Floor

    @classmethod
    def resolve_id(cls) -> str:
        return "unused"

    @strawberry.field
    async def books(
        self, info: Info, filter: BookFilter | None = None, first: int | None = 3
    ) -> Connection[Publication]:
        if self.world.gate("Shelf.books", self.id):
            return None
        await asyncio.sleep(0)
        return page(matching(self.world, filter, self.id), first)

    @strawberry.field(metadata={BATCH: neighbours})
    async def neighbours(self, info: Info, limit: int = 2) -> list["Shelf"]:
        return _neighbours(self, limit)

    @strawberry.field
    async def wanted(self, info: Info) -> list[str]:
        """Look-ahead must not depend on who executes."""
        return sorted(selection_of(info).names) or ["nothing"]


def matching(world: World, filter: BookFilter | None, shelf_id: str | None = None) -> list[Any]:
    found = [b for b in world.books.values() if shelf_id is None or b.shelf_id == shelf_id]
    if filter is None:
        return found
    world.calls.append(repr(filter))
    if filter.title is not None:
        found = [b for b in found if filter.title in b.title]
    if filter.available is not strawberry.UNSET:
        found = [b for b in found if getattr(b, "available", None) is filter.available]
    if filter.genres:
        found = [b for b in found if getattr(b, "genre", None) in filter.genres]
    return found


@strawberry.type
class Query:
    @strawberry.field
    async def shelf(self, info: Info, id: strawberry.ID) -> Shelf | None:
        if info.context.gate("Query.shelf"):
            return None
        return info.context.shelves.get(id)

    @strawberry.field
    async def shelves(
        self, info: Info, first: int = 5, floors: list[Floor] | None = None
    ) -> Connection[Shelf]:
        if info.context.gate("Query.shelves"):
            return None
        wanted = [s for s in info.context.shelves.values() if not floors or s.floor in floors]
        return page(wanted, first)

    @strawberry.field
    async def books(
        self,
        info: Info,
        filter: BookFilter | None = None,
        first: int | None = None,
        genre: Genre | None = Genre.NOVEL,
    ) -> Connection[Publication]:
        return page(matching(info.context, filter), first)

    @strawberry.field(metadata={CARRIES: True})
    async def book(self, info: Info, id: strawberry.ID) -> Book | None:
        found = await info.context.book_loader.load(id)
        return with_carried(info, found) if isinstance(found, Book) else None

    @strawberry.field
    async def person(self, info: Info, id: strawberry.ID = "p0") -> Person | None:
        if info.context.gate("Query.person"):
            return None
        return await info.context.person_loader.load(id)

    @strawberry.field
    def node(self, info: Info, id: strawberry.ID) -> Node | None:
        world = world_of(info)
        return world.people.get(id) or world.books.get(id) or world.shelves.get(id)

    @strawberry.field(metadata={CARRIES: True})
    def titled(self, info: Info, last: bool = False) -> list[Titled]:
        found = list(info.context.books.values())[:: -1 if last else 1]
        return [with_carried(info, one) for one in found]

    @strawberry.field
    async def anything(
        self, info: Info, ids: list[strawberry.ID] | None = None
    ) -> list[Anything | None]:
        world = world_of(info)
        if world.gate("Query.anything"):
            return None
        known = {**world.books, **world.people} if ids is None else world.books
        return [known.get(key) for key in (ids if ids is not None else known)]

    @strawberry.field
    def echo(
        self,
        info: Info,
        number: int = 7,
        ratio: float | None = None,
        flag: bool = True,
        text: str | None = "dé",
        id: strawberry.ID | None = None,
        genre: Genre = Genre.POETRY,
        floors: list[Floor | None] | None = None,
        matrix: list[list[int]] | None = None,
        span: Span | None = None,
        when: datetime | None = None,
        extra: JSON | None = None,
        maybe: strawberry.Maybe[int | None] = None,
    ) -> list[str]:
        if matrix is not None:
            matrix.append([1])  # what a resolver does with its arguments is its own affair
        given = dict(vars())
        given.pop("self")
        given.pop("info")
        variables = {key: repr(value) for key, value in sorted(info.variable_values.items())}
        return [f"{key}={value!r}" for key, value in given.items()] + [repr(variables)]

    @strawberry.field
    def pick(self, info: Info, pick: Pick) -> str:
        return repr(pick)

    @strawberry.field(permission_classes=[MayLater])
    def guarded(self, info: Info, filter: BookFilter | None = None) -> Connection[Publication]:
        return page(matching(info.context, filter), 2)

    @strawberry.field
    def info_facts(self, info: Info, note: str = "") -> list[str]:
        return [
            info.field_name,
            info.python_name,
            repr(info.path),
            repr(info.selected_fields),
            repr(info.variable_values),
            type(info.return_type).__name__,
            str(info.operation.name and info.operation.name.value),
            str(info.context.seed),
        ]

    @strawberry.field
    @staticmethod
    def constant() -> int:
        return 42


@strawberry.type
class ShelfPayload:
    shelf: Shelf | None
    note: str | None
    count: int

    @strawberry.field
    async def fresh(self, info: Info) -> Shelf:
        if info.context.gate("ShelfPayload.fresh"):
            return None
        return self.shelf or next(iter(info.context.shelves.values()))


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def add_shelf(self, info: Info, label: str | None = None) -> ShelfPayload:
        world = world_of(info)
        world.effects.append(f"add {label}")
        if world.gate("Mutation.add_shelf"):
            return None
        shelf = Shelf(id=f"s{len(world.shelves)}", label=label, floor=Floor.GROUND, world=world)
        world.shelves[shelf.id] = shelf
        return ShelfPayload(shelf=shelf, note=label, count=len(world.shelves))

    @strawberry.mutation
    async def rename(
        self, info: Info, id: strawberry.ID, filter: BookFilter | None = None
    ) -> ShelfPayload | None:
        world = world_of(info)
        world.effects.append(f"rename {id} {filter!r}")
        if world.gate("Mutation.rename"):
            return None
        if id == "nothing":
            raise ValueError(f"no shelf {id}")
        if id not in world.shelves:
            return None
        return ShelfPayload(shelf=world.shelves[id], note=None, count=len(world.effects))

    @strawberry.mutation(permission_classes=[IsAllowed])
    def count(self, info: Info, by: int = 1) -> int:
        info.context.effects.append(f"count {by}")
        return len(info.context.effects) * by


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def shelf_events(
        self, info: Info, id: strawberry.ID | None = None
    ) -> AsyncIterator[ShelfPayload]:
        for shelf in list(info.context.shelves.values()):
            yield ShelfPayload(shelf=shelf, note=id, count=1)


def build_schema(**options: Any) -> CompiledSchema:
    """The schema; nothing is compiled yet."""
    money = strawberry.scalar(name="Money", serialize=lambda v: f"{v} €", parse_value=int)
    return CompiledSchema(
        Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[Person, Book, Magazine, Shelf],
        config=StrawberryConfig(scalar_map={Money: money}),
        **options,
    )
