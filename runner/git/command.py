"""One git command: argument lists, no prompts, no hooks, bounded in time and output.

A repository may be hostile, and an agent may have edited its ``.git``. Git would run programs that
the configuration names: hooks, file system monitors, filters, diff and merge drivers, credential
helpers, signers. So all of that is switched off from outside, with settings of the highest rank:
the fixed ones below, and for each driver the repository defines (their names are its own choice)
settings that empty it, read from the configuration just before. The operator's own configuration
(``HOME``, system) is used for the network only, where its credential helpers are wanted.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runner.git.errors import (
    GitCommandError,
    GitMissingError,
    GitOutputLimitError,
    GitTimeoutError,
    UnsafeRepositoryError,
)

LOCAL_SECONDS = 120.0
NETWORK_SECONDS = 1800.0
MAX_OUTPUT_BYTES = 32 << 20
MAX_STDERR_BYTES = 8 << 10
_READ_BYTES = 1 << 16
_END_SECONDS = 5.0

FIXED_SETTINGS = (
    ("core.hooksPath", os.devnull),
    ("core.fsmonitor", "false"),
    ("core.pager", "cat"),
    ("core.editor", "false"),
    ("core.askPass", "false"),
    ("core.alternateRefsCommand", "true"),
    ("core.attributesFile", os.devnull),
    ("core.excludesFile", os.devnull),
    ("core.quotePath", "false"),
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    ("credential.interactive", "false"),
    ("commit.gpgSign", "false"),
    ("tag.gpgSign", "false"),
    ("gpg.program", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("diff.ignoreSubmodules", "all"),
    ("diff.external", ""),
    ("i18n.commitEncoding", "utf-8"),
    ("i18n.logOutputEncoding", "utf-8"),
    ("log.showSignature", "false"),
    ("merge.renormalize", "false"),
    ("protocol.ext.allow", "never"),
    ("protocol.fd.allow", "never"),
    ("color.ui", "false"),
    ("advice.detachedHead", "false"),
)
# Drivers carry names of the repository's choice; these members of theirs name programs.
_DRIVER = re.compile(
    r"(?P<driver>(?:filter|diff|merge|trailer)\..+)\."
    r"(?:clean|smudge|process|required|command|cmd|textconv|driver|xfuncname|funcname)",
    re.DOTALL,
)
_EMPTY_DRIVER = {
    "filter": (("clean", ""), ("smudge", ""), ("process", ""), ("required", "false")),
    "diff": (("command", ""), ("textconv", ""), ("xfuncname", ".*"), ("funcname", ".*")),
    "merge": (("driver", "git merge-file --diff3 %A %O %B"),),
    "trailer": (("command", ""), ("cmd", "")),
}
# On the way to another machine these would run programs, or send secrets elsewhere.
_UNSAFE_ON_NETWORK = re.compile(
    r"url\..*|credential\..*|http\..*|core\.gitproxy|ssh\..*|protocol\..*|include(?:if)?\..*"
    r"|remote\..*\.(?:uploadpack|receivepack|vcs|proxy|proxyauthmethod)",
    re.DOTALL,
)
_KEPT_FROM_SERVER = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "XDG_CONFIG_HOME")
_KEPT_FOR_NETWORK = re.compile(
    r"SSL_CERT_FILE|SSL_CERT_DIR|GIT_SSL_CAINFO|SSH_AUTH_SOCK|(?:https?|ftp|all|no)_proxy",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class GitResult:
    """What a command gave. ``truncated``: there was more, and git was ended."""

    code: int
    stdout: bytes
    stderr: str
    truncated: bool = False

    @property
    def text(self) -> str:
        """Standard output as text, without the newline at its end."""
        return self.stdout.decode("utf-8", errors="replace").rstrip("\n")


def _settings_environment(settings: Iterable[tuple[str, str]]) -> dict[str, str]:
    # The environment, unlike -c, can carry names that contain "=".
    pairs = list(settings)
    environment = {"GIT_CONFIG_COUNT": str(len(pairs))}
    for number, (key, value) in enumerate(pairs):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment


def build_git_environment(
    *, settings: Iterable[tuple[str, str]] = (), network: bool = False
) -> dict[str, str]:
    """The complete environment of a git command."""
    environment = {name: os.environ[name] for name in _KEPT_FROM_SERVER if name in os.environ}
    if network:
        environment |= {
            name: value for name, value in os.environ.items() if _KEPT_FOR_NETWORK.fullmatch(name)
        }
    else:
        environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        # A repository may claim that missing objects are to be fetched; not in passing.
        environment["GIT_ALLOW_PROTOCOL"] = "none"
    return {
        **environment,
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "false",
        "SSH_ASKPASS": "false",
        "GIT_EDITOR": "false",
        "GIT_SEQUENCE_EDITOR": "false",
        "GIT_PAGER": "cat",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        **_settings_environment((*FIXED_SETTINGS, *settings)),
    }


async def _read_some(descriptor: int) -> bytes:
    """What a pipe holds, once it holds something; empty at its end.

    The loop's transports for pipes are not used: uvloop closes their descriptor twice, and the
    second time it may be another thread's.
    """
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, _READ_BYTES)


class _Git:
    """One git process whose output is read in the loop.

    It is started by ``subprocess``: the loop's own way copies this process's page tables for each
    child and keeps everything waiting meanwhile, many times as long.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.returncode

    async def read(
        self, pipe: IO[bytes] | None, *, limit: int, keep_reading: bool
    ) -> tuple[bytes, bool]:
        """Up to ``limit`` bytes, and whether there was more; then either drain or return."""
        assert pipe is not None  # noqa: S101 - asked for at the start
        data = bytearray()
        exceeded = False
        while chunk := await _read_some(pipe.fileno()):
            room = limit - len(data)
            data += chunk[:room]
            if len(chunk) > room:
                exceeded = True
                if not keep_reading:
                    break
        return bytes(data), exceeded

    async def communicate(self, *, max_bytes: int) -> tuple[bytes, str, bool]:
        """Output, errors and whether there was too much output; git has ended then."""
        async with asyncio.TaskGroup() as group:
            errors = group.create_task(
                self.read(self._process.stderr, limit=MAX_STDERR_BYTES, keep_reading=True)
            )
            output, exceeded = await self.read(
                self._process.stdout, limit=max_bytes, keep_reading=False
            )
            if exceeded:
                self._kill()
            if self._process.poll() is None:
                await asyncio.to_thread(self._process.wait)
        return output, errors.result()[0].decode("utf-8", errors="replace").strip(), exceeded

    async def end(self) -> None:
        """Leave nothing of it, wherever it stands."""
        if self._process.poll() is None:
            self._kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.shield(asyncio.to_thread(self._process.wait, _END_SECONDS))
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _kill(self) -> None:
        # Git and its helpers are one process group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _as_file(data: bytes) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(data)
    file.seek(0)
    return file


def _start(
    arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], stdin: IO[bytes] | None
) -> _Git:
    try:
        process = subprocess.Popen(  # noqa: S603 - a list of arguments, built by this package
            ["git", *arguments],  # noqa: S607 - found where the operator's PATH says
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        if cwd.is_dir():
            raise GitMissingError("The program git is not installed") from error
        raise GitCommandError(arguments[0], code=-1, stderr=f"{cwd} is not a folder") from error
    return _Git(process)


async def run_git(
    arguments: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    stdin: bytes | None = None,
    seconds: float = LOCAL_SECONDS,
    max_bytes: int = MAX_OUTPUT_BYTES,
    truncate: bool = False,
    accept: Iterable[int] = (0,),
) -> GitResult:
    """Run git to its end and return what it said.

    ``truncate`` turns too much output into a shortened result; otherwise it raises
    GitOutputLimitError. Raises GitCommandError for exit codes not in ``accept``, GitTimeoutError,
    GitMissingError. Whatever happens, also when the caller is cancelled, git is ended.
    """
    with contextlib.ExitStack() as stack:
        source = None
        if stdin is not None:
            source = stack.enter_context(await asyncio.to_thread(_as_file, stdin))
        process = _start(arguments, cwd, environment, source)
    try:
        async with asyncio.timeout(seconds):
            output, stderr, exceeded = await process.communicate(max_bytes=max_bytes)
    except TimeoutError as error:
        raise GitTimeoutError(f"git {arguments[0]} took longer than {seconds:g} s") from error
    finally:
        await asyncio.shield(process.end())
    if exceeded and not truncate:
        raise GitOutputLimitError(f"git {arguments[0]} gave more than {max_bytes} bytes")
    code = process.code if process.code is not None else -1
    if not exceeded and code not in accept:
        raise GitCommandError(arguments[0], code=code, stderr=stderr)
    return GitResult(code, output, stderr, exceeded)


def disarm(keys: Iterable[str]) -> list[tuple[str, str]]:
    """Settings that empty every driver among the keys."""
    drivers = {match["driver"] for key in keys if (match := _DRIVER.fullmatch(key))}
    return [
        (f"{driver}.{member}", value)
        for driver in sorted(drivers)
        for member, value in _EMPTY_DRIVER[driver.partition(".")[0]]
    ]


def refuse_unsafe(keys: Iterable[str]) -> None:
    """Raise UnsafeRepositoryError for settings that would redirect a command on the network."""
    unsafe = sorted({key for key in keys if _UNSAFE_ON_NETWORK.fullmatch(key.lower())})
    if unsafe:
        raise UnsafeRepositoryError(unsafe[:20])
