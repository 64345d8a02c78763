"""Workspaces: create, change, archive, delete, find; on whose word, and with what paths."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models import Run, User, Workspace
from models.enums import Permission, Role, RunStatus, WorkspaceStatus
from models.transaction import Transaction
from resolvers.context import Context, Services
from resolvers.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    LimitExceededError,
    NotFoundError,
    UnauthenticatedError,
)
from resolvers.event_queries import list_events, log_head
from resolvers.members import add_member
from resolvers.operation import operation
from resolvers.paging import PageArguments
from resolvers.ports import RepositoryFacts, Trust
from resolvers.tasks import create_task
from resolvers.users import create_user
from resolvers.workspace_changes import delete_workspace, set_workspace_status, update_workspace
from resolvers.workspace_fields import check_repository_url
from resolvers.workspace_queries import (
    WorkspaceFilter,
    WorkspaceOrder,
    get_workspace_by_number,
    get_workspace_by_slug,
    head_of,
    list_workspaces,
    totals_of,
)
from resolvers.workspaces import create_workspace, get_workspace
from tests.support.fixtures import MakeContext
from tests.support.people import AsUser


class AnyGit:
    """Takes every directory for a repository on branch ``trunk``; remembers what was looked at."""

    def __init__(self) -> None:
        self.probed: list[str] = []

    async def probe(self, path: str) -> RepositoryFacts:
        self.probed.append(path)
        return RepositoryFacts(path, "trunk", None)

    def check_branch_name(self, name: str) -> None:
        if name.startswith("-"):
            raise ValueError("it begins with a dash")


@pytest.fixture
def git() -> AnyGit:
    return AnyGit()


@pytest.fixture
def services(services: Services, git: AnyGit) -> Services:
    return replace(services, git=git)


@pytest.fixture
async def workspace(owner: Context) -> Workspace:
    return await create_workspace(owner, name="Board of the Ünited")


@pytest.fixture
async def member(owner: Context, workspace: Workspace, as_user: AsUser) -> Callable[..., Any]:
    """A context of a fresh member with a role."""

    async def make(role: Role, **changes: Any) -> Context:
        user = await create_user(owner, name=f"member-{role.lower()}-{len(changes)}")
        await add_member(owner, workspace_id=workspace.id, user_id=user.id, role=role)
        ctx: Context = await as_user(user, **changes)
        return ctx

    return make


@operation
async def insert_run(ctx: Context, *, workspace_id: str, status: RunStatus, **values: Any) -> Run:
    tx: Transaction = ctx.transaction
    return await tx.insert(
        Run,
        workspace_id=workspace_id,
        executor="CUSTOM",
        status=status,
        created_at=ctx.now,
        updated_at=ctx.now,
        **values,
    )


async def types_of(ctx: Context, workspace_id: str | None) -> list[str]:
    await ctx.release()
    events = await list_events(ctx, workspace_id=workspace_id, newest_first=False)
    return [event.type for event in events.nodes]


# --- creating ---


async def test_a_new_workspace_has_number_slug_log_and_an_admin(
    owner: Context, as_user: AsUser
) -> None:
    ada = await create_user(owner, name="ada", role=Role.DEVELOPER)
    ctx = await as_user(ada)
    first = await create_workspace(ctx, name="Zoë's Board!", settings={"a": 1}, spec="…")
    second = await create_workspace(ctx, name="zoe s board", pull_mode=True)
    assert (first.number, first.slug) == (1, "zoe-s-board")
    assert (second.number, second.slug) == (2, "zoe-s-board-2")
    assert (first.settings, first.status) == ({"a": 1}, WorkspaceStatus.ACTIVE)
    assert (await create_workspace(ctx, name="漢字")).slug == "workspace"
    assert await types_of(owner, first.id) == ["workspace.created"]
    now = await as_user(ada)
    assert now.principal is not None
    assert Permission.ADMIN in (now.principal.role_in(first.id) or ())


@pytest.mark.parametrize("role", [None, Role.VIEWER])
async def test_creating_needs_a_writing_role_on_the_site(
    owner: Context, as_user: AsUser, role: Role | None
) -> None:
    ada = await create_user(owner, name="ada", role=role)
    with pytest.raises(ForbiddenError):
        await create_workspace(await as_user(ada), name="x")


WRONG_FIELDS: list[tuple[str, Any]] = [
    ("name", " "),
    ("name", "x" * 256),
    ("name", "two\nlines"),
    ("slug", "Upper"),
    ("slug", "-dash"),
    ("slug", "x" * 101),
    ("language", ""),
    ("workflow", "WATERFALL"),
    ("max_concurrent", 0),
    ("max_concurrent", 101),
    ("description", "nul\x00"),
    ("settings", []),
    ("settings", {"x": "y" * 70_000}),
    ("repository_url", "ext::sh -c id"),
    ("default_branch", "--upload-pack=x"),
    ("github_login", "-o"),
    ("github_organization", "a b"),
    ("local_path", "relative"),
    ("local_path", "/no/such/place"),
    ("local_path", "/nul\x00"),
    ("local_path", "/" + "x" * 5000),
    ("local_path", "/" + "x" * 300),
]


async def test_fields_are_checked_on_creation_and_update(
    owner: Context, workspace: Workspace
) -> None:
    for field, value in WRONG_FIELDS:
        public = "".join(part.title() for part in field.split("_"))
        given = {"name": "x", field: value}
        for refused in (
            create_workspace(owner, **given),
            update_workspace(owner, workspace_id=workspace.id, **{field: value}),
        ):
            with pytest.raises(InvalidError) as refusal:
                await refused
            assert refusal.value.details["field"].lower() == public.lower()


@pytest.mark.parametrize(
    ("url", "is_taken"),
    [
        ("https://example.org/a/b.git", True),
        ("http://example.org:8080/b", True),
        ("ssh://git@example.org:22/b", True),
        ("ssh://example.org/b", True),
        ("git@example.org:a/b.git", True),
        (" https://example.org/b ", True),
        ("https://user:secret@example.org/b", False),
        ("file:///etc", False),
        ("ext::sh -c id", False),
        ("--upload-pack=id", False),
        ("-oProxyCommand=id@example.org:b", False),
        ("ssh://-oProxyCommand=id/b", False),
        ("git@-oProxyCommand=id:b", False),
        ("git@example.org:-b", False),
        ("/srv/b", False),
        ("https://example.org/a b", False),
    ],
)
def test_repository_addresses_are_such_that_git_runs_nothing(url: str, is_taken: bool) -> None:  # noqa: FBT001  # a table
    if is_taken:
        assert check_repository_url(url) == url.strip()
    else:
        with pytest.raises(InvalidError):
            check_repository_url(url)


async def test_there_is_a_limit_of_workspaces(services: Services, owner: Context) -> None:
    small = replace(services, limits=replace(services.limits, workspaces=1))
    ctx = Context(small, owner.principal)
    first = await create_workspace(ctx, name="one")
    with pytest.raises(LimitExceededError):
        await create_workspace(ctx, name="two")
    await delete_workspace(ctx, workspace_id=first.id)
    assert (await create_workspace(ctx, name="two")).number == 2


async def test_slugs_stay_unique_when_many_are_given_at_once(owner: Context) -> None:
    made = [
        create_workspace(Context(owner.services, owner.principal), name="same") for _ in range(6)
    ]
    workspaces = await asyncio.gather(*made)
    assert len({workspace.slug for workspace in workspaces}) == 6
    assert {workspace.number for workspace in workspaces} == set(range(1, 7))
    renamed = [
        update_workspace(Context(owner.services, owner.principal), workspace_id=w.id, slug="chosen")
        for w in workspaces
    ]
    results = await asyncio.gather(*renamed, return_exceptions=True)
    assert sum(isinstance(result, ConflictError) for result in results) == 5


# --- local paths ---


async def test_only_the_owner_names_any_path(
    owner: Context, services: Services, as_user: AsUser, tmp_path: Path, git: AnyGit
) -> None:
    inside, outside = tmp_path / "roots" / "a", tmp_path / "outside"
    inside.mkdir(parents=True)
    outside.mkdir()
    (tmp_path / "roots" / "link").symlink_to(outside)
    loop = tmp_path / "roots" / "loop"
    loop.symlink_to(loop)
    assert (await create_workspace(owner, name="x", local_path=str(outside))).default_branch == (
        "trunk"
    )
    ada = await as_user(await create_user(owner, name="ada", role=Role.ADMIN))
    rooted = replace(services, trust=Trust(repository_roots=(str(tmp_path / "roots"),)))
    ctx = Context(rooted, ada.principal)
    git.probed.clear()
    for path in (outside, tmp_path / "roots" / "link", tmp_path / "roots" / ".." / "outside"):
        with pytest.raises(ForbiddenError):
            await create_workspace(ctx, name="x", local_path=str(path))
    with pytest.raises(InvalidError):
        await create_workspace(ctx, name="x", local_path=str(loop))
    assert git.probed == []
    made = await create_workspace(ctx, name="x", local_path=f"{inside}/../a/")
    assert made.local_path == str(inside)
    moved = await update_workspace(ctx, workspace_id=made.id, local_path=str(inside))
    assert moved.version == 1
    with pytest.raises(ForbiddenError):
        await update_workspace(ctx, workspace_id=made.id, local_path=str(outside))
    trusting = replace(services, trust=Trust(allow_local_repositories=True))
    ctx = Context(trusting, ada.principal)
    moved = await update_workspace(ctx, workspace_id=made.id, local_path=str(outside))
    assert (moved.local_path, moved.default_branch) == (str(outside), "trunk")
    cleared = await update_workspace(ctx, workspace_id=made.id, local_path=None)
    assert (cleared.local_path, cleared.default_branch) == (None, "trunk")


async def test_who_may_not_change_a_path_learns_nothing_of_the_disk(
    workspace: Workspace, member: Callable[..., Any], git: AnyGit, tmp_path: Path
) -> None:
    ctx = await member(Role.DEVELOPER)
    for path in (str(tmp_path), "/no/such/place"):
        with pytest.raises(ForbiddenError) as refusal:
            await update_workspace(ctx, workspace_id=workspace.id, local_path=path)
        assert refusal.value.details == {"permission": "manage_queues", "missing": "role"}
    assert git.probed == []


async def test_the_repository_stays_where_it_is_while_a_run_executes(
    owner: Context, workspace: Workspace, tmp_path: Path
) -> None:
    await insert_run(owner, workspace_id=workspace.id, status=RunStatus.RUNNING)
    with pytest.raises(ConflictError):
        await update_workspace(owner, workspace_id=workspace.id, local_path=str(tmp_path))


# --- changing ---


async def test_an_update_changes_what_is_given_and_says_so_once(
    owner: Context, workspace: Workspace
) -> None:
    after = await update_workspace(
        owner,
        workspace_id=workspace.id,
        expected_version=1,
        name="New",
        description=None,
        spec="S",
        language="de-AT",
        workflow="SCRUM",
        repository_url="https://example.org/x",
        default_branch="main",
        agent_type="coder",
        github_organization="org",
        github_login="me",
        max_concurrent=100,
        pull_mode=True,
        slug="new",
    )
    assert (after.name, after.description, after.slug) == ("New", "", "new")
    assert (after.max_concurrent, after.pull_mode, after.version) == (100, True, 2)
    events = await list_events(owner, workspace_id=workspace.id, types=["workspace.updated"])
    assert len(events.nodes) == 1
    assert set(events.nodes[0].payload["changed"]) >= {"name", "slug", "max_concurrent"}
    assert "description" not in events.nodes[0].payload["changed"]
    same = await update_workspace(owner, workspace_id=workspace.id, name="New", slug="new")
    assert same.version == 2
    cleared = await update_workspace(owner, workspace_id=workspace.id, spec=None, agent_type=" ")
    assert (cleared.spec, cleared.agent_type) == (None, None)
    with pytest.raises(ConflictError) as refusal:
        await update_workspace(owner, workspace_id=workspace.id, expected_version=1, name="x")
    assert refusal.value.details == {"current_version": 3}
    for name in ("name", "slug", "language", "workflow", "max_concurrent", "pull_mode"):
        with pytest.raises(InvalidError):
            await update_workspace(owner, workspace_id=workspace.id, **{name: None})


async def test_settings_and_limits_are_merged_and_null_removes_a_key(
    owner: Context, workspace: Workspace
) -> None:
    for name in ("settings", "limits"):
        first = {name: {"a": {"b": 1, "c": 2}, "d": 3}}
        await update_workspace(owner, workspace_id=workspace.id, **first)
        second = {name: {"a": {"b": None, "e": [4]}, "d": None, "f": None}}
        after = await update_workspace(owner, workspace_id=workspace.id, **second)
        assert getattr(after, name) == {"a": {"c": 2, "e": [4]}}
        cleared = await update_workspace(owner, workspace_id=workspace.id, **{name: None})
        assert getattr(cleared, name) == {}


async def test_taken_slugs_are_refused_and_freed_by_deletion(
    owner: Context, workspace: Workspace
) -> None:
    other = await create_workspace(owner, name="other", slug="other")
    with pytest.raises(ConflictError):
        await update_workspace(owner, workspace_id=workspace.id, slug="other")
    with pytest.raises(ConflictError):
        await create_workspace(owner, name="x", slug="other")
    await delete_workspace(owner, workspace_id=other.id)
    assert (await update_workspace(owner, workspace_id=workspace.id, slug="other")).slug == "other"


@pytest.mark.parametrize(
    ("role", "writes", "steers", "deletes"),
    [
        (Role.VIEWER, False, False, False),
        (Role.DEVELOPER, True, False, False),
        (Role.MANAGER, True, True, False),
        (Role.ADMIN, True, True, True),
    ],
)
async def test_what_each_role_may_change(
    workspace: Workspace, member: Callable[..., Any],
    role: Role, writes: bool, steers: bool, deletes: bool,  # noqa: FBT001  # a table
) -> None:  # fmt: skip
    ctx = await member(role)
    attempts: list[tuple[bool, Callable[[], Any]]] = [
        (writes, lambda: update_workspace(ctx, workspace_id=workspace.id, name="n")),
        (steers, lambda: update_workspace(ctx, workspace_id=workspace.id, max_concurrent=2)),
        (steers, lambda: update_workspace(ctx, workspace_id=workspace.id, limits={"a": 1})),
        (
            steers,
            lambda: set_workspace_status(ctx, workspace_id=workspace.id, status="COMPLETED"),
        ),
        (deletes, lambda: delete_workspace(ctx, workspace_id=workspace.id)),
    ]
    for allowed, attempt in attempts:
        if allowed:
            await attempt()
        else:
            with pytest.raises(ForbiddenError):
                await attempt()


async def test_reading_keys_and_strangers_change_nothing(
    owner: Context, workspace: Workspace, member: Callable[..., Any], as_user: AsUser,
    as_principal: MakeContext,
) -> None:  # fmt: skip
    reader = await member(Role.ADMIN, scopes=frozenset({"task:read"}))
    stranger = await as_user(await create_user(owner, name="stranger"))
    for attempt in (
        lambda ctx: update_workspace(ctx, workspace_id=workspace.id, name="n"),
        lambda ctx: update_workspace(ctx, workspace_id=workspace.id, local_path="/tmp"),  # noqa: S108  # never used
        lambda ctx: set_workspace_status(ctx, workspace_id=workspace.id, status="ARCHIVED"),
        lambda ctx: delete_workspace(ctx, workspace_id=workspace.id, force=True),
    ):
        with pytest.raises(ForbiddenError):
            await attempt(reader)
        with pytest.raises(NotFoundError):
            await attempt(stranger)
        with pytest.raises(UnauthenticatedError):
            await attempt(as_principal(None))


async def test_an_archived_workspace_takes_no_changes_until_it_is_opened_again(
    owner: Context, workspace: Workspace, services: Services
) -> None:
    archived = await set_workspace_status(owner, workspace_id=workspace.id, status="ARCHIVED")
    assert archived.archived_at is not None
    again = await set_workspace_status(owner, workspace_id=workspace.id, status="ARCHIVED")
    assert again.version == archived.version
    with pytest.raises(ConflictError):
        await update_workspace(owner, workspace_id=workspace.id, name="x")
    with pytest.raises(ConflictError):
        await create_task(owner, workspace_id=workspace.id, title="x")
    with pytest.raises(ConflictError):
        await set_workspace_status(
            owner, workspace_id=workspace.id, status="ACTIVE", expected_version=1
        )
    active = await set_workspace_status(owner, workspace_id=workspace.id, status="ACTIVE")
    assert (active.status, active.archived_at) == ("ACTIVE", None)
    assert services.dispatcher.wakes == 1
    await set_workspace_status(owner, workspace_id=workspace.id, status="COMPLETED")
    changes = ["workspace.archived", "workspace.reopened", "workspace.completed"]
    assert (await types_of(owner, workspace.id))[1:] == changes
    assert (await types_of(owner, None))[-3:] == changes
    with pytest.raises(InvalidError):
        await set_workspace_status(owner, workspace_id=workspace.id, status="GONE")


async def test_nothing_is_archived_or_deleted_under_an_executing_run(
    owner: Context, workspace: Workspace, services: Services
) -> None:
    run = await insert_run(owner, workspace_id=workspace.id, status=RunStatus.AWAITING_INPUT)
    for attempt in (
        set_workspace_status(owner, workspace_id=workspace.id, status="ARCHIVED"),
        set_workspace_status(owner, workspace_id=workspace.id, status="COMPLETED"),
        delete_workspace(owner, workspace_id=workspace.id),
    ):
        with pytest.raises(ConflictError) as refusal:
            await attempt
        assert refusal.value.details == {"run_id": run.id}
    await delete_workspace(owner, workspace_id=workspace.id, force=True)
    assert services.dispatcher.stopped == [run.id]
    stopping = await (await owner.reader()).find_by_id(Run, run.id)
    assert stopping is not None
    assert stopping.stop_reason == "workspace_deleted"


async def test_a_clients_own_run_holds_nothing_up(owner: Context, workspace: Workspace) -> None:
    await insert_run(owner, workspace_id=workspace.id, status=RunStatus.RUNNING, managed=False)
    await delete_workspace(owner, workspace_id=workspace.id)


async def test_a_deleted_workspace_is_gone_and_its_waiting_runs_with_it(
    owner: Context, workspace: Workspace, services: Services, member: Callable[..., Any]
) -> None:
    developer = await member(Role.DEVELOPER)
    waiting = [
        await insert_run(owner, workspace_id=workspace.id, status=status)
        for status in (RunStatus.QUEUED, RunStatus.PAUSED)
    ]
    task = await create_task(owner, workspace_id=workspace.id, title="x")
    head = await log_head(owner, workspace_id=workspace.id)
    await delete_workspace(owner, workspace_id=workspace.id)
    for run in waiting:
        row = await (await owner.reader()).find_by_id(Run, run.id)
        assert row is not None
        assert (row.status, row.reason) == (RunStatus.CANCELLED, "workspace_deleted")
    await owner.release()
    for gone in (
        get_workspace(owner, workspace_id=workspace.id),
        get_workspace_by_slug(owner, slug=workspace.slug),
        get_workspace_by_number(owner, number=workspace.number),
        update_workspace(owner, workspace_id=workspace.id, name="x"),
        delete_workspace(owner, workspace_id=workspace.id),
        get_workspace(developer, workspace_id=workspace.id),
    ):
        with pytest.raises(NotFoundError):
            await gone
    assert (await list_workspaces(owner)).nodes == []
    from resolvers.tasks import get_task

    with pytest.raises(NotFoundError):
        await get_task(owner, task_id=task.id)
    after = await log_head(owner, workspace_id=workspace.id)
    assert owner.positions[workspace.id] == after
    assert after.seq == head.seq + 3
    assert (await types_of(owner, workspace.id))[-3:] == [
        "run.cancelled",
        "run.cancelled",
        "workspace.deleted",
    ]
    assert developer.principal is not None
    woken = services.wakeups.principals
    assert developer.principal.key in woken


# --- finding ---


async def test_lists_show_only_what_is_visible(
    owner: Context, workspace: Workspace, as_user: AsUser
) -> None:
    ada = await create_user(owner, name="ada")
    ours = await create_workspace(owner, name="ours")
    await add_member(owner, workspace_id=ours.id, user_id=ada.id, role=Role.VIEWER)
    ctx = await as_user(ada)
    page = await list_workspaces(ctx)
    assert [w.id for w in page.nodes] == [ours.id]
    assert await page.count() == (1, True)
    assert (await list_workspaces(ctx, filter_=WorkspaceFilter(search="board"))).nodes == []
    for hidden in (
        get_workspace(ctx, workspace_id=workspace.id),
        get_workspace_by_slug(ctx, slug=workspace.slug),
        get_workspace_by_number(ctx, number=workspace.number),
    ):
        with pytest.raises(NotFoundError):
            await hidden
    bound = await as_user(ada, workspace_id=workspace.id)
    assert (await list_workspaces(bound)).nodes == []
    assert len((await list_workspaces(owner)).nodes) == 2
    assert (await get_workspace_by_slug(ctx, slug="ours")).id == ours.id
    assert (await get_workspace_by_number(ctx, number=ours.number)).id == ours.id


async def test_lists_are_searched_filtered_ordered_and_paged(owner: Context) -> None:
    for name in ("beta 100%", "alpha", "gamma"):
        await create_workspace(owner, name=name, description=f"about {name}")
    gamma = await get_workspace_by_slug(owner, slug="gamma")
    await set_workspace_status(owner, workspace_id=gamma.id, status="ARCHIVED")

    async def names(filter_: WorkspaceFilter | None = None, **arguments: Any) -> list[str]:
        page = await list_workspaces(owner, filter_=filter_, **arguments)
        return [workspace.name for workspace in page.nodes]

    assert await names() == ["alpha", "beta 100%", "gamma"]
    assert await names(order=WorkspaceOrder.UPDATED_AT_DESC) == ["gamma", "alpha", "beta 100%"]
    assert await names(WorkspaceFilter(search="ABOUT A")) == ["alpha"]
    assert await names(WorkspaceFilter(search="100%")) == ["beta 100%"]
    assert await names(WorkspaceFilter(search="#3")) == ["gamma"]
    assert await names(WorkspaceFilter(status=[WorkspaceStatus.ARCHIVED])) == ["gamma"]
    for order in WorkspaceOrder:
        whole = await names(order=order)
        paged: list[str] = []
        after = None
        for _ in range(3):
            page = await list_workspaces(
                owner, order=order, page=PageArguments(first=1, after=after)
            )
            paged += [workspace.name for workspace in page.nodes]
            after = page.cursors[-1]
        assert paged == whole


async def test_identifiers_nobody_gave_out_are_not_found(owner: Context) -> None:
    for text in ("\x00", "x" * 200, "ü", ""):
        for lookup in (
            get_workspace(owner, workspace_id=text),
            get_workspace_by_slug(owner, slug=text),
        ):
            with pytest.raises(NotFoundError):
                await lookup
    for number in (-1, 0, 2**31, 2**70):
        with pytest.raises(NotFoundError):
            await get_workspace_by_number(owner, number=number)


async def test_what_is_told_beside_a_page_costs_one_statement(
    owner: Context, workspace: Workspace
) -> None:
    others = [await create_workspace(owner, name=f"w{n}") for n in range(3)]
    await create_task(owner, workspace_id=workspace.id, title="x")
    await create_task(owner, workspace_id=workspace.id, title="y")
    ids = [workspace.id, *(other.id for other in others)]
    reader = await owner.reader()
    before = reader.statements
    totals = await asyncio.gather(*(totals_of(owner, i) for i in ids))
    heads = await asyncio.gather(*(head_of(owner, i) for i in ids))
    assert reader.statements == before + 2
    assert [sum(total.values()) for total in totals] == [2, 0, 0, 0]
    assert [head.seq for head in heads] == [3, 1, 1, 1]
    assert heads[0] == await log_head(owner, workspace_id=workspace.id)


async def test_members_wait_for_nobody_to_see_the_new_workspace(
    owner: Context, as_user: AsUser, services: Services
) -> None:
    ada: User = await create_user(owner, name="ada", role=Role.DEVELOPER)
    await create_workspace(await as_user(ada), name="x")
    assert f"user:{ada.id}" in services.wakeups.principals
