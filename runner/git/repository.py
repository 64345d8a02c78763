"""A git repository on disk: what it is, getting one, and commands inside of it."""

import asyncio
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runner.folder import remove_tree
from runner.git.access import Access, build_access_settings, host_of
from runner.git.command import (
    LOCAL_SECONDS,
    MAX_OUTPUT_BYTES,
    NETWORK_SECONDS,
    GitResult,
    build_git_environment,
    disarm,
    refuse_unsafe,
    run_git,
)
from runner.git.errors import (
    GitCommandError,
    NotARepositoryError,
    PushRefusedError,
    UnknownRevisionError,
)
from runner.git.names import check_branch_name, check_revision, check_url
from runner.git.repository_keys import read_repository_keys

_MAX_GITFILE_BYTES = 4096
_HEADS = "+refs/heads/*:refs/remotes/origin/*"


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository. ``git_dir`` is the folder all its worktrees share; both are resolved."""

    path: Path
    git_dir: Path


@dataclass(frozen=True, slots=True)
class Probe:
    """What a repository is like. ``head`` is the commit of the default branch, None without any."""

    default_branch: str | None
    head: str | None


def _find_git_dir(path: Path) -> Path | None:
    """The git folder of a top-level folder or bare repository; never of a folder above it."""
    candidate = path / ".git"
    if candidate.is_file():
        with candidate.open("rb") as file:
            text = os.fsdecode(file.read(_MAX_GITFILE_BYTES)).strip()
        candidate = path / text.removeprefix("gitdir:").strip() if text[:7] == "gitdir:" else path
    elif not candidate.exists():
        candidate = path
    complete = (candidate / "HEAD").exists() and (
        (candidate / "objects").is_dir() or (candidate / "commondir").is_file()
    )
    return candidate.resolve() if complete else None


async def run_in(
    git_dir: Path,
    arguments: Sequence[str],
    *,
    work_tree: Path | None = None,
    extra: Mapping[str, str] | None = None,
    settings: Iterable[tuple[str, str]] = (),
    network: bool = False,
    stdin: bytes | None = None,
    seconds: float = LOCAL_SECONDS,
    max_bytes: int = MAX_OUTPUT_BYTES,
    truncate: bool = False,
    accept: Iterable[int] = (0,),
) -> GitResult:
    """One command in a repository (or a worktree's own git folder), its configuration disarmed.

    The git folder is named explicitly, never searched for, so nothing inside a work tree can put
    another in its place. Raises what ``run_git`` raises, UnsafeRepositoryError for ``network``.
    """
    keys = await read_repository_keys(git_dir)
    if network:
        refuse_unsafe(keys)
    environment = build_git_environment(settings=[*disarm(keys), *settings], network=network)
    environment |= {"GIT_DIR": str(git_dir), **(extra or {})}
    if work_tree is not None:
        environment["GIT_WORK_TREE"] = str(work_tree)
    return await run_git(
        arguments,
        cwd=work_tree or git_dir,
        environment=environment,
        stdin=stdin,
        seconds=seconds,
        max_bytes=max_bytes,
        truncate=truncate,
        accept=accept,
    )


async def get_repository(path: Path) -> Repository:
    """The repository whose top-level folder (or bare folder) this is.

    Raises NotARepositoryError, also for a folder inside of a repository.
    """
    resolved = await asyncio.to_thread(path.resolve)
    try:
        git_dir = await asyncio.to_thread(_find_git_dir, resolved)
    except OSError as error:
        raise NotARepositoryError(f"{path} cannot be read: {error.strerror}") from error
    if git_dir is None:
        raise NotARepositoryError(f"There is no git repository at {path}")
    try:
        result = await run_in(git_dir, ["rev-parse", "--path-format=absolute", "--git-common-dir"])
    except GitCommandError as error:
        raise NotARepositoryError(f"{path} is no usable repository: {error.stderr}") from error
    common = Path(os.fsdecode(result.stdout.rstrip(b"\n")))
    return Repository(resolved, await asyncio.to_thread(common.resolve))


async def is_repository(path: Path) -> bool:
    """Whether ``get_repository`` would find one."""
    try:
        await get_repository(path)
    except NotARepositoryError:
        return False
    return True


async def find_commit(repository: Repository, revision: str) -> str | None:
    """Hash of the commit a plain name stands for, None where it is unknown."""
    name = f"{check_revision(revision)}^{{commit}}"
    arguments = ["rev-parse", "--verify", "--quiet", "--end-of-options", name]
    result = await run_in(repository.git_dir, arguments, accept=(0, 1, 128))
    # rev-parse repeats the separator among its results.
    found = result.text.splitlines()[-1:] if result.code == 0 else []
    return found[0] if found else None


async def get_commit(repository: Repository, revision: str) -> str:
    """Hash of the commit a plain name stands for. Raises UnknownRevisionError."""
    found = await find_commit(repository, revision)
    if found is None:
        raise UnknownRevisionError(f"There is no commit {revision!r} in {repository.path.name}")
    return found


async def get_branch_commit(repository: Repository, branch: str) -> str:
    """Hash of the head of a local branch. Raises UnknownRevisionError, InvalidNameError."""
    return await get_commit(repository, f"refs/heads/{check_branch_name(branch)}")


async def find_symbolic_ref(git_dir: Path, name: str) -> str | None:
    """What a symbolic ref points to, None where it is missing or detached."""
    result = await run_in(git_dir, ["symbolic-ref", "--quiet", name], accept=(0, 1, 128))
    return result.text if result.code == 0 else None


async def find_remote(repository: Repository) -> str | None:
    """The address of the remote ``origin``, as the repository's own configuration has it."""
    arguments = ["config", "--local", "--get", "remote.origin.url"]
    result = await run_in(repository.git_dir, arguments, accept=(0, 1))
    return result.text.strip() or None


async def probe(path: Path) -> Probe:
    """The default branch and its head. Raises NotARepositoryError.

    The default branch is the one the remote named as its own, where that exists here too, else
    the one that is checked out.
    """
    repository = await get_repository(path)
    candidates = [
        (await find_symbolic_ref(repository.git_dir, "refs/remotes/origin/HEAD") or "").replace(
            "refs/remotes/origin/", "refs/heads/", 1
        ),
        await find_symbolic_ref(repository.git_dir, "HEAD") or "",
    ]
    for name in candidates:
        if name.startswith("refs/heads/") and (head := await find_commit(repository, name)):
            return Probe(name.removeprefix("refs/heads/"), head)
    unborn = candidates[-1].removeprefix("refs/heads/") or None
    return Probe(unborn, await find_commit(repository, "HEAD"))


async def clone(
    url: str,
    target: Path,
    *,
    access: Access | None = None,
    allow_local: bool = False,
    seconds: float = NETWORK_SECONDS,
) -> Repository:
    """Copy a repository into the new bare repository ``target`` (all branches, no submodules).

    The target appears complete or not at all. ``access`` is used where the address is of its host.
    Raises InvalidNameError, GitCommandError, GitTimeoutError; NotARepositoryError where ``target``
    is taken.
    """
    check_url(url, allow_local=allow_local)
    if await asyncio.to_thread(os.path.lexists, target):
        raise NotARepositoryError(f"{target} exists already")
    await asyncio.to_thread(target.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    arguments = ["clone", "--quiet", "--bare", "--no-local", "--template=", "--config"]
    arguments += [f"remote.origin.fetch={_HEADS}", "--", url, str(partial)]
    settings, extra = _prepare_network(url, access, allow_local=allow_local)
    environment = {**build_git_environment(settings=settings, network=True), **extra}
    try:
        with _hiding(access):
            await run_git(arguments, cwd=target.parent, environment=environment, seconds=seconds)
        await asyncio.to_thread(os.rename, partial, target)
    finally:
        await asyncio.shield(asyncio.to_thread(remove_tree, partial))
    return await get_repository(target)


async def fetch(
    repository: Repository,
    *,
    url: str,
    access: Access | None = None,
    allow_local: bool = False,
    seconds: float = NETWORK_SECONDS,
) -> None:
    """Bring the branches of ``url`` to ``refs/remotes/origin/``; our own branches are not touched.

    Raises UnsafeRepositoryError where the repository's configuration would redirect this, and as
    ``clone`` does.
    """
    check_url(url, allow_local=allow_local)
    arguments = ["fetch", "--quiet", "--prune", "--no-tags", "--no-recurse-submodules"]
    arguments += ["--no-write-fetch-head", "--upload-pack=git-upload-pack", "--", url, _HEADS]
    await _run_on_network(repository, arguments, url, access, allow_local, seconds)


async def push(
    repository: Repository,
    *,
    url: str,
    branch: str,
    access: Access | None = None,
    allow_local: bool = False,
    seconds: float = NETWORK_SECONDS,
) -> str:
    """Bring a local branch to the branch of the same name at ``url``; its commit.

    Nothing there is ever overwritten: raises PushRefusedError where that branch has other commits,
    UnknownRevisionError without a local one, and as ``fetch`` does.
    """
    check_url(url, allow_local=allow_local)
    commit = await get_branch_commit(repository, branch)
    arguments = ["push", "--quiet", "--no-verify", "--no-signed", "--no-thin"]
    arguments += ["--recurse-submodules=no", "--receive-pack=git-receive-pack", "--", url]
    arguments += [f"{commit}:refs/heads/{branch}"]
    try:
        await _run_on_network(repository, arguments, url, access, allow_local, seconds)
    except GitCommandError as error:
        if any(word in error.stderr for word in ("fetch first", "non-fast-forward", "[rejected]")):
            raise PushRefusedError(
                f"{branch} has other commits at the remote, or is refused there: {error.stderr}"
            ) from error
        raise
    return commit


async def _run_on_network(
    repository: Repository,
    arguments: Sequence[str],
    url: str,
    access: Access | None,
    allow_local: bool,  # noqa: FBT001 - handed on
    seconds: float,
) -> None:
    settings, extra = _prepare_network(url, access, allow_local=allow_local)
    with _hiding(access):
        await run_in(
            repository.git_dir,
            arguments,
            network=True,
            settings=settings,
            extra=extra,
            seconds=seconds,
        )


def _prepare_network(
    url: str, access: Access | None, *, allow_local: bool
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    settings: list[tuple[str, str]] = []
    extra = {"GIT_ALLOW_PROTOCOL": _allowed_protocols(allow_local=allow_local)}
    if access is not None and host_of(url) == access.host.lower():
        settings, secret = build_access_settings(url, access)
        extra |= secret
    return settings, extra


@contextmanager
def _hiding(access: Access | None) -> Iterator[None]:
    """Git does not repeat a password; a server that it quotes might."""
    try:
        yield
    except GitCommandError as error:
        if access is None or access.secret not in error.stderr:
            raise
        hidden = access.hide(error.stderr)
        raise GitCommandError(error.action, code=error.code, stderr=hidden) from None


def _allowed_protocols(*, allow_local: bool) -> str:
    return "https:http:ssh:git" + (":file" if allow_local else "")
