"""What an agent's process inherits: built from nothing, and a temporary folder of its own.

Tools that an agent starts see its environment, and print it. So nothing of the server is passed
on but a short list of harmless names, and never one of its own settings.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from runner.folder import remove_tree
from runner.processes import RUN_TAG

ALLOWED_NAMES = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TERM",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
)
OWN_PREFIX = "DRAGOMAN_"
_TEMPORARY_PREFIX = "dgm-"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")


class EnvironmentRefusedError(ValueError):
    """A name or value cannot be part of an environment, or may not."""


def check_extra(name: str, value: str) -> None:
    """Refuse what cannot stand in an environment, or is the server's own. Raises."""
    if not _NAME.fullmatch(name):
        raise EnvironmentRefusedError(f"{name!r} is not a name of an environment variable")
    if name.startswith(OWN_PREFIX):
        raise EnvironmentRefusedError(f"{name} belongs to the server and is not for agents")
    if "\0" in value:
        raise EnvironmentRefusedError(f"The value of {name} holds a NUL character")


def check_pass_through(pattern: str) -> None:
    """Refuse a pattern that is not a name or a prefix with ``*``, or takes in our own. Raises."""
    if not _PATTERN.fullmatch(pattern):
        raise EnvironmentRefusedError(f"{pattern!r} is neither a name nor a prefix with *")
    if fnmatchcase(OWN_PREFIX, pattern) or pattern.startswith(OWN_PREFIX):
        raise EnvironmentRefusedError(f"{pattern} would pass on the server's own settings")


def build_environment(
    server: Mapping[str, str],
    *,
    run_id: str,
    temporary: Path,
    pass_through: Iterable[str] = (),
    extras: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The complete environment of an agent.

    ``server`` is the server's own environment, of which the allowed names and the operator's
    ``pass_through`` (names, or prefixes with ``*``) are kept. ``extras`` are set over that: the
    executor's rows, then the operator's. The run's tag and TMPDIR come last and cannot be
    changed. Raises EnvironmentRefusedError.
    """
    patterns = tuple(pass_through)
    for pattern in patterns:
        check_pass_through(pattern)
    environment = {
        name: value
        for name, value in server.items()
        if not name.startswith(OWN_PREFIX)
        and (name in ALLOWED_NAMES or any(fnmatchcase(name, pattern) for pattern in patterns))
    }
    environment.setdefault("PATH", os.defpath)
    for name, value in (extras or {}).items():
        check_extra(name, value)
        environment[name] = value
    return {**environment, "TMPDIR": str(temporary), RUN_TAG: run_id}


def create_temporary_folder(root: Path | None = None) -> Path:
    """A new folder for one run's temporary files, closed to other users.

    ``root`` defaults to the system's. The path is kept short, because programs put sockets there
    and those allow 107 bytes only.
    """
    base = root or Path(tempfile.gettempdir())
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX, dir=base)).resolve()


def remove_temporary_folder(path: Path) -> bool:
    """Delete what ``create_temporary_folder`` made, whatever the agent left in it; blocking.

    Links are not followed. False where something could not be deleted, or where the path is not
    such a folder (then nothing is touched); a missing one is no failure.
    """
    if not path.name.startswith(_TEMPORARY_PREFIX) or path.is_symlink():
        return False
    return remove_tree(path)
