"""Random documents over the board's own schema, on two servers with equal data.

One compiles, the other leaves everything to graphql-core. Queries and streams must have the same
bytes from both. What mutations make has other ids, moments and secrets on either server; apart from
those, their answers and what they leave in the tables must be equal.
"""

import asyncio
import json
import random
import re
from collections.abc import Mapping
from typing import Any

import orjson
from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    get_named_type,
    is_abstract_type,
    parse,
    validate,
)

from tests.compiler.fuzz_documents import Document, DocumentWriter
from tests.compiler.fuzz_tally import Tally
from tests.support.calls import CALLS, field_of
from tests.support.inside import Answer
from tests.support.schema_documents import core_schema, root_field
from tests.support.tenants import Tenant

NEVER = frozenset({
    "after", "before", "id", "slug", "number", "userId", "agentId", "entityId", "workspaceId",
    "taskId", "workingDirectory",
})  # fmt: skip
"""Arguments that are refused unless they lead somewhere: only given ones are sent."""
LASTS = frozenset(
    f"Mutation.{name}"
    for name in ("deleteWorkspace", "archiveWorkspace", "setWorkspaceStatus", "logOut")
)
"""Mutations after which little else is possible."""
ROLES = ("owner",) * 37 + ("viewer", "developer", "manager")
BY_TIME = "queue_statistic"
"""A table with rows for periods of time, which do not begin between two requests to please us."""
ITEMS, QUIET = 4, 0.4


class BoardWriter(DocumentWriter):
    """Writes documents that ask for what there is.

    Args:
        rng: decides everything.
        texts: words and ids of the data.
        given: arguments of root fields by their calls' names.
    """

    def __init__(
        self, rng: random.Random, texts: list[str], given: Mapping[str, Mapping[str, Any]]
    ) -> None:
        super().__init__(core_schema(), rng, texts)
        self.given = {field_of(call): arguments for call, arguments in given.items()}
        self.apart = 0

    def of(self, kind: str) -> Document:
        """A document of a kind (``query`` …) with every field that something is given for."""
        self.features |= {kind} & {"mutation"}
        depth = self.rng.choice([3, 4, 5, 6])
        parts = [self.root(name, depth) for name in self.given]
        if kind != "subscription" and self.chance(0.15):
            parts.append("__typename")
        definitions = f"({', '.join(self.definitions)})" if self.definitions else ""
        text = "\n".join([f"{kind} {definitions} {{ {' '.join(parts)} }}", *self.fragments])
        return Document(text, self.variables, self.features)

    def root(self, name: str, depth: int) -> str:
        """A root field, sometimes in a fragment."""
        type_name, _, field_name = name.partition(".")
        definition = root_field(name)
        if type_name == "Subscription":  # one field, without conditions
            head = field_name + self.arguments(type_name, field_name, definition)
            return f"{head} {self.selection(get_named_type(definition.type), depth - 1)}"
        parts = self.field(type_name, field_name, definition, depth)
        if self.chance(0.8):
            return " ".join(parts)
        self.features.add("inline fragment")
        return f"... on {type_name}{self.directives()} {{ {' '.join(parts)} }}"

    def selection(self, type_: Any, depth: int, *, is_root: bool = False) -> str:
        """Members of an abstract type have fields of one name and different types."""
        self.apart += is_abstract_type(type_)
        chosen = super().selection(type_, depth, is_root=is_root)
        self.apart -= is_abstract_type(type_)
        return chosen

    def alias(self, parent: str, name: str) -> str:
        """Below an abstract type each field has one of its own."""
        if not self.apart:
            return super().alias(parent, name)
        self.aliases += 1
        return f"{name}{self.aliases}: "

    def arguments(self, parent: str, name: str, definition: GraphQLField) -> str:
        """What is given, and some of what may be chosen."""
        given = self.given.get(f"{parent}.{name}", {})
        chosen = {
            argument
            for argument, one in definition.args.items()
            if argument not in NEVER and self.chance(0.4)
        }
        if {"first", "last"} <= chosen:
            chosen.remove("last")
        parts = [
            f"{argument}: {self.placed(one.type, given[argument])}"
            if argument in given
            else f"{argument}: {self.argument(one.type)}"
            for argument, one in definition.args.items()
            if argument in given or (argument in chosen and parent != "Mutation")
        ]
        return f"({', '.join(parts)})" if parts else ""

    def argument(self, type_: Any) -> str:
        """Lists are variables more often: there are few of them."""
        nullable = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
        if isinstance(nullable, GraphQLList) and self.chance(0.7):
            return self.variable(type_)
        return super().argument(type_)

    def placed(self, type_: Any, value: Any) -> str:
        """A value as a variable, or written down with variables in it."""
        named = get_named_type(type_)
        if isinstance(named, GraphQLInputObjectType):
            self.features.add("input object")
        if self.chance(0.5):
            return self.variable(type_, value)
        return self.spelled(type_, value)

    def spelled(self, type_: Any, value: Any) -> str:
        """A literal."""
        nullable = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
        if value is None:
            return "null"
        if isinstance(nullable, GraphQLList):
            return f"[{', '.join(self.spelled(nullable.of_type, one) for one in value)}]"
        if isinstance(nullable, GraphQLEnumType):
            return str(value)
        if isinstance(nullable, GraphQLInputObjectType):
            parts = (
                f"{name}: {self.placed(nullable.fields[name].type, one)}"
                for name, one in value.items()
            )
            return "{" + ", ".join(parts) + "}"
        return self._printed(value)

    def scalar(self, name: str) -> Any:
        """Sizes and numbers that are accepted."""
        return self.rng.choice((1, 2, 5)) if name == "Int" else super().scalar(name)


class BoardFuzzer:
    """Compares the twins on documents made from one seed."""

    def __init__(self, twins: tuple[Tenant, Tenant, list[str]], seed: int) -> None:
        self.compiling, self.reference, self.told = twins
        self.rng = random.Random(seed)  # noqa: S311  # repeatable, not secret
        self.tally = Tally()
        ids = [self.compiling.ids[kind] for kind in ("workspace", "task", "story", "agent")]
        self.texts = [*ids, self.compiling.marker, "task", "label"]
        self.same: dict[str, str] = {}

    async def run(self, documents: int) -> Tally:
        """Queries and streams, then mutations: after those, the servers' data have other ids."""
        for number in range(documents):
            await (self.stream() if number % 6 == 0 else self.query())
        calls = [call for call in CALLS if call.startswith("Mutation.") and call not in LASTS]
        self.rng.shuffle(calls)
        for call in (calls * documents)[: documents // 5]:
            await self.mutation(call)
        for tenant in (self.compiling, self.reference):
            assert tenant.inside.internal_errors == []
        return self.tally

    def role(self) -> str:
        return self.rng.choice(ROLES)

    def noted(self, document: Document) -> bool:
        """Count a document; whether it is valid."""
        self.tally.documents += 1
        self.tally.features.update(document.features)
        if validate(core_schema(), parse(document.text)):
            self.tally.reasons["invalid"] += 1
            return False
        return True

    def judged(self, answer: dict[str, Any]) -> None:
        """Count how a valid document was answered."""
        self.tally.valid += 1
        self.tally.compiled += set(self.told) == {"answered"}
        self.tally.with_errors += "errors" in answer
        self.tally.reasons.update(how for how in self.told if how != "answered")
        self.tally.messages.update(error["message"][:60] for error in answer.get("errors", ()))

    async def query(self) -> None:
        """The same bytes, by Strawberry's view and by the short way."""
        names = [call for call in CALLS if call.startswith("Query.")]
        names += ["Query.node"] * 2 + ["Query.task"] * 4  # tasks are read with what they lead to
        chosen = {field_of(call): call for call in self.rng.choices(names, k=2)}
        calls = list(chosen.values())[: self.rng.randint(1, 2)]
        given = {call: await CALLS[call](self.compiling) for call in calls}
        if "Query.node" in given:
            kind = self.rng.choice(["workspace", "story", "run finished", "agent", "user viewer"])
            given["Query.node"] = {"id": self.compiling.ids[kind]}
        writer = BoardWriter(self.rng, self.texts, given)
        document = writer.of("query")
        if self.rng.random() < 0.01:
            writer.spoil()
        is_valid, role = self.noted(document), self.role()
        wanted = await self.ask(self.reference, document, role)
        self.told.clear()
        for _ in range(2):
            got = await self.ask(self.compiling, document, role)
            self.equal(document, role, wanted, got)
        if is_valid:
            self.judged(orjson.loads(wanted))

    async def stream(self) -> None:
        """The same items in the same order."""
        calls = [call for call in CALLS if call.startswith("Subscription.")]
        call = self.rng.choice(calls)
        given = {call: await CALLS[call](self.compiling)}
        document = BoardWriter(self.rng, self.texts, given).of("subscription")
        if not self.noted(document):
            return
        role = self.role()
        wanted, got = await asyncio.gather(
            *(
                tenant.inside.stream(
                    document.text,
                    document.variables,
                    token=tenant.tokens[role],
                    items=ITEMS,
                    quiet_after=QUIET,
                )
                for tenant in (self.reference, self.compiling)
            )
        )
        self.equal(document, role, json.dumps(wanted), json.dumps(got))

    async def mutation(self, call: str) -> None:
        """Equal but for what is made anew."""
        seed, role = self.rng.random(), self.role()
        answers = []
        for tenant in (self.compiling, self.reference):
            given = {call: await CALLS[call](tenant)}
            rng = random.Random(seed)  # noqa: S311  # the same for both
            document = BoardWriter(rng, self.texts, given).of("mutation")
            self.told.clear()
            answers.append(orjson.loads(await self.ask(tenant, document, role)))
            if tenant is self.compiling:
                is_valid = self.noted(document)
                if is_valid:
                    self.judged(answers[0])
        if difference := self.difference(*answers):
            raise AssertionError(f"{difference}\n{document.text}\n{document.variables}")
        here, there = [
            await tenant.inside.fingerprint(BY_TIME) for tenant in (self.compiling, self.reference)
        ]
        assert here == there, document.text

    async def ask(self, tenant: Tenant, document: Document, role: str) -> bytes:
        """The body of an answer, as the first server would say it."""
        answer: Answer = await tenant.inside.post(
            document.text, document.variables, token=tenant.tokens[role]
        )
        here, there = (str(one.repository.parent) for one in (tenant, self.compiling))
        return answer.body.replace(here.encode(), there.encode())

    def equal(self, document: Document, role: str, wanted: Any, got: Any) -> None:
        if wanted != got:
            raise AssertionError(
                f"{role}\n{document.text}\n{json.dumps(document.variables, default=str)}\n"
                f"expected {wanted!r}\ngot      {got!r}"
            )

    def difference(self, one: Any, two: Any, path: str = "") -> str:
        """Where two answers differ in more than the names of what is new; "" where they do not."""
        if isinstance(one, dict) and isinstance(two, dict):
            if list(one) != list(two):
                return f"{path}: {list(one)} and {list(two)}"
            parts = (self.difference(one[key], two[key], f"{path}.{key}") for key in one)
        elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
            pairs = enumerate(zip(one, two, strict=True))
            parts = (self.difference(a, b, f"{path}[{i}]") for i, (a, b) in pairs)
        elif (one == two and type(one) is type(two)) or self.means_the_same(one, two):
            return ""
        else:
            return f"{path}: {one!r} and {two!r}"
        return next(filter(None, parts), "")

    def means_the_same(self, one: Any, two: Any) -> bool:
        """Whether two texts differ only in ids and the like, each always in place of the other.

        Or in moments, of which two that follow each other may be one; or two numbers with a
        fraction: spans and points of time.
        """
        if isinstance(one, float) and isinstance(two, float):
            return not one.is_integer() and not two.is_integer()
        if not (isinstance(one, str) and isinstance(two, str)):
            return False
        if MADE.sub("", one) != MADE.sub("", two):
            return False
        pairs = zip(MADE.findall(one), MADE.findall(two), strict=True)
        return all(MOMENT.match(a) or self.same.setdefault(a, b) == b for a, b in pairs)


MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+")
MADE = re.compile(rf"{MOMENT.pattern}|[\w+/=-]{{12,}}")
"""Ids, moments, cursors and secrets."""
