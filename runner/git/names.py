"""Names that come from users, and what git may be given of them."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from runner.git.errors import InvalidNameError

MAX_BRANCH_BYTES = 200
MAX_URL_CHARACTERS = 2000
_FORBIDDEN_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock/")
_OBJECT_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REVISION = re.compile(r"[A-Za-z0-9_][^\x00-\x20\x7f~^:?*\[\\]*")
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SCP_LIKE = re.compile(r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?!:)[^:\s][^\s]*")
_REMOTE_SCHEMES = {"https", "http", "ssh", "git"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def valid_branch_name(name: str) -> bool:
    """Whether a branch may have this name: git's rules, and nothing read as an option or a hash."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return (
        0 < size <= MAX_BRANCH_BYTES
        and not _FORBIDDEN_IN_REF.search(name)
        and not name.startswith(("-", "/", ".", "refs/"))
        and not name.endswith(("/", ".", ".lock"))
        and name not in {"@", "HEAD"}
        and not _OBJECT_NAME.fullmatch(name)
    )


def check_branch_name(name: str) -> str:
    """The name. Raises InvalidNameError."""
    if not valid_branch_name(name):
        raise InvalidNameError(f"{name[:100]!r} cannot be the name of a branch")
    return name


def check_revision(revision: str) -> str:
    """A branch, full ref or hash: plain names without operators. Raises InvalidNameError."""
    if not _REVISION.fullmatch(revision) or ".." in revision or "@{" in revision:
        raise InvalidNameError(f"{revision[:100]!r} is not a plain name of a commit")
    return revision


def check_folder_name(name: str) -> str:
    """One harmless path component. Raises InvalidNameError."""
    if not _FOLDER_NAME.fullmatch(name) or name.endswith((".", ".lock")):
        raise InvalidNameError(f"{name[:100]!r} cannot be the name of a folder")
    return name


def check_url(url: str, *, allow_local: bool) -> str:
    """An address to clone from: https, http, ssh, git, or ``user@host:path``.

    ``allow_local`` also lets absolute paths and file:// through. Raises InvalidNameError.
    """
    if len(url) > MAX_URL_CHARACTERS or _CONTROL.search(url) or url.startswith("-"):
        raise InvalidNameError("This is not an address of a repository")
    if url.startswith(("/", "file:///")):
        if allow_local:
            return url
        raise InvalidNameError("Repositories on this machine are not allowed here")
    if _SCP_LIKE.fullmatch(url) and "://" not in url:
        return url
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if (
        not host
        or host.startswith("-")
        or parts.scheme not in _REMOTE_SCHEMES
        or "::" in parts.path
    ):
        raise InvalidNameError(f"{url[:200]!r} is not an address git may fetch from")
    return url


@dataclass(frozen=True, slots=True)
class Identity:
    """Author or committer of a commit."""

    name: str
    email: str

    def environment(self, role: str) -> dict[str, str]:
        """Variables for git; ``role`` is AUTHOR or COMMITTER. What git cannot take is left out."""
        name = re.sub(r"[<>\x00-\x1f\x7f]", " ", self.name).strip(" .,:;\"'") or "unknown"
        email = re.sub(r"[<>\s\x00-\x1f\x7f]", "", self.email) or "unknown@localhost"
        clean = {f"GIT_{role}_NAME": name[:200], f"GIT_{role}_EMAIL": email[:200]}
        return {key: value.encode(errors="replace").decode() for key, value in clean.items()}
