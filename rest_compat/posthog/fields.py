"""Rules of body and query fields that refuse with the codes and words of Django REST Framework.

Used as annotations: ``title: Annotated[str, text(max_length=255)]``. The type documents, the rule
in front of it decides; the error's type is the framework's code, its message its sentence.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_TRUE = {"t", "y", "yes", "true", "on", "1", "T", "Y", "YES", "Yes", "True", "TRUE", "On", "ON"}
_FALSE = {"f", "n", "no", "false", "off", "0", "F", "N", "NO", "No", "False", "FALSE", "Off", "OFF"}
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)


def refusal(code: str, message: str) -> PydanticCustomError:
    """An error with the framework's code and sentence."""
    return PydanticCustomError(code, message.replace("{", "{{").replace("}", "}}"))


@dataclass(frozen=True, slots=True)
class Rule:
    """Decides on a value before its type does; ``documented`` is added to its JSON Schema."""

    check: Callable[[Any], Any]
    null: bool = False
    documented: dict[str, Any] = field(default_factory=dict)

    def __call__(self, value: Any) -> Any:
        """The accepted value."""
        if value is None:
            if self.null:
                return None
            raise refusal("null", "This field may not be null.")
        return self.check(value)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Called by pydantic."""
        return core_schema.no_info_before_validator_function(self, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Called by pydantic."""
        return handler(schema) | self.documented


def text_value(value: Any, *, max_length: int | None = None, blank: bool = True) -> str:
    """A text, trimmed; a number becomes one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise refusal("invalid_input", "Not a valid string.")
    text = str(value).strip()
    if not text and not blank:
        raise refusal("blank", "This field may not be blank.")
    if "\x00" in text:
        raise refusal("invalid_input", "Null characters are not allowed.")
    if max_length is not None and len(text) > max_length:
        raise refusal("max_length", f"Ensure this field has no more than {max_length} characters.")
    return text


def text(*, max_length: int | None = None, blank: bool = True, null: bool = False) -> Rule:
    """A text."""
    documented: dict[str, Any] = {} if max_length is None or null else {"maxLength": max_length}
    return Rule(
        lambda value: text_value(value, max_length=max_length, blank=blank), null, documented
    )


def choice(*words: str, null: bool = False) -> Rule:
    """One of a few words."""

    def check(value: Any) -> str:
        if isinstance(value, str) and value in words:
            return value
        shown = value if isinstance(value, str | int | float) else type(value).__name__
        raise refusal("invalid_choice", f'"{shown}" is not a valid choice.')

    return Rule(check, null, {} if null else {"enum": list(words)})


def boolean(*, null: bool = False) -> Rule:
    """True or false, in any of the framework's spellings."""
    return Rule(_boolean, null)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in {0, 1}:
        return bool(value)
    if isinstance(value, str) and value in _TRUE | _FALSE:
        return value in _TRUE
    raise refusal("invalid_input", "Must be a valid boolean.")


def uuid(*, null: bool = False) -> Rule:
    """A UUID."""
    return Rule(uuid_value, null, {} if null else {"format": "uuid"})


def uuid_value(value: Any) -> str:
    """A UUID in its canonical spelling."""
    if isinstance(value, str) and _UUID.fullmatch(value):
        digits = value.replace("-", "").lower()
        parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
        return "-".join(parts)
    raise refusal("invalid_input", "Must be a valid UUID.")


def integer(*, minimum: int | None = None, maximum: int | None = None, null: bool = False) -> Rule:
    """A whole number, also as text."""

    def check(value: Any) -> int:
        whole = _whole(value)
        if minimum is not None and whole < minimum:
            raise refusal("min_value", f"Ensure this value is greater than or equal to {minimum}.")
        if maximum is not None and whole > maximum:
            raise refusal("max_value", f"Ensure this value is less than or equal to {maximum}.")
        return whole

    bounds = (("minimum", minimum), ("maximum", maximum))
    return Rule(check, null, {k: v for k, v in bounds if v is not None and not null})


def _whole(value: Any) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise refusal("invalid_input", "A valid integer is required.")
    return value


def json_object(*, null: bool = False) -> Rule:
    """A JSON object with any keys."""
    return Rule(_object, null)


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise refusal(
        "not_a_dict", f'Expected a dictionary of items but got type "{type(value).__name__}".'
    )


def moment() -> Rule:
    """A moment as text; without a time zone it is UTC."""
    return Rule(_moment)


def _moment(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise refusal(
            "invalid_input",
            "Datetime has wrong format. Use one of these formats instead: "
            "YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z].",
        ) from None


def items(*, empty_code: str | None = None, maximum: int = 1_000, null: bool = False) -> Rule:
    """A list; ``empty_code`` is the code of the refusal of an empty one, None allows it."""

    def check(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise refusal(
                "not_a_list", f'Expected a list of items but got type "{type(value).__name__}".'
            )
        if not value and empty_code is not None:
            raise refusal(empty_code, "This list may not be empty.")
        if len(value) > maximum:
            raise refusal("max_length", f"Ensure this field has no more than {maximum} elements.")
        return value

    return Rule(check, null)
