"""Users, keys and log-ins: root queries and mutations."""

from typing import Annotated, Any

import strawberry

from models import Agent as AgentRow
from models import ApiKey as KeyRow
from models import User as UserRow
from models.enums import Permission, Role
from resolvers import loading, passwords, sessions, tokens, users
from resolvers import workspace_queries as queries
from resolvers.keys import CreatedKey
from resolvers.users import UserOrder
from resolvers.viewing import site_permissions
from schema.agent import Agent
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
    or_none,
    page_arguments,
)
from schema.context import Info
from schema.reading import follow, link
from schema.token import Token
from schema.user import User
from schema.user_inputs import (
    ChangePasswordInput,
    CreateTokenInput,
    CreateUserInput,
    LogInInput,
    SetPreferencesInput,
    UpdateUserInput,
)
from schema.workspace import Workspace

UserId = Annotated[strawberry.ID, strawberry.argument(description="The user's id.")]
SECRET = (
    "The token itself, for Authorization: Bearer. It is shown this once; null where the request "  # noqa: S105  # a description
    "was sent again under its idempotency key."
)
PERMISSIONS: dict[str, Any] = {"list_size": len(Permission)}


@strawberry.type(description="Who is asking, and with what rights.")
class Viewer:
    """The principal."""

    name: str = strawberry.field(description="Name of the user or agent.")
    role: Role | None = strawberry.field(description="Role in all workspaces, if any.")
    is_site_owner: bool = strawberry.field(description="Whether the whole site is theirs.")
    user_id: strawberry.Private[str | None]
    agent_id: strawberry.Private[str | None]
    key_id: strawberry.Private[str | None]

    @strawberry.field(
        description="The user, unless an agent is asking.", metadata=link(UserRow, "user_id")
    )
    async def user(self, info: Info) -> User | None:
        found: Any = await follow(info, UserRow, self.user_id)
        return found

    @strawberry.field(
        description="The agent, unless a user is asking.", metadata=link(AgentRow, "agent_id")
    )
    async def agent(self, info: Info) -> Agent | None:
        found: Any = await follow(info, AgentRow, self.agent_id)
        return found

    @strawberry.field(
        description="The token in use; null where none is.", metadata=link(KeyRow, "key_id")
    )
    async def token(self, info: Info) -> Token | None:
        found: Any = await follow(info, KeyRow, self.key_id)
        return found

    @strawberry.field(
        description="What you may do on the whole site with this token; see also "
        "Workspace.permissions.",
        metadata=PERMISSIONS,
    )
    def permissions(self, info: Info) -> list[Permission]:
        return site_permissions(info.context)

    @strawberry.field(description="The workspaces you may see, by name.", metadata=PAGED)
    async def workspaces(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Workspace]:
        page = page_arguments(first, after, last, before)
        return connection(await queries.list_workspaces(info.context, page=page))


@strawberry.type
class SitePayload:
    """The cursor of payloads whose events stand in the site's log."""

    @strawberry.field(
        description="Place in the site's event log; null unless you administer the site."
    )
    async def cursor(self, info: Info) -> str | None:
        if info.context.principal is None or not users.is_site_admin(info.context):
            return None
        return await log_cursor(info.context, None)


@strawberry.type(description="A user after a mutation.")
class UserPayload(SitePayload):
    """What mutations of a user return."""

    user: User = strawberry.field(description="The user as they are now.")


@strawberry.type(description="A token after a mutation.")
class TokenPayload(SitePayload):
    """What revokeToken and logOut return."""

    token: Token = strawberry.field(description="The token as it is now.")


@strawberry.type(description="A new token.")
class CreateTokenPayload(SitePayload):
    """What createToken returns."""

    token: Token = strawberry.field(description="All about it but its secret.")
    secret: str | None = strawberry.field(description=SECRET)


@strawberry.type(description="A new session.")
class LogInPayload:
    """What logIn returns: nobody is logged in yet while it is answered."""

    secret: str | None = strawberry.field(description=SECRET)
    token: Token = strawberry.field(
        description="All about it but its secret: it ends seven days after its last use."
    )

    @strawberry.field(description="Who has logged in.")
    async def user(self, info: Info) -> User | None:
        found: Any = await loading.load_by_id(info.context, UserRow, self.token.user_id)
        return found


@strawberry.type
class UserQuery:
    """Root fields about users and keys."""

    @strawberry.field(description="Who you are; null for nobody.")
    async def viewer(self, info: Info) -> Viewer | None:
        principal = info.context.principal
        if principal is None:
            return None
        return Viewer(
            name=principal.name,
            role=principal.role,
            is_site_owner=principal.is_site_owner,
            user_id=principal.user_id,
            agent_id=principal.id if principal.kind == "agent" else None,
            key_id=principal.key_id,
        )

    @strawberry.field(description="A user by their id; null when there is none you know of.")
    async def user(self, info: Info, id: UserId) -> User | None:
        found: Any = await or_none(users.get_user(info.context, user_id=id))
        return found

    @strawberry.field(
        description="Users: all for site admins, those who share a workspace with you otherwise.",
        metadata=PAGED,
    )
    async def users(
        self,
        info: Info,
        search: Annotated[
            str | None,
            strawberry.argument(
                description="Part of name or full name in any case, up to 200 characters."
            ),
        ] = None,
        order_by: Annotated[
            UserOrder, strawberry.argument(description="In which order.")
        ] = UserOrder.NAME_ASC,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[User]:
        page = page_arguments(first, after, last, before)
        return connection(
            await users.list_users(info.context, search=search, order=order_by, page=page)
        )

    @strawberry.field(
        description="Tokens of yours, of a user whom you administer, or of an agent in a "
        "workspace that you manage; newest first.",
        metadata=PAGED,
    )
    async def tokens(
        self,
        info: Info,
        user_id: Annotated[
            strawberry.ID | None, strawberry.argument(description="Whose; absent: your own.")
        ] = None,
        agent_id: Annotated[
            strawberry.ID | None, strawberry.argument(description="Or which agent's.")
        ] = None,
        include_ended: Annotated[
            bool,
            strawberry.argument(
                description="Also revoked and expired ones, which are kept for 30 days."
            ),
        ] = False,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Token]:
        page = await tokens.list_tokens(
            info.context,
            user_id=user_id,
            agent_id=agent_id,
            include_ended=include_ended,
            page=page_arguments(first, after, last, before),
        )
        return connection(page)


@strawberry.type
class UserMutation:
    """Root mutations of users, keys and log-ins."""

    @strawberry.mutation(description="Make a user; for site admins.")
    async def create_user(
        self, info: Info, input: Annotated[CreateUserInput, INPUT]
    ) -> UserPayload:
        values = fields_of(input)
        return await _user(info, lambda ctx: users.create_user(ctx, **values))

    @strawberry.mutation(description="Change yourself, or as a site admin others.")
    async def update_user(
        self, info: Info, input: Annotated[UpdateUserInput, INPUT]
    ) -> UserPayload:
        values = fields_of(input, leave_out=frozenset({"id"}))
        return await _user(info, lambda ctx: users.update_user(ctx, user_id=input.id, **values))

    @strawberry.mutation(description="Merge into preferences.")
    async def set_preferences(
        self, info: Info, input: Annotated[SetPreferencesInput, INPUT]
    ) -> UserPayload:
        values = fields_of(input)
        return await _user(info, lambda ctx: users.set_preferences(ctx, **values))

    @strawberry.mutation(description="Set a password; all other log-ins of the user end.")
    async def change_password(
        self, info: Info, input: Annotated[ChangePasswordInput, INPUT]
    ) -> UserPayload:
        values = fields_of(input)
        return await _user(info, lambda ctx: passwords.change_password(ctx, **values))

    @strawberry.mutation(description="Make a token; its secret is shown this once.")
    async def create_token(
        self, info: Info, input: Annotated[CreateTokenInput, INPUT]
    ) -> CreateTokenPayload:
        values = fields_of(input)
        created = await mutate(info, lambda ctx: tokens.create_token(ctx, **values))
        token: Any = created.key
        return CreateTokenPayload(token=token, secret=created.secret)

    @strawberry.mutation(description="Make a token useless at once.")
    async def revoke_token(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The token's id.")],
    ) -> TokenPayload:
        token: Any = await mutate(info, lambda ctx: tokens.revoke_token(ctx, key_id=id))
        return TokenPayload(token=token)

    @strawberry.mutation(
        description="Exchange name and password for a token that ends seven days after its last "
        "use. After ten failures in a minute from one address: RATE_LIMITED."
    )
    async def log_in(self, info: Info, input: Annotated[LogInInput, INPUT]) -> LogInPayload:
        ctx = info.context

        async def run(_: Any) -> CreatedKey:
            return await sessions.log_in(
                ctx, name=input.name, password=input.password, address=ctx.client_address
            )

        # An idempotency key belongs to a principal; who has none yet cannot use one.
        created = await (run(ctx) if ctx.principal is None else mutate(info, run))
        token: Any = created.key
        return LogInPayload(token=token, secret=created.secret)

    @strawberry.mutation(description="Revoke the token in use.")
    async def log_out(self, info: Info) -> TokenPayload:
        token: Any = await mutate(info, sessions.log_out)
        return TokenPayload(token=token)


async def _user(info: Info, run: Any) -> UserPayload:
    user: Any = await mutate(info, run)
    return UserPayload(user=user)
