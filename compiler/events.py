"""Payloads of subscriptions: one event's data built by compiled code, to be shared or sent."""

from collections.abc import Mapping
from typing import Any

from graphql import DocumentNode, OperationType

from compiler.codegen import RootField, generate
from compiler.coercion import variables_coercer
from compiler.execute import CompiledExecutor, Fallback, dispose
from compiler.info import Run
from compiler.outcome import Outcome, Reason
from compiler.plan import Plan, Planner, survey
from compiler.waves import drive


class CompiledSelection:
    """The selection of one subscription operation with its variables.

    `depends_on_viewer` tells whether payloads may depend on the context, so that subscribers with
    different contexts must not share them.
    """

    def __init__(self, executor: CompiledExecutor, plan: Plan, values: dict[str, Any]) -> None:
        self._schema = executor.schema
        self._pass_through = executor.options.pass_through
        self._plan = plan
        self._values = values
        self._bind, self.source = generate(executor.schema, plan, separate_roots=True)
        self.depends_on_viewer = any(
            part is not plan.root.fields[0] and _depends_on_viewer(part) for part in plan.fields
        )

    async def render(
        self,
        event: Any,
        *,
        context: Any = None,
        operation_extensions: dict[str, Any] | None = None,
    ) -> Outcome:
        """The answer for one event of the source stream, or that graphql-core has to give it.

        Args:
            event: what the subscription's resolver has yielded.
            context: for resolvers below.
            operation_extensions: see `strawberry.Info.input_extensions`.

        Raises:
            Exception: of `Options.pass_through`.
        """
        run = Run(
            schema=self._schema._schema,  # noqa: SLF001  # the only way to it
            operation=self._plan.operation,
            fragments=self._plan.fragments,
            variables=self._values,
            context=context,
            root_value=event,
            operation_extensions=operation_extensions,
        )
        try:
            bound = self._bind(run)
        except Exception as error:  # noqa: BLE001  # no resolver has run; graphql-core says what is wrong
            return Outcome(fallback=Reason.VARIABLES, detail=str(error))
        (root,) = bound.roots
        assert isinstance(root, RootField)  # noqa: S101  # the compiler below has looked
        try:
            data = {root.field.key: root.complete(event, None)}
            if bound.groups:
                await drive(bound.groups)
        except self._pass_through:
            raise
        except Exception as error:  # noqa: BLE001  # graphql-core meets it again, and reports it
            dispose(bound)
            return Outcome(fallback=Reason.BAILED, detail=f"{type(error).__name__}: {error}")
        return Outcome(data=data)


def _depends_on_viewer(part: Any) -> bool:
    return part.call is not None and (part.call.wants_info or part.call.is_async)


def compile_selection(
    executor: CompiledExecutor,
    document: DocumentNode,
    *,
    operation_name: str | None = None,
    variables: Mapping[str, Any] | None = None,
) -> CompiledSelection:
    """Compile a subscription's selection for its events. The document has been validated.

    Raises:
        Fallback: graphql-core has to render the events.
    """
    if executor.obstacle is not None:
        raise Fallback(Reason.DISABLED, executor.obstacle)
    given = variables or {}
    try:
        found = survey(document, operation_name)
        values = variables_coercer(executor.schema._schema, found.operation)(given)  # noqa: SLF001
        planner = Planner(executor.schema, max_fields=executor.options.max_fields)
        plan = planner.plan(found, found.flags(given))
        is_subscription = found.operation.operation is OperationType.SUBSCRIPTION
        if is_subscription and len(plan.root.fields) == 1 and plan.root.fields[0].call:
            return CompiledSelection(executor, plan, values)
    except Exception as error:  # whatever stands against it, it stays with graphql-core
        raise Fallback(Reason.UNSUPPORTED, str(error)) from error
    raise Fallback(Reason.UNSUPPORTED, "not one field of a subscription")
