"""Git as operations need it: the port ``resolvers.ports.Git`` over ``runner.git``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resolvers.errors import ConflictError, InvalidError, OperationError, UnavailableError
from resolvers.ports import Diff, DiffFile, Place, RepositoryFacts, Secret
from runner import git

SERVER_IDENTITY = git.Identity(name="Dragoman", email="dragoman@localhost")
"""Who commits and merges on behalf of agents."""


class BoardGit:
    """Repositories on this machine, with git's own words in the errors."""

    def __init__(
        self,
        author: git.Identity = SERVER_IDENTITY,
        *,
        repositories_root: Path | None = None,
        allow_local: bool = False,
    ) -> None:
        self._author = author
        self._repositories_root = repositories_root
        self._allow_local = allow_local

    async def probe(self, path: str) -> RepositoryFacts:
        """Look at a repository.

        Raises:
            InvalidError: there is none at ``path``.
        """
        with _as_operation_errors():
            found = await git.probe(Path(path))
            return RepositoryFacts(path, found.default_branch, found.head)

    async def diff(self, path: str, *, base: str, head: str, max_bytes: int) -> Diff:
        """The changes from the merge base of two revisions to ``head``."""
        with _as_operation_errors():
            repository = await git.get_repository(Path(path))
            start = await git.find_merge_base(repository, base, head)
            start = start or await git.get_commit(repository, base)
            stat = await git.diff_stat(repository, start, head)
            text = await git.diff(repository, start, head, max_bytes=max_bytes)
            return Diff(
                base=start,
                head=await git.get_commit(repository, head),
                files=[DiffFile(f.path, f.additions, f.deletions) for f in stat.files],
                files_changed=stat.files_changed,
                additions=stat.additions,
                deletions=stat.deletions,
                patch=text.text,
                truncated=stat.truncated or text.truncated,
            )

    async def merge(self, path: str, *, branch: str, into: str, message: str) -> str:
        """Merge one branch into another; the merge commit.

        Raises:
            ConflictError: with ``files`` where they contradict each other; nothing has changed.
        """
        with _as_operation_errors():
            repository = await git.get_repository(Path(path))
            merged = await git.merge(
                repository, branch=branch, into=into, author=self._author, message=message
            )
            return merged.sha

    def _path(self, place: Place) -> Path:
        if place.local_path is not None:
            return Path(place.local_path)
        if self._repositories_root is None:
            raise ConflictError("The repository is not on this server")
        return self._repositories_root / place.workspace_id

    async def find_remote(self, place: Place) -> str | None:
        """The address of the remote ``origin`` of a local repository."""
        with _as_operation_errors():
            return await git.find_remote(await git.get_repository(self._path(place)))

    async def push(self, place: Place, *, url: str, branch: str, secret: Secret | None) -> str:
        """Bring a branch to an address; its commit.

        Raises:
            ConflictError: the branch there has other commits, or the remote refuses.
        """
        access = None if secret is None else git.Access(secret.host, secret.username, secret.secret)
        with _as_operation_errors():
            repository = await git.get_repository(self._path(place))
            return await git.push(
                repository, url=url, branch=branch, access=access, allow_local=self._allow_local
            )

    def host_of(self, url: str) -> str | None:
        """The host that a credential for an address is for."""
        return git.host_of(url)

    def check_branch_name(self, name: str) -> None:
        """Raise ValueError when git would not take this branch name."""
        if not git.valid_branch_name(name):
            raise ValueError(f"{name[:100]!r} cannot be the name of a branch")


@contextmanager
def _as_operation_errors() -> Iterator[None]:
    try:
        yield
    except git.GitError as error:
        raise as_operation_error(error) from error


def as_operation_error(error: git.GitError) -> OperationError:
    """The refusal that says what git said."""
    match error:
        case git.MergeConflictError():
            return ConflictError(str(error), files=list(error.files))
        case git.TargetDirtyError() | git.TargetMovedError() | git.WorktreeConflictError():
            return ConflictError(str(error))
        case git.UnknownRevisionError():
            return ConflictError(str(error))
        case git.NotARepositoryError() | git.InvalidNameError() | git.UnsafeRepositoryError():
            return InvalidError(str(error), field="localPath")
        case git.GitMissingError() | git.GitTimeoutError():
            return UnavailableError(str(error), retry_after=None)
    return ConflictError(str(error))
