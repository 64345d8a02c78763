"""The executor: finds or makes a plan, runs it, and says when graphql-core has to answer."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import DocumentNode, GraphQLError, OperationType
from strawberry import Schema
from strawberry.extensions import SchemaExtension

from compiler.cache import LeastRecentlyUsed, Standing
from compiler.codegen import Code, generate
from compiler.coercion import variables_coercer
from compiler.extensions import obstacle
from compiler.guard import Guard, SimpleGuard
from compiler.info import Run
from compiler.mutations import run_mutation
from compiler.outcome import Outcome, Reason
from compiler.plan import Plan, Planner, Survey, survey
from compiler.shadow import Shadow
from compiler.values import Bail
from compiler.waves import dispose, drive


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much is compiled and remembered.

    Attributes:
        compile_at_sighting: which sighting of a document compiles it; the ones before are left to
            the reference executor, so that one-off documents cost nothing.
        max_variants: for how many combinations of its conditions one operation is compiled.
        max_fields: fields that one plan may have, counted for each concrete type.
        max_fields_kept: fields of all plans together (about 2 kB each); older plans are forgotten.
        max_document: characters that a document may have.
        max_documents_kept: characters of all documents remembered.
        bails_before_rest: after how many bails in a row a plan rests.
        rest: for how many seconds.
        pass_through: exceptions of resolvers that end a query at once, to be raised to the caller
            instead of running the query again: what has taken too long would only take as long
            again.
        compatible: extensions that a compiled execution need not know of (see
            `compiler.extensions`).
        hooks_run_elsewhere: Strawberry runs the hooks of operations (see `compiler.front`).
        observe: told of each execution: "answered", or the reason of a fallback.
        shadow: has a share of the queries run on graphql-core as well, and compares.
    """

    compile_at_sighting: int = 2
    max_variants: int = 32
    max_fields: int = 2_000
    max_fields_kept: int = 20_000
    max_document: int = 32_768
    max_documents_kept: int = 2_000_000
    bails_before_rest: int = 5
    rest: float = 60.0
    pass_through: tuple[type[Exception], ...] = (TimeoutError,)
    compatible: frozenset[type[SchemaExtension]] = frozenset()
    hooks_run_elsewhere: bool = False
    observe: Callable[[str], None] | None = None
    shadow: Shadow | None = None


class _Known:
    """What is known of one operation of one document."""

    __slots__ = ("coerce", "refusal", "sightings", "survey", "variants")

    def __init__(self) -> None:
        self.sightings = 0
        self.survey: Survey | None = None
        self.coerce: Any = None
        self.refusal = ""
        self.variants: set[Any] = set()


class Compiled:
    """A plan with its code."""

    __slots__ = ("code", "coerce", "is_mutation", "plan", "standing")

    def __init__(self, plan: Plan, code: Code, coerce: Any, bails: int) -> None:
        self.plan = plan
        self.code = code
        self.coerce = coerce
        self.is_mutation = plan.operation.operation is OperationType.MUTATION
        self.standing = Standing(bails)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A plan that cannot be made."""

    detail: str


class CompiledExecutor:
    """Executes documents over a Strawberry schema by compiling them.

    One per schema and event loop thread. `obstacle` says why nothing is compiled, where something
    stands against it; `counts` counts answers (under "answered") and fallbacks by reason.

    Args:
        schema: whose resolvers are called.
        guard: parses and validates documents given as text.
        options: bounds and declarations.
    """

    def __init__(
        self, schema: Schema, *, guard: Guard | None = None, options: Options | None = None
    ) -> None:
        self.schema = schema
        self.options = options or Options()
        self.guard: Guard = guard or SimpleGuard(schema)
        self.counts: Counter[str] = Counter()
        self.obstacle = obstacle(
            schema,
            compatible=self.options.compatible,
            hooks_run_elsewhere=self.options.hooks_run_elsewhere,
        )
        self._shadow = self.options.shadow
        self._planner = Planner(schema, max_fields=self.options.max_fields)
        self._known: LeastRecentlyUsed[tuple[str, str | None], _Known] = LeastRecentlyUsed(
            self.options.max_documents_kept
        )
        self._plans: LeastRecentlyUsed[Any, Compiled | _Refusal] = LeastRecentlyUsed(
            self.options.max_fields_kept
        )

    async def execute(
        self,
        document: DocumentNode | str,
        *,
        operation_name: str | None = None,
        variables: Mapping[str, Any] | None = None,
        context: Any = None,
        root_value: Any = None,
        operation_extensions: dict[str, Any] | None = None,
    ) -> Outcome:
        """Run a query or mutation, or say why the reference executor has to.

        A mutation's resolvers have not been called when this returns a fallback.

        Args:
            document: a text, which is parsed and validated by the guard, or a tree that has been
                parsed (with locations) and validated by the caller.
            operation_name: which operation to run.
            variables: as sent by the client.
            context: for the resolvers.
            root_value: for the resolvers of root fields.
            operation_extensions: see `strawberry.Info.input_extensions`.

        Raises:
            Exception: of `Options.pass_through`; and whatever is no `Exception`, as cancellation.
        """
        given: Mapping[str, Any] = variables or {}
        try:
            tree = self._checked(document, given, context)
            compiled = self.prepare(tree, operation_name=operation_name, variables=given)
        except Fallback as fallback:
            return self._fall_back(fallback.reason, fallback.detail)
        return await self.run(
            compiled,
            tree,
            operation_name=operation_name,
            variables=given,
            context=context,
            root_value=root_value,
            operation_extensions=operation_extensions,
        )

    async def run(
        self,
        compiled: Compiled,
        document: DocumentNode,
        *,
        operation_name: str | None = None,
        variables: Mapping[str, Any] | None = None,
        context: Any = None,
        root_value: Any = None,
        operation_extensions: dict[str, Any] | None = None,
        for_json: bool = False,
    ) -> Outcome:
        """Run a plan that `prepare` or `ready` gave for this document; see `execute`.

        With `for_json` the data is good for `to_json` alone: it may have moments as they are.
        """
        given = variables or {}
        try:
            run = Run(
                self.schema._schema,  # noqa: SLF001  # the only way to it
                compiled.plan,
                compiled.coerce(given),
                context,
                root_value,
                operation_extensions,
                for_json,
            )
            compiled.code.bind(run)
        except Exception as error:  # noqa: BLE001  # no resolver has run; graphql-core says what is wrong
            return self._fall_back(Reason.VARIABLES, str(error))
        if compiled.is_mutation:
            outcome = await run_mutation(
                self.schema, compiled.plan, compiled.code, run, document, given, operation_name
            )
            self._note(compiled, good=outcome.detail == "")
            if outcome.is_answer:
                self._count("answered")
            return outcome
        root = compiled.code.root
        assert root is not None  # noqa: S101  # queries are compiled with one
        try:
            data = root(run, root_value)
            if run.begun or run.late:
                await drive(run)
        except self.options.pass_through:
            raise
        except Exception as error:  # noqa: BLE001  # the reference executor meets it again, and reports it
            dispose(run)
            self._note(compiled, good=False)
            return self._fall_back(Reason.BAILED, f"{type(error).__name__}: {error}")
        compiled.standing.succeed()
        if self._shadow is not None:
            await self._shadow.compare(self.schema, document, run, given, operation_name, data)
        self._count("answered")
        return Outcome(data)

    def prepare(
        self,
        document: DocumentNode,
        *,
        operation_name: str | None,
        variables: Mapping[str, Any],
    ) -> Compiled:
        """The compiled plan of a valid document.

        Raises:
            Fallback: the reference executor has to answer.
        """
        text = self._text(document)
        key = (text, operation_name)
        known = self._known.find(key)
        if known is None:
            known = _Known()
            self._known.put(key, known, weight=len(text) + 100)
        known.sightings += 1
        if known.sightings < self.options.compile_at_sighting:
            raise Fallback(Reason.FIRST_SIGHT)
        found = self._surveyed(known, document, operation_name)
        try:
            flags = found.flags(variables)
        except Bail as bail:
            raise Fallback(Reason.VARIABLES, str(bail)) from None
        compiled = self._plans.find((key, flags))
        if compiled is None:
            known.variants.add(flags)
            if len(known.variants) > self.options.max_variants:
                known.variants.discard(flags)
                raise Fallback(Reason.UNSUPPORTED, "too many variants")
            compiled = self._compile(known, found, flags)
            weight = len(compiled.plan.fields) + 1 if isinstance(compiled, Compiled) else 1
            self._plans.put((key, flags), compiled, weight=weight)
        if isinstance(compiled, _Refusal):
            raise Fallback(Reason.UNSUPPORTED, compiled.detail)
        if compiled.standing.rests:
            raise Fallback(Reason.RESTING)
        return compiled

    def ready(
        self, text: str, *, operation_name: str | None, variables: Mapping[str, Any]
    ) -> Compiled | None:
        """The plan of a valid document if it is there and not resting; nothing is counted."""
        known = self._known.find((text, operation_name))
        if known is None or known.survey is None or self.obstacle is not None:
            return None
        try:
            flags = known.survey.flags(variables)
        except Bail:
            return None
        compiled = self._plans.find(((text, operation_name), flags))
        if not isinstance(compiled, Compiled) or compiled.standing.rests:
            return None
        return compiled

    def _checked(self, document: DocumentNode | str, given: object, context: Any) -> DocumentNode:
        if not isinstance(given, Mapping):
            raise Fallback(Reason.VARIABLES, "variables that are no object")
        if self.obstacle is not None:
            raise Fallback(Reason.DISABLED, self.obstacle)
        if isinstance(document, DocumentNode):
            return document
        try:
            checked = self.guard.parse(document)
        except GraphQLError as error:
            raise Fallback(Reason.INVALID, error.message) from None
        if errors := self.guard.validate(checked, context):
            raise Fallback(Reason.INVALID, errors[0].message)
        return checked.document

    def _text(self, document: DocumentNode) -> str:
        if document.loc is None:
            raise Fallback(Reason.UNSUPPORTED, "a document without its text")
        text = document.loc.source.body
        if len(text) > self.options.max_document:
            raise Fallback(Reason.UNSUPPORTED, "a long document")
        return text

    def _surveyed(self, known: _Known, document: DocumentNode, name: str | None) -> Survey:
        if known.survey is None and not known.refusal:
            try:
                found = survey(document, name)
                known.coerce = variables_coercer(self.schema._schema, found.operation)  # noqa: SLF001  # graphql-core's schema
                known.survey = found
            except Exception as error:  # noqa: BLE001  # whatever stands against it, it stays with graphql-core
                known.refusal = str(error) or type(error).__name__
        if known.survey is None:
            raise Fallback(Reason.UNSUPPORTED, known.refusal)
        return known.survey

    def _compile(self, known: _Known, found: Survey, flags: Any) -> Compiled | _Refusal:
        try:
            if found.operation.operation is OperationType.SUBSCRIPTION:
                return _Refusal("a subscription")
            plan = self._planner.plan(found, flags)
            separate = plan.operation.operation is OperationType.MUTATION
            code = generate(self.schema, plan, separate_roots=separate)
        except Exception as error:  # noqa: BLE001  # whatever stands against it, it stays with graphql-core
            return _Refusal(str(error) or type(error).__name__)
        return Compiled(plan, code, known.coerce, self.options.bails_before_rest)

    def _note(self, compiled: Compiled, *, good: bool) -> None:
        if good:
            compiled.standing.succeed()
        else:
            compiled.standing.bail(time.monotonic(), rest=self.options.rest)

    def _fall_back(self, reason: Reason, detail: str) -> Outcome:
        self._count(reason)
        return Outcome(fallback=reason, detail=detail)

    def _count(self, what: str) -> None:
        self.counts[what] += 1
        if self.options.observe is not None:
            self.options.observe(what)


class Fallback(Exception):  # noqa: N818  # not an error: the reference executor has to answer
    """There is no compiled answer."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
