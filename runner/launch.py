"""Starting a run's supervisor, and telling later (also after a restart) what became of the run."""

import asyncio
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runner import process_table
from runner.ending import ExitInfo
from runner.folder import (
    RunFolder,
    SupervisorSpec,
    create_lock,
    find_record,
    is_locked,
    write_spec,
)
from runner.process_table import ProcessId
from runner.processes import RunIdentity, cgroup_name, read_identity

SUPERVISOR = Path(__file__).resolve().with_name("supervisor.py")
START_SECONDS = 20.0
_LOOKERS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="look")
_LOOK_SECONDS = 0.01
_LOG_CHARACTERS = 4000


class StartFailedError(Exception):
    """The supervisor did not come up; nothing of the run is executing."""


@dataclass(frozen=True, slots=True)
class Alive:
    """The supervisor is there; the agent runs, or its end is about to be recorded."""

    identity: RunIdentity


@dataclass(frozen=True, slots=True)
class Exited:
    """The run is over and its end is recorded."""

    exit: ExitInfo


@dataclass(frozen=True, slots=True)
class Lost:
    """Neither supervisor nor record: killed from outside, or the machine restarted.

    Processes of the agent may still run: ``stop_tree(identity)`` finds and ends them.
    """

    identity: RunIdentity


RunState = Alive | Exited | Lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A run that was started. ``exit`` is set where it is over already (a program missing)."""

    folder: RunFolder
    identity: RunIdentity
    agent: ProcessId | None
    exit: ExitInfo | None


def _typed(record: dict[str, Any], name: str, kinds: tuple[type, ...]) -> Any:
    value = record.get(name)
    return value if isinstance(value, kinds) and not isinstance(value, bool) else None


def find_exit(folder: RunFolder) -> ExitInfo | None:
    """The recorded end of the run, None where there is none yet; blocking, one small read."""
    record = find_record(folder.exit)
    if record is None:
        return None
    number, text = (int, float), (str,)
    return ExitInfo(
        reason=_typed(record, "reason", text) or "supervisor_error",
        exit_code=_typed(record, "exit_code", (int,)),
        signal=_typed(record, "signal", (int,)),
        errno=_typed(record, "errno", text),
        error=_typed(record, "error", text),
        started_at=_typed(record, "started_at", number),
        ended_at=_typed(record, "ended_at", number),
        leftovers=_typed(record, "leftovers", (int,)) or 0,
        output_bytes=_typed(record, "output_bytes", (int,)),
        cpu_seconds=_typed(record, "cpu_seconds", number),
        max_rss_kib=_typed(record, "max_rss_kib", (int,)),
    )


def _has_supervisor(identity: RunIdentity) -> bool:
    if is_locked(identity.folder):
        return True
    return identity.supervisor is not None and process_table.is_alive(identity.supervisor)


def inspect_now(folder: RunFolder, *, run_id: str) -> RunState:
    """What holds for a run; blocking. See ``inspect``."""
    identity = read_identity(folder, run_id=run_id)
    # In this order: the record is the supervisor's last act, so after it is gone the record is
    # final, and while it is there a record could only be one that the agent forged.
    if _has_supervisor(identity):
        return Alive(identity)
    ended = find_exit(folder)
    return Lost(identity) if ended is None else Exited(ended)


def has_begun(folder: RunFolder) -> bool:
    """Whether anything of a run may have executed, or may yet; blocking.

    The agent executes only after it was recorded, and its supervisor is started with the lock.
    """
    return is_locked(folder) or os.path.lexists(folder.processes)


async def inspect(folder: RunFolder, *, run_id: str) -> RunState:
    """Whether a run lives, has ended, or was lost, from its folder alone.

    This is how a restarted server takes over its runs. Only for runs of this host.
    """
    look = partial(inspect_now, folder, run_id=run_id)
    return await asyncio.get_running_loop().run_in_executor(_LOOKERS, look)


def _spawn(folder: RunFolder, spec: SupervisorSpec) -> None:
    lock = create_lock(folder)
    cgroup = process_table.create_cgroup(cgroup_name(spec.run_id)) if spec.cgroup else None
    try:
        write_spec(folder, spec, cgroup=cgroup)
        log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            # The child forks the supervisor and ends, so it is reaped here and now.
            subprocess.run(  # noqa: S603 - our own file by its absolute path
                [sys.executable, "-I", "-S", str(SUPERVISOR), str(folder.path)],
                stdin=lock,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=folder.path,
                env={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
                start_new_session=True,
                check=True,
                timeout=START_SECONDS,
            )
        finally:
            os.close(log)
    except BaseException:
        if cgroup:
            process_table.remove_cgroup(cgroup)
        raise
    finally:
        os.close(lock)


def _read_log(folder: RunFolder) -> str:
    try:
        return folder.log.read_text(errors="replace")[-_LOG_CHARACTERS:].strip()
    except OSError:
        return ""


async def start(
    folder: RunFolder, spec: SupervisorSpec, *, start_seconds: float = START_SECONDS
) -> Started:
    """Start the supervisor of a prepared folder, detached from this process, and its agent.

    Returns once the agent's program executes, or the run is over already (``exit``: program
    missing, folder gone, or simply a very short run). Raises StartFailedError where the supervisor
    did not come up, TimeoutError where nothing was heard within ``start_seconds``, FileExistsError
    where the folder was started before. After the last two, and when cancelled, the run may yet
    begin: ``inspect`` tells, ``stop_tree`` ends it.
    """
    try:
        await asyncio.to_thread(_spawn, folder, spec)
    except subprocess.SubprocessError as error:
        raise StartFailedError(f"The supervisor did not start: {_read_log(folder)}") from error
    deadline = time.monotonic() + start_seconds
    while True:
        state = await inspect(folder, run_id=spec.run_id)
        if isinstance(state, Exited):
            identity = await asyncio.to_thread(read_identity, folder, run_id=spec.run_id)
            return Started(folder=folder, identity=identity, agent=identity.agent, exit=state.exit)
        if isinstance(state, Lost):
            raise StartFailedError(f"The supervisor ended early: {_read_log(folder)}")
        if await asyncio.to_thread(find_record, folder.started) is not None:
            identity = await asyncio.to_thread(read_identity, folder, run_id=spec.run_id)
            return Started(folder=folder, identity=identity, agent=identity.agent, exit=None)
        if time.monotonic() >= deadline:
            raise TimeoutError(f"The supervisor of {folder.path} did not report in time")
        await asyncio.sleep(_LOOK_SECONDS)
