"""Acknowledged means on the disk: seen from outside, by the calls the server makes."""

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.board import CREATE_TASK, create_board, make_repository
from tests.support.clients import HttpClient
from tests.support.server import a_server


def _why_not() -> str | None:
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else f"strace may not trace here: {tried.stderr[:200]!r}"


def _synced(trace: Path) -> int:
    """How often a file of the database was flushed to the disk by now."""
    return sum("= 0" in line and "dragoman.db" in line for line in trace.read_text().splitlines())


async def _flushes_of_changes(tmp_path: Path, synchronous: str) -> list[int]:
    """How many flushes there were between each request and its answer."""
    reason = _why_not()
    if reason is not None:
        pytest.skip(reason)
    trace = tmp_path / "trace"
    with a_server(tmp_path / "server", started=False, sqlite_synchronous=synchronous) as server:
        # -D: the server stays the process we started; -y: files by name.
        server.launch("strace", "-D", "-f", "-y", "-e", "fsync,fdatasync", "-o", str(trace))
        server.await_ready()
        async with HttpClient(server.url, server.token) as client:
            board, _ = await create_board(client, make_repository(tmp_path / "project"))
            counts = [_synced(trace)]
            for number in range(5):
                task = {"workspaceId": board.id, "title": f"Task {number}"}
                await client.ask(CREATE_TASK, {"input": task})
                counts.append(_synced(trace))
    return [after - before for before, after in itertools.pairwise(counts)]


async def test_every_acknowledged_change_was_flushed_to_the_disk_before(tmp_path: Path) -> None:
    assert min(await _flushes_of_changes(tmp_path, "FULL")) >= 1


async def test_an_operator_may_choose_not_to_wait_for_the_disk(tmp_path: Path) -> None:
    assert sum(await _flushes_of_changes(tmp_path, "NORMAL")) == 0
