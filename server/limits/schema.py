"""A Strawberry schema whose operations are limited and whose errors are safe to send."""

from collections.abc import Callable, Iterable
from typing import Any

import strawberry
from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.types import ExecutionContext

from server.limits.cost import CostRules
from server.limits.document import DocumentLimits
from server.limits.errors import ErrorRenderer, InternalErrorLog, log_internal_error, new_error_id
from server.limits.extension import limits_extension
from server.limits.operation import OperationGuard


class LimitedSchema(strawberry.Schema):
    """`strawberry.Schema` behind an `OperationGuard` (attribute `guard`).

    Takes what `strawberry.Schema` takes and:
        limits, cost_rules: bounds and prices; defaults when None.
        introspection: True, False, or a function of the request's context.
        log: called once with each unexpected exception (see `InternalErrorLog`).
        error_id: makes the id shown to the client out of the request's context.

    Errors are rendered where Strawberry would log them: the one place that sees every error of
    every asynchronous execution, streamed results included, before anything is sent.
    """

    def __init__(
        self,
        query: type,
        *,
        limits: DocumentLimits | None = None,
        cost_rules: CostRules | None = None,
        introspection: bool | Callable[[Any], bool] = True,
        log: InternalErrorLog = log_internal_error,
        error_id: Callable[[Any], str] = new_error_id,
        extensions: Iterable[type[SchemaExtension] | Callable[[], SchemaExtension]] = (),
        **options: Any,
    ) -> None:
        super().__init__(query, extensions=extensions, **options)
        self.guard = OperationGuard(
            self._schema, limits=limits, cost_rules=cost_rules, introspection=introspection
        )
        self.extensions = (*self.extensions, limits_extension(self.guard))
        self.renderer = ErrorRenderer(
            log=log, error_id=error_id, hide_suggestions=self.guard.hide_suggestions
        )

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Replace each error of the list by what the client may see, and log the internal ones."""
        context = execution_context.context if execution_context else None
        errors[:] = self.renderer.render(errors, context)
