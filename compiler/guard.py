"""Parsing and validating documents, for callers that do not bring their own way."""

from typing import Any, Protocol

from graphql import DocumentNode, GraphQLError, parse
from graphql.validation import specified_rules
from strawberry import Schema
from strawberry.schema.schema import validate_document

from compiler.cache import LeastRecentlyUsed


class CheckedDocument(Protocol):
    """A parsed document."""

    @property
    def document(self) -> DocumentNode:
        """graphql-core's tree."""


class Guard(Protocol):
    """Says whether a text is a document that may be executed, remembering what it found."""

    def parse(self, text: str) -> CheckedDocument:
        """The parsed document.

        Raises:
            GraphQLError: it cannot be parsed, or not within the limits.
        """

    def validate(self, checked: Any, context: object = None) -> list[GraphQLError]:
        """Every reason to refuse it for a request with this context."""


class _Checked:
    __slots__ = ("document", "errors", "text")

    def __init__(self, text: str, document: DocumentNode) -> None:
        self.text = text
        self.document = document
        self.errors: list[GraphQLError] | None = None


class SimpleGuard:
    """Full validation by the specified rules, remembered for a bounded amount of text.

    Args:
        schema: to validate against.
        max_tokens: how many tokens a document may have.
        max_characters: how many characters of documents are remembered.
    """

    def __init__(
        self, schema: Schema, *, max_tokens: int = 5_000, max_characters: int = 1_000_000
    ) -> None:
        self.schema = schema
        self.max_tokens = max_tokens
        self._known: LeastRecentlyUsed[str, _Checked] = LeastRecentlyUsed(max_characters)

    def parse(self, text: str) -> _Checked:
        """See `Guard`."""
        known = self._known.find(text)
        if known is None:
            known = _Checked(text, parse(text, max_tokens=self.max_tokens))
            self._known.put(text, known, weight=len(text) + 100)
        return known

    def validate(self, checked: _Checked, context: object = None) -> list[GraphQLError]:  # noqa: ARG002  # the same for all
        """See `Guard`."""
        if checked.errors is None:
            checked.errors = validate_document(
                self.schema._schema,  # noqa: SLF001  # the only way to it
                checked.document,
                tuple(specified_rules),
            )
        return checked.errors
