"""What operations need from outside the database, as protocols; the server wires the real ones."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from resolvers.command_policy import CommandPolicy
from resolvers.errors import UnavailableError


class WakeUps(Protocol):
    """Tells readers that there is something new. Never blocks, never raises, may be lost."""

    def events(self, stream_ids: Iterable[str]) -> None:
        """These event logs have grown."""

    def run_output(self, run_id: str) -> None:
        """A run's output log has grown."""

    def principal(self, principal_key: str) -> None:
        """A principal's credentials or roles changed."""


class Dispatcher(Protocol):
    """The part of the server that starts and stops runs. Never blocks."""

    def wake(self) -> None:
        """A run may be ready to start."""

    def stop(self, run_id: str) -> None:
        """A run's stop was requested (it is recorded in its row)."""

    def deliver(self, run_id: str) -> None:
        """A run was told something (it is recorded)."""


class Clock(Protocol):
    """What time it is."""

    def __call__(self) -> datetime:
        """Now, aware, UTC."""


class Passwords(Protocol):
    """Slow password hashing, off the event loop."""

    async def hash(self, password: str) -> str:
        """A salted hash to store."""

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether the password fits; takes as long when nothing is stored."""


class SecretBox(Protocol):
    """Reversible encryption of the few secrets that must be used again, and signatures."""

    def encrypt(self, secret: str) -> bytes:
        """The secret under the newest key."""

    def decrypt(self, sealed: bytes) -> str:
        """The secret; raises UnavailableError when no key fits."""

    def sign(self, text: str) -> str:
        """A signature that only servers with this box's keys can make; URL-safe."""

    def is_signed(self, text: str, signature: str) -> bool:
        """Whether a server with one of this box's keys signed the text."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A credential for one host, in the clear."""

    host: str
    username: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RepositoryFacts:
    """What a look at a repository on disk told."""

    path: str
    default_branch: str | None
    head: str | None


@dataclass(frozen=True, slots=True)
class DiffFile:
    """One changed file; counts are None for binary files."""

    path: str
    additions: int | None
    deletions: int | None


@dataclass(frozen=True, slots=True)
class Diff:
    """What a branch changes against its base."""

    base: str
    head: str
    files: Sequence[DiffFile]
    files_changed: int
    additions: int
    deletions: int
    patch: str
    truncated: bool


class ExecutorHealth(Protocol):
    """What a look at an executor told."""

    @property
    def reason(self) -> str | None:
        """Why it cannot be used; None when it can."""

    @property
    def version(self) -> str | None:
        """What its program says of itself; None for programs that are not asked."""

    @property
    def credential_configured(self) -> bool | None:
        """Whether a credential for its model was found; None where that cannot be known."""


class ExecutorProbe(Protocol):
    """Looks whether an executor could start on this server."""

    async def __call__(self, name: str, /) -> ExecutorHealth:
        """Look at one; seconds at the first time, then from memory. Never raises."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a workspace's repository is: on this machine, or at an address."""

    workspace_id: str
    local_path: str | None
    repository_url: str | None


@dataclass(frozen=True, slots=True)
class NewPullRequest:
    """A pull request to be opened; ``repository`` is ``owner/name``."""

    repository: str
    branch: str
    base: str
    title: str
    body: str
    draft: bool


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request; ``state`` is open, closed or merged, ``head`` its newest commit."""

    url: str
    number: int
    state: str
    branch: str
    head: str
    base: str
    draft: bool
    merge_commit: str | None


class Forge(Protocol):
    """Where pull requests are opened. All raise OperationError subclasses with the forge's words.

    ``token`` is the workspace's; None for the server's own.
    """

    @property
    def host(self) -> str:
        """The host of its web addresses."""

    def find_repository(self, url: str) -> str | None:
        """``owner/name`` of an address on this forge, None for any other address."""

    async def open(self, wanted: NewPullRequest, *, token: str | None) -> PullRequest:
        """The open pull request of a branch into its base, made where there is none."""

    async def merge(
        self, url: str, *, repository: str, branch: str, title: str, token: str | None
    ) -> str:
        """Merge one, or find it merged; the commit."""


IsBusy = Callable[[], Awaitable[str | None]]
"""Why a worktree must not be touched now; None where nobody works there."""


@dataclass(frozen=True, slots=True)
class UnwantedWorktree:
    """A worktree to be removed, by the name of its folder, and under which rules.

    ``own_branch``: the branch was made for this task, so it goes with it. ``merged_commit`` is the
    commit that was merged where git cannot tell by itself.
    """

    name: str
    branch: str | None
    own_branch: bool
    base: str | None
    merged_commit: str | None
    only_merged: bool
    force: bool
    keep_branch: bool
    setup: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Removal:
    """What became of a worktree; ``reason`` is why it, or its branch, was kept."""

    removed: bool
    branch_deleted: bool = False
    reason: str | None = None


class Worktrees(Protocol):
    """The worktrees on this machine."""

    async def remove(self, place: Place, unwanted: UnwantedWorktree, *, is_busy: IsBusy) -> Removal:
        """Remove one as far as the rules allow; never raises for what stands in the way."""


class Git(Protocol):
    """Repositories on this machine. All raise OperationError subclasses with git's words."""

    async def probe(self, path: str) -> RepositoryFacts:
        """Look at a repository; raises InvalidError when there is none at ``path``."""

    async def diff(self, path: str, *, base: str, head: str, max_bytes: int) -> Diff:
        """The changes from the merge base of ``base`` and ``head`` to ``head``."""

    async def merge(self, path: str, *, branch: str, into: str, message: str) -> str:
        """Merge and return the merge commit; raises ConflictError and changes nothing otherwise."""

    async def find_remote(self, place: Place) -> str | None:
        """The address of the remote ``origin`` of a local repository; None without one."""

    async def push(self, place: Place, *, url: str, branch: str, secret: Secret | None) -> str:
        """Bring a branch to an address; its commit. Overwrites nothing: raises ConflictError."""

    def host_of(self, url: str) -> str | None:
        """The host that a credential for an address is for; None where it can take none."""

    def check_branch_name(self, name: str) -> None:
        """Raise ValueError with the reason when git would not take this branch name."""


@dataclass(frozen=True, slots=True)
class OutboundAnswer:
    """How a request to somebody else's server ended.

    ``status`` is None where there was no answer; ``error`` says why in a few words. ``excerpt``
    is the beginning of the answer's body; ``retry_after`` is in seconds, as the answer asked.
    """

    status: int | None
    seconds: float
    error: str | None = None
    excerpt: bytes = b""
    retry_after: float | None = None


class Outbound(Protocol):
    """Requests to addresses that users chose: never to this machine or its network."""

    async def refusal(self, url: str, /) -> str | None:
        """Why requests to this address are refused; None when they are not, or cannot be known."""

    async def post(
        self, url: str, /, *, headers: Mapping[str, str], body: bytes, seconds: float
    ) -> OutboundAnswer:
        """One POST without redirects, within so many seconds in all. Never raises."""


class SendNotification(Protocol):
    """One attempt to hand a notification to the operator's target."""

    async def __call__(self, body: bytes, /) -> OutboundAnswer:
        """POST the JSON body. Never raises."""


class Notifier(Protocol):
    """The part of the server that sends notifications. Never blocks."""

    def wake(self) -> None:
        """A notification waits."""


class AnywhereButNobody:
    """The outside of a program that makes no requests: nothing is refused, nothing is sent."""

    async def refusal(self, _url: str, /) -> str | None:
        """Nothing is refused."""
        return None

    async def post(
        self, _url: str, /, *, headers: Mapping[str, str], body: bytes, seconds: float
    ) -> OutboundAnswer:
        """Nothing is sent."""
        del headers, body, seconds
        return OutboundAnswer(None, 0.0, "this program makes no requests")


class Blobs(Protocol):
    """Bytes under paths. All raise UnavailableError when the store does not answer."""

    async def put(self, path: str, data: bytes, /) -> None:
        """Write or replace a blob."""

    async def size(self, path: str, /) -> int | None:
        """Its bytes; None when there is none."""

    async def open(self, path: str, /) -> AsyncIterator[bytes] | None:
        """Its content in chunks; None when there is none."""

    async def delete(self, path: str, /) -> None:
        """Remove it; nothing happens when there is none."""


class NoBlobs:
    """The blob store of a program that keeps no artifacts: every use is refused."""

    async def put(self, _path: str, _data: bytes) -> None:
        """Refused."""
        raise UnavailableError("This program keeps no artifacts", retry_after=None)

    async def size(self, _path: str) -> int | None:
        """Refused."""
        raise UnavailableError("This program keeps no artifacts", retry_after=None)

    async def open(self, _path: str) -> AsyncIterator[bytes] | None:
        """Refused."""
        raise UnavailableError("This program keeps no artifacts", retry_after=None)

    async def delete(self, _path: str) -> None:
        """Refused."""
        raise UnavailableError("This program keeps no artifacts", retry_after=None)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large and how many; sizes are characters unless named otherwise."""

    title: int = 500
    name: int = 255
    short_text: int = 2_000
    description: int = 100_000
    labels: int = 50
    label: int = 50
    list_items: int = 100
    json_bytes: int = 65_536
    log_bytes: int = 4 * 1024 * 1024
    artifact_bytes: int = 30 * 1024 * 1024
    artifacts_per_task: int = 1_000
    run_log_bytes: int = 512 * 1024 * 1024
    bulk_items: int = 100
    page_size: int = 50
    page_size_max: int = 100
    filtered_count_max: int = 10_000
    dependencies: int = 100
    tasks_per_workspace: int = 1_000_000
    stories_per_workspace: int = 100_000
    sprints_per_workspace: int = 10_000
    agents_per_workspace: int = 1_000
    context_entries: int = 500
    workspaces: int = 10_000
    keys_per_user: int = 100
    queued_runs: int = 10_000
    webhooks_per_workspace: int = 50
    diff_bytes: int = 1_048_576


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a run may use, and all runs together on one day (UTC); None is no limit.

    Tokens are those sent and those answered; money is US dollars.
    """

    run_tokens: int | None = None
    run_cost_usd: float | None = None
    day_tokens: int | None = None
    day_cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """What operators allow; see docs/operator.md."""

    repository_roots: tuple[str, ...] = ()
    allow_local_repositories: bool = False
    allow_agent_commands: bool = False
    executors: Mapping[str, Any] | None = None
    default_executor: str = "CUSTOM"
    max_concurrent_runs: int = 4
    budget: Budget = Budget()
    commands: CommandPolicy | None = None
