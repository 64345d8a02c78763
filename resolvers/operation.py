"""The decorators that make a function an operation."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from resolvers.context import Context

P = ParamSpec("P")
T = TypeVar("T")
ContextFunction = Callable[Concatenate[Context, P], Awaitable[T]]


def operation(function: ContextFunction[P, T]) -> ContextFunction[P, T]:
    """One thing the system can do, in one transaction.

    Called on its own, it opens the transaction, writes the events the function emitted and the
    request's idempotency stamp, commits, then wakes readers. Called by another operation, it joins
    that one's transaction. Inside, only the session is awaited: work outside the database is done
    between a claiming and a settling transaction.
    """
    return _transactional(function, stamp=True)


def step(function: ContextFunction[P, T]) -> ContextFunction[P, T]:
    """A transaction on the way to an operation's end (a claim): like one, but not stamped.

    A repeated request runs it again.
    """
    return _transactional(function, stamp=False)


def _transactional(function: ContextFunction[P, T], *, stamp: bool) -> ContextFunction[P, T]:
    @wraps(function)
    async def run(ctx: Context, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if ctx.in_transaction:
            return await function(ctx, *args, **kwargs)
        return await ctx.transact(lambda: function(ctx, *args, **kwargs), stamp=stamp)

    return run
