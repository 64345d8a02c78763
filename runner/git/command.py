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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
MAX_CONFIGURATION_BYTES = 4 << 20
_READ_BYTES = 1 << 16
_END_SECONDS = 5.0

_FIXED_SETTINGS = (
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
        **_settings_environment((*_FIXED_SETTINGS, *settings)),
    }


async def _read_bounded(
    stream: asyncio.StreamReader, *, limit: int, keep_reading: bool
) -> tuple[bytes, bool]:
    """Up to ``limit`` bytes, and whether there was more; then either drain or return at once."""
    data = bytearray()
    exceeded = False
    while chunk := await stream.read(_READ_BYTES):
        room = limit - len(data)
        data += chunk[:room]
        if len(chunk) > room:
            exceeded = True
            if not keep_reading:
                break
    return bytes(data), exceeded


async def _feed(stream: asyncio.StreamWriter | None, data: bytes | None) -> None:
    if stream is None or data is None:
        return
    # Git may end, or be ended, before it has read everything.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
    stream.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    # Git and its helpers are one process group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), _END_SECONDS)


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
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            cwd=cwd,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        if await asyncio.to_thread(cwd.is_dir):
            raise GitMissingError("The program git is not installed") from error
        raise GitCommandError(arguments[0], code=-1, stderr=f"{cwd} is not a folder") from error
    assert process.stdout is not None  # noqa: S101 - asked for above
    assert process.stderr is not None  # noqa: S101 - asked for above
    try:
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            group.create_task(_feed(process.stdin, stdin))
            errors = group.create_task(
                _read_bounded(process.stderr, limit=MAX_STDERR_BYTES, keep_reading=True)
            )
            output, exceeded = await _read_bounded(
                process.stdout, limit=max_bytes, keep_reading=False
            )
            if exceeded:
                await _end(process)
            await process.wait()
    except TimeoutError as error:
        raise GitTimeoutError(f"git {arguments[0]} took longer than {seconds:g} s") from error
    finally:
        if process.returncode is None:
            await asyncio.shield(_end(process))
    if exceeded and not truncate:
        raise GitOutputLimitError(f"git {arguments[0]} gave more than {max_bytes} bytes")
    code = process.returncode if process.returncode is not None else -1
    stderr = errors.result()[0].decode("utf-8", errors="replace").strip()
    if not exceeded and code not in accept:
        raise GitCommandError(arguments[0], code=code, stderr=stderr)
    return GitResult(code, output, stderr, exceeded)


async def read_repository_keys(git_dir: Path) -> list[str]:
    """Names of everything the repository's own configuration sets, included files too."""
    result = await run_git(
        ["config", "--list", "--name-only", "-z", "--includes"],
        cwd=git_dir,
        environment={**build_git_environment(), "GIT_DIR": str(git_dir)},
        max_bytes=MAX_CONFIGURATION_BYTES,
    )
    own = result.stdout.decode("utf-8", errors="surrogateescape").split("\0")
    fixed = {key.lower() for key, _ in _FIXED_SETTINGS}
    return [key for key in own if key and key.lower() not in fixed]


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
