"""Payloads made once for all subscribers to whom an event looks the same.

What an event looks like depends on the document, on the values of the variables below the
subscription's root field and, where a resolver asks for them, on the viewer. Operations that agree
in these share a `SharedSelection`; where the viewer matters, each has one of its own.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakValueDictionary

from graphql import DocumentNode
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types import ExecutionResult
from strawberry.utils.await_maybe import await_maybe

from compiler.cache import LeastRecentlyUsed, Standing
from compiler.coercion import variables_coercer
from compiler.events import CompiledSelection, SelectionPlan, plan_selection
from compiler.execute import CompiledExecutor, Fallback
from compiler.extensions import middleware_obstacle
from compiler.outcome import Reason, to_json
from compiler.plan import Survey, survey

PAYLOADS_KEPT: Final = 64
MAX_VALUES: Final = 4_096  # bytes of variables that a shared selection may depend on


class Payload:
    """What all subscribers of a selection get for one event. Never change the data."""

    __slots__ = ("_json", "data")

    def __init__(self, data: dict[str, Any] | None) -> None:
        self.data = data
        self._json: bytes | None = None

    @property
    def json(self) -> bytes:
        """The result as JSON, made once."""
        if self._json is None:
            # A copy: what orjson returns may hold far more memory than its text needs.
            self._json = bytes(bytearray(to_json({"data": self.data})))
        return self._json


class SharedSelection:
    """A selection with the payloads made last.

    Args:
        selection: the compiled selection.
        counts: counts payloads that were rendered, or left to graphql-core.
        context: for resolvers, where payloads depend on the viewer and so are not shared.
        operation_extensions: as the context.
    """

    __slots__ = (
        "__weakref__",
        "_context",
        "_counts",
        "_extensions",
        "_made",
        "_rest",
        "_selection",
        "_standing",
        "is_shared",
    )

    def __init__(
        self,
        selection: CompiledSelection,
        counts: Counter[str],
        *,
        bails_before_rest: int,
        rest: float,
        context: Any = None,
        operation_extensions: dict[str, Any] | None = None,
    ) -> None:
        self.is_shared = not selection.depends_on_viewer
        self._selection = selection
        self._counts = counts
        self._context = context
        self._extensions = operation_extensions
        self._standing = Standing(bails_before_rest)
        self._rest = rest
        # By the event's identity; the event is kept, so that no other gets the same.
        self._made: OrderedDict[int, tuple[Any, Payload | None]] = OrderedDict()

    async def payload(self, event: Any) -> Payload | None:
        """The payload of an event; None where graphql-core has to make it, for every subscriber."""
        known = self._made.get(id(event))
        if known is not None:
            return known[1]
        made = await self._render(event)
        if self.is_shared:
            self._made[id(event)] = (event, made)
            if len(self._made) > PAYLOADS_KEPT:
                self._made.popitem(last=False)
        return made

    async def _render(self, event: Any) -> Payload | None:
        if time.monotonic() < self._standing.resting_until:
            self._counts[Reason.RESTING] += 1
            return None
        try:
            outcome = await self._selection.render(
                event, context=self._context, operation_extensions=self._extensions
            )
        except Exception:  # noqa: BLE001  # passed through by `render`: graphql-core reports it
            outcome = None
        if outcome is None or not outcome.is_answer:
            self._standing.bail(time.monotonic(), rest=self._rest)
            self._counts[Reason.BAILED] += 1
            return None
        self._standing.succeed()
        self._counts["answered"] += 1
        return Payload(outcome.data)


class SharedResult(ExecutionResult):
    """The result of one event, with what its payload can be shared by.

    Attributes:
        payload: the data, and its JSON.
        selection: makes payloads of further events.
    """

    def __init__(self, payload: Payload, selection: SharedSelection) -> None:
        super().__init__(data=payload.data, errors=None)
        self.payload = payload
        self.selection = selection


class _Known:
    """What is known of one subscription of one document."""

    __slots__ = ("coerce", "sightings", "survey", "variants")

    def __init__(self) -> None:
        self.sightings = 0
        self.survey: Survey | None = None
        self.coerce: Any = None
        self.variants: set[Any] = set()


class Selections:
    """The selections of a schema's subscriptions.

    `counts` counts payloads: rendered ones under "answered", others by the reason.

    Args:
        executor: compiles them, under its options.
    """

    def __init__(self, executor: CompiledExecutor) -> None:
        self.executor = executor
        self.counts: Counter[str] = Counter()
        self._known: LeastRecentlyUsed[tuple[str, str | None], _Known] = LeastRecentlyUsed(
            executor.options.max_documents_kept
        )
        self._plans: LeastRecentlyUsed[Any, SelectionPlan | Fallback] = LeastRecentlyUsed(
            executor.options.max_fields_kept
        )
        self._shared: WeakValueDictionary[Any, SharedSelection] = WeakValueDictionary()

    def find(
        self,
        document: DocumentNode,
        *,
        operation_name: str | None = None,
        variables: Mapping[str, Any] | None = None,
        context: Any = None,
        operation_extensions: dict[str, Any] | None = None,
    ) -> SharedSelection:
        """The selection of an operation; the document has been validated.

        Raises:
            Fallback: graphql-core has to render the events: this one (FIRST_SIGHT) or all.
        """
        given = variables or {}
        text = document.loc.source.body if document.loc else ""
        if not text or len(text) > self.executor.options.max_document:
            raise Fallback(Reason.UNSUPPORTED, "a long document, or one without its text")
        key = (text, operation_name)
        known = self._known.find(key)
        if known is None:
            known = _Known()
            self._known.put(key, known, weight=len(text) + 100)
        known.sightings += 1
        if known.sightings < self.executor.options.compile_at_sighting:
            raise Fallback(Reason.FIRST_SIGHT)
        plan, values = self._plan(key, known, document, given)
        if plan.depends_on_viewer:
            return self._make(plan, values, context, operation_extensions)
        told = to_json({name: given[name] for name in plan.variables if name in given})
        if len(told) > MAX_VALUES:
            raise Fallback(Reason.UNSUPPORTED, "large variables below the root")
        shared = self._shared.get((plan, told))
        if shared is None:
            shared = self._shared[plan, told] = self._make(plan, values, None, None)
        return shared

    def _make(
        self,
        plan: SelectionPlan,
        values: dict[str, Any],
        context: Any,
        operation_extensions: dict[str, Any] | None,
    ) -> SharedSelection:
        options = self.executor.options
        return SharedSelection(
            CompiledSelection(plan, values),
            self.counts,
            bails_before_rest=options.bails_before_rest,
            rest=options.rest,
            context=context,
            operation_extensions=operation_extensions,
        )

    def _plan(
        self,
        key: tuple[str, str | None],
        known: _Known,
        document: DocumentNode,
        given: Mapping[str, Any],
    ) -> tuple[SelectionPlan, dict[str, Any]]:
        try:
            if known.survey is None:
                found = survey(document, key[1])
                known.coerce = variables_coercer(self.executor.schema._schema, found.operation)  # noqa: SLF001  # graphql-core's schema
                known.survey = found
            flags = known.survey.flags(given)
            values: dict[str, Any] = known.coerce(given)
        except Exception as error:
            raise Fallback(Reason.UNSUPPORTED, str(error)) from error
        plan = self._plans.find((key, flags))
        if plan is None:
            known.variants.add(flags)
            if len(known.variants) > self.executor.options.max_variants:
                known.variants.discard(flags)
                raise Fallback(Reason.UNSUPPORTED, "too many variants")
            try:
                plan = plan_selection(self.executor, known.survey, given)
            except Fallback as fallback:
                plan = Fallback(fallback.reason, fallback.detail)
            weight = len(plan.plan.fields) if isinstance(plan, SelectionPlan) else 1
            self._plans.put((key, flags), plan, weight=weight)
        if isinstance(plan, Fallback):
            raise Fallback(plan.reason, plan.detail)
        return plan, values


def event_executor(selections: Selections) -> type[StrawberryGraphQLCoreExecutionContext]:
    """The executor class that renders a subscription's events by shared selections."""

    class EventExecutor(StrawberryGraphQLCoreExecutionContext):
        sharing: _Sharing | None = None

        @classmethod
        def build(
            cls,
            schema: Any,
            document: Any,
            root_value: Any = None,
            context_value: Any = None,
            raw_variable_values: Any = None,
            operation_name: str | None = None,
            *others: Any,
            **named: Any,
        ) -> Any:
            """See graphql-core."""
            operation = (root_value, context_value, raw_variable_values, operation_name)
            made = super().build(schema, document, *operation, *others, **named)
            compatible = selections.executor.options.compatible
            if isinstance(made, EventExecutor) and not middleware_obstacle(
                named.get("middleware"), compatible=compatible
            ):
                made.sharing = _Sharing(
                    selections,
                    document,
                    operation_name=operation_name,
                    variables=raw_variable_values,
                    context=context_value,
                    operation_extensions=made.operation_extensions,
                )
            return made

        def build_per_event_executor(self, payload: Any) -> Any:
            """See graphql-core."""
            reference = super().build_per_event_executor
            if self.sharing is None:
                return reference(payload)
            return _Event(self.sharing, payload, reference)

    return EventExecutor


class _Sharing:
    """How one operation comes to its selection."""

    def __init__(self, selections: Selections, document: DocumentNode, **operation: Any) -> None:
        self._selections = selections
        self._document = document
        self._operation = operation
        self._found: SharedSelection | None = None
        self._refused = False

    def selection(self) -> SharedSelection | None:
        """The selection; None where graphql-core has to render an event."""
        if self._found is None and not self._refused:
            try:
                self._found = self._selections.find(self._document, **self._operation)
            except Fallback as fallback:
                self._selections.counts[fallback.reason] += 1
                self._refused = fallback.reason is not Reason.FIRST_SIGHT
        return self._found


class _Event:
    """What graphql-core takes for the executor of one event."""

    __slots__ = ("_event", "_reference", "_sharing")

    def __init__(self, sharing: _Sharing, event: Any, reference: Callable[[Any], Any]) -> None:
        self._sharing = sharing
        self._event = event
        self._reference = reference

    async def execute_operation(self, serially: bool | None = None) -> Any:  # noqa: FBT001  # graphql-core's
        """The result of the event."""
        selection = self._sharing.selection()
        if selection is not None:
            payload = await selection.payload(self._event)
            if payload is not None:
                return SharedResult(payload, selection)
        return await await_maybe(self._reference(self._event).execute_operation(serially))
