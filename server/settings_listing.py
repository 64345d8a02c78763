"""The settings shown to people: the table of the documentation and what ``doctor`` prints."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from server.settings import PREFIX, Settings, variable_of

# What begins with our prefix and is no setting: the tests' own, and the tag that runs carry.
_TEST_PREFIX = f"{PREFIX}TEST_"
_RUN_TAG = f"{PREFIX}RUN_ID"


@dataclass(frozen=True)
class SettingRow:
    """One setting for people: what it is called, where it is set, what it means."""

    name: str
    variable: str
    group: str
    default: str
    description: str


def describe() -> Iterator[SettingRow]:
    """Every setting in the order of this module, for the documentation and ``doctor``."""
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        group = str(extra["group"]) if isinstance(extra, dict) else ""
        yield SettingRow(
            name=name,
            variable=variable_of(name),
            group=group,
            default=_shown(field.default),
            description=field.description or "",
        )


def shown_values(settings: Settings) -> dict[str, str]:
    """What is in force, by variable, with secrets covered; for ``doctor``."""
    shown = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        secret = name in {"secret_keys", "database_url", "broadcast_url", "executors"}
        is_set = name in settings.model_fields_set and bool(value)
        shown[variable_of(name)] = "(set, not shown)" if secret and is_set else _shown(value)
    return shown


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """One line for each ``DRAGOMAN_…`` variable that no setting reads, with the likely name."""
    known = {variable_of(name) for name in Settings.model_fields}
    lines = []
    for variable in sorted(environment):
        name = variable.upper()
        is_ours = name.startswith(PREFIX) and not name.startswith(_TEST_PREFIX)
        if is_ours and name not in known | {_RUN_TAG}:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            lines.append(f"{variable}: no such setting{hint}")
    return lines


def _shown(value: Any) -> str:
    if value is None or value in ((), {}):
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value() if value == SecretStr("memory://") else "(set, not shown)"
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
