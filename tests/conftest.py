"""What all tests share: which services they may need, and a settled environment.

A test marked ``postgres``, ``redis``, ``browser``, ``agents`` or ``clients`` is skipped where that
is missing. ``DRAGOMAN_TEST_REQUIRE=postgres,redis,browser,agents,clients`` turns the skip into a
failed session, so that a machine meant to run everything cannot quietly run less.
"""

import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest

from tests.support.databases import new_name

POSTGRES_ADDRESS = ("127.0.0.1", 5432)
REDIS_ADDRESS = ("127.0.0.1", 6379)
BROWSER_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
AGENT_PROGRAMS = ("claude", "codex", "gemini", "opencode")
AGENTS_VARIABLE = "DRAGOMAN_TEST_AGENTS"
CLIENTS_VARIABLE = "DRAGOMAN_TEST_CLIENTS"
REQUIRE_VARIABLE = "DRAGOMAN_TEST_REQUIRE"


def _cannot_connect(address: tuple[str, int]) -> str | None:
    try:
        socket.create_connection(address, timeout=2).close()
    except OSError as error:
        return f"nothing answers on {address[0]}:{address[1]} ({error.strerror or error})"
    return None


def _no_postgres() -> str | None:
    return _cannot_connect(POSTGRES_ADDRESS)


def _no_redis() -> str | None:
    return _cannot_connect(REDIS_ADDRESS)


def _no_browser() -> str | None:
    if any(shutil.which(program) for program in BROWSER_PROGRAMS):
        return None
    return f"none of {', '.join(BROWSER_PROGRAMS)} is installed"


def _no_agents() -> str | None:
    default = Path(__file__).parents[1] / ".cache" / "agents"
    folder = Path(os.environ.get(AGENTS_VARIABLE) or default).absolute()
    missing = [name for name in AGENT_PROGRAMS if not (folder / "bin" / name).exists()]
    if not missing:
        return None
    names = ", ".join(missing)
    return f"{names} not in {folder}: deploy/install_agents.sh {folder} {' '.join(AGENT_PROGRAMS)}"


def _no_clients() -> str | None:
    default = Path(__file__).parents[1] / ".cache" / "clients"
    folder = Path(os.environ.get(CLIENTS_VARIABLE) or default).absolute()
    if (folder / "posthog" / "version").exists() and shutil.which("node"):
        return None
    return f"no clients in {folder} (or no node): deploy/install_clients.sh {folder}"


_PROBES: dict[str, Callable[[], str | None]] = {
    "postgres": _no_postgres,
    "redis": _no_redis,
    "browser": _no_browser,
    "agents": _no_agents,
    "clients": _no_clients,
}


@cache
def _reason_to_skip(service: str) -> str | None:
    """Why tests of this service cannot run here; None if they can. Asked once per process."""
    return _PROBES[service]()


def pytest_configure() -> None:
    required = [name.strip() for name in os.environ.get(REQUIRE_VARIABLE, "").split(",")]
    for variable in [name for name in os.environ if name.startswith("DRAGOMAN_")]:
        if not variable.startswith("DRAGOMAN_TEST_"):
            del os.environ[variable]  # a developer's own server must not change what tests see
    for service in filter(None, required):
        if service not in _PROBES:
            raise pytest.UsageError(f"{REQUIRE_VARIABLE}: {service!r} is none of {list(_PROBES)}")
        reason = _reason_to_skip(service)
        if reason is not None:
            raise pytest.UsageError(f"{REQUIRE_VARIABLE} asks for {service}, but {reason}")


@pytest.fixture(scope="session", autouse=True)
def _compile_at_once() -> Iterator[None]:
    """Servers inside the tests' process compile documents at first sight: tests send them once."""
    import server.graphql

    eager = partial(server.graphql.Options, compile_at_sighting=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server.graphql, "Options", eager)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for service in _PROBES:
            if item.get_closest_marker(service) is None:
                continue
            reason = _reason_to_skip(service)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=f"needs {service}: {reason}"))


@pytest.fixture
async def postgres_url() -> AsyncIterator[str]:
    """``postgresql://…`` of an empty database that lives as long as the test."""
    import asyncpg

    name = new_name("test")
    host, port = POSTGRES_ADDRESS
    admin = await asyncpg.connect(host=host, port=port, user="root", database="test")
    try:
        await admin.execute(f'CREATE DATABASE "{name}"')
        try:
            yield f"postgresql://root@{host}:{port}/{name}"
        finally:
            await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await admin.close()
