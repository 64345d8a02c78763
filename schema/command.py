"""Commands in the schema: run one, ask whether it may run, what was run, what one might run."""

from typing import Annotated, Any

import strawberry

from resolvers import commands
from resolvers.command_dangers import CommandIssue
from schema.common import (
    INPUT,
    PAGED,
    After,
    Before,
    Connection,
    First,
    Last,
    connection,
    fields_of,
    log_cursor,
    mutate,
    page_arguments,
)
from schema.context import Info
from schema.run import Run

WorkspaceId = Annotated[strawberry.ID, strawberry.argument(description="The workspace's id.")]
FOLDER = "A folder below the workspace's localPath, relative to it; by default that itself."
WORKTREE = "Run it in the worktree of this task instead."

strawberry.enum(
    CommandIssue,
    description="What is wrong with a command line. FORMAT: it cannot be read. SHELL: it needs a "
    "shell, and there is none. NOT_ALLOWED, ARGUMENT: the policy does not allow the program, or an "
    "argument of it. The others name a danger.",
)


@strawberry.type(description="One thing that is wrong with a command line.")
class CommandProblem:
    """See resolvers.command_dangers.Issue."""

    code: CommandIssue = strawberry.field(description="Of which kind.")
    message: str = strawberry.field(description="In words.")


@strawberry.type(description="Whether a command line may run.")
class CommandVerdict:
    """See resolvers.command_policy.Verdict."""

    allowed: bool = strawberry.field(description="Whether runCommand would take it.")
    safe: bool | None = strawberry.field(
        description="Whether no danger was found; null where none was looked for."
    )
    argv: list[str] = strawberry.field(
        description="Program and arguments that would be started; empty where it may not run.",
        metadata={"list_size": 100},
    )
    alternatives: list[str] = strawberry.field(
        description="What one might do instead.", metadata={"list_size": 10}
    )

    @strawberry.field(description="Why it may not run.", metadata={"list_size": 10})
    def issues(self) -> list[CommandProblem]:
        verdict: Any = self
        return list(verdict.issues)


@strawberry.type(description="A command one might run.")
class CommandSuggestion:
    """See resolvers.commands.CommandSuggestion."""

    command: str = strawberry.field(description="The command line, or its beginning.")
    description: str = strawberry.field(description="What it does.")
    category: str = strawberry.field(
        description="core, files, git, npm, claude, or own for what you ran before."
    )


@strawberry.input(description="A command line to run in a workspace's folder.")
class RunCommandInput:
    """See resolvers.commands.run_command."""

    workspace_id: strawberry.ID = strawberry.field(description="The workspace.")
    command: str = strawberry.field(
        description="1 to 4,096 characters; split into words, never read by a shell."
    )
    working_directory: str | None = strawberry.field(default=None, description=FOLDER)
    task_id: strawberry.ID | None = strawberry.field(default=None, description=WORKTREE)
    timeout_seconds: int | None = strawberry.field(
        default=None, description="Ends it after so long: 1 to 3,600, by default 300."
    )


@strawberry.type(description="A command that was accepted.")
class CommandPayload:
    """What runCommand returns."""

    run: Run = strawberry.field(
        description="A run of kind COMMAND: follow runOutput, end it with stopRun."
    )

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.run.workspace_id)


@strawberry.type
class CommandQuery:
    """Root fields about commands."""

    @strawberry.field(
        description="Whether a command line may run, and why not; nothing is started.",
        metadata={"cost": 5},
    )
    async def check_command(
        self,
        info: Info,
        workspace_id: WorkspaceId,
        command: Annotated[str, strawberry.argument(description="The command line.")],
        working_directory: Annotated[str | None, strawberry.argument(description=FOLDER)] = None,
        task_id: Annotated[strawberry.ID | None, strawberry.argument(description=WORKTREE)] = None,
        check_safety: Annotated[
            bool, strawberry.argument(description="Whether dangers are looked for.")
        ] = True,
    ) -> CommandVerdict:
        found: Any = await commands.check_command(
            info.context,
            workspace_id=workspace_id,
            command=command,
            working_directory=working_directory,
            task_id=task_id,
            check_safety=check_safety,
        )
        return found

    @strawberry.field(
        description="Commands you ran in a workspace, newest first; the newest 1,000 are kept.",
        metadata=PAGED,
    )
    async def commands(
        self,
        info: Info,
        workspace_id: WorkspaceId,
        everyone: Annotated[
            bool, strawberry.argument(description="Those of all users too; for admins.")
        ] = False,
        live: Annotated[
            bool | None,
            strawberry.argument(description="Only those that have not ended, or only the others."),
        ] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Run]:
        page = await commands.list_commands(
            info.context,
            workspace_id=workspace_id,
            everyone=everyone,
            live=live,
            page=page_arguments(first, after, last, before),
        )
        return connection(page)

    @strawberry.field(
        description="Commands one might run: known ones that may run, then those you ran before.",
        metadata={"list_size": 30},
    )
    async def command_suggestions(
        self,
        info: Info,
        workspace_id: WorkspaceId,
        category: Annotated[
            str | None, strawberry.argument(description="Only of this category.")
        ] = None,
        prefix: Annotated[
            str | None, strawberry.argument(description="How they begin, in any case.")
        ] = None,
        query: Annotated[
            str | None, strawberry.argument(description="Part of command or description.")
        ] = None,
    ) -> list[CommandSuggestion]:
        found: Any = await commands.suggest_commands(
            info.context, workspace_id=workspace_id, category=category, prefix=prefix, query=query
        )
        return found


@strawberry.type
class CommandMutation:
    """Root mutations of commands."""

    @strawberry.mutation(
        description="Run a command line in a workspace's folder, if the policy allows it."
    )
    async def run_command(
        self, info: Info, input: Annotated[RunCommandInput, INPUT]
    ) -> CommandPayload:
        values = fields_of(input)
        run: Any = await mutate(info, lambda ctx: commands.run_command(ctx, **values))
        return CommandPayload(run=run)
