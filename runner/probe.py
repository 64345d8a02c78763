"""Whether an executor could start here and now: its program, its version, its credential."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from runner.configuration import ExecutorSettings
from runner.environment import (
    ALLOWED_NAMES,
    OWN_PREFIX,
    EnvironmentRefusedError,
    build_environment,
)
from runner.executors.base import ExecutorSettingsError
from runner.executors.native import Credentials
from runner.executors.registry import ADAPTERS, find_agent, why_unavailable

VERSION_SECONDS = 10.0
_VERSION_BYTES = 4096
_VERSION_CHARACTERS = 200
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What a look at an executor told.

    ``path`` is the program's file, ``version`` the first line of what it says of itself (None for
    programs of the operator's own, which are not started for this). ``credential_configured`` is
    None where that cannot be known; True does not say that the credential is accepted. ``reason``
    says why the executor cannot start, None when it can.
    """

    installed: bool
    path: str | None = None
    version: str | None = None
    credential_configured: bool | None = None
    reason: str | None = None


def find_program(program: str, settings: ExecutorSettings) -> str | None:
    """The file of a program as its agent would find it, None where there is none; blocking.

    A path that is relative to the worktree is taken as it is: nobody can look there yet.
    """
    if "/" in program and not Path(program).is_absolute():
        return program
    return shutil.which(program, path=settings.env.get("PATH") or os.environ.get("PATH"))


def missing_text(program: str, install_hint: str | None) -> str:
    """What to tell where a program is not there."""
    hint = f"; to install it: {install_hint}" if install_hint else ""
    return f"{program} is not on the PATH of the server's user{hint}"


async def probe_executor(
    name: str, settings: ExecutorSettings | None, *, known_version: str | None = None
) -> ProbeResult:
    """Look at one executor; takes at most ten seconds, and that only to ask for the version.

    Args:
        name: of the executor.
        settings: as configured; None for one that is not.
        known_version: what the program said before; it is not asked again.
    """
    if settings is None:
        return ProbeResult(installed=False, reason=_not_configured(name))
    try:
        executor = settings.make(name)
    except ExecutorSettingsError as error:
        return ProbeResult(installed=False, reason=str(error))
    native = find_agent(executor)
    path = await asyncio.to_thread(find_program, executor.program, settings)
    if path is None:
        hint = native.install_hint if native else None
        return ProbeResult(installed=False, reason=missing_text(executor.program, hint))
    if native is None:
        return ProbeResult(installed=True, path=path)
    try:
        version = known_version or await ask_version(path, settings)
    except EnvironmentRefusedError as error:
        return ProbeResult(installed=True, path=path, reason=str(error))
    has_credential = await asyncio.to_thread(_has_credential, native.credentials, settings)
    return ProbeResult(
        installed=True,
        path=path,
        version=version,
        credential_configured=has_credential,
        reason=None if version else f"{path} does not answer to --version",
    )


def _not_configured(name: str) -> str:
    if name in ADAPTERS:
        return f'Not configured: add {{"{name}": {{}}}} to {OWN_PREFIX}EXECUTORS'
    if name == "CUSTOM":
        return f"Not configured: set {OWN_PREFIX}CUSTOM_COMMAND"
    return why_unavailable(name)


class Prober:
    """Probes of one server's executors; a program is asked for its version once per file."""

    def __init__(self, executors: Mapping[str, ExecutorSettings]) -> None:
        self._executors = executors
        self._versions: dict[str, tuple[tuple[str, int], str]] = {}
        self._turns = {name: asyncio.Lock() for name in executors}

    async def __call__(self, name: str) -> ProbeResult:
        """Look at one executor; many who ask at once wait for one answer."""
        settings = self._executors.get(name)
        if settings is None:
            return await probe_executor(name, None)
        async with self._turns[name]:
            key = await asyncio.to_thread(self._find_key, name, settings)
            known = self._versions.get(name)
            is_known = known is not None and known[0] == key
            said = known[1] if known is not None and is_known else None
            try:
                found = await probe_executor(name, settings, known_version=said)
            except OSError as error:
                return ProbeResult(installed=False, reason=f"It could not be looked at: {error}")
            if key is not None and found.version is not None:
                self._versions[name] = (key, found.version)
            return found

    def _find_key(self, name: str, settings: ExecutorSettings) -> tuple[str, int] | None:
        """The program's file and when it was changed; a new version is another file."""
        try:
            path = find_program(settings.make(name).program, settings)
            return None if path is None else (path, Path(path).stat().st_mtime_ns)
        except (ExecutorSettingsError, OSError):
            return None


async def ask_version(path: str, settings: ExecutorSettings) -> str | None:
    """The first line a program says to ``--version``, None where it says none in time.

    It gets the environment its runs get, and nothing else of the server. Raises
    EnvironmentRefusedError where the operator's variables cannot be an environment.
    """
    with tempfile.TemporaryDirectory(prefix="dgm-", ignore_cleanup_errors=True) as folder:
        environment = build_environment(
            os.environ,
            run_id="version",
            temporary=Path(folder),
            pass_through=settings.pass_env,
            extras=settings.env,
        )
        said = Path(folder, "said")
        with said.open("wb") as output:  # noqa: ASYNC230  # a new file in a new folder
            try:
                process = await asyncio.create_subprocess_exec(
                    path,
                    "--version",
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=asyncio.subprocess.DEVNULL,
                    env=environment,
                    cwd=folder,
                    start_new_session=True,
                )
            except OSError:
                return None
        return _first_line(said) if await _ends_in_time(process) else None


async def _ends_in_time(process: asyncio.subprocess.Process) -> bool:
    try:
        async with asyncio.timeout(VERSION_SECONDS):
            await process.wait()
    except TimeoutError:
        return False
    finally:
        # Nothing is lost with it, and a wrapper's real program is in the same group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return True


def _first_line(path: Path) -> str | None:
    with path.open("rb") as file:
        said = file.read(_VERSION_BYTES)
    lines = _ESCAPE.sub("", said.decode(errors="replace")).strip().splitlines()
    line = lines[0].strip()[:_VERSION_CHARACTERS] if lines else ""
    return line if line.isprintable() and line else None


def _has_credential(credentials: Credentials, settings: ExecutorSettings) -> bool:
    patterns = (*ALLOWED_NAMES, *settings.pass_env)
    environment = {
        name: value
        for name, value in os.environ.items()
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    }
    environment.update(settings.env)
    if any(environment.get(name) for name in credentials.variables):
        return True
    home = environment.get("HOME")
    for variable, below_home, name in credentials.files:
        folder = environment.get(variable) or (home and str(Path(home, below_home)))
        if folder and Path(folder, name).is_file():
            return True
    return False
