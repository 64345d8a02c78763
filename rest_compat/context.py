"""The operations' context of one request, with its idempotency key."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from resolvers.context import Context
from resolvers.idempotency import claim_request, store_answer, unlock_request
from resolvers.stamps import restore
from rest_compat.answers import Answer

T = TypeVar("T")
SERVER_ERROR = 500
UNSETTLED = frozenset({401, 408, 429})
"""Answers that say nothing about what the request would do."""


class RestContext(Context):
    """The context of one request.

    Under an idempotency key every operation of the route is a step of the request: one that an
    earlier try has committed is not run again, its result is read instead.
    """

    client_address = ""

    async def transact(
        self, work: Callable[..., Awaitable[T]], arguments: Mapping[str, Any], *, stamp: bool
    ) -> T:
        """See ``Context.transact``."""
        request = self.idempotency
        if request is None or not stamp:
            return await super().transact(work, arguments, stamp=stamp)
        done = request.stamped()
        if done is None:
            result = await super().transact(work, arguments, stamp=True)
        else:
            result = await restore(self, done["result"])
        request.step += 1
        return result

    async def claim(self, key: str, *, method: str, target: str, body: bytes) -> Answer | None:
        """Claim the key for this request; the stored answer when it was answered before.

        Raises:
            ConflictError: the key was used for another request, or this one is in progress.
            InvalidError: the key is malformed.
        """
        # Another key of the same person may be allowed less than the stored answer tells.
        asker = self.authenticated()
        allowed = f"{asker.workspace_id} {sorted(asker.scopes)}"
        where = target.encode("utf-8", "surrogatepass")
        parts = (method.encode(), where, allowed.encode(), body)
        digest = hashlib.sha256(b"\n".join(parts)).hexdigest()
        request = await claim_request(self, key=key, request_hash=digest)
        if request.answer is not None:
            status, stored = request.answer
            return Answer(status, stored, {"Idempotency-Replayed": "true"})
        self.idempotency = request
        return None

    async def keep(self, answer: Answer | None) -> None:
        """Store the answer under the claimed key; None, and what may pass, frees the key."""
        request, self.idempotency = self.idempotency, None
        if request is None:
            return
        if answer is None or answer.status >= SERVER_ERROR or answer.status in UNSETTLED:
            await unlock_request(self, request=request)
        else:
            body = answer.body if answer.kept is None else answer.kept
            await store_answer(self, request=request, status=answer.status, body=body)
