"""Everything with an id."""

from typing import Any

import strawberry

from compiler import by_class
from models.base import Record


@strawberry.interface(description="Everything that has an id of its own.")
class Node:
    """Relay's Node; a record's class name says which type it is."""

    id: strawberry.ID = strawberry.field(description="A UUID; unique over all kinds of things.")

    @classmethod
    @by_class
    def is_type_of(cls, value: Any, _info: Any) -> bool:
        """Whether a value is of the type this method was called on."""
        if isinstance(value, Record):
            return type(value).__name__ == cls.__name__
        return isinstance(value, cls)
