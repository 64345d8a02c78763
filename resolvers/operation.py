"""The decorators that make a function an operation."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar, cast

from resolvers.context import Context

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


def operation(function: F) -> F:
    """One thing the system can do, in one transaction; its first argument is the context.

    Called on its own, it opens the transaction, writes the events the function emitted and the
    request's idempotency stamp, commits, then wakes readers. Called by another operation, it joins
    that one's transaction. Inside, only the session is awaited: work outside the database is done
    between a claiming and a settling transaction.
    """
    return _transactional(function, stamp=True)


def step(function: F) -> F:
    """A transaction on the way to an operation's end (a claim): like one, but not stamped.

    A repeated request runs it again.
    """
    return _transactional(function, stamp=False)


def _transactional(function: F, *, stamp: bool) -> F:
    @wraps(function)
    def run(ctx: Context, **arguments: Any) -> Awaitable[Any]:
        if ctx.in_transaction:
            return function(ctx, **arguments)
        return ctx.transact(function, arguments, stamp=stamp)

    return cast("F", run)
