"""All measurements of this machine in turn: ``make bench`` or ``python -m benchmarks``.

Prints every table as it is there, and writes ``docs/performance.md`` from them. Nothing else should
run meanwhile. With ``--quick`` slices are short and nothing is written. See benchmarks/README.md.
"""

import argparse
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from benchmarks import candidates, queries
from benchmarks.report import keep

if TYPE_CHECKING:
    from benchmarks.report import Section

QUERIES = ("w1", "w2", "w3")
MODULES = {
    "w4": "benchmarks.fanout",
    "rest": "benchmarks.rest",
    "compiler": "benchmarks.compiler",
    "startup": "benchmarks.startup",
    "memory": "benchmarks.memory",
    "growth": "benchmarks.growth",
    "noisy": "benchmarks.noisy",
}
"""Parts with a module of their own, whose ``section(quick=…)`` measures."""
ON_BOTH = ("growth",)
"""Modules that measure on PostgreSQL too."""
PARTS = [
    *QUERIES,
    *(f"{name}-postgresql" for name in ("w1", "w2")),
    *MODULES,
    *(f"{name}-postgresql" for name in ON_BOTH),
]


def main() -> None:
    """Run the measurements asked for."""
    chosen = _arguments()
    for part, section in _sections(chosen):
        print(f"{section.text()}\n")
        if not chosen.quick and chosen.peers is None:
            keep(part, section, order=PARTS)


def _arguments() -> Any:
    everyone = sorted({*candidates.SQLITE, *candidates.POSTGRESQL} - {queries.OURS})
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short slices; writes nothing")
    parser.add_argument("--only", type=_words, metavar="PART,…", help=", ".join(PARTS))
    parser.add_argument(
        "--peers", type=_words, metavar="NAME,…", help=f"{', '.join(everyone)}; writes nothing"
    )
    parser.add_argument("--database", choices=("sqlite", "postgresql"), help="only this one")
    parser.add_argument("--prepare", action="store_true", help="install and fill, measure nothing")
    chosen = parser.parse_args()
    chosen.only = chosen.only or [part for part in PARTS if _is_on(part, chosen.database)]
    for word, known in ((chosen.only, PARTS), (chosen.peers or [], everyone)):
        if unknown := set(word) - set(known):
            parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return chosen


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _is_on(part: str, database: str | None) -> bool:
    on_postgresql = part.endswith("-postgresql")
    return database is None or on_postgresql == (database == "postgresql")


def _sections(chosen: Any) -> "Iterator[tuple[str, Section]]":
    if chosen.prepare:
        candidates.prepare_node()
        candidates.our_template()
        candidates.peers_template()
        return
    for database, suffix in (("sqlite", ""), ("postgresql", "-postgresql")):
        workloads = [name for name in QUERIES if f"{name}{suffix}" in chosen.only]
        if not workloads:
            continue
        times = queries.QUICK if chosen.quick else queries.FULL
        found = queries.measure(workloads, database=database, peers=chosen.peers, times=times)
        for workload, section in found.items():
            yield f"{workload}{suffix}", section
    for part, module in MODULES.items():
        if part in chosen.only and importlib.util.find_spec(module) is not None:
            yield part, importlib.import_module(module).section(quick=chosen.quick)
    for part in ON_BOTH:
        if f"{part}-postgresql" in chosen.only:
            module = importlib.import_module(MODULES[part])
            yield f"{part}-postgresql", module.section(quick=chosen.quick, database="postgresql")


if __name__ == "__main__":
    main()
