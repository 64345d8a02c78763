"""Everything a server process holds open, put together and taken down in order."""

import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

from broadcaster import Broadcast

from models.database import Database, DatabaseOptions
from models.enums import Dialect
from resolvers.command_policy import CommandPolicy
from resolvers.command_rules import with_templates
from resolvers.context import Context, Services
from resolvers.ports import Budget, Limits, Trust
from resolvers.principal import SYSTEM
from resolvers.webhook_formats import WebhookFormat
from runner.board_git import BoardGit
from runner.configuration import ExecutorSettings, RunnerSettings
from runner.executors.native import Permissions
from runner.forge import GitHubForge
from runner.forge_transports import ApiTransport, GhTransport, Transport
from runner.git import Identity
from runner.probe import Prober
from runner.prompts import PromptMaker
from runner.task_worktrees import TaskWorktrees
from runner.worktree_setup import WorktreeSetup
from server.authentication import Authenticator
from server.blobs import ObjectStore
from server.limits.late_rates import LateRates
from server.metrics import Metrics
from server.outbound import NotificationTarget, OutboundHttp
from server.secret_keys import load_secret_keys
from server.security import ArgonPasswords, FernetBox
from server.setting_values import ExecutorCommand, parse_author
from server.settings import Settings
from subscriptions.backends import MemoryBackend, backend_from_url
from subscriptions.hub import Hub
from subscriptions.log import DatabaseLog
from subscriptions.wakeups import WakeUps
from workers.dispatch import RunDispatcher
from workers.notifier import NotificationSender
from workers.webhooks import WebhookDeliverer


@dataclass(slots=True)
class Server:
    """What one process of the server consists of."""

    settings: Settings
    services: Services
    hub: Hub
    wakeups: WakeUps
    authenticator: Authenticator
    dispatcher: RunDispatcher
    deliverer: WebhookDeliverer
    rates: LateRates
    notifier: NotificationSender | None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    is_ready: bool = False

    def system(self) -> Context:
        """A context of the server's own."""
        return Context(self.services, SYSTEM)


def open_database(settings: Settings) -> Database:
    """The database of the settings; migrated already."""
    return Database(
        settings.database_dsn,
        DatabaseOptions(synchronous=settings.sqlite_synchronous, writer_wait=settings.writer_wait),
    )


def make_limits(settings: Settings) -> Limits:
    """The operations' limits as the settings say."""
    return Limits(page_size=settings.page_size, page_size_max=settings.max_page_size)


def make_trust(settings: Settings) -> Trust:
    """What the operator allows."""
    commands = settings.executor_commands
    default = "CUSTOM" if "CUSTOM" in commands or not commands else next(iter(commands))
    return Trust(
        repository_roots=tuple(str(root) for root in settings.repository_roots),
        allow_local_repositories=settings.allow_local_repositories,
        allow_agent_commands=settings.allow_agent_commands,
        executors=commands,
        default_executor=default,
        max_concurrent_runs=settings.max_concurrent_runs,
        commands=CommandPolicy(
            enabled=settings.allow_commands,
            rules=with_templates(settings.commands),
            path=settings.command_path,
            default_seconds=min(300, int(settings.command_time_limit)),
            max_seconds=int(settings.command_time_limit),
            concurrent=settings.max_concurrent_commands,
            concurrent_per_user=settings.max_commands_per_user,
            output_bytes=settings.command_output_limit,
            history=settings.command_history,
        ),
        budget=Budget(
            run_tokens=settings.run_token_budget or None,
            run_cost_usd=settings.run_cost_budget or None,
            day_tokens=settings.day_token_budget or None,
            day_cost_usd=settings.day_cost_budget or None,
        ),
    )


def make_executor_settings(command: ExecutorCommand) -> ExecutorSettings:
    """One executor as the runner knows it."""
    return ExecutorSettings(
        argv=command.argv or (),
        env={key: value.get_secret_value() for key, value in command.env.items()},
        pass_env=command.pass_env,
        program=command.program,
        args=command.args,
        model=command.model,
        permissions=Permissions(command.permissions),
        protocol=command.protocol,
    )


def make_runner_settings(settings: Settings) -> RunnerSettings:
    """Folders and limits of this server's runs."""
    root = settings.data_dir.absolute()
    return RunnerSettings(
        runs_root=root / "runs",
        worktrees_root=settings.worktrees.absolute(),
        repositories_root=root / "repositories",
        heartbeat=root / "heartbeat",
        host=socket.gethostname(),
        executors={
            name: make_executor_settings(command)
            for name, command in settings.executor_commands.items()
        },
        max_concurrent=settings.max_concurrent_runs,
        time_limit=settings.run_time_limit,
        silence_limit=settings.run_silence_limit,
        start_limit=settings.run_start_limit,
        output_limit=settings.run_output_limit,
        stop_grace=settings.run_stop_grace,
        orphan_after=settings.run_orphan_after,
        answer_limit=settings.run_answer_limit,
        allow_local_clones=settings.allow_local_repositories,
        author=make_author(settings),
        setup=WorktreeSetup(settings.worktree_copy, settings.worktree_commands),
        setup_limit=settings.worktree_command_limit,
        prompts=PromptMaker(settings.prompt_templates and settings.prompt_templates.absolute()),
    )


def webhook_formats() -> Mapping[str, WebhookFormat]:
    """How the dialects deliver webhooks."""
    from rest_compat.viban.webhooks import VibanWebhooks

    return {Dialect.VIBAN: VibanWebhooks()}


def make_author(settings: Settings) -> Identity:
    """Who the server commits and merges as."""
    return Identity(*parse_author(settings.commit_author))


def make_git(settings: Settings) -> BoardGit:
    """Git as operations see it."""
    return BoardGit(
        make_author(settings),
        repositories_root=settings.data_dir.absolute() / "repositories",
        allow_local=settings.allow_local_repositories,
    )


def make_worktrees(settings: Settings) -> TaskWorktrees:
    """The worktrees of this machine."""
    return TaskWorktrees(
        settings.worktrees.absolute(),
        settings.data_dir.absolute() / "repositories",
        WorktreeSetup(settings.worktree_copy, settings.worktree_commands),
    )


def make_forge(settings: Settings) -> GitHubForge:
    """Where this server opens pull requests."""
    parts = urlsplit(settings.github_api_url)
    host = parts.netloc.removeprefix("api.")
    token = settings.github_token
    transport: Transport = ApiTransport(
        settings.github_api_url, None if token is None else token.get_secret_value()
    )
    if settings.pull_requests == "gh":
        transport = GhTransport(host)
    return GitHubForge(transport, host, settings.merge_method)


def notification_target(settings: Settings) -> NotificationTarget | None:
    """The operator's notifier, if one is set."""
    if settings.notifier_url is None:
        return None
    token = settings.notifier_token
    secret = None if token is None else token.get_secret_value()
    return NotificationTarget(settings.notifier_url, secret)


class _NobodyWaits:
    """Wake-ups and dispatch of the command line, which lives beside a running server.

    That server finds what was written by its own tick, a second later at most.
    """

    def events(self, stream_ids: object) -> None: ...

    def run_output(self, run_id: str) -> None: ...

    def principal(self, principal_key: str) -> None: ...

    def wake(self) -> None: ...

    def stop(self, run_id: str) -> None: ...

    def deliver(self, run_id: str) -> None: ...


@asynccontextmanager
async def command_line_context(settings: Settings) -> AsyncIterator[Context]:
    """A system context for one command, beside a running server or without one."""
    database = open_database(settings)
    nobody = _NobodyWaits()
    try:
        yield Context(
            Services(
                database=database,
                wakeups=nobody,
                dispatcher=nobody,
                clock=lambda: datetime.now(UTC),
                passwords=ArgonPasswords(),
                secrets=FernetBox(load_secret_keys(settings)),
                git=make_git(settings),
                forge=make_forge(settings),
                worktrees=make_worktrees(settings),
                limits=make_limits(settings),
                trust=make_trust(settings),
                instance="command line",
            ),
            SYSTEM,
        )
    finally:
        await database.close()


@asynccontextmanager
async def migrated_command_line_context(settings: Settings) -> AsyncIterator[Context]:
    """A system context for one command; the database is brought to the newest shape first."""
    from server.migrations import migrate

    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    await migrate(settings.database_dsn)
    async with command_line_context(settings) as ctx:
        yield ctx


@asynccontextmanager
async def open_server(settings: Settings, metrics: Metrics) -> AsyncIterator[Server]:
    """Open everything a server needs, on a migrated database; close it in reverse order.

    Runs are left running: the next server adopts them.
    """
    async with AsyncExitStack() as stack:
        database = open_database(settings)
        database.on_write_wait = metrics.db_write_waited
        stack.push_async_callback(database.close)
        hub = Hub(DatabaseLog(database))
        stack.push_async_callback(hub.aclose)
        backend = backend_from_url(settings.broadcast_dsn)
        broadcast = Broadcast(backend=backend)
        await broadcast.connect()
        stack.push_async_callback(broadcast.disconnect)
        is_alone = isinstance(backend, MemoryBackend)
        wakeups = WakeUps(broadcast, listeners=[hub.wake], is_alone=is_alone)
        dispatcher = RunDispatcher(make_runner_settings(settings), sole=settings.uses_sqlite)
        outbound = OutboundHttp(allow_local=settings.webhook_allow_loopback)
        stack.push_async_callback(outbound.aclose)
        notifier = None
        if (target := notification_target(settings)) is not None:
            stack.push_async_callback(target.aclose)
            notifier = NotificationSender(target)
        services = Services(
            database=database,
            wakeups=wakeups,
            dispatcher=dispatcher,
            clock=lambda: datetime.now(UTC),
            passwords=ArgonPasswords(),
            secrets=FernetBox(load_secret_keys(settings)),
            git=make_git(settings),
            forge=make_forge(settings),
            worktrees=make_worktrees(settings),
            limits=make_limits(settings),
            trust=make_trust(settings),
            probe=Prober(dispatcher.settings.executors),
            notifier=notifier,
            outbound=outbound,
            webhook_formats=webhook_formats(),
            blobs=ObjectStore(settings.artifacts_url or settings.data_dir.absolute() / "artifacts"),
            instance=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
            on_events=metrics.events_appended,
        )
        authenticator = Authenticator(services)
        wakeups.add_listener(authenticator.forget)
        deliverer = WebhookDeliverer(sole=settings.uses_sqlite)
        wakeups.add_listener(deliverer.wake)
        await wakeups.start()
        stack.push_async_callback(wakeups.stop)
        rates = LateRates(settings)
        stack.push_async_callback(rates.aclose)
        workers = (dispatcher, deliverer, rates, notifier)
        yield Server(settings, services, hub, wakeups, authenticator, *workers)
