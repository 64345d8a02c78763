"""``dragoman doctor``: versions, paths, services, executors, settings, and what is wrong.

It changes nothing, needs no database, and works beside a running server. Every check is bounded
in time; what fails is a problem with a line of its own, and never ends the examination.
"""

import asyncio
import os
import platform
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version

from server.doctor_places import database_file, examine_places
from server.doctor_report import Report, counted, first_line_of, told
from server.setting_values import ExecutorCommand
from server.settings import Settings, variable_of
from server.settings_listing import shown_values, unknown_variables

SERVICE_SECONDS = 10.0
GIT_NEEDED = (2, 38)
"""``git merge-tree --write-tree`` appeared there."""
_PACKAGES = (
    "strawberry-graphql",
    "graphql-core",
    "starlette",
    "uvicorn",
    "sqlmodel",
    "sqlalchemy",
    "aiosqlite",
    "broadcaster",
    "websockets",
)
_OPTIONAL_PACKAGES = {"asyncpg": "postgres", "redis": "redis"}
_OF_THE_COMMAND_LINE = {"DRAGOMAN_TOKEN"}


async def examine(settings: Settings) -> int:
    """Examine this installation with these settings and print what is found.

    Returns:
        How many problems there are; warnings are not counted.
    """
    report = Report()
    for title, check in _CHECKS.items():
        report.title(title)
        try:
            await check(report, settings)
        except Exception as error:  # noqa: BLE001  # one broken check must not hide the others
            report.wrong("check failed", f"{type(error).__name__}: {told(error)}")
    report.title(f"{counted(report.problems, 'problem')}, {counted(report.warnings, 'warning')}.")
    return report.problems


# --- versions ---


async def _versions(report: Report, settings: Settings) -> None:
    report.fact("dragoman", _package_version("dragoman") or "not installed as a package")
    report.fact("python", f"{platform.python_version()} ({sys.executable})")
    report.fact("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    await _sqlite_version(report, settings)
    await _git_version(report)
    for name in _PACKAGES:
        found = _package_version(name)
        if found is None:
            report.wrong(name, "is not installed: run make install")
        else:
            report.fact(name, found)
    for name, extra in _OPTIONAL_PACKAGES.items():
        report.fact(name, _package_version(name) or f"not installed (extra {extra})")


async def _sqlite_version(report: Report, settings: Settings) -> None:
    from models.database import WAL_RESET_FIXED

    found = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info >= WAL_RESET_FIXED or not settings.uses_sqlite:
        report.fact("sqlite library", found)
        return
    fixed = ".".join(map(str, WAL_RESET_FIXED))
    report.warn(
        "sqlite library",
        f"{found}: before {fixed} SQLite has a rare bug (the WAL-reset bug) that can damage a "
        "database in WAL mode when two connections write or checkpoint at the same instant; keep "
        "backups, or use a Python whose SQLite is newer",
    )


async def _git_version(report: Report) -> None:
    answer = await first_line_of(["git", "--version"])
    if answer is None:
        report.wrong("git", "is not on the PATH; runs and merges need it")
        return
    words = answer.split()
    number = words[2] if len(words) > 2 else ""  # noqa: PLR2004  # "git version 2.47.1"
    parts = tuple(int(part) for part in number.split(".")[:2] if part.isdigit())
    if parts and parts < GIT_NEEDED:
        needed = ".".join(map(str, GIT_NEEDED))
        report.wrong("git", f"{number}: merging needs {needed} or newer")
    else:
        report.fact("git", number or answer)


def _package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# --- services ---


async def _services(report: Report, settings: Settings) -> None:
    await _database(report, settings)
    await _broadcast(report, settings)


async def _database(report: Report, settings: Settings) -> None:
    file = database_file(settings)
    if file is not None and not await asyncio.to_thread(file.exists):
        report.fact("database", "not there yet; the first start makes it")
        return
    from server.migrations import HEAD, revision_of

    try:
        async with asyncio.timeout(SERVICE_SECONDS):
            revision = await revision_of(settings.database_dsn)
            if not settings.uses_sqlite:
                report.fact("postgresql server", await _postgresql_version(settings))
    except Exception as error:  # noqa: BLE001  # drivers fail in many ways; each is the answer
        report.wrong("database", f"cannot be used: {told(error)}")
        return
    if revision == HEAD:
        report.fact("database", f"reachable, revision {revision}")
    elif revision is None:
        report.fact("database", "reachable, empty; the first start makes its tables")
    else:
        report.warn(
            "database", f"reachable, revision {revision}, this program's is {HEAD}: see migrate"
        )


async def _postgresql_version(settings: Settings) -> str:
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(settings.database_dsn)
    try:
        async with engine.connect() as connection:
            return str((await connection.execute(text("SHOW server_version"))).scalar())
    finally:
        await engine.dispose()


async def _broadcast(report: Report, settings: Settings) -> None:
    scheme, _, rest = settings.broadcast_dsn.partition("://")
    if scheme == "memory":
        if settings.uses_sqlite:
            report.fact("broadcast", "memory (one process)")
        else:
            report.warn(
                "broadcast",
                "memory: with several servers on this database, streams are up to a second late",
            )
        return
    ping = _ping_postgresql if scheme == "postgresql" else _ping_redis
    # What stands before the "@" may hold a password.
    place = f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
    try:
        async with asyncio.timeout(SERVICE_SECONDS):
            await ping(settings.broadcast_dsn)
    except ImportError as error:
        report.wrong("broadcast", f"{place}: the package {error.name} is not installed")
    except Exception as error:  # noqa: BLE001  # as above
        report.wrong("broadcast", f"{place} cannot be reached: {told(error)}")
    else:
        report.fact("broadcast", f"{place} answers")


async def _ping_redis(url: str) -> None:
    from redis.asyncio import Redis

    client = Redis.from_url(url)
    try:
        await client.execute_command("PING")  # type: ignore[no-untyped-call]  # redis-py 8 has no types for it
    finally:
        await client.aclose()


async def _ping_postgresql(url: str) -> None:
    import asyncpg  # type: ignore[import-untyped]  # ships no type information

    connection = await asyncpg.connect(url)
    await connection.close()


# --- executors and settings ---


async def _executors(report: Report, settings: Settings) -> None:
    if not settings.executor_commands:
        both = f"{variable_of('executors')} or {variable_of('custom_command')}"
        report.warn("executors", f"none; set {both} to run tasks")
    for name, command in settings.executor_commands.items():
        await _executor(report, name, command)
    await asyncio.to_thread(_prompts, report, settings)
    if settings.max_concurrent_runs == 0:
        report.warn(variable_of("max_concurrent_runs"), "is 0: this server starts no runs")


def _prompts(report: Report, settings: Settings) -> None:
    from runner.prompts import PromptMaker

    folder = settings.prompt_templates
    wrong = PromptMaker(folder and folder.absolute()).check()
    for text in wrong:
        report.wrong("prompt template", text)
    if not wrong:
        report.fact("prompt templates", folder.absolute() if folder else "the built-in ones")


async def _executor(report: Report, name: str, command: ExecutorCommand) -> None:
    from runner.probe import probe_executor
    from server.services import make_executor_settings

    found = await probe_executor(name, make_executor_settings(command))
    if found.reason is not None or found.path is None:
        report.wrong(name, found.reason)
        return
    version = found.version
    if command.argv is not None:
        version = await first_line_of([found.path, "--version"])
    report.fact(name, f"{found.path} ({version or 'tells no version'})")
    if found.credential_configured is False:
        report.warn(name, "no credential was found: see pass_env and env, or log in as this user")


async def _settings(report: Report, settings: Settings) -> None:
    environment = {n: v for n, v in os.environ.items() if n not in _OF_THE_COMMAND_LINE}
    for line in unknown_variables(environment):
        variable, _, why = line.partition(": ")
        report.wrong(variable, why)
    shown = shown_values(settings)
    different = {
        variable_of(name): shown[variable_of(name)]
        for name, field in Settings.model_fields.items()
        if getattr(settings, name) != field.default
    }
    for variable, value in different.items():
        report.fact(variable, value)
    if not different:
        report.fact("all", "as by default")
    for name, why in DARING.items():
        if getattr(settings, name):
            report.warn(variable_of(name), why)


DARING = {
    "webhook_allow_loopback": "anybody who may write in a workspace can reach this machine's and "
    "private networks' services with webhooks",
}
"""Settings that open something when they are set, and what."""


_CHECKS: dict[str, Callable[[Report, Settings], Awaitable[None]]] = {
    "Versions": _versions,
    "Places": examine_places,
    "Services": _services,
    "Executors": _executors,
    "Settings that differ from their defaults": _settings,
}
