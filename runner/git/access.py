"""A credential for one git host: handed to git by a helper of ours, for that host and no other.

The secret is in the environment of that one git command and of what it starts, never in an
argument list, a configuration file or an address. Every other helper, the operator's too, is
switched off for that host; for other hosts everything stays as it is.
"""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from runner.git.credential_helper import HOST, PROTOCOL, SECRET, USERNAME
from runner.git.errors import InvalidNameError

_HELPER = Path(__file__).resolve().with_name("credential_helper.py")
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True)
class Access:
    """``host`` is as it stands in addresses, with its port where that has one."""

    host: str
    username: str
    secret: str = field(repr=False)

    def environment(self) -> dict[str, str]:
        """What the helper reads."""
        return {HOST: self.host, USERNAME: self.username, SECRET: self.secret}

    def hide(self, text: str) -> str:
        """A text of git's without the secret."""
        return text.replace(self.secret, "***")


def host_of(url: str) -> str | None:
    """The host (and port) an https address goes to; also http on this machine. None otherwise."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2].lower()
    except ValueError:
        return None
    plain = parts.scheme == "http" and host.rpartition(":")[0] in _LOOPBACK
    return host if host and (parts.scheme == "https" or plain) else None


def build_access_settings(url: str, access: Access) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Settings and environment by which git gets the credential for an address.

    Raises InvalidNameError where the address is of another host.
    """
    if host_of(url) != access.host.lower():
        raise InvalidNameError(f"The credential is for {access.host}, not for this address")
    protocol = urlsplit(url).scheme
    key = f"credential.{protocol}://{access.host}.helper"
    command = shlex.join([sys.executable, "-I", "-S", str(_HELPER)])
    # The empty one forgets all helpers before it; ours is as specific as any can be.
    settings = [(key, ""), (key, f"!{command}"), ("http.followRedirects", "false")]
    return settings, {**access.environment(), PROTOCOL: protocol}
