"""Which processes belong to a run.

A run's process is told from all others by evidence, strongest first:

1. it is in the run's own cgroup (where one could be made);
2. it descends from the run's supervisor, which inherits every orphan of the run;
3. ``DRAGOMAN_RUN_ID=<run id>`` stands in its environment;
4. the supervisor recorded it (pid and start time) while it was alive;
5. it holds the run's output files open for writing;
6. the supervisor is gone, and it is a daemon without terminal, no older than the run, whose
   current folder is in the run's worktree;
7. it shares a session with, or descends from, a process found by 1 to 6: a session is only
   entered by birth, and the agent began in one of its own.

What stays impossible: without a cgroup (2 to 6 only), a process that was born within a quarter of a
second before its supervisor was SIGKILLed, cleared its environment, closed the output files, left
the worktree, began a new session and lost all its parents is found by nobody. A process that
changed to another user can be found, but not always signalled; it is reported as a survivor. Off
Linux only 2, 4 and 7 exist, and 2 loses orphans.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import process_table
from runner.folder import RunFolder, find_record, is_locked
from runner.process_table import Process, ProcessId

RUN_TAG = "DRAGOMAN_RUN_ID"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """What is known of a run's processes from its folder; see ``read_identity``.

    Recorded processes mean something only while ``boot_id`` is the machine's own.
    """

    run_id: str
    folder: RunFolder
    boot_id: str | None = None
    supervisor: ProcessId | None = None
    agent: ProcessId | None = None
    known: frozenset[ProcessId] = frozenset()
    reaper: int | None = None
    cgroup: Path | None = None
    worktree: Path | None = None


def _find_process_id(value: Any) -> ProcessId | None:
    match value:
        case [int(pid), int(start_time), *_]:
            return ProcessId(pid, start_time)
        case [int(pid), None, *_]:
            # Off Linux the supervisor cannot tell start times; its held lock vouches for the pid.
            process = process_table.find_process(pid)
            return process.id if process else None
    return None


def cgroup_name(run_id: str) -> str:
    """Name of the cgroup of a run."""
    return f"dragoman-{run_id}"


def _find_cgroup(value: Any, run_id: str) -> Path | None:
    # The agent could have written the record: nothing but the run's own cgroup is believed.
    if isinstance(value, str) and Path(value).name == cgroup_name(run_id):
        return Path(value)
    return None


def read_identity(folder: RunFolder, *, run_id: str) -> RunIdentity:
    """Everything the run folder says about the processes of its run; blocking, a few reads."""
    started = find_record(folder.started) or {}
    seen = find_record(folder.processes) or {}
    record = started or seen
    boot_id = record.get("boot_id")
    if boot_id != process_table.read_boot_id():
        return RunIdentity(run_id=run_id, folder=folder, boot_id=boot_id)
    held = process_table.ON_LINUX or is_locked(folder)
    alive = seen.get("alive")
    known = [_find_process_id(value) for value in alive] if held and isinstance(alive, list) else []
    reaper, worktree = record.get("reaper"), record.get("cwd")
    return RunIdentity(
        run_id=run_id,
        folder=folder,
        boot_id=boot_id,
        supervisor=_find_process_id(record.get("supervisor")) if held else None,
        agent=_find_process_id(record.get("agent")) if held else None,
        known=frozenset(process for process in known if process),
        reaper=reaper if isinstance(reaper, int) else None,
        cgroup=_find_cgroup(record.get("cgroup"), run_id),
        worktree=Path(worktree) if isinstance(worktree, str) else None,
    )


def find_supervisor(identity: RunIdentity) -> ProcessId | None:
    """The run's living supervisor, also one that has not yet recorded itself; blocking."""
    if identity.supervisor and process_table.is_alive(identity.supervisor):
        return identity.supervisor
    if not is_locked(identity.folder):
        return None
    argument = os.fsencode(identity.folder.path)
    for pid, process in process_table.read_table().items():
        command = process_table.read_command(pid)
        if command[-1:] == [argument] and any(part.endswith(b"/supervisor.py") for part in command):
            return process.id
    return None


def _output_files(folder: RunFolder) -> frozenset[tuple[int, int]]:
    found = set()
    for path in (folder.stdout, folder.stderr):
        with contextlib.suppress(OSError):
            status = path.lstat()
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)


class _Search:
    """One look at the process table for the processes of one run."""

    def __init__(self, identity: RunIdentity, supervisor: ProcessId | None) -> None:
        self.identity = identity
        self.supervisor = supervisor
        self.table = process_table.read_table()
        # The server's own children (git in the worktree, say) are never the run's.
        self.excluded = {os.getpid(), *([supervisor.pid] if supervisor else [])}
        self.excluded_sessions = {
            self.table[pid].session for pid in self.excluded | {1} if pid in self.table
        }
        self.tag = f"{RUN_TAG}={identity.run_id}".encode()
        self.outputs = _output_files(identity.folder)
        self.cgroup = set(process_table.list_cgroup(identity.cgroup)) if identity.cgroup else set()

    def has_evidence(self, process: Process) -> bool:
        """Evidence 1 to 6 of the module's text, cheapest first."""
        pid = process.id.pid
        if process.id == self.identity.agent or process.id in self.identity.known:
            return True
        if pid in self.cgroup or (self.supervisor and process.parent == self.supervisor.pid):
            return True
        return process_table.ON_LINUX and (
            process_table.has_environment_entry(pid, self.tag)
            or process_table.writes_to(pid, self.outputs)
            or self.is_stray(process)
        )

    def is_stray(self, process: Process) -> bool:
        """Evidence 6: a daemon of the worktree whose supervisor cannot vouch for it any more."""
        worktree, agent = self.identity.worktree, self.identity.agent
        if self.supervisor or worktree is None or agent is None or process.terminal:
            return False
        orphan = process.parent in {1, self.identity.reaper} and process.parent != os.getpid()
        if not orphan or process.id.start_time < agent.start_time:
            return False
        folder = process_table.find_current_folder(process.id.pid)
        return folder is not None and folder.is_relative_to(worktree)

    def run(self) -> list[Process]:
        found = {
            pid: process
            for pid, process in self.table.items()
            if pid not in self.excluded and self.has_evidence(process)
        }
        while True:
            sessions = {process.session for process in found.values()} - self.excluded_sessions
            more = {
                pid: process
                for pid, process in self.table.items()
                if pid not in found
                and pid not in self.excluded
                and (process.parent in found or process.session in sessions)
            }
            if not more:
                return sorted(found.values(), key=lambda process: process.id)
            found.update(more)


def find_processes(identity: RunIdentity, *, supervisor: ProcessId | None = None) -> list[Process]:
    """Every living process of the run but its supervisor; blocking, some milliseconds.

    ``supervisor`` is what ``find_supervisor`` returned just before, None where there is none.
    """
    return _Search(identity, supervisor).run()
