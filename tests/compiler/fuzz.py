"""Compiled answers against graphql-core's, byte for byte, on random documents and data.

python tests/compiler/fuzz.py --hours 2
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import orjson
from graphql import GraphQLError
from strawberry.extensions import SchemaExtension

from compiler import CompiledExecutor, Options, Outcome, SimpleGuard
from compiler.plan import Plan
from tests.compiler.board_fuzz import BoardFuzzer
from tests.compiler.board_twins import open_twins
from tests.compiler.fuzz_documents import Document, DocumentWriter
from tests.compiler.fuzz_schema import build_schema
from tests.compiler.fuzz_tally import Tally
from tests.compiler.fuzz_world import Fault, World

TEXTS = ["p0", "p1", "b0", "b1", "s0", "s1", "Title", "x"]


class MismatchError(AssertionError):
    """The two executors disagree."""


class Remembering(SchemaExtension):
    """Has each document parsed and validated only once, which takes most of the time."""

    def __init__(self, guard: SimpleGuard) -> None:
        super().__init__()
        self.guard = guard

    def on_parse(self) -> Iterator[None]:
        with contextlib.suppress(GraphQLError):
            text = self.execution_context.query or ""
            self.execution_context.graphql_document = self.guard.parse(text).document
        yield

    def on_validate(self) -> Iterator[None]:
        checked = self.guard.parse(self.execution_context.query or "")
        self.execution_context.pre_execution_errors = list(self.guard.validate(checked))
        yield


class Fuzzer:
    """Compares the executors on documents made from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311  # repeatable, not secret
        self.schema = build_schema(extensions=[lambda: Remembering(self.guard)])
        self.guard = SimpleGuard(self.schema)
        options = Options(compile_at_sighting=1, bails_before_rest=10**6, hooks_run_elsewhere=True)
        self.compiled: CompiledExecutor = self.schema.compile_documents(options)
        self.compiled.guard = self.guard
        self.tally = Tally()

    def document(self) -> Document:
        return DocumentWriter(self.schema._schema, self.rng, TEXTS).write()

    async def round(self, *, faults: bool) -> None:
        """One document on one set of data; with `faults`, also once per fault it can meet."""
        document = self.document()
        self.tally.documents += 1
        self.tally.features.update(document.features)
        seed = self.rng.randrange(10**9)
        if self.guard.validate(self.guard.parse(document.text)):
            self.tally.reasons["invalid"] += 1
            await self.compare(document, seed)
            return
        self.tally.valid += 1
        expected, outcome = await self.compare(document, seed)
        self.tally.compiled += outcome.is_answer and not outcome.detail
        self.tally.with_errors += "errors" in expected
        self.tally.messages.update(one["message"][:60] for one in expected.get("errors", ()))
        if not outcome.is_answer:
            self.tally.reasons[f"{outcome.fallback}: {outcome.detail[:40]}"] += 1
        if faults and outcome.is_answer:
            await self.with_faults(document, seed)

    async def compare(
        self, document: Document, seed: int, *ordered: Fault
    ) -> tuple[dict[str, Any], Outcome]:
        """Raises MismatchError where the answers or the effects differ."""
        allowed = seed % 61 != 0
        there = World(seed, ordered, allowed=allowed)
        self.schema.compiled = None
        expected = await self.schema.execute(
            document.text, _copy(document.variables), context_value=there
        )
        self.schema.compiled = self.compiled
        expected_bytes = _bytes(expected)
        is_mutation = "mutation" in document.features
        # The outcome alone, as a server without Strawberry's lifecycle would use it.
        here = World(seed, ordered, allowed=allowed)
        outcome = await self.compiled.execute(
            document.text, variables=_copy(document.variables), context=here
        )
        if outcome.is_answer:
            self.equal(document, seed, ordered, expected_bytes, _bytes(outcome))
            self.equal(document, seed, ordered, there.effects, here.effects)
            if not outcome.detail:  # no payload had to be completed again
                self.equal(document, seed, ordered, sorted(there.calls), sorted(here.calls))
            self.fewer_batches(document, there, here)
        else:
            assert not is_mutation or not here.effects, "a mutation ran before the fallback"
        # The same through Strawberry's own lifecycle, with the fallback.
        here = World(seed, ordered, allowed=allowed)
        through = await self.schema.execute(
            document.text, _copy(document.variables), context_value=here
        )
        self.equal(document, seed, ordered, expected_bytes, _bytes(through))
        if is_mutation:
            self.equal(document, seed, ordered, there.effects, here.effects)
        if not is_mutation and expected.errors:
            assert not outcome.is_answer, "an error was lost"
        return orjson.loads(expected_bytes), outcome

    def equal(
        self, document: Document, seed: int, faults: tuple[Fault, ...], one: Any, two: Any
    ) -> None:
        if one != two:
            raise MismatchError(
                f"seed {seed}, faults {faults}\n{document.text}\n"
                f"{json.dumps(document.variables)}\nexpected {one!r}\ngot      {two!r}"
            )

    def fewer_batches(self, document: Document, there: World, here: World) -> None:
        """Batches are never split: each loader is asked at most as often as by graphql-core."""
        for name in ("people", "books"):
            before = sum(one == name for one, _ in there.batches)
            after = sum(one == name for one, _ in here.batches)
            assert after <= before, f"{name}: {before} batches became {after}\n{document.text}"

    async def with_faults(self, document: Document, seed: int) -> None:
        """Each field of the plan nulled once and raising once, for all objects or for one."""
        compiled = self.compiled.prepare(
            self.guard.parse(document.text).document,
            operation_name=None,
            variables=document.variables,
        )
        for name in fields_of(compiled.plan):
            for raises in (True, False):
                of = self.rng.choice(TEXTS[:6]) if self.rng.random() < 0.4 else None
                expected, _ = await self.compare(document, seed, Fault(name, of, raises))
                self.tally.faults += 1
                self.tally.faults_that_showed += "errors" in expected

    async def run(self, documents: int, *, faults_every: int = 5) -> Tally:
        for number in range(documents):
            await self.round(faults=number % faults_every == 0)
        return self.tally


def fields_of(plan: Plan) -> list[str]:
    """Type and Python name of each field of a plan."""
    found = {
        f"{part.facts.parent_type.name}.{part.call.strawberry.python_name}"
        for part in plan.fields
        if part.facts is not None and part.call is not None and part.call.strawberry is not None
    }
    return sorted(found)


def _copy(variables: dict[str, Any]) -> Any:
    return orjson.loads(orjson.dumps(variables))


def _bytes(result: Any) -> bytes:
    """The answer with its errors by place: their order is a matter of what was loaded already."""
    errors = sorted(result.errors or (), key=lambda one: (str(one.path), one.message))
    return Outcome(data=result.data, errors=errors).body()


async def _hours(hours: float, seed: int) -> None:
    end = time.monotonic() + hours * 3600
    while time.monotonic() < end:
        fuzzer = Fuzzer(seed)
        tally = await fuzzer.run(1_000)
        tally.check()
        print(f"seed {seed}: {tally.report()}", flush=True)  # noqa: T201  # a command line speaks
        with tempfile.TemporaryDirectory() as folder:
            async with open_twins(Path(folder)) as twins:
                tally = await BoardFuzzer(twins, seed).run(600)
        tally.check()
        print(f"board, seed {seed}: {tally.report()}", flush=True)  # noqa: T201  # as above
        seed += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    logging_off()
    sys.unraisablehook = _tell_unraisable
    asyncio.run(_hours(arguments.hours, arguments.seed))


def _tell_unraisable(report: Any) -> None:
    """Report what is collected with an error, but for a coroutine that cannot even be warned of.

    Where one is collected in a function without builtins (a named tuple's), Python fails to import
    the warning that :func:`logging_off` ignores.
    """
    if not (asyncio.iscoroutine(report.object) and isinstance(report.exc_value, KeyError)):
        sys.__unraisablehook__(report)


def logging_off() -> None:
    """Strawberry logs each error with its traceback; graphql-core leaves coroutines behind."""
    import logging
    import warnings

    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    logging.getLogger("strawberry.execution").setLevel(logging.CRITICAL + 1)


if __name__ == "__main__":
    main()
