"""``docs/performance.md``: written from the last results of every part, never by hand."""

import importlib.metadata
import json
import os
import platform
import re
import sqlite3
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "docs" / "performance.md"
PACKAGES = ("strawberry-graphql", "graphql-core", "sqlalchemy", "uvicorn", "uvloop", "orjson")
INTRODUCTION = """\
# Performance

Written by `make bench` ([how](../benchmarks/README.md)); do not edit. Times of one machine say
little about another: what carries over are ratios, and those vary by a fifth from run to run.
"""


TARGETS = """\
## What is aimed at

From the last run of each part; its date stands below its table.
"""


def at_least(what: str, found: float, aim: float, unit: str = "") -> list[str]:
    """A target that is met by this much or more."""
    return _target(what, f"≥ {aim:g}{unit}", f"{found:.2f}{unit}", met=found >= aim)


def at_most(what: str, found: float, aim: float, unit: str = "") -> list[str]:
    """A target that is met by this much or less."""
    return _target(what, f"≤ {aim:g}{unit}", f"{found:.2f}{unit}", met=found <= aim)


def _target(what: str, aim: str, found: str, *, met: bool) -> list[str]:
    return [what, aim, found, "met" if met else "**missed**"]


@dataclass(frozen=True, slots=True)
class Section:
    """What one part of the benchmarks found: a table, and what has to be known to read it.

    ``targets`` are made by ``at_least`` and ``at_most``.
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    targets: list[list[str]] = field(default_factory=list)

    def text(self) -> str:
        """The section as aligned text, for a terminal."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.head))]
        shown = [
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in lines
        ]
        aims = [f"{what}: {aim}, found {found}: {how}" for what, aim, found, how in self.targets]
        return "\n".join([f"== {self.title}", *shown, *self.notes, *aims])

    def markdown(self) -> str:
        """The section of the page."""
        return "\n\n".join([f"## {self.title}", _table(self.head, self.rows), *self.notes])


def _table(head: list[str], rows: list[list[str]]) -> str:
    ruler = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ruler, *rows))


def keep(part: str, section: Section, *, order: list[str]) -> None:
    """Keep the result of a part in place of its last one, and write the page anew."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[part] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "versions": versions(),
        "section": asdict(section),
    }
    known = {name: results[name] for name in order if name in results}
    RESULTS.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(_page(known))


def _page(results: dict[str, Any]) -> str:
    parts = [INTRODUCTION.rstrip()]
    told: dict[str, str] = {}
    sections = {part: Section(**result["section"]) for part, result in results.items()}
    targets = [[part, *one] for part, section in sections.items() for one in section.targets]
    if targets:
        head = ["part", "what", "aim", "found", ""]
        parts += [TARGETS.rstrip(), _table(head, targets)]
    for part, result in results.items():
        parts.append(sections[part].markdown())
        where = f"{result['machine']}; {result['versions']}"
        first = told.setdefault(where, part)
        parts.append(f"{result['date']}, " + (where if first == part else f"as {first}") + ".")
    return "\n\n".join(parts) + "\n"


def machine() -> str:
    """What kind of machine this is, without its name."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    model = found[1] if found else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, {memory:.0f} GiB, {platform.system()}"


def versions() -> str:
    """What took part."""
    ours = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    python = f"Python {platform.python_version()}"
    return ", ".join([python, f"SQLite {sqlite3.sqlite_version}", *ours, *_node()])


def _node() -> list[str]:
    try:
        run = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    manifest = json.loads((Path(__file__).with_name("peers") / "package.json").read_text())
    pinned = manifest["dependencies"] | manifest["overrides"]
    return [f"Node {run.stdout.strip()[1:]}", *(f"{name} {v}" for name, v in pinned.items())]
