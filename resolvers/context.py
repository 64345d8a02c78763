"""The context of one request: who asks, through which transaction or snapshot, with what help."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sqlmodel import SQLModel

from models import SITE_STREAM
from models.base import Record
from models.database import Database
from models.enums import Permission
from models.errors import ConflictingWritersError, DatabaseBusyError, StorageFullError
from models.transaction import Reader, Transaction
from models.uninterrupted import uninterrupted
from resolvers.errors import (
    ForbiddenError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from resolvers.events import PendingEvent, Position, append_events, snapshot_json
from resolvers.ports import (
    AnywhereButNobody,
    Blobs,
    Clock,
    Dispatcher,
    ExecutorProbe,
    Forge,
    Git,
    Limits,
    NoBlobs,
    Notifier,
    Outbound,
    Passwords,
    SecretBox,
    Trust,
    WakeUps,
    Worktrees,
)
from resolvers.principal import ROLE_PERMISSIONS, Principal
from resolvers.run_totals import RunTotals
from resolvers.totals import TaskTotals
from resolvers.webhook_formats import WebhookFormat

if TYPE_CHECKING:
    from resolvers.idempotency import IdempotentRequest

T = TypeVar("T")
CONFLICTS_MAX = 5
"""How often an operation is run again that met another one in the opposite order of rows."""


@dataclass(frozen=True, slots=True)
class Services:
    """What lives as long as the process."""

    database: Database
    wakeups: WakeUps
    dispatcher: Dispatcher
    clock: Clock
    passwords: Passwords
    secrets: SecretBox
    git: Git
    limits: Limits = field(default_factory=Limits)
    trust: Trust = field(default_factory=Trust)
    probe: ExecutorProbe | None = None
    forge: Forge | None = None
    worktrees: Worktrees | None = None
    notifier: Notifier | None = None
    """None where the operator has set no target: nothing is sent."""
    outbound: Outbound = field(default_factory=AnywhereButNobody)
    webhook_formats: Mapping[str, WebhookFormat] = field(default_factory=dict)
    """The dialects' ways to deliver webhooks; see ``resolvers.webhook_formats``."""
    blobs: Blobs = field(default_factory=NoBlobs)
    instance: str = "server"
    on_events: Callable[[int], None] | None = None
    """Told how many events each commit added, for metrics."""


class Context:
    """One request, socket message or worker step.

    ``read`` gives the request's snapshot; inside an operation it gives the transaction, so that
    an operation sees what it has just written. ``positions`` holds, per event log, the head after
    the last commit made through this context.
    """

    def __init__(
        self, services: Services, principal: Principal | None, *, request_id: str = ""
    ) -> None:
        self.services = services
        self.principal = principal
        self.request_id = request_id
        self.idempotency: IdempotentRequest | None = None
        self.positions: dict[str, Position] = {}
        self.loaders: dict[Any, Any] = {}
        self.live_workspaces: set[str] = set()
        self._transaction: Transaction | None = None
        self._events: list[PendingEvent] = []
        self._after_commit: list[Callable[[], None]] = []
        self._task_totals: TaskTotals | None = None
        self._run_totals: RunTotals | None = None
        self._reader: Reader | None = None
        self._reader_stack: AsyncExitStack | None = None
        self._give_back: Callable[[], None] | None = None
        self._opening: Awaitable[Reader] | None = None

    @property
    def now(self) -> datetime:
        """The clock's time."""
        return self.services.clock()

    @property
    def limits(self) -> Limits:
        """The sizes in force."""
        return self.services.limits

    # --- authorization: the one place that decides ---

    def authenticated(self) -> Principal:
        """The principal.

        Raises:
            UnauthenticatedError: there is none.
        """
        if self.principal is None:
            raise UnauthenticatedError("A credential is needed: send Authorization: Bearer <token>")
        return self.principal

    def require(
        self, permission: Permission, workspace_id: str, *, kind: str = "Workspace"
    ) -> Principal:
        """Make sure the principal holds a permission in a workspace.

        Args:
            permission: what is about to be done.
            workspace_id: where.
            kind: what the caller asked for, named by the error when it must not exist for them.

        Raises:
            UnauthenticatedError: nobody is asking.
            NotFoundError: the workspace is not visible to the principal.
            ForbiddenError: it is, but the role or the key's scopes do not allow this.
        """
        principal = self.authenticated()
        granted = principal.role_in(workspace_id)
        if granted is None:
            raise NotFoundError(kind)
        if permission not in granted:
            raise ForbiddenError(
                f"Your role does not allow {permission} here",
                permission=str(permission),
                missing="role",
            )
        if principal.scopes:
            self.require_scope(permission)
        return principal

    def require_site(self, permission: Permission) -> Principal:
        """Make sure the principal holds a permission that is not about one workspace.

        Raises:
            UnauthenticatedError, ForbiddenError: as in :meth:`require`.
        """
        principal = self.authenticated()
        allowed = principal.kind == "system" or principal.is_site_owner
        if principal.role is not None:
            allowed = allowed or permission in ROLE_PERMISSIONS[principal.role]
        if not allowed or principal.workspace_id is not None:
            raise ForbiddenError(
                f"This needs {permission} on the whole site", permission=str(permission)
            )
        self.require_scope(permission)
        return principal

    def require_scope(self, permission: Permission) -> None:
        """Make sure the key's scopes allow something, wherever.

        Raises:
            UnauthenticatedError, ForbiddenError: as in :meth:`require`.
        """
        principal = self.authenticated()
        if not principal.scoped(permission):
            raise ForbiddenError(
                f"The key's scopes do not allow {permission}",
                permission=str(permission),
                missing="scope",
            )

    # --- reading ---

    async def reader(self) -> Reader:
        """The transaction inside an operation, else the request's snapshot."""
        if self._transaction is not None:
            return self._transaction
        if self._reader is None:
            if self._opening is None:
                if (found := self._read_now()) is not None:
                    self._reader, self._give_back = found
                    return self._reader
                self._opening = asyncio.ensure_future(self._open_reader())
            try:
                self._reader = await self._opening
            finally:
                self._opening = None
        return self._reader

    def _read_now(self) -> tuple[Reader, Callable[[], None]] | None:
        try:
            return self.services.database.read_now()
        except DatabaseBusyError as error:
            raise UnavailableError(str(error)) from error

    async def _open_reader(self) -> Reader:
        stack = AsyncExitStack()
        try:
            reader = await stack.enter_async_context(self.services.database.read())
        except DatabaseBusyError as error:
            raise UnavailableError(str(error)) from error
        self._reader_stack = stack
        return reader

    @property
    def has_read(self) -> bool:
        """Whether there is anything to release."""
        return bool(
            self._reader is not None
            or self._reader_stack is not None
            or self.loaders
            or self.live_workspaces
        )

    async def release(self) -> None:
        """Give the snapshot back; the next read takes a fresh one.

        A loader may still be reading for resolvers that were given up: that ends first.
        """
        reader, self._reader = self._reader, None
        stack, self._reader_stack = self._reader_stack, None
        give_back, self._give_back = self._give_back, None
        self.loaders.clear()
        self.live_workspaces.clear()
        try:
            if reader is not None:
                reader.end()
                if reader.is_busy:
                    await uninterrupted(reader.idle())
        finally:
            if give_back is not None:
                give_back()
            if stack is not None:
                await stack.aclose()

    # --- writing ---

    @property
    def transaction(self) -> Transaction:
        """The transaction of the running operation."""
        if self._transaction is None:
            raise RuntimeError("only operations write; see resolvers.operation")
        return self._transaction

    @property
    def in_transaction(self) -> bool:
        """Whether an operation is running in this context."""
        return self._transaction is not None

    @property
    def task_totals(self) -> TaskTotals:
        """What the running operation adds to totals of tasks."""
        if self._task_totals is None:
            self._task_totals = TaskTotals()
        return self._task_totals

    @property
    def run_totals(self) -> RunTotals:
        """What the running operation adds to totals of runs."""
        if self._run_totals is None:
            self._run_totals = RunTotals()
        return self._run_totals

    def emit(
        self,
        type_: str,
        entity: SQLModel,
        *,
        workspace_id: str | None,
        entity_type: str | None = None,
        entity_id: str | None = None,
        **extra: Any,
    ) -> None:
        """Buffer an event with the entity's snapshot; it is numbered when the operation ends.

        Args:
            type_: what happened, such as ``task.created``.
            entity: the record after the change.
            workspace_id: whose log it belongs to; None for the site's.
            entity_type: the kind of the entity; by default its class name in lower case.
            entity_id: its id where the record has none called ``id``.
            extra: further facts, kept beside the snapshot (``reason``, ``from_status`` …).
        """
        assert isinstance(entity, Record)  # noqa: S101  # records are typed as their models
        kind = entity_type or type(entity).__name__.lower()
        payload: dict[str, Any] = {kind: snapshot_json(entity)}
        if extra:
            payload |= {name: fact for name, fact in extra.items() if fact is not None}
        identifier = entity_id or str(entity.id)  # type: ignore[attr-defined]  # a record's slot
        self._events.append(
            PendingEvent(workspace_id or SITE_STREAM, type_, kind, identifier, payload)
        )

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call something quick and harmless once the running operation is committed."""
        self._after_commit.append(callback)

    async def transact(
        self, work: Callable[..., Awaitable[T]], arguments: Mapping[str, Any], *, stamp: bool
    ) -> T:
        """Run ``work(self, **arguments)`` in a transaction, with its events, stamp and wake-ups.

        It awaits nothing but the transaction, so that it can be run again when the database gave
        it up for another one.

        Raises:
            UnavailableError: the database is busy or its disk full; nothing was changed.
        """
        for _ in range(CONFLICTS_MAX):
            try:
                async with self.services.database.write() as transaction:
                    self._transaction, self._events, self._after_commit = transaction, [], []
                    self._task_totals = self._run_totals = None
                    result = await work(self, **arguments)
                    if self._task_totals is not None:
                        await self._task_totals.write(transaction)
                    if self._run_totals is not None:
                        await self._run_totals.write(transaction)
                    heads = await append_events(
                        transaction, self._events, principal=self.principal, at=self.now
                    )
                    if stamp and self.idempotency is not None:
                        await self.idempotency.stamp(transaction, result, heads)
                    transaction.after_commit.append(partial(self._committed, heads))
                    return result
            except ConflictingWritersError:
                continue
            except DatabaseBusyError as error:
                raise UnavailableError(f"{error}; nothing was changed") from error
            except StorageFullError as error:
                raise UnavailableError(str(error), retry_after=30) from error
            finally:
                self._transaction = None
                if self.has_read:
                    await self.release()
        raise UnavailableError("the database is busy; nothing was changed")

    def _committed(self, heads: dict[str, Position]) -> None:
        self.positions.update(heads)
        if heads:
            self.services.wakeups.events(heads)
            if self.services.on_events is not None:
                self.services.on_events(len(self._events))
        for callback in self._after_commit:
            callback()
