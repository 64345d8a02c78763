"""Tenants: a workspace with everything in it that can be in one, and people of every role.

All is made through operations. Every text of a tenant has its marker in it, and ``ids`` holds
whatever could identify something of it.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from models import Agent, Run, Task, User, Workspace, utcnow
from models.enums import Role, RunStatus, TaskStatus
from resolvers import (
    agent_reports,
    agents,
    commands,
    devices,
    git_access,
    repositories,
    runs,
    sprints,
    stories,
    task_context,
    tokens,
    users,
    webhooks,
    workspaces,
)
from resolvers import members as membership
from resolvers import run_execution as execution
from resolvers import tasks as board
from resolvers.artifacts import NewArtifact, add_artifacts
from resolvers.context import Context
from resolvers.keys import CreatedKey
from resolvers.operation import operation
from resolvers.ports import OutboundAnswer
from resolvers.principal import Principal
from resolvers.run_inputs import QuestionNews
from resolvers.task_board import move_task
from resolvers.tasks import NewDependency
from resolvers.webhook_deliveries import claim_deliveries, plan_deliveries, settle_delivery
from tests.support.inside import Inside

ROLES = (Role.VIEWER, Role.DEVELOPER, Role.MANAGER, Role.ADMIN)
PASSWORD = "correct horse battery"
_BRANCH = "work"
_REPOSITORIES = 60
_WEBHOOKS = 40


@dataclass(slots=True)
class Tenant:
    """A seeded workspace and ways to put more into it.

    ``users`` and ``tokens`` are by role (``viewer`` …), ``agent_token`` is its agent's own;
    ``elsewhere`` is a workspace whose members are known to this one's people, where there is one.
    """

    inside: Inside
    marker: str
    owner: Context
    workspace: Workspace
    repository: Path
    users: dict[str, User] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    agent: Agent | None = None
    agent_token: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    elsewhere: str | None = None
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    KINDS: ClassVar[tuple[str, ...]] = (
        "user viewer", "user developer", "user manager", "user admin",
        "key viewer", "key developer", "key manager", "key admin",
        "agent", "agent key", "progress", "workspace", "story", "sprint",
        "task", "task waited for", "task archived", "task deleted", "task in review",
        "context entry", "run queued", "run failed", "run finished", "artifact", "repository",
        "webhook", "delivery", "command", "device",
    )  # fmt: skip
    """The keys of ``ids``."""

    @property
    def id(self) -> str:
        """The workspace's id."""
        return self.workspace.id

    def text(self, what: str = "text") -> str:
        """A new text with the marker in it."""
        return f"{what} {self.marker} {next(self.numbers)}"

    def word(self, what: str = "word") -> str:
        """A new name with the marker in it: letters, digits and dashes."""
        return f"{what}-{self.marker.lower()}-{next(self.numbers)}"

    def context(self, role: str) -> Context:
        """The context of one of its people."""
        user = self.users[role]
        return Context(
            self.inside.services,
            Principal(
                kind="user", id=user.id, name=user.name, memberships={self.id: Role(role.upper())}
            ),
        )

    # --- more of everything ---

    async def task(self, status: TaskStatus = TaskStatus.BACKLOG, **fields: Any) -> str:
        """A task in some status, reached by a free move (so QUEUED has a waiting run)."""
        fields.setdefault("title", self.text("task"))
        task = await board.create_task(self.owner, workspace_id=self.id, **fields)
        if status != TaskStatus.BACKLOG:
            await move_task(self.owner, task_id=task.id, status=status)
        return task.id

    async def story(self) -> str:
        """A story."""
        story = await stories.create_story(
            self.owner, workspace_id=self.id, title=self.text("story"), description=self.text()
        )
        return story.id

    async def sprint(self) -> str:
        """A sprint in PLANNING."""
        return (await sprints.create_sprint(self.owner, workspace_id=self.id)).id

    async def new_agent(self) -> Agent:
        """An agent."""
        return await agents.create_agent(
            self.owner, workspace_id=self.id, name=self.word("agent"), role=self.text("role")[:64]
        )

    async def new_repository(self) -> str:
        """One of the repositories beside the workspace's own; of many, old ones make room."""
        known = await repositories.list_repositories(self.owner, workspace_id=self.id)
        for old in known[:_REPOSITORIES] if len(known) > _REPOSITORIES else []:
            if old.id != self.ids["repository"]:
                await repositories.delete_repository(self.owner, repository_id=old.id)
        made = await repositories.create_repository(
            self.owner, workspace_id=self.id, name=self.word("repo"), description=self.text()
        )
        return made.id

    async def webhook(self) -> str:
        """A webhook; of many, old ones make room."""
        known = (await webhooks.list_webhooks(self.owner, workspace_id=self.id)).nodes
        for old in known[:20] if len(known) > _WEBHOOKS else []:
            if old.id != self.ids["webhook"]:
                await webhooks.delete_webhook(self.owner, webhook_id=old.id)
        shown = await webhooks.create_webhook(
            self.owner,
            workspace_id=self.id,
            url=f"https://9.9.9.9/{self.word('hook')}",
            event_types=["task.*"],
            description=self.text(),
        )
        return shown.webhook.id

    async def delivery(self) -> str:
        """A delivery that was accepted, of a webhook of its own."""
        webhook, system = await self.webhook(), self.inside.system()
        await self.task()
        await plan_deliveries(system, webhook_ids=[webhook])
        (claimed,) = await claim_deliveries(system, webhook_ids=[webhook], maximum=1)
        answer = OutboundAnswer(200, 0.1, excerpt=self.text("answer").encode())
        await settle_delivery(system, claimed=claimed, answer=answer)
        return claimed.delivery.id

    async def new_user(self, **fields: Any) -> User:
        """A user who is nobody's member."""
        return await users.create_user(self.owner, name=self.word("user"), **fields)

    async def new_member(self, role: Role = Role.VIEWER) -> User:
        """A user who is a member."""
        user = await self.new_user()
        await membership.add_member(self.owner, workspace_id=self.id, user_id=user.id, role=role)
        return user

    async def token(self, user: User, **fields: Any) -> CreatedKey:
        """A key of a user."""
        return await tokens.create_token(
            self.owner, user_id=user.id, name=self.text("key"), **fields
        )

    async def queued_run(self) -> str:
        """A run that waits."""
        return (await runs.start_run(self.owner, task_id=await self.task())).id

    async def asking_run(self) -> str:
        """A run that waits for an answer: ``once`` is one."""
        option = {"id": "once", "name": self.text("name"), "kind": "allow_once"}
        asked = {"id": "q1", "text": self.text("asked"), "kind": "execute", "options": [option]}
        news = QuestionNews(asked=[asked], expires_at=utcnow() + timedelta(hours=1))
        run_id, _ = await self._executing(questions=news)
        return run_id

    async def artifact(self, run_id: str) -> str:
        """A file of a run."""
        data = self.text("content").encode()
        file = NewArtifact(name=f"{self.text('file')}.md", type="plan", size=len(data))
        [made] = await add_artifacts(self.owner, run_id=run_id, files=[(file, data)])
        return made.id

    async def failed_run(self) -> str:
        """A run that has failed, of a task that can be tried again."""
        run_id, token = await self._executing()
        await self._finish(run_id, token, RunStatus.FAILED)
        return run_id

    async def finished_run(self) -> str:
        """A run that came to its end and left output; its task is in review."""
        run_id, token = await self._executing()
        await self._finish(run_id, token, RunStatus.COMPLETED)
        return run_id

    async def _executing(self, **facts: Any) -> tuple[str, int]:
        waiting = await self.queued_run()
        system = self.inside.system()
        token = await _claim(system, run_id=waiting)
        entries = [
            {"s": "stdout", "t": self.text("line"), "at": utcnow().isoformat()},
            {
                "s": "stdout",
                "t": self.text("event"),
                "at": utcnow().isoformat(),
                "e": {"type": "message", "text": self.text("said")},
            },
        ]
        await execution.append_output(
            system,
            run_id=waiting,
            token=token,
            entries=entries,
            offsets={"stdout_offset": 10},
            facts=execution.OutputFacts(
                activity=self.text("activity"), session_id=waiting, announce=True, **facts
            ),
        )
        return waiting, token

    async def _finish(self, run_id: str, token: int, status: RunStatus) -> None:
        failed = status == RunStatus.FAILED
        await execution.finish_run(
            self.inside.system(),
            run_id=run_id,
            token=token,
            outcome=execution.RunOutcome(
                status, "exit_code" if failed else "completed",
                error=self.text("error") if failed else None,
            ),
        )  # fmt: skip

    async def command(self) -> str:
        """A command that waits for its start."""
        run = await commands.run_command(
            self.owner, workspace_id=self.id, command=f"echo {self.word()}"
        )
        return run.id

    async def device(self) -> str:
        """A device of its developer that shows its task."""
        ctx = self.context("developer")
        device = await devices.register_device(ctx, token=self.text("device"), platform="IOS")
        await devices.watch_task(ctx, task_id=self.ids["task"], device_id=device.id)
        await ctx.release()
        return device.id

    async def task_with_branch(self) -> str:
        """A task in review whose branch is one commit ahead."""
        task_id = await self.task(TaskStatus.REVIEW, branch=_BRANCH)
        commit = _git(self.repository, "rev-parse", _BRANCH)
        await _set_task(self.inside.system(), task_id=task_id, commit_sha=commit)
        return task_id


@operation
async def _claim(ctx: Context, *, run_id: str) -> int:
    """Take one run out of the queue, whichever stands in front of it."""
    from resolvers.task_board import enter_status
    from resolvers.task_runs import change_run

    run = await ctx.transaction.find_by_id(Run, run_id)
    assert run is not None
    await change_run(
        ctx, run, "run.started", status=RunStatus.RUNNING, lease_token=1, started_at=ctx.now,
        lease_owner="test", lease_expires_at=ctx.now + timedelta(hours=1), host="test",
    )  # fmt: skip
    task = await ctx.transaction.find_by_id(Task, run.task_id or "")
    assert task is not None
    await enter_status(ctx, task, TaskStatus.IN_PROGRESS, event="task.started", end_runs=False)
    return 1


@operation
async def _set_task(ctx: Context, *, task_id: str, **values: Any) -> None:
    await ctx.transaction.update_by_id(Task, task_id, **values)


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost", *arguments],
        cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def make_repository(folder: Path, marker: str) -> Path:
    """A repository with a commit on ``main`` and one more on ``work``."""
    folder.mkdir(parents=True)
    _git(folder, "init", "--quiet", "--initial-branch=main")
    for branch, text in (("main", "first"), (_BRANCH, "second")):
        if branch != "main":
            _git(folder, "checkout", "--quiet", "-b", branch)
        (folder / "README.md").write_text(f"{text} {marker}\n")
        _git(folder, "add", ".")
        _git(folder, "commit", "--quiet", f"--message={text} {marker}")
    _git(folder, "checkout", "--quiet", "main")
    return folder


async def make_tenant(inside: Inside, marker: str, folder: Path) -> Tenant:
    """A tenant with one of everything.

    Args:
        inside: the server.
        marker: a word that occurs nowhere else.
        folder: where its repository is made.
    """
    owner = Context(
        inside.services,
        Principal(
            kind="user", id=inside.owner_id, name="owner", role=Role.ADMIN, is_site_owner=True
        ),
    )
    repository = make_repository(folder / marker.lower(), marker)
    workspace = await workspaces.create_workspace(
        owner,
        name=f"Workspace {marker}",
        description=f"About {marker}",
        local_path=str(repository),
        settings={"note": marker},
        spec=f"spec {marker}",
    )
    tenant = Tenant(inside, marker, owner, workspace, repository)
    await _add_people(tenant)
    await _add_agents(tenant)
    await _add_work(tenant)
    assert set(tenant.ids) == set(Tenant.KINDS)
    await owner.release()
    return tenant


async def _add_people(tenant: Tenant) -> None:
    for role in ROLES:
        user = await tenant.new_user(
            full_name=tenant.text("name"), email=f"{tenant.word()}@example.org", password=PASSWORD
        )
        await membership.add_member(
            tenant.owner, workspace_id=tenant.id, user_id=user.id, role=role
        )
        created = await tenant.token(user)
        word = role.value.lower()
        tenant.users[word], tenant.tokens[word] = user, created.secret or ""
        tenant.ids |= {f"user {word}": user.id, f"key {word}": created.key.id}


async def _add_agents(tenant: Tenant) -> None:
    agent = await tenant.new_agent()
    created = await tokens.create_token(
        tenant.owner, agent_id=agent.id, name=tenant.text("agent key")
    )
    reporting = Context(
        tenant.inside.services,
        Principal(kind="agent", id=agent.id, name=agent.name, workspace_id=tenant.id),
    )
    await agent_reports.report_agent_status(
        reporting, workspace_id=tenant.id, name=agent.name, status="working",
        activity=tenant.text("activity"),
    )  # fmt: skip
    progress = await agent_reports.report_agent_progress(
        reporting, workspace_id=tenant.id, agent_name=agent.name, detail=tenant.text("detail")
    )
    tenant.agent, tenant.agent_token = agent, created.secret or ""
    tenant.ids |= {"agent": agent.id, "agent key": created.key.id, "progress": progress.id}


async def _add_work(tenant: Tenant) -> None:
    owner, agent, assignee = tenant.owner, tenant.agent, tenant.users["developer"]
    assert agent is not None
    story = await tenant.story()
    sprint = await sprints.create_sprint(
        owner, workspace_id=tenant.id, goal=tenant.text("goal"), status="ACTIVE"
    )
    waited_for = await tenant.task(description=tenant.text("description"))
    task = await tenant.task(
        description=tenant.text("description"),
        labels=[tenant.word("label")],
        story_id=story,
        agent_id=agent.id,
        assignee_id=assignee.id,
        sprint_number=sprint.number,
        parent_id=waited_for,
        depends_on=[NewDependency(waited_for)],
        metadata={"note": tenant.marker},
        notes=tenant.text("notes"),
    )
    await task_context.add_context_entries(
        owner,
        task_id=task,
        entries=[task_context.NewContextEntry(f"docs/{tenant.word()}.md", reason=tenant.text())],
    )
    entries = await task_context.list_context_entries(owner, task_id=task)
    finished = await tenant.finished_run()
    archived = await tenant.task()
    await board.archive_task(owner, task_id=archived)
    deleted = await tenant.task()
    await board.delete_task(owner, task_id=deleted)
    tenant.ids |= {
        "workspace": tenant.id,
        "story": story,
        "sprint": sprint.id,
        "task": task,
        "task waited for": waited_for,
        "task archived": archived,
        "task deleted": deleted,
        "task in review": await tenant.task_with_branch(),
        "context entry": entries[0].id,
        "run queued": await tenant.queued_run(),
        "run failed": await tenant.failed_run(),
        "run finished": finished,
        "artifact": await tenant.artifact(finished),
        "repository": await tenant.new_repository(),
        "webhook": await tenant.webhook(),
        "delivery": await tenant.delivery(),
        "command": await tenant.command(),
    }
    tenant.ids["device"] = await tenant.device()
    await git_access.set_git_access(
        owner, workspace_id=tenant.id, host=f"{tenant.word()}.example.org",
        username=tenant.word(), secret=tenant.text("secret"),
    )  # fmt: skip
