"""Covers secrets in whatever is about to be logged, by the name of a field and by shape."""

import re
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any

COVERED = "[redacted]"
MAX_TEXT = 16_384
_MAX_DEPTH = 6
_MAX_ITEMS = 200
_SECRET_NAMES = re.compile(
    r"passw(or)?d|passphrase|secret|token|authori[sz]ation|cookie|credential"
    r"|api[_-]?key|private[_-]?key|dsn|database_url|broadcast_url",
    re.IGNORECASE,
)
_NAMES_OF_IDS = re.compile(r"_(id|ids|count)$", re.IGNORECASE)
# What only looks like a secret by its name: counts and flags say nothing.
_HARMLESS_TYPES = (bool, int, float, type(None))
# Repetitions are bounded: a long text of someone's choice must not hold up the loop.
_SHAPES = (
    # our keys and those of the dialects; the prefix tells the reader which kind it was
    (re.compile(r"\b(dgm|tb|phx|pha)_[A-Za-z0-9_\-]{8,}"), rf"\1_{COVERED}"),
    # JSON Web Token
    (re.compile(r"\beyJ[A-Za-z0-9_-]{4,2048}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), COVERED),
    (
        re.compile(r"\b(Bearer|Basic|Token)\s+[A-Za-z0-9+/_=.~-]{6,}", re.IGNORECASE),
        rf"\1 {COVERED}",
    ),
    # scheme://user:password@host
    (
        re.compile(r"(\b[a-z][a-z0-9+.-]{0,30}://[^\s:/@]{0,256}):[^\s/@]{1,512}@", re.IGNORECASE),
        rf"\1:{COVERED}@",
    ),
    # password=…, "api_key": "…" inside a longer text
    (
        re.compile(
            r"([\"']?(?:password|passwd|secret|token|api[_-]?key|personal_api_key)[\"']?\s*[:=]\s*)"
            r"(\"[^\"\n]*\"|'[^'\n]*'|[^\s,;&}\)\"']+)",
            re.IGNORECASE,
        ),
        rf"\1{COVERED}",
    ),
)

# What every one of the shapes contains: most texts have none of it, and are not looked at again.
_SUSPECT = re.compile(r"_|eyJ|bearer|basic|token|://|passw|secret|api", re.IGNORECASE)
_NAMES_KEPT = 4_096


def redact_text(text: str) -> str:
    """The text with every secret of a known shape covered, cut after ``MAX_TEXT`` characters."""
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}… ({len(text)} characters)"
    if _SUSPECT.search(text) is not None:
        for shape, cover in _SHAPES:
            text = shape.sub(cover, text)
    return text


def redact(value: Any, *, depth: int = 0) -> Any:
    """The value with secrets covered at every level; too deep or too long parts are cut."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, _HARMLESS_TYPES):
        return value
    if depth >= _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        items = list(value.items())[:_MAX_ITEMS]
        return {name: redact_field(str(name), item, depth=depth + 1) for name, item in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth=depth + 1) for item in list(value)[:_MAX_ITEMS]]
    return redact_text(repr(value) if isinstance(value, bytes) else str(value))


def redact_field(name: str, value: Any, *, depth: int = 0) -> Any:
    """The value of a named field: covered whole if the name says that it is a secret."""
    if _is_secret(name) and not isinstance(value, _HARMLESS_TYPES):
        return COVERED if value else value
    return redact(value, depth=depth)


@lru_cache(maxsize=_NAMES_KEPT)
def _is_secret(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None and _NAMES_OF_IDS.search(name) is None


def redact_event(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor: the last one before the line is written."""
    for name, value in event.items():
        if not name.startswith("_"):
            event[name] = redact_field(name, value)
    return event
