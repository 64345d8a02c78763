"""Two ways to ask GitHub's API: githubkit with a token, or the program ``gh`` with its own log-in.

Both take the same requests and give status and JSON, so that what is asked stands in one place.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode

TIMEOUT_SECONDS = 30.0
MAX_ANSWER_BYTES = 8 << 20
_KEPT_FOR_GH = (
    "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_CONFIG_HOME", "GH_CONFIG_DIR", "GH_TOKEN",
    "GITHUB_TOKEN", "GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
    "no_proxy",
)  # fmt: skip


class ForgeUnreachableError(Exception):
    """No answer came; ``retry_after`` seconds are worth a wait. The text is fit for the user."""

    def __init__(self, text: str, *, retry_after: int = 30) -> None:
        super().__init__(text)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and what stood in the body: a JSON value, or None where there was none."""

    status: int
    body: Any


class Transport(Protocol):
    """Sends a request to the API."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """The answer, whatever its status. Raises ForgeUnreachableError."""


@dataclass(frozen=True, slots=True)
class ApiTransport:
    """githubkit: no cache, no retries of its own, no redirects (they would carry the token)."""

    base_url: str
    token: str | None = field(default=None, repr=False)

    async def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """See ``Transport``; the workspace's token wins over the server's."""
        # It takes a second to import, and the loop must go on meanwhile.
        exceptions = await asyncio.to_thread(_import_githubkit)
        from githubkit import GitHub

        client = GitHub(
            token or self.token,
            base_url=self.base_url,
            auto_retry=False,
            http_cache=False,
            follow_redirects=False,
            timeout=TIMEOUT_SECONDS,
        )
        try:
            found = await client.arequest(method, path, params=query, json=body)
        except exceptions.RateLimitExceeded as error:
            seconds = max(1, int(error.retry_after.total_seconds()))
            raise ForgeUnreachableError(
                "GitHub has had enough requests for now", retry_after=seconds
            ) from error
        except exceptions.RequestFailed as error:
            raw = error.response.raw_response
            return Answer(raw.status_code, _json(raw.content))
        except exceptions.GitHubException as error:
            cause = getattr(error, "exc", error)
            raise ForgeUnreachableError(
                f"GitHub cannot be reached: {type(cause).__name__}"
            ) from error
        return Answer(found.status_code, _json(found.content))


def _import_githubkit() -> Any:
    import githubkit.exception

    return githubkit.exception


def _json(content: bytes) -> Any:
    try:
        return json.loads(content[:MAX_ANSWER_BYTES])
    except (ValueError, RecursionError):
        return None


@dataclass(frozen=True, slots=True)
class GhTransport:
    """``gh api``: argument lists, the body on its standard input, its own credential."""

    host: str
    program: str = "gh"

    async def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """See ``Transport``; a workspace's token goes to gh by its variable."""
        address = path.lstrip("/") + (f"?{urlencode(query)}" if query else "")
        arguments = ["api", "--include", f"--hostname={self.host}", f"--method={method}"]
        arguments += ["--input=-"] if body is not None else []
        environment = {name: os.environ[name] for name in _KEPT_FOR_GH if name in os.environ}
        environment |= {"GH_PROMPT_DISABLED": "1", "NO_COLOR": "1", "GH_NO_UPDATE_NOTIFIER": "1"}
        if token is not None:
            environment["GH_TOKEN" if self.host == "github.com" else "GH_ENTERPRISE_TOKEN"] = token
        try:
            process = await asyncio.create_subprocess_exec(
                self.program,
                *arguments,
                address,
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise ForgeUnreachableError(f"{self.program} cannot be started") from error
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                given = b"" if body is None else json.dumps(body).encode()
                output, complaint = await process.communicate(given)
        except TimeoutError as error:
            raise ForgeUnreachableError(f"{self.program} did not answer in time") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return _read_included(output, complaint)


def _read_included(output: bytes, complaint: bytes) -> Answer:
    """The answer out of ``HTTP/2.0 200 OK``, header lines, an empty line, and the body."""
    head, _, content = output.replace(b"\r\n", b"\n").partition(b"\n\n")
    words = head.split(b"\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():  # noqa: PLR2004
        text = complaint.decode(errors="replace").strip()[:500]
        raise ForgeUnreachableError(f"gh gave no answer: {text or 'nothing'}")
    return Answer(int(words[1]), _json(content))
