"""The folder of one run: which file is where, and how files of it are written and read.

The folder belongs to the user the server runs as and is closed to everybody else (0700, files
0600): it holds the agent's credentials until the agent has started, and its whole output.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

MAX_RECORD_BYTES = 4 << 20
ORDERS_FILE = "orders.jsonl"


class RunFolderError(Exception):
    """A run folder, or a file in it, cannot be what it should be."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of one run; ``path`` is absolute and contains no symbolic link."""

    path: Path

    @property
    def spec(self) -> Path:
        """What the supervisor is to do; deleted as soon as the agent runs."""
        return self.path / "spec.json"

    @property
    def lock(self) -> Path:
        """Locked (flock) by the supervisor from before its start until it is gone."""
        return self.path / "run.lock"

    @property
    def stdin(self) -> Path:
        """Standard input of the agent."""
        return self.path / "stdin.txt"

    @property
    def files(self) -> Path:
        """Folder of the files that the executor asked for, such as the prompt."""
        return self.path / "files"

    @property
    def orders(self) -> Path:
        """What the server tells the process beside the agent; see ``runner.beside.orders``."""
        return self.files / ORDERS_FILE

    @property
    def stdout(self) -> Path:
        """Standard output of the agent, only ever appended to."""
        return self.path / "stdout.log"

    @property
    def stderr(self) -> Path:
        """Standard error of the agent, only ever appended to."""
        return self.path / "stderr.log"

    @property
    def processes(self) -> Path:
        """Processes of the run that the supervisor saw alive last."""
        return self.path / "processes.json"

    @property
    def started(self) -> Path:
        """Written once the agent's program executes."""
        return self.path / "started.json"

    @property
    def exit(self) -> Path:
        """Written last: how the agent ended."""
        return self.path / "exit.json"

    @property
    def log(self) -> Path:
        """Complaints of the supervisor itself; empty in good times."""
        return self.path / "supervisor.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the supervisor enforces even when no server is there; seconds and bytes.

    ``max_output_bytes`` counts standard output and standard error together; beyond twice that the
    agent is killed at once. The three stage times belong to the ladder SIGINT, SIGTERM, SIGKILL.
    """

    max_seconds: float = 24 * 3600.0
    max_output_bytes: int = 200 << 20
    orphan_after: float = 600.0
    interrupt_seconds: float = 5.0
    terminate_seconds: float = 5.0
    kill_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorSpec:
    """Content of spec.json. ``env`` is complete and exact; ``stdin`` is a path or None (nothing).

    ``heartbeat`` is the file whose age tells the supervisor that the server is gone, None for
    never. ``cgroup`` False: the run gets no cgroup of its own even where one could be made.
    """

    run_id: str
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str] = field(repr=False)
    stdin: str | None = None
    heartbeat: str | None = None
    cgroup: bool = True
    limits: Limits = field(default_factory=Limits)


def open_run_folder(path: Path) -> RunFolder:
    """The run folder at ``path``, which must exist. Raises RunFolderError."""
    resolved = path.resolve()
    if not resolved.is_dir():
        raise RunFolderError(f"There is no run folder at {path}")
    return RunFolder(resolved)


def create_run_folder(path: Path) -> RunFolder:
    """Make a new run folder, parents included. Raises RunFolderError where something is there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError as error:
        raise RunFolderError(f"{path} exists already") from error
    return RunFolder(path.resolve())


def write_private(path: Path, data: bytes) -> None:
    """Create a file that only its owner may read. Raises FileExistsError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)


def write_spec(folder: RunFolder, spec: SupervisorSpec, *, cgroup: Path | None) -> None:
    """Write spec.json; ``cgroup`` is the one made for the run. Raises FileExistsError."""
    content = {**asdict(spec), "env": dict(spec.env), "cgroup": str(cgroup) if cgroup else None}
    write_private(folder.spec, json.dumps(content).encode())


def write_launch_files(
    folder: RunFolder, *, stdin: str | None, files: Mapping[str, str]
) -> str | None:
    """Write the agent's standard input and files; return the path of the input, None for none.

    Names of files are single path components. Raises RunFolderError for any other name.
    """
    if files:
        folder.files.mkdir(mode=0o700)
    for name, content in files.items():
        if name in {"", ".", ".."} or "/" in name or "\0" in name:
            raise RunFolderError(f"{name!r} is not a file name")
        write_private(folder.files / name, content.encode(errors="surrogateescape"))
    if stdin is None:
        return None
    write_private(folder.stdin, stdin.encode(errors="surrogateescape"))
    return str(folder.stdin)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, never a link, never waiting (an agent may plant a pipe).

    Raises OSError, also for anything that is not a regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(fd, "rb")


def find_record(path: Path) -> dict[str, Any] | None:
    """A JSON object written by the supervisor, or None where it is missing.

    The supervisor writes atomically, but the agent runs as the same user and may have written
    anything here: what is not a JSON object of bearable size counts as missing.
    """
    try:
        with open_regular(path) as file:
            data = file.read(MAX_RECORD_BYTES + 1)
        value = json.loads(data) if len(data) <= MAX_RECORD_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def create_lock(folder: RunFolder) -> int:
    """Create and lock the lock file; return its descriptor, which the supervisor inherits.

    Raises FileExistsError where a supervisor was started for this folder before.
    """
    fd = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def is_locked(folder: RunFolder) -> bool:
    """Whether a supervisor (or the start of one) holds the lock: true without any pid."""
    try:
        file = open_regular(folder.lock)
    except OSError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def remove_tree(path: Path) -> bool:
    """Delete a folder with everything in it, also folders an agent closed to us; blocking.

    Links are deleted, not followed. False where something is left; a missing folder is no failure.
    """
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        _open_up(path)
        shutil.rmtree(path, ignore_errors=True)
    return not os.path.lexists(path)


def _open_up(path: Path) -> None:
    """Give ourselves back the folders that an agent closed."""
    folders = [path]
    while folders:
        folder = folders.pop()
        with contextlib.suppress(OSError):
            if folder.is_dir() and not folder.is_symlink():
                folder.chmod(stat.S_IRWXU)
                folders.extend(folder.iterdir())
