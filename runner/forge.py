"""Pull requests on GitHub: the port ``resolvers.ports.Forge``."""

import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from resolvers.errors import ConflictError, InvalidError, OperationError, UnavailableError
from resolvers.ports import NewPullRequest, PullRequest
from runner.forge_transports import Answer, ForgeUnreachableError, Transport

MergeMethod = Literal["merge", "squash", "rebase"]
_SCP_LIKE = re.compile(r"(?:[^@/\s]+@)?(?P<host>[^:/\s]+):(?P<path>[^/\s][^\s]*)")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9._-]+")
_PULL = re.compile(r"(?P<name>[^/]+/[^/]+)/pull/(?P<number>[1-9][0-9]{0,9})/?")
_UNPROCESSABLE = 422


@dataclass(frozen=True, slots=True)
class GitHubForge:
    """``host`` is where repositories and pull requests have their web addresses."""

    transport: Transport
    host: str = "github.com"
    method: MergeMethod = "merge"

    def find_repository(self, url: str) -> str | None:
        """``owner/name`` of an address on this forge, None for any other address."""
        host, path = _split(url)
        name = path.strip("/").removesuffix(".git")
        return name if host == self.host and _NAME.fullmatch(name) else None

    async def open(self, wanted: NewPullRequest, *, token: str | None) -> PullRequest:
        """The open pull request of a branch into its base, made where there is none.

        Raises:
            ConflictError: GitHub refuses, with its words.
            UnavailableError: it cannot be asked now.
        """
        found = await self._find_open(wanted, token)
        if found is not None:
            return found
        body = {
            "title": wanted.title,
            "body": wanted.body,
            "head": wanted.branch,
            "base": wanted.base,
            "draft": wanted.draft,
        }
        answer = await self._ask("POST", f"/repos/{wanted.repository}/pulls", token, body=body)
        if answer.status == _UNPROCESSABLE:
            # Somebody else may have opened it since we looked.
            found = await self._find_open(wanted, token)
            if found is not None:
                return found
        return self._read(_checked(answer))

    async def _find_open(self, wanted: NewPullRequest, token: str | None) -> PullRequest | None:
        owner = wanted.repository.partition("/")[0]
        query = {"state": "open", "head": f"{owner}:{wanted.branch}", "base": wanted.base}
        path = f"/repos/{wanted.repository}/pulls"
        found = _checked(await self._ask("GET", path, token, query=query))
        for one in found if isinstance(found, list) else []:
            read = self._read(one)
            if (read.branch, read.base) == (wanted.branch, wanted.base):
                return read
        return None

    async def merge(
        self, url: str, *, repository: str, branch: str, title: str, token: str | None
    ) -> str:
        """Merge an open pull request; the commit. One that is merged already gives its commit.

        Raises:
            ConflictError: it is not of this branch and repository, closed, a draft, or GitHub
                refuses (conflicts, checks, rules), with its words.
            UnavailableError: GitHub cannot be asked now.
        """
        number = self._number(url, repository)
        path = f"/repos/{repository}/pulls/{number}"
        found = self._read(_checked(await self._ask("GET", path, token)))
        if found.branch != branch:
            raise ConflictError(f"The pull request {url} is of the branch {found.branch}")
        if found.state == "merged":
            return _commit(found.merge_commit)
        if found.state != "open" or found.draft:
            state = "a draft" if found.draft and found.state == "open" else found.state
            raise ConflictError(f"The pull request {url} is {state}")
        body: dict[str, Any] = {"merge_method": self.method, "sha": found.head}
        if self.method != "rebase":
            body["commit_title"] = f"{title} (#{number})"
        answer = await self._ask("PUT", f"{path}/merge", token, body=body)
        return _commit(_checked(answer).get("sha"))

    def _number(self, url: str, repository: str) -> int:
        host, path = _split(url)
        match = _PULL.fullmatch(path.strip("/"))
        if match is None or host != self.host or match["name"].lower() != repository.lower():
            raise ConflictError(f"{url[:200]} is no pull request of {repository}")
        return int(match["number"])

    async def _ask(self, method: str, path: str, token: str | None, **given: Any) -> Answer:
        try:
            return await self.transport.request(method, path, token=token, **given)
        except ForgeUnreachableError as error:
            raise UnavailableError(str(error), retry_after=error.retry_after) from error

    def _read(self, value: Any) -> PullRequest:
        try:
            merged = bool(value.get("merged_at"))
            found = PullRequest(
                url=str(value["html_url"]),
                number=int(value["number"]),
                state="merged" if merged else str(value["state"]),
                branch=str(value["head"]["ref"]),
                head=str(value["head"]["sha"]),
                base=str(value["base"]["ref"]),
                draft=bool(value.get("draft")),
                merge_commit=value.get("merge_commit_sha") if merged else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnavailableError("GitHub's answer is not one about a pull request") from error
        if _split(found.url)[0] != self.host:
            raise UnavailableError("GitHub's answer is about another host")
        return found


def _split(url: str) -> tuple[str, str]:
    """Host (with port) and path of an address; empty where there is none."""
    if "://" not in url:
        match = _SCP_LIKE.fullmatch(url)
        return (match["host"].lower(), match["path"]) if match else ("", "")
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    host = parts.netloc.rpartition("@")[2].lower()
    # The port of ssh says nothing of where the web pages are.
    return (host.partition(":")[0] if parts.scheme == "ssh" else host), parts.path


def _commit(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{40,64}", value):
        raise UnavailableError("GitHub did not say which commit the merge made")
    return value


def _checked(answer: Answer) -> Any:
    """The body of a good answer. Raises what a bad one means."""
    if 200 <= answer.status < 300 and answer.body is not None:  # noqa: PLR2004  # good statuses
        return answer.body
    raise _refusal(answer)


def _refusal(answer: Answer) -> OperationError:
    words = _words(answer.body)
    match answer.status:
        case 401 | 403:
            return ConflictError(f"GitHub does not allow it: {words}", status=answer.status)
        case 404:
            return ConflictError(
                f"GitHub does not know the repository, or its token may not see it: {words}",
                status=404,
            )
        case 405 | 409 | 422:
            return ConflictError(f"GitHub refuses: {words}", status=answer.status)
        case 400:
            return InvalidError(f"GitHub does not take it: {words}", field="id")
        case 429:
            return UnavailableError("GitHub has had enough requests for now", retry_after=60)
    return UnavailableError(f"GitHub answered with status {answer.status}", retry_after=30)


def _words(body: Any) -> str:
    if not isinstance(body, dict):
        return "no reason given"
    words = [str(body.get("message") or "no reason given")]
    errors = body.get("errors")
    for error in errors if isinstance(errors, list) else []:
        text = error.get("message") if isinstance(error, dict) else error
        if text:
            words.append(str(text))
    return "; ".join(words)[:1000]
