"""The project's pages, taken apart for tests: fenced blocks with what is to be done with them.

A comment ``<!-- test: … -->`` in front of a block says how it is tested; its first word is the
kind (see ``KINDS``), then come options. A block without one is checked by its language.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from runner.executors import progress
from server.limits.document import DocumentLimits
from server.settings import Settings
from server.settings_listing import describe

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
KINDS = {
    "story": "GraphQL, executed in order on one server per page",
    "sh": "shell, run as it stands beside that server",
    "serve": "shell that ends in a server: started, awaited, stopped",
    "backup": "shell, run in a folder with a database",
    "restore": "shell, run after the backup",
    "agent": "shell, run in an empty folder",
    "executors": "the value of DRAGOMAN_EXECUTORS",
    "json": "parsed",
    "syntax": "only checked for its syntax; the rest says why",
    "none": "not checked; the rest says why",
}
_BLOCK = re.compile(
    r"(?:^<!-- test: (?P<test>.*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page; ``line`` is where it begins."""

    page: Path
    line: int
    language: str
    text: str
    test: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def kind(self) -> str:
        """The first word of its comment, "" without one."""
        return self.test.partition(" ")[0]

    def options(self, name: str) -> list[str]:
        """The words after each mention of an option."""
        words = self.test.split()
        return [words[i + 1] for i, word in enumerate(words[:-1]) if word == name]

    def has(self, name: str) -> bool:
        """Whether a word stands in the comment."""
        return name in self.test.split()


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text("utf-8")
    return [
        Block(
            page=page,
            line=text.count("\n", 0, match.start()) + 1,
            language=match["language"],
            text=match["text"],
            test=match["test"] or "",
        )
        for match in _BLOCK.finditer(text)
    ]


def links(page: Path) -> list[str]:
    """Targets of all links of a page, outside of blocks."""
    return _LINK.findall(_BLOCK.sub("", page.read_text("utf-8")))


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    found = set()
    for line in _BLOCK.sub("", page.read_text("utf-8")).splitlines():
        if line.startswith("#"):
            title = re.sub(r"[`*]", "", line.lstrip("#").strip().lower())
            found.add(re.sub(r"[^\w\- ]", "", title).replace(" ", "-"))
    return found


# --- tables that are made out of the code ---


def generated() -> dict[tuple[Path, str], str]:
    """Parts of pages by page and name: what stands between their two comments."""
    docs = ROOT / "docs"
    return {
        (docs / "operator.md", "settings"): settings_tables(),
        (docs / "operator.md", "metrics"): metrics_table(),
        (docs / "operator.md", "progress"): progress_table(),
        (docs / "frontend.md", "limits"): limits_table(),
        (docs / "frontend.md", "lifecycle"): lifecycle_table(),
    }


def written(page: Path, name: str) -> str:
    """What a page has between the comments of a part."""
    text = page.read_text("utf-8")
    return text.split(f"<!-- {name}: begin -->\n")[1].split(f"<!-- {name}: end -->")[0]


def write(page: Path, name: str, table: str) -> None:
    """Put a part into its page."""
    text = page.read_text("utf-8")
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, rest = text.split(begin)
    page.write_text(before + begin + table + end + rest.split(end)[1], "utf-8")


def _table(*rows: tuple[str, ...]) -> str:
    head, *body = ("| " + " | ".join(row) + " |\n" for row in rows)
    return f"\n{head}|{'---|' * len(rows[0])}\n{''.join(body)}\n"


def settings_tables() -> str:
    """All settings, a table per group."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for row in describe():
        default = f"`{row.default}`" if row.default else ""
        text = row.description.replace("|", "\\|")
        if "{" in text:
            text = re.sub(r"((?:\{|\[).*(?:\}|\]))", r"`\1`", text)
        groups.setdefault(row.group, []).append((f"`{row.variable}`", default, text))
    tables = []
    for group, rows in groups.items():
        title = group[:1].upper() + group[1:]
        tables.append(f"\n### {title}\n" + _table(("variable", "default", ""), *rows).rstrip("\n"))
    return "\n".join(tables) + "\n\n"


def metrics_table() -> str:
    """Metrics of our own with their labels."""
    from server.metrics import PrometheusMetrics

    metrics = PrometheusMetrics(host="127.0.0.1", port=0)
    rows = []
    for name, collector in sorted(
        (c._name, c) for c in metrics.registry._collector_to_names if hasattr(c, "_name")
    ):
        [family] = collector.describe()
        shown = name + {"counter": "_total"}.get(family.type, "")
        labels = ", ".join(f"`{label}`" for label in collector._labelnames)
        rows.append((f"`{shown}`", family.type, labels, family.documentation))
    return _table(("metric", "kind", "labels", ""), *rows)


def _type(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " ".join(f"`{word}`" for word in get_args(hint))
    if get_args(hint) and type(None) in get_args(hint):
        return _type(get_args(hint)[0])
    return {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}.get(
        hint, "any JSON"
    )


def progress_table() -> str:
    """The common progress events and their members."""
    rows = []
    for event in get_args(progress.ProgressEvent):
        members = []
        for member in fields(event):
            if member.name == "truncated":
                continue
            hint = progress._HINTS[event][member.name]
            kind = "list of `{text, status}`" if member.name == "items" else _type(hint)
            needed = member.default is inspect.Parameter.empty or not _has_default(member)
            name = f"**{member.name}**" if needed else f"*{member.name}*"
            members.append(f"{name}: {kind}")
        rows.append(
            (
                f"`{event.type}`",
                "; ".join(members),
                (event.__doc__ or "").split("\n")[0].replace("``", "`"),
            )
        )
    return _table(("`type`", "members", ""), *rows)


def _has_default(member: Any) -> bool:
    from dataclasses import MISSING

    return member.default is not MISSING


_SETTING_OF_LIMIT = {
    "document_bytes": "max_document_bytes",
    "tokens": "max_document_tokens",
    "depth": "max_depth",
    "aliases": "max_aliases",
    "directives_total": "max_directives",
}


def limits_table() -> str:
    """Limits of requests with their defaults and, where there is one, their setting."""
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    words = {
        "document_bytes": "length of a document, bytes",
        "tokens": "tokens of a document",
        "depth": "nesting of fields",
        "introspection_depth": "nesting below `__schema` and `__type`",
        "aliases": "aliases in an operation",
        "fields": "fields of an operation, fragments unfolded",
        "directives_per_location": "directives at one place",
        "directives_total": "directives in a document",
        "mutation_root_fields": "mutations in one operation",
    }
    rows = [("body of a request, bytes", defaults["max_body_bytes"], "max_body_bytes")]
    for name, text in words.items():
        setting = _SETTING_OF_LIMIT.get(name, "")
        value = defaults[setting] if setting else getattr(DocumentLimits(), name)
        rows.append((text, value, setting))
    for text, setting in (
        ("cost of an operation", "max_cost"),
        ("items of a page", "max_page_size"),
        ("queries and mutations of one caller at once", "max_concurrent_operations"),
        ("operations at once in one WebSocket", "max_subscriptions"),
        ("WebSockets and event streams of one caller at once", "max_streams"),
    ):
        rows.append((text, defaults[setting], setting))
    return _table(
        ("at most", "", "setting"),
        *(
            (text, f"{value:,}", f"`DRAGOMAN_{setting.upper()}`" if setting else "fixed")
            for text, value, setting in rows
        ),
    )


def lifecycle_table() -> str:
    """From where each strict operation is allowed, and where it leads."""
    from models.enums import TaskStatus
    from models.lifecycle import TRANSITIONS

    order = list(TaskStatus)
    mutations = {"start": "(a run begins)", "submit": "(a run ends well)", "fail": "(a run fails)"}
    rows = []
    for row in TRANSITIONS.values():
        name = mutations.get(row.operation, f"`{row.operation}Task`")
        origins = ", ".join(s for s in order if s in row.allowed_from)
        rows.append((name, origins, row.to or "where it was paused", f"`{row.event}`"))
    return _table(("operation", "from", "to", "event"), *rows)


def stale() -> Iterator[str]:
    """Names of parts that differ from the code."""
    for (page, name), table in generated().items():
        if written(page, name) != table:
            yield f"{page.relative_to(ROOT)}: {name}"


if __name__ == "__main__":
    for (page, name), table in generated().items():
        write(page, name, table)
    sys.stdout.write("The tables in docs/ are as the code says.\n")
