"""What can go wrong with git, by the rule that was broken."""


class GitError(Exception):
    """Something with git did not work; the text is fit for the user."""


class GitCommandError(GitError):
    """Git said no. ``stderr`` is its own explanation, shortened; ``code`` its exit code."""

    def __init__(self, action: str, *, code: int, stderr: str) -> None:
        super().__init__(f"git {action} failed: {stderr or f'exit code {code}'}")
        self.action = action
        self.code = code
        self.stderr = stderr


class GitMissingError(GitError):
    """The program git is not installed."""


class GitTimeoutError(GitError):
    """Git took longer than allowed and was ended."""


class GitOutputLimitError(GitError):
    """Git had more to say than can be taken."""


class NotARepositoryError(GitError):
    """There is no git repository at this path."""


class UnsafeRepositoryError(GitError):
    """The repository's own configuration would change what a command does; ``keys`` say how."""

    def __init__(self, keys: list[str]) -> None:
        super().__init__(f"The repository's configuration sets {', '.join(keys)}")
        self.keys = keys


class InvalidNameError(GitError):
    """A branch, revision, address or folder name that is not allowed."""


class UnknownRevisionError(GitError):
    """No commit is known by this name."""


class WorktreeConflictError(GitError):
    """Something else is where the worktree should be, or its branch is checked out elsewhere."""


class WorktreeMovedError(GitError):
    """The worktree is not on the branch it belongs to, or no longer belongs to its repository."""


class PushRefusedError(GitError):
    """The other repository has commits on the branch that this one does not know."""


class TargetDirtyError(GitError):
    """The branch to merge into is checked out with changes that were not committed."""


class TargetMovedError(GitError):
    """The branch changed while it was being merged into; nothing was done, try again."""


class MergeConflictError(GitError):
    """The branches contradict each other in ``files`` (at most 200 are named); nothing was done."""

    def __init__(self, files: list[str]) -> None:
        shown = ", ".join(files[:10]) + (" …" if len(files) > 10 else "")  # noqa: PLR2004 - enough to read
        super().__init__(f"Both branches changed {shown or 'the same things'}")
        self.files = files
