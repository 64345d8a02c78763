"""What the fuzzer's schema stands on: random data, faults to order, and effects to count."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, IntEnum
from typing import Any

from strawberry.dataloader import DataLoader


class Genre(Enum):
    NOVEL = "novel"
    POETRY = "poetry"
    SCIENCE = "science"


class Condition(str, Enum):  # noqa: UP042  # the older kind exists in applications
    FRESH = "fresh"
    WORN = "worn"


class Floor(IntEnum):
    CELLAR = -1
    GROUND = 0
    FIRST = 1


class BoomError(Exception):
    """Ordered by a fault."""


@dataclass(frozen=True)
class Fault:
    """A field that goes wrong: of one object, or of all when `of` is None."""

    field: str
    of: str | None = None
    raises: bool = True


@dataclass(slots=True)
class PersonRow:
    """A light row: a plain object of no Strawberry type."""

    id: str
    name: str
    born: int | None
    rating: float | None
    secret: str
    mentor_id: str | None
    world: Any


class DynamicRow:
    """A row that answers for its attributes itself."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._values.get(name)


@dataclass
class World:
    """One set of data with the loaders of one request."""

    seed: int
    faults: tuple[Fault, ...] = ()
    effects: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    batches: list[tuple[str, int]] = field(default_factory=list)
    people: dict[str, PersonRow] = field(default_factory=dict)
    books: dict[str, Any] = field(default_factory=dict)
    shelves: dict[str, Any] = field(default_factory=dict)
    allowed: bool = True

    def __post_init__(self) -> None:
        from tests.compiler.fuzz_schema import Book, Magazine, Shelf

        rng = self.rng = random.Random(self.seed)  # noqa: S311  # repeatable, not secret
        self.person_loader: DataLoader[str, Any] = DataLoader(load_fn=self.load_people)
        self.book_loader: DataLoader[str, Any] = DataLoader(load_fn=self.load_books)
        for number in range(rng.randint(1, 6)):
            self.people[f"p{number}"] = PersonRow(
                id=f"p{number}",
                name=rng.choice(["Ann", "Bé", 'C"d', "\N{SNOWMAN}", ""]),
                born=self.maybe(rng.randint(-5, 2000)),
                rating=self.maybe(rng.choice([0.5, 3.0, -1e9, 7])),
                secret="s",
                mentor_id=self.maybe(f"p{rng.randint(0, 7)}"),
                world=self,
            )
        for number in range(rng.randint(0, 9)):
            kind = Magazine if rng.random() < 0.3 else Book
            values: dict[str, Any] = {
                "id": f"b{number}",
                "title": f"Title {number}",
                "world": self,
                "shelf_id": f"s{rng.randint(0, 3)}",
                "author_id": self.maybe(f"p{rng.randint(0, 6)}"),
            }
            if kind is Book:
                values.update(
                    genre=rng.choice([Genre.NOVEL, "poetry", Genre.SCIENCE]),
                    condition=self.maybe(rng.choice([Condition.WORN, "fresh"])),
                    price=rng.choice([1, 2.5, 0.0]),
                    pages=self.maybe(rng.randint(0, 2**31 - 1)),
                    printed=self.maybe(datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=number)),
                    tags=rng.choice([["x", "y"], ("t",), []]),
                    notes=self.maybe([self.maybe("n"), "m"]),
                    grid=rng.choice([[[1, 2], [3]], [], [[]]]),
                    extra=self.maybe(rng.choice([{"a": [1, None]}, "text", 5, [1.5]])),
                    available=rng.random() < 0.5,
                )
            else:
                values.update(issue=rng.randint(1, 99), weekly=self.maybe(rng.random() < 0.5))
            self.books[f"b{number}"] = kind(**values)
        for number in range(rng.randint(1, 4)):
            self.shelves[f"s{number}"] = Shelf(
                id=f"s{number}",
                label=self.maybe(f"Shelf {number}"),
                floor=rng.choice([Floor.CELLAR, Floor.GROUND, Floor.FIRST, 0]),
                world=self,
            )
        for fault in self.faults:
            self._spoil(fault)

    def maybe(self, value: Any) -> Any:
        return None if self.rng.random() < 0.25 else value

    def _spoil(self, fault: Fault) -> None:
        """Make a plain attribute null, or absent, which raises when it is read."""
        type_name, name = fault.field.split(".")
        kept: list[Any] = [*self.people.values(), *self.books.values(), *self.shelves.values()]
        if name == "id":
            return  # what the data itself is found by
        for one in kept:
            kind = type(one).__name__.removesuffix("Row")
            stored = getattr(one, "__slots__", None) or vars(one)
            if kind == type_name and name in stored and fault.of in {None, one.id}:
                if fault.raises:
                    object.__delattr__(one, name)
                else:
                    setattr(one, name, None)

    def gate(self, name: str, of: str | None = None) -> bool:
        """Raise where a fault says so; whether the field is to be null."""
        for fault in self.faults:
            if fault.field == name and fault.of in {None, of}:
                if fault.raises:
                    raise BoomError(f"{name} of {of}")
                return True
        return False

    async def load_people(self, keys: list[str]) -> Sequence[Any]:
        self.batches.append(("people", len(keys)))
        return [self.people.get(key) for key in keys]

    async def load_books(self, keys: list[str]) -> Sequence[Any]:
        self.batches.append(("books", len(keys)))
        return [self.books.get(key) for key in keys]
