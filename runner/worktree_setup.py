"""Preparing a new worktree: files that git does not keep, and commands such as an installer.

What is copied comes from the workspace's own checkout and goes into the worktree, both confined
after all links are resolved: a repository may track links that lead anywhere. Commands are argument
lists of the operator's or the site owner's, run under a supervisor like an agent.
"""

import asyncio
import os
import shlex
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from runner.environment import (
    build_environment,
    create_temporary_folder,
    remove_temporary_folder,
)
from runner.folder import (
    Limits,
    RunFolder,
    SupervisorSpec,
    create_run_folder,
    open_regular,
    remove_tree,
)
from runner.launch import Exited, Lost, StartFailedError, inspect, start
from runner.output import clean_text
from runner.processes import read_identity
from runner.stopping import StopLadder, stop_tree

MAX_COPY_FILES = 10_000
MAX_COPY_BYTES = 256 << 20
MAX_OUTPUT_BYTES = 4 << 20
MAX_TOLD_BYTES = 64 << 10
MARK = "dragoman-ready"
_CHUNK = 1 << 20
_LOOK_SECONDS = 0.1

Tell = Callable[[Sequence[str]], Awaitable[None]]


class SetupError(Exception):
    """The worktree could not be prepared; the text is fit for the user."""


class SetupStoppedError(Exception):
    """Somebody stopped the run while its worktree was prepared."""


@dataclass(frozen=True, slots=True)
class WorktreeSetup:
    """What a new worktree needs: patterns of files below the main checkout, argument lists."""

    copy: tuple[str, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.copy or self.commands)

    def and_then(self, more: Mapping[str, Any] | None) -> "WorktreeSetup":
        """This one, and after it what a workspace says."""
        if not more:
            return self
        commands = tuple(tuple(command) for command in more.get("commands", ()))
        return WorktreeSetup((*self.copy, *more.get("copy", ())), (*self.commands, *commands))

    def covers(self, path: str) -> bool:
        """Whether a path of the worktree is one that is copied, or lies below one."""
        return any(
            fnmatchcase(path, form) or fnmatchcase(path, f"{form}/*")
            for pattern in self.copy
            for form in {pattern.strip("/"), pattern.strip("/").replace("**/", "")}
        )


@dataclass(frozen=True, slots=True)
class SetupCommands:
    """How commands are run: as this run, with these limits, in folders under ``folder``."""

    run_id: str
    folder: Path
    prefix: str
    heartbeat: Path
    seconds: float
    orphan_after: float
    stop_grace: float

    async def run(
        self, argv: Sequence[str], *, number: int, cwd: Path, tell: Tell, stopped: asyncio.Event
    ) -> None:
        """Run one command to its end and tell what it wrote.

        Raises SetupError where it fails or takes too long, SetupStoppedError.
        """
        await tell([f"$ {shlex.join(argv)}"])
        folder = await asyncio.to_thread(create_run_folder, self.folder / f"{self.prefix}-{number}")
        temporary = await asyncio.to_thread(create_temporary_folder)
        try:
            end = await self._supervise(folder, tuple(argv), cwd, temporary, stopped)
            lines = await asyncio.to_thread(_written, folder)
            await tell(lines)
        finally:
            await asyncio.shield(self._clear(folder, temporary))
        if stopped.is_set():
            raise SetupStoppedError
        if end is not None:
            last = "\n".join(lines[-20:])
            raise SetupError(f"Preparing the worktree failed: {shlex.join(argv)} {end}\n\n{last}")

    async def _supervise(
        self,
        folder: RunFolder,
        argv: tuple[str, ...],
        cwd: Path,
        temporary: Path,
        stopped: asyncio.Event,
    ) -> str | None:
        """How it went wrong; None where it went well."""
        spec = SupervisorSpec(
            run_id=self.run_id,
            argv=argv,
            cwd=str(cwd),
            env=build_environment(os.environ, run_id=self.run_id, temporary=temporary),
            heartbeat=str(self.heartbeat),
            limits=Limits(
                max_seconds=self.seconds,
                max_output_bytes=MAX_OUTPUT_BYTES,
                orphan_after=self.orphan_after,
                interrupt_seconds=self.stop_grace,
                terminate_seconds=self.stop_grace,
            ),
        )
        try:
            await start(folder, spec)
        except (StartFailedError, TimeoutError) as error:
            return f"did not start: {error}"
        while True:
            state = await inspect(folder, run_id=self.run_id)
            if isinstance(state, Lost):
                return "was lost"
            if isinstance(state, Exited):
                break
            if stopped.is_set():
                return "was stopped"
            await asyncio.sleep(_LOOK_SECONDS)
        end = state.exit
        if end.reason != "exited":
            detail = {"time_limit": f"took longer than {self.seconds:g} s"}.get(end.reason)
            return detail or f"ended with {end.reason}" + (f": {end.error}" if end.error else "")
        if end.exit_code == 0:
            return None
        return (
            f"ended with exit code {end.exit_code}"
            if end.signal is None
            else (f"was ended by signal {end.signal}")
        )

    async def _clear(self, folder: RunFolder, temporary: Path) -> None:
        identity = await asyncio.to_thread(read_identity, folder, run_id=self.run_id)
        grace = self.stop_grace
        await stop_tree(
            identity, ladder=StopLadder(interrupt_seconds=grace, terminate_seconds=grace)
        )
        await asyncio.to_thread(remove_temporary_folder, temporary)
        await asyncio.to_thread(remove_tree, folder.path)


def _written(folder: RunFolder) -> list[str]:
    """The ends of what a command wrote, standard output first."""
    lines: list[str] = []
    for path in (folder.stdout, folder.stderr):
        try:
            with open_regular(path) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - MAX_TOLD_BYTES))
                text = clean_text(file.read(MAX_TOLD_BYTES))
        except OSError:
            continue
        if size > MAX_TOLD_BYTES:
            lines.append(f"[{size - MAX_TOLD_BYTES} bytes before this were left out]")
        lines.extend(text.splitlines())
    return lines


# --- copying ---


def copy_files(source: Path, target: Path, patterns: Sequence[str]) -> list[str]:
    """Copy what the patterns name below ``source`` to the same places below ``target``; blocking.

    What is there already stays. Links are followed as long as they end inside of ``source``; those
    below a folder that is copied are left out. Returns what was done and left out, for people.
    Raises SetupError for more than 10,000 files or 256 MiB.
    """
    told: list[str] = []
    copier = _Copier(source.resolve(), target.resolve(), told)
    for pattern in patterns:
        found = False
        for path in sorted(copier.source.glob(pattern.strip("/"))):
            found = True
            copier.take(path)
        if not found:
            told.append(f"There is no {pattern} to copy")
    if copier.files:
        told.append(f"Copied {copier.files} files from the main checkout ({copier.bytes} bytes)")
    return told


@dataclass(slots=True)
class _Copier:
    source: Path
    target: Path
    told: list[str]
    files: int = 0
    bytes: int = 0

    def take(self, path: Path) -> None:
        name = path.relative_to(self.source)
        real = path.resolve()
        git = self.source / ".git"
        if not real.is_relative_to(self.source) or real.is_relative_to(git):
            self.told.append(f"{name} leads out of the checkout and was not copied")
        elif real.is_dir():
            for file in _files_below(real):
                self._copy(file, name / file.relative_to(real))
        else:
            self._copy(real, name)

    def _copy(self, file: Path, name: Path) -> None:
        place = self.target / name
        nearest = next(parent for parent in place.parents if os.path.lexists(parent))
        if not nearest.resolve().is_relative_to(self.target) or ".git" in name.parts:
            self.told.append(f"{name} would leave the worktree and was not copied")
            return
        try:
            source = open_regular(file)
        except OSError:
            self.told.append(f"{name} cannot be read, or is no file, and was not copied")
            return
        with source:
            if os.path.lexists(place):
                return
            self._count(os.fstat(source.fileno()).st_size)
            place.parent.mkdir(parents=True, exist_ok=True)
            mode = stat.S_IMODE(os.fstat(source.fileno()).st_mode) & 0o700
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(place, flags, mode | 0o600), "wb") as copy:
                while chunk := source.read(_CHUNK):
                    copy.write(chunk)

    def _count(self, size: int) -> None:
        self.files += 1
        self.bytes += size
        if self.files > MAX_COPY_FILES or self.bytes > MAX_COPY_BYTES:
            raise SetupError(
                f"There is too much to copy into the worktree: more than {MAX_COPY_FILES} files "
                f"or {MAX_COPY_BYTES >> 20} MiB"
            )


def _files_below(folder: Path) -> Iterator[Path]:
    """Files of a folder tree, no links, no repositories' insides."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted(names):
            path = Path(parent, name)
            if not path.is_symlink():
                yield path
