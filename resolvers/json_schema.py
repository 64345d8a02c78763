"""JSON Schema: what is wrong with a value."""

from typing import Any

MESSAGE_LENGTH = 500


def violation(value: Any, schema: dict[str, Any]) -> str | None:
    """What is wrong with a value, in words; None when the schema allows it.

    A schema that is none allows nothing. References to other documents are not followed, and
    patterns run on an engine that does not backtrack.
    """
    import jsonschema_rs

    try:
        jsonschema_rs.validator_for(
            schema, pattern_options=jsonschema_rs.RegexOptions(), offline=True
        ).validate(value)
    except (ValueError, jsonschema_rs.ValidationError) as error:
        return str(getattr(error, "message", error))[:MESSAGE_LENGTH]
    return None
