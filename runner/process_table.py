"""What the operating system knows about processes: one table per look, and safe signals.

Linux answers from ``/proc``. Elsewhere (macOS) ``ps`` answers, with coarser start times (seconds)
and without environments, open files, current folders and cgroups.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

ON_LINUX = sys.platform == "linux"
PROC = Path("/proc")
PS_SECONDS = 10
_PS_COLUMNS = ["ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "pgid=", "-o", "state=", "-o"]
_PS_LINE = re.compile(r"\s*(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(.+?)\s*")
_WRITABLE = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True, slots=True, order=True)
class ProcessId:
    """One process for all time of one boot: a pid alone is used again after it ends.

    ``start_time`` counts clock ticks since boot on Linux, seconds since 1970 elsewhere.
    """

    pid: int
    start_time: int


@dataclass(frozen=True, slots=True)
class Process:
    """One living process as the table saw it; ``session`` equals ``group`` off Linux."""

    id: ProcessId
    parent: int
    group: int
    session: int
    terminal: int


def read_boot_id() -> str:
    """Name of this boot of the machine, "" where the platform has none."""
    with contextlib.suppress(OSError):
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return ""


def _parse_stat(pid: int, line: bytes) -> Process | None:
    fields = line.rpartition(b")")[2].split()
    if len(fields) < 20 or fields[0] in {b"Z", b"X"}:  # noqa: PLR2004 - the last field read below
        return None
    parent, group, session, terminal = (int(field) for field in fields[1:5])
    return Process(ProcessId(pid, int(fields[19])), parent, group, session, terminal)


def _read(pid: int, name: str) -> bytes | None:
    """A file about a process, None where it cannot be read; every look reads hundreds."""
    try:
        with open(f"{PROC}/{pid}/{name}", "rb", buffering=0) as file:  # noqa: PTH123
            return file.readall()
    except OSError:
        return None


def find_process(pid: int) -> Process | None:
    """The living process with this pid, or None; a zombie does not live."""
    if not ON_LINUX:
        return read_table().get(pid)
    line = _read(pid, "stat")
    return None if line is None else _parse_stat(pid, line)


def is_alive(process: ProcessId) -> bool:
    """Whether exactly this process (not a later one with its pid) lives."""
    found = find_process(process.pid)
    return found is not None and found.id == process


def read_table() -> dict[int, Process]:
    """Every living process this user can see, by pid. Raises OSError where ps cannot run."""
    if not ON_LINUX:
        return _read_ps_table()
    pids = (int(name) for name in os.listdir(PROC) if name.isdigit())  # noqa: PTH208 - names only
    return {pid: process for pid in pids if (process := find_process(pid))}


def _read_ps_table() -> dict[int, Process]:
    result = subprocess.run(  # noqa: S603 - a constant argv
        [*_PS_COLUMNS, "lstart="],
        capture_output=True,
        check=False,
        env={"LC_ALL": "C", "PATH": "/bin:/usr/bin"},
        timeout=PS_SECONDS,
    )
    table = {}
    for line in result.stdout.decode(errors="replace").splitlines():
        match = _PS_LINE.fullmatch(line)
        if match is None or match[4].startswith("Z"):
            continue
        pid, parent, group = int(match[1]), int(match[2]), int(match[3])
        began = datetime.strptime(match[5], "%a %b %d %H:%M:%S %Y").astimezone()
        table[pid] = Process(ProcessId(pid, int(began.timestamp())), parent, group, group, 0)
    return table


def has_environment_entry(pid: int, entry: bytes) -> bool:
    """Whether ``NAME=value`` stands in the environment a process was started with."""
    environment = _read(pid, "environ")
    return environment is not None and entry in environment.split(b"\0")


def read_command(pid: int) -> list[bytes]:
    """Argument list of a process, [] where it may not be seen."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")[:-1]
    return []


def find_current_folder(pid: int) -> Path | None:
    """Current folder of a process, None where it may not be seen."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "cwd").readlink()
    return None


def writes_to(pid: int, files: frozenset[tuple[int, int]]) -> bool:
    """Whether a process holds one of the files (device, inode) open for writing."""
    # Strings, not paths: this looks at every descriptor of the machine.
    folder = f"{PROC}/{pid}"
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"{folder}/fd"):  # noqa: PTH208
            # Descriptors come and go while one looks.
            with contextlib.suppress(OSError):
                status = os.stat(f"{folder}/fd/{descriptor}")  # noqa: PTH116
                if (status.st_dev, status.st_ino) in files:
                    info = Path(f"{folder}/fdinfo/{descriptor}").read_text()
                    flags = re.search(r"^flags:\s*([0-7]+)", info, re.MULTILINE)
                    if flags is not None and int(flags[1], 8) & _WRITABLE:
                        return True
    return False


def create_cgroup(name: str) -> Path | None:
    """A new cgroup (version 2) below our own; None where we may not make one."""
    try:
        memberships = (PROC / "self/cgroup").read_text().splitlines()
        mounts = (PROC / "self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    own = next((line[3:] for line in memberships if line.startswith("0::")), None)
    for mount in mounts:
        fields, _, kind = mount.partition(" - ")
        root, mount_point = fields.split()[3:5]
        if kind.startswith("cgroup2 ") and own is not None and own.startswith(root):
            path = Path(mount_point) / own.removeprefix(root).strip("/") / name
            try:
                path.mkdir(mode=0o700)
            except OSError:
                return None
            return path
    return None


def list_cgroup(path: Path) -> list[int]:
    """Process ids in a cgroup (version 2) and all cgroups below it; [] where there is none."""
    pids: list[int] = []
    for folder, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            pids.extend(int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split())
    return pids


def kill_cgroup(path: Path) -> None:
    """Kill everything in a cgroup at once, where the kernel can (5.14 and later)."""
    with contextlib.suppress(OSError):
        (path / "cgroup.kill").write_text("1")


def remove_cgroup(path: Path) -> None:
    """Remove an empty cgroup and those below it; a busy one stays."""
    for folder, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


@cache
def _has_pidfd() -> bool:
    if not (hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an old kernel, or a sandbox that forbids the call
        return False
    return True


@contextlib.contextmanager
def _process_handle(pid: int) -> Iterator[int | None]:
    handle = os.pidfd_open(pid) if _has_pidfd() else None
    try:
        yield handle
    finally:
        if handle is not None:
            os.close(handle)


def send_signal(process: ProcessId, number: signal.Signals) -> bool:
    """Signal exactly this process; False where it is gone or may not be signalled.

    The handle is opened first and the start time compared after that, so the signal cannot reach
    a later process of the same pid. Without handles (macOS) a window of microseconds remains.
    """
    try:
        with _process_handle(process.pid) as handle:
            if not is_alive(process):
                return False
            if handle is None:
                os.kill(process.pid, number)
            else:
                signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
