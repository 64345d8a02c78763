"""The command line ``dragoman``. Everything heavy is imported by the command that needs it."""

import asyncio
import gc
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from server.settings import Settings, load_settings_or_exit

T = TypeVar("T")

app = typer.Typer(
    name="dragoman",
    help="One board of work for people and coding agents: GraphQL, and REST for older clients.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
user_app = typer.Typer(help="Users.", no_args_is_help=True)
workspace_app = typer.Typer(help="Workspaces.", no_args_is_help=True)
token_app = typer.Typer(help="Access tokens.", no_args_is_help=True)
app.add_typer(user_app, name="user")
app.add_typer(workspace_app, name="workspace")
app.add_typer(token_app, name="token")

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder of database, keys, output and worktrees.  [env: DRAGOMAN_DATA_DIR; ./data]"
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(help="sqlite:///file or postgresql://…  [env: DRAGOMAN_DATABASE_URL]"),
]


def main() -> None:
    """Run the command line."""
    app()


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run one command; what it refuses becomes one line on stderr and exit code 1."""
    from models.errors import DatabaseBusyError, StorageFullError
    from resolvers.errors import OperationError

    try:
        return asyncio.run(work)
    except (OperationError, DatabaseBusyError, StorageFullError) as error:
        print(f"dragoman: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.  [env: DRAGOMAN_HOST; 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 takes a free one.  [env: DRAGOMAN_PORT; 8000]")
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    broadcast_url: Annotated[
        str | None,
        typer.Option(help="memory://, redis://… or postgresql://…  [env: DRAGOMAN_BROADCAST_URL]"),
    ] = None,
) -> None:
    """Migrate the database and serve; the first start creates the user ``owner``.

    Prints one line on stdout as soon as requests are answered. Stop it with Ctrl-C or SIGTERM:
    streams are closed with a resumable reason, runs go on and are adopted by the next start.
    """
    # Nothing of what a start imports and builds is garbage: looking for it costs a seventh of the
    # time. The server turns the collector on again as soon as it is ready.
    gc.disable()
    from server.serving import serve_forever

    settings = load_settings_or_exit(
        host=host,
        port=port,
        data_dir=data_dir,
        database_url=database_url,
        broadcast_url=broadcast_url,
    )
    raise typer.Exit(serve_forever(settings))


@app.command()
def migrate(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Bring the database to the newest shape; says what it did."""
    from server import migrations

    settings = _settings(data_dir, database_url)
    before = _migrate(settings)
    done = "is up to date" if before == migrations.HEAD else f"migrated to {migrations.HEAD}"
    print(f"The database {done}.")


@app.command()
def schema() -> None:
    """Print the GraphQL schema (SDL)."""
    from schema.root import build_schema

    print(build_schema().as_str())


@app.command()
def doctor(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Show versions, paths, settings and executors, and what is wrong; exit code 1 if anything."""
    from server.doctor import examine

    settings = _settings(data_dir, database_url)
    problems = asyncio.run(examine(settings))
    raise typer.Exit(1 if problems else 0)


@app.command("gc")
def collect_garbage(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be removed.")
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Remove worktrees of finished and deleted tasks, and what else nothing needs any more.

    Branches that are not merged, changes that are not committed, and everything a run uses stay.
    Works beside a running server.
    """
    from server.collecting import collect

    settings = _settings(data_dir, database_url)
    _migrate(settings)
    _run(collect(settings, dry_run=dry_run))


@app.command()
def demo(
    url: Annotated[
        str | None,
        typer.Option(help="A running server; by default a throw-away one is started."),
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="A token of that server.", envvar="DRAGOMAN_TOKEN")
    ] = None,
) -> None:
    """Watch a run: a real command in a real git worktree, from task to review.

    Without --url it starts a server of its own in a temporary folder and removes it afterwards.
    With --url that server needs an executor CUSTOM (DRAGOMAN_CUSTOM_COMMAND) and a token of its
    site owner.
    """
    from server.demo import run_demo

    raise typer.Exit(asyncio.run(run_demo(url=url, token=token)))


@user_app.command("create")
def create_user(
    name: Annotated[str, typer.Argument(help="Unique name: letters, digits and . _ @ + -")],
    role: Annotated[
        str | None, typer.Option(help="Role in all workspaces: viewer, developer, manager, admin.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read a password from standard input.")
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Create a user; prints their id."""
    from resolvers.users import create_user as create

    password = sys.stdin.readline().rstrip("\n") if password_stdin else None

    async def work() -> str:
        async with _context(data_dir, database_url) as ctx:
            user = await create(
                ctx, name=name, role=role.upper() if role else None, password=password
            )
            return user.id

    print(_run(work()))


@workspace_app.command("create")
def create_workspace(
    name: Annotated[str, typer.Argument(help="Name for people.")],
    path: Annotated[Path | None, typer.Option(help="A git repository on this machine.")] = None,
    repository: Annotated[
        str | None, typer.Option(help="Where the repository can be cloned from.")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="A user who becomes its admin.")] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Create a workspace; prints its id."""
    from models.enums import Role
    from resolvers.members import add_member
    from resolvers.users import get_user_by_name
    from resolvers.workspaces import create_workspace as create

    async def work() -> str:
        async with _context(data_dir, database_url) as ctx:
            user = await get_user_by_name(ctx, name=owner) if owner else None
            workspace = await create(
                ctx,
                name=name,
                local_path=str(path.absolute()) if path else None,
                repository_url=repository,
            )
            if user is not None:
                await add_member(ctx, workspace_id=workspace.id, user_id=user.id, role=Role.ADMIN)
            return workspace.id

    print(_run(work()))


@token_app.command("create")
def create_token(
    user: Annotated[str, typer.Option(help="Whose token.")],
    workspace: Annotated[str | None, typer.Option(help="Bind it to one workspace, by id.")] = None,
    dialect: Annotated[
        str | None,
        typer.Option(help="viban, viben, toban, claude_cli_web_ui or posthog; absent: native."),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="task:read, task:write, run:execute, admin or *; several times."),
    ] = None,
    name: Annotated[str, typer.Option(help="What it is for.")] = "command line",
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Create an access token; prints the secret, which is shown only this once."""
    from resolvers.tokens import create_token as create
    from resolvers.users import get_user_by_name

    async def work() -> str:
        async with _context(data_dir, database_url) as ctx:
            found = await get_user_by_name(ctx, name=user)
            created = await create(
                ctx,
                user_id=found.id,
                workspace_id=workspace,
                dialect=dialect.upper() if dialect else None,
                scopes=scope or [],
                name=name,
            )
            return created.secret or ""

    print(_run(work()))


def _settings(data_dir: Path | None, database_url: str | None) -> Settings:
    return load_settings_or_exit(data_dir=data_dir, database_url=database_url)


def _migrate(settings: Settings) -> str | None:
    from server.migrations import NewerDatabaseError, migrate

    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        return asyncio.run(migrate(settings.database_dsn))
    except NewerDatabaseError as error:
        print(f"dragoman: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def _context(data_dir: Path | None, database_url: str | None) -> Any:
    from server.services import migrated_command_line_context

    return migrated_command_line_context(_settings(data_dir, database_url))
