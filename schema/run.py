"""Runs in the schema: type, output and diff."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry
from strawberry.scalars import JSON

from models import Agent as AgentRow
from models import Task as TaskRow
from models import Workspace as WorkspaceRow
from models.enums import (
    Executor,
    QueueClass,
    RunHold,
    RunKind,
    RunStatus,
    TaskPriority,
    priority_of,
)
from resolvers import queue_queries
from resolvers.run_queries import outputs_of_runs
from schema.artifact import ARTIFACTS, Artifact, load_artifacts
from schema.context import Info
from schema.node import Node
from schema.reading import follow, ids_of, level, link, one_of, reads
from subscriptions.cursor import encode_cursor
from subscriptions.log import RUN_EPOCH

if TYPE_CHECKING:
    from schema.agent import Agent
    from schema.task import Task
    from schema.workspace import Workspace


@strawberry.type(description="One line of a run's output.")
class OutputLine:
    """An entry of a run's output log."""

    run_id: strawberry.Private[str]
    line: int = strawberry.field(description="Its number, counted from 1 without gaps.")
    stream: str = strawberry.field(
        description="stdout, stderr, or server for what the server says."
    )
    text: str = strawberry.field(description="The line, without its end; at most 8 MiB.")
    at: datetime = strawberry.field(description="When the server read it.")
    event: JSON | None = strawberry.field(
        description="The progress event the line stands for, if any: type and its fields."
    )

    @strawberry.field(description="Its place in the log: resume runOutput after it.")
    def cursor(self) -> str:
        return encode_cursor(self.run_id, epoch=RUN_EPOCH, seq=self.line)


@strawberry.type(description="Consecutive lines of a run's output.")
class OutputPage:
    """A page of a run's output log."""

    entries: list[OutputLine] = strawberry.field(description="The lines, in order.")
    last_line: int = strawberry.field(description="Number of the newest line there is.")
    ended: bool = strawberry.field(description="Whether nothing will follow lastLine.")


@strawberry.type(description="A changed file.")
class DiffFile:
    """See resolvers.ports.DiffFile."""

    path: str = strawberry.field(description="Path inside the repository.")
    additions: int | None = strawberry.field(description="Lines added; null for binary files.")
    deletions: int | None = strawberry.field(description="Lines removed; null for binary files.")


@strawberry.type(description="What a branch changes against its base.")
class Diff:
    """See resolvers.ports.Diff."""

    base: str = strawberry.field(description="The commit compared with.")
    head: str = strawberry.field(description="The commit looked at.")
    files: list[DiffFile] = strawberry.field(
        description="The changed files, at most 1,000.", metadata={"list_size": 100}
    )
    files_changed: int = strawberry.field(description="How many files changed.")
    additions: int = strawberry.field(description="Lines added.")
    deletions: int = strawberry.field(description="Lines removed.")
    patch: str = strawberry.field(description="The unified diff, at most 1 MiB.")
    truncated: bool = strawberry.field(description="Whether files or patch were cut.")


@strawberry.type(
    description="Tokens and money that were used, as far as executors tell. Tokens are whole "
    "numbers; sums of them may pass 32 bits."
)
class Usage:
    """Of one run, or summed over many."""

    input_tokens: float = strawberry.field(description="Tokens sent to the model.")
    output_tokens: float = strawberry.field(description="Tokens the model answered.")
    cached_tokens: float = strawberry.field(description="Input tokens that came from a cache.")
    cost_usd: float = strawberry.field(description="Cost in US dollars.")


@strawberry.type(description="One answer that can be given to a question.")
class RunQuestionOption:
    """See runner.executors.progress.QuestionOption."""

    id: strawberry.ID = strawberry.field(description="What answerRun takes.")
    name: str = strawberry.field(description="The answer, for people.")
    kind: str = strawberry.field(
        description="allow_once, allow_always, reject_once, reject_always or other."
    )


@strawberry.type(description="Something a run asks for and waits for.")
class RunQuestion:
    """A question in models.Run.questions."""

    id: strawberry.ID = strawberry.field(description="What answerRun takes.")
    text: str = strawberry.field(description="What is asked for, up to 1,000 characters.")
    kind: str = strawberry.field(
        description="Of what kind that is: read, edit, execute, search, fetch, think or other."
    )
    options: list[RunQuestionOption] = strawberry.field(
        description="The answers to choose from, at most 20.", metadata={"list_size": 5}
    )
    asked_at: datetime = strawberry.field(description="When it was asked.")
    expires_at: datetime = strawberry.field(description="When it is refused by itself.")


async def _outputs(runs: list[Any], info: Info, after: int = 0, first: int = 200) -> list[Any]:
    ids = ids_of(runs)
    return [*await outputs_of_runs(info.context, ids, after=after, limit=first)]


@strawberry.type(description="One execution, for a task or for none.")
class Run(Node):
    """See models.Run."""

    public_id: str = strawberry.field(description="A short id of 12 characters.")
    workspace_id: strawberry.ID = strawberry.field(description="Its workspace.")
    task_id: strawberry.ID | None = strawberry.field(description="Its task.")
    agent_id: strawberry.ID | None = strawberry.field(description="The agent it runs as.")
    kind: RunKind = strawberry.field(description="What it executes.")
    phase: str | None = strawberry.field(description="What it is for, in a word.")
    executor: Executor = strawberry.field(description="The program that executes it.")
    model: str | None = strawberry.field(description="The model that program uses.")
    managed: bool = strawberry.field(
        description="Whether the server executes it; otherwise its own client does."
    )
    status: RunStatus = strawberry.field(description="Where it stands.")
    reason: str | None = strawberry.field(
        description="Why it ended, in a word: done, exit_code, signal, time_limit, silence, "
        "stopped, budget …"
    )
    error: str | None = strawberry.field(description="Why it failed, for people.")
    attempt: int = strawberry.field(description="Counts the runs of its task, from 1.")
    queue_class: QueueClass = strawberry.field(description="The queue it waits or waited in.")
    priority_level: int = strawberry.field(description="Priority as a level, 0 to 10.")
    command: str | None = strawberry.field(description="The command line of a COMMAND.")
    working_directory: str | None = strawberry.field(description="The folder it runs in.")
    token_budget: float | None = strawberry.field(
        description="How many tokens it may use, sent and answered together; null: no limit of "
        "its own."
    )
    cost_budget_usd: float | None = strawberry.field(
        description="How many US dollars it may use; null: no limit of its own."
    )
    branch: str | None = strawberry.field(description="The branch it works on.")
    base_branch: str | None = strawberry.field(description="What that branch starts from.")
    base_commit: str | None = strawberry.field(description="The commit it started from.")
    commit_sha: str | None = strawberry.field(description="The commit it ended with.")
    worktree_path: str | None = strawberry.field(description="Where it works.")
    files_changed: int | None = strawberry.field(description="Files changed against the base.")
    additions: int | None = strawberry.field(description="Lines added against the base.")
    deletions: int | None = strawberry.field(description="Lines removed against the base.")
    session_id: str | None = strawberry.field(description="The executor's session.")
    exit_code: int | None = strawberry.field(
        description="Exit code; minus the signal's number where a signal ended it."
    )
    activity: str | None = strawberry.field(description="What it is doing now, in a line.")
    progress: int = strawberry.field(description="How far it is, in percent, as it says.")
    output_lines: int = strawberry.field(description="How many lines of output there are.")
    output_bytes: int = strawberry.field(description="How large they are together.")
    queued_at: datetime | None = strawberry.field(description="Since when it waits or waited.")
    started_at: datetime | None = strawberry.field(description="When it started.")
    last_output_at: datetime | None = strawberry.field(description="When it last said something.")
    finished_at: datetime | None = strawberry.field(description="When it ended.")
    stop_requested_at: datetime | None = strawberry.field(
        description="Since when it is asked to stop."
    )
    created_at: datetime = strawberry.field(description="When it was created.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")
    version: int = strawberry.field(description="Counts its changes.")

    @strawberry.field(
        description="Priority as a bucket of its level.", metadata=reads("priority_level")
    )
    def priority(self) -> TaskPriority:
        return priority_of(self.priority_level)

    @strawberry.field(
        description="What it waits for while it is AWAITING_INPUT, at most 20 questions.",
        metadata={"list_size": 3},
    )
    def questions(self) -> list[RunQuestion]:
        row: Any = self
        return [
            RunQuestion(
                id=one["id"],
                text=one["text"],
                kind=one["kind"],
                options=[RunQuestionOption(**option) for option in one["options"]],
                asked_at=datetime.fromisoformat(one["asked_at"]),
                expires_at=datetime.fromisoformat(one["expires_at"]),
            )
            for one in row.questions
        ]

    @strawberry.field(description="What it used.")
    def usage(self) -> Usage:
        row: Any = self
        return Usage(
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            cached_tokens=row.cached_tokens,
            cost_usd=row.cost_usd,
        )

    @strawberry.field(
        description="The agent's closing words, up to 65,536 characters; of a refinement the text "
        "it was asked for. Null until it ends, and where it said nothing."
    )
    def result(self) -> str | None:
        row: Any = self
        text = row.output.get("text") if isinstance(row.output, dict) else None
        return text if isinstance(text, str) else None

    @strawberry.field(description="Files that belong to it, oldest first.", metadata=ARTIFACTS)
    async def artifacts(self, info: Info) -> list[Artifact]:
        return await load_artifacts(str(self.id), info)

    @strawberry.field(
        description="Its place among those that wait in its workspace, from 1; null where it does "
        "not wait."
    )
    async def queue_position(self, info: Info) -> int | None:
        run: Any = self
        return await queue_queries.queue_position(info.context, run)

    @strawberry.field(description="What it waits for; null where it does not wait.")
    async def waits_for(self, info: Info) -> RunHold | None:
        run: Any = self
        return await queue_queries.run_hold(info.context, run)

    @strawberry.field(description="Its workspace.", metadata=link(WorkspaceRow, "workspace_id"))
    async def workspace(
        self, info: Info
    ) -> Annotated["Workspace", strawberry.lazy("schema.workspace")]:
        found: Any = await follow(info, WorkspaceRow, self.workspace_id)
        return found

    @strawberry.field(description="Its task.", metadata=link(TaskRow, "task_id"))
    async def task(self, info: Info) -> Annotated["Task", strawberry.lazy("schema.task")] | None:
        found: Any = await follow(info, TaskRow, self.task_id)
        return found

    @strawberry.field(description="The agent it runs as.", metadata=link(AgentRow, "agent_id"))
    async def agent(self, info: Info) -> Annotated["Agent", strawberry.lazy("schema.agent")] | None:
        found: Any = await follow(info, AgentRow, self.agent_id)
        return found

    @strawberry.field(
        description="Lines of its output: fewer than asked for where they would have more than a "
        "million characters; lastLine tells whether there are more.",
        metadata=reads(
            "id", page_size_arguments=("first",), max_page_size=1_000, **level(_outputs)
        ),
    )
    async def output(
        self,
        info: Info,
        after: Annotated[
            int, strawberry.argument(description="The number of the last line seen.")
        ] = 0,
        first: Annotated[int, strawberry.argument(description="How many lines: 1 to 1,000.")] = 200,
    ) -> OutputPage:
        page: OutputPage = await one_of(info, _outputs, self, after=after, first=first)
        return page
