"""A stand-in for GitHub: its API for pull requests over real git repositories, as strict as it.

It speaks the documented requests and no others, checks tokens and bodies, and merges in git.
"""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.git_http import SECRET, GitServer

JSON = dict[str, Any]


@dataclass
class GitHubStandIn:
    """The API of one repository ``name``; ``broken`` is answered to everything while it is set."""

    server: GitServer
    name: str
    pulls: list[JSON] = field(default_factory=list)
    asked: list[tuple[str, str, JSON | None]] = field(default_factory=list)
    broken: tuple[int, JSON] | None = None
    tokens: tuple[str, ...] = (SECRET,)
    blind_once: bool = False
    """Whether the next search for open pull requests finds none (somebody is faster)."""

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=GitHub", "-c", "user.email=noreply@github.test", *arguments],
            cwd=self.server.root / f"{self.name}.git",
            capture_output=True, check=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def __call__(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        parts = urlsplit(path)
        given = json.loads(body) if body else None
        self.asked.append((method, path, given))
        token = {name.lower(): value for name, value in headers.items()}.get("authorization", "")
        if token.removeprefix("Bearer ").removeprefix("token ") not in self.tokens:
            return 401, {"message": "Bad credentials"}
        if self.broken is not None:
            return self.broken
        base = f"/repos/{self.name}/pulls"
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if (method, parts.path) == ("GET", base):
            return self._list(query)
        if (method, parts.path) == ("POST", base):
            return self._create(given or {})
        number = parts.path.removeprefix(f"{base}/").partition("/")[0]
        found = [pull for pull in self.pulls if str(pull["number"]) == number]
        if not found or not parts.path.startswith(base):
            return 404, {"message": "Not Found"}
        if (method, parts.path) == ("GET", f"{base}/{number}"):
            return 200, self._fresh(found[0])
        if (method, parts.path) == ("PUT", f"{base}/{number}/merge"):
            return self._merge(found[0], given or {})
        return 404, {"message": "Not Found"}

    def _fresh(self, pull: JSON) -> JSON:
        if pull["state"] == "open":
            pull["head"]["sha"] = self.git("rev-parse", f"refs/heads/{pull['head']['ref']}")
        return pull

    def _list(self, query: Mapping[str, str]) -> tuple[int, Any]:
        if self.blind_once:
            self.blind_once = False
            return 200, []
        owner = self.name.partition("/")[0]
        return 200, [
            self._fresh(pull)
            for pull in self.pulls
            if pull["state"] == query.get("state", "open")
            and f"{owner}:{pull['head']['ref']}" == query["head"]
            and pull["base"]["ref"] == query["base"]
        ]

    def _create(self, given: JSON) -> tuple[int, Any]:
        wrong = [name for name in ("title", "head", "base") if not given.get(name)]
        branches = self.git("for-each-ref", "--format=%(refname:short)", "refs/heads").split("\n")
        wrong += [name for name in ("head", "base") if given.get(name) not in branches]
        if wrong or set(given) - {"title", "body", "head", "base", "draft"}:
            errors = [
                {"resource": "PullRequest", "field": name, "code": "invalid"} for name in wrong
            ]
            return 422, {"message": "Validation Failed", "errors": errors}
        same = [
            pull for pull in self.pulls
            if pull["state"] == "open" and pull["head"]["ref"] == given["head"]
        ]  # fmt: skip
        if same:
            message = f"A pull request already exists for {given['head']}."
            return 422, {"message": "Validation Failed", "errors": [{"message": message}]}
        number = len(self.pulls) + 1
        self.pulls.append(
            {
                "number": number,
                "html_url": f"http://{self.server.host}/{self.name}/pull/{number}",
                "state": "open",
                "title": given["title"],
                "body": given.get("body"),
                "draft": given.get("draft", False),
                "merged_at": None,
                "merge_commit_sha": None,
                "head": {"ref": given["head"], "sha": ""},
                "base": {"ref": given["base"]},
            }
        )
        return 201, self._fresh(self.pulls[-1])

    def _merge(self, pull: JSON, given: JSON) -> tuple[int, Any]:
        self._fresh(pull)
        if given.get("merge_method") not in {"merge", "squash", "rebase"}:
            return 422, {"message": "Validation Failed"}
        if given.get("sha") != pull["head"]["sha"]:
            return 409, {"message": "Head branch was modified. Review and try the merge again."}
        if pull["state"] != "open" or pull["draft"]:
            return 405, {"message": "Pull Request is not mergeable"}
        base, head = f"refs/heads/{pull['base']['ref']}", pull["head"]["sha"]
        try:
            tree = self.git("merge-tree", "--write-tree", base, head).split("\n")[0]
        except subprocess.CalledProcessError:
            return 405, {"message": "Merge conflict between base and head"}
        parents = ["-p", base] + (["-p", head] if given["merge_method"] == "merge" else [])
        message = given.get("commit_title", "merged")
        commit = self.git("commit-tree", tree, *parents, "-m", message)
        self.git("update-ref", base, commit)
        pull |= {"state": "closed", "merged_at": "2026-01-01T00:00:00Z", "merge_commit_sha": commit}
        return 200, {"sha": commit, "merged": True, "message": "Pull Request successfully merged"}
