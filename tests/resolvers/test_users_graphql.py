"""Workspaces, users and keys through the schema: what clients write, and what they get."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import strawberry

from models import User
from models.enums import Role
from resolvers.authentication import authenticate
from resolvers.context import Context, Services
from resolvers.idempotency import settle_request
from resolvers.members import add_member
from resolvers.principal import Principal
from resolvers.tasks import create_task
from resolvers.tokens import create_token
from resolvers.users import create_user
from resolvers.workspaces import create_workspace
from schema import enums
from schema.context import GraphQLContext
from schema.user_mutations import UserMutation, UserQuery
from schema.workspace_mutations import WorkspaceMutation, WorkspaceQuery
from subscriptions.cursor import decode_cursor
from tests.support.people import AsUser

assert enums  # declares the vocabularies


@strawberry.type
class Query(WorkspaceQuery, UserQuery):
    """The fields tested here."""


@strawberry.type
class Mutation(WorkspaceMutation, UserMutation):
    """The fields tested here."""


SCHEMA = strawberry.Schema(query=Query, mutation=Mutation)
Ask = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
async def ask(services: Services) -> AsyncIterator[Ask]:
    """Execute a document as a principal; its data, or the codes of its errors by path."""
    contexts: list[GraphQLContext] = []

    async def execute(
        principal: Principal | None, document: str, *, key: str | None = None, **variables: Any
    ) -> dict[str, Any]:
        ctx = GraphQLContext(services, principal)
        contexts.append(ctx)
        ctx.client_address = "192.0.2.1"
        if key is not None:
            ctx.idempotency_key, ctx.request_hash = key, "h" * 64
        result = await SCHEMA.execute(document, variables, context_value=ctx)
        if ctx.idempotency is not None:
            await settle_request(ctx, request=ctx.idempotency)
        await ctx.release()
        if result.errors:
            codes = [getattr(error.original_error, "code", None) for error in result.errors]
            assert all(codes), result.errors
            return {"errors": codes}
        assert result.data is not None
        return result.data

    yield execute
    for ctx in contexts:
        await ctx.release()


def who(ctx: Context) -> Principal:
    assert ctx.principal is not None
    return ctx.principal


async def test_a_workspace_with_everything_on_it(ask: Ask, owner: Context) -> None:
    made = await ask(
        who(owner),
        """mutation ($input: CreateWorkspaceInput!) {
          createWorkspace(input: $input) {
            cursor workspace { id number slug status settings permissions cursor version }
          }
        }""",
        input={"name": "Board", "settings": {"a": {"b": 1}}, "maxConcurrent": 2},
    )
    payload = made["createWorkspace"]
    workspace = payload["workspace"]
    assert (workspace["number"], workspace["slug"], workspace["status"]) == (1, "board", "ACTIVE")
    assert workspace["permissions"] == ["READ", "WRITE", "EXECUTE", "MANAGE_QUEUES", "ADMIN"]
    assert payload["cursor"] == workspace["cursor"]
    assert decode_cursor(payload["cursor"]).seq == 1
    task = await create_task(owner, workspace_id=workspace["id"], title="first")
    seen = await ask(
        who(owner),
        """query ($id: ID!) {
          workspace(id: $id) {
            cursor pausedQueues
            tasks(first: 10) { totalCount nodes { id title workspace { id } } }
            taskTotals { status total }
            members { nodes { role user { name email } } }
            repositories { name }
            stories { totalCount } sprints { totalCount } agents { totalCount }
            runs { totalCount }
            history { nodes { type } }
          }
          bySlug: workspace(slug: "board") { id }
          byNumber: workspace(number: 1) { id }
          workspaces(filter: {search: "boa"}, orderBy: NUMBER_ASC) { totalCount nodes { id } }
        }""",
        id=workspace["id"],
    )
    board = seen["workspace"]
    assert decode_cursor(board["cursor"]).seq == 2
    assert board["tasks"]["nodes"] == [
        {"id": task.id, "title": "first", "workspace": {"id": workspace["id"]}}
    ]
    assert {"status": "BACKLOG", "total": 1} in board["taskTotals"]
    assert board["members"]["nodes"] == [
        {"role": "ADMIN", "user": {"name": "owner", "email": None}}
    ]
    assert [event["type"] for event in board["history"]["nodes"]] == [
        "task.created",
        "workspace.created",
    ]
    assert seen["bySlug"] == seen["byNumber"] == {"id": workspace["id"]}
    assert seen["workspaces"] == {"totalCount": 1, "nodes": [{"id": workspace["id"]}]}


async def test_absent_fields_stay_and_null_clears(ask: Ask, owner: Context) -> None:
    workspace = await create_workspace(owner, name="Board", spec="S", settings={"a": 1, "b": 2})
    document = """mutation ($input: UpdateWorkspaceInput!) {
      updateWorkspace(input: $input) { workspace { name spec settings version } }
    }"""
    changed = await ask(
        who(owner), document, input={"id": workspace.id, "spec": None, "settings": {"a": None}}
    )
    assert changed["updateWorkspace"]["workspace"] == {
        "name": "Board", "spec": None, "settings": {"b": 2}, "version": 2,
    }  # fmt: skip
    for wrong, code in (
        ({"name": None}, "INVALID"),
        ({"name": "x", "expectedVersion": 1}, "CONFLICT"),
    ):
        refused = await ask(who(owner), document, input={"id": workspace.id, **wrong})
        assert refused == {"errors": [code]}


async def test_a_workspaces_life_in_mutations(ask: Ask, owner: Context, services: Services) -> None:
    ada = await create_user(owner, name="ada")
    workspace = await create_workspace(owner, name="Board")
    done = await ask(
        who(owner),
        """mutation ($id: ID!, $user: ID!) {
          addMember(input: {workspaceId: $id, userId: $user, role: VIEWER}) {
            cursor member { role user { name } }
          }
          updateMember(input: {workspaceId: $id, userId: $user, role: MANAGER}) {
            member { role createdAt }
          }
          removeMember(workspaceId: $id, userId: $user) { userId cursor }
          createRepository(input: {workspaceId: $id, name: "x", path: "a/b"}) {
            repository { name path accessAgents }
          }
          archived: archiveWorkspace(id: $id) { workspace { status archivedAt } }
          opened: archiveWorkspace(id: $id, archived: false) { workspace { status } }
          setWorkspaceStatus(id: $id, status: COMPLETED) { workspace { status } }
          deleteWorkspace(id: $id) { workspaceId cursor }
        }""",
        id=workspace.id,
        user=ada.id,
    )
    assert done["addMember"]["member"] == {"role": "VIEWER", "user": {"name": "ada"}}
    assert done["updateMember"]["member"]["role"] == "MANAGER"
    assert done["createRepository"]["repository"] == {
        "name": "x", "path": "a/b", "accessAgents": [],
    }  # fmt: skip
    assert done["archived"]["workspace"]["archivedAt"] is not None
    assert done["opened"]["workspace"] == {"status": "ACTIVE"}
    assert decode_cursor(done["deleteWorkspace"]["cursor"]).seq == 9
    gone = await ask(who(owner), "query ($id: ID!) { workspace(id: $id) { id } }", id=workspace.id)
    assert gone == {"workspace": None}


async def test_a_repository_entry_is_changed_and_deleted(ask: Ask, owner: Context) -> None:
    workspace = await create_workspace(owner, name="Board")
    made = await ask(
        who(owner),
        """mutation ($id: ID!) {
          createRepository(input: {workspaceId: $id, name: "x", description: "d"}) {
            repository { id }
          }
        }""",
        id=workspace.id,
    )
    entry = made["createRepository"]["repository"]["id"]
    document = """mutation ($id: ID!) {
      updateRepository(input: {id: $id, accessAgents: ["a"]}) {
        repository { name description accessAgents }
      }
      deleteRepository(id: $id) { repositoryId cursor }
    }"""
    done = await ask(who(owner), document, key="once", id=entry)
    assert done["updateRepository"]["repository"] == {
        "name": "x", "description": "d", "accessAgents": ["a"],
    }  # fmt: skip
    assert done["deleteRepository"]["repositoryId"] == entry


async def test_logging_in_looking_and_logging_out(
    ask: Ask, owner: Context, services: Services
) -> None:
    await create_user(owner, name="ada", password="longenough", email="ada@example.org")
    document = """mutation ($password: String!) {
      logIn(input: {name: "Ada", password: $password}) {
        secret user { name email } token { kind prefix expiresAt workspace { id } }
      }
    }"""
    assert await ask(None, document, password="wrong") == {"errors": ["UNAUTHENTICATED"]}
    entered = (await ask(None, document, password="longenough"))["logIn"]
    assert entered["secret"].startswith(entered["token"]["prefix"])
    assert entered["user"] == {"name": "ada", "email": None}
    ada = await authenticate(services, entered["secret"])
    seen = await ask(
        ada,
        """{ viewer {
          name role isSiteOwner permissions agent { id }
          user { email preferences tier lastLoginAt }
          token { kind scopes user { name } }
          workspaces { totalCount }
        } }""",
    )
    viewer = seen["viewer"]
    assert (viewer["name"], viewer["permissions"], viewer["agent"]) == ("ada", [], None)
    assert viewer["user"]["email"] == "ada@example.org"
    assert (viewer["user"]["preferences"], viewer["user"]["tier"]) == ({}, "STANDARD")
    assert viewer["user"]["lastLoginAt"] is not None
    assert viewer["token"] == {"kind": "SESSION", "scopes": [], "user": {"name": "ada"}}
    left = await ask(ada, "mutation { logOut { cursor token { revokedAt } } }")
    assert left["logOut"]["token"]["revokedAt"] is not None
    assert left["logOut"]["cursor"] is None
    assert await ask(None, "{ viewer { name } }") == {"viewer": None}


async def test_a_token_is_shown_once_even_when_the_request_comes_twice(
    ask: Ask, owner: Context
) -> None:
    document = """mutation {
      createToken(input: {name: "ci", scopes: ["task:read"], expiresIn: 3600}) {
        secret cursor token { id name scopes kind }
      }
    }"""
    first = (await ask(who(owner), document, key="k"))["createToken"]
    again = (await ask(who(owner), document, key="k"))["createToken"]
    assert first["secret"].startswith("dgm_")
    assert again == {**first, "secret": None}
    listed = await ask(who(owner), "{ tokens { totalCount nodes { id name workspace { id } } } }")
    assert listed["tokens"]["totalCount"] == 2
    assert listed["tokens"]["nodes"][0] == {
        "id": first["token"]["id"], "name": "ci", "workspace": None,
    }  # fmt: skip
    revoked = await ask(
        who(owner),
        "mutation ($id: ID!) { revokeToken(id: $id) { token { revokedAt } } }",
        id=first["token"]["id"],
    )
    assert revoked["revokeToken"]["token"]["revokedAt"] is not None


async def test_a_log_in_among_other_mutations_leaves_their_stamps_alone(
    ask: Ask, owner: Context
) -> None:
    await create_user(owner, name="ada", password="longenough")
    document = """mutation {
      a: createWorkspace(input: {name: "a"}) { workspace { slug } }
      logIn(input: {name: "ada", password: "longenough"}) { secret }
      b: createWorkspace(input: {name: "b"}) { workspace { slug } }
    }"""
    first = await ask(who(owner), document, key="k")
    assert first["logIn"]["secret"] is not None
    again = await ask(who(owner), document, key="k")
    assert again == {**first, "logIn": {"secret": None}}


USER_FIELDS = "name email preferences tier lastLoginAt"


async def test_personal_details_are_for_oneself_and_site_admins(
    ask: Ask, owner: Context, as_user: AsUser
) -> None:
    ada, bob, eve = [
        await create_user(owner, name=name, email=f"{name}@example.org")
        for name in ("ada", "bob", "eve")
    ]
    workspace = await create_workspace(owner, name="Board")
    for user in (ada, bob):
        await add_member(owner, workspace_id=workspace.id, user_id=user.id, role=Role.ADMIN)
    document = f"""query ($a: ID!, $b: ID!, $c: ID!) {{
      mine: user(id: $a) {{ {USER_FIELDS} }}
      other: user(id: $b) {{ {USER_FIELDS} }}
      stranger: user(id: $c) {{ name }}
      users {{ totalCount nodes {{ name email }} }}
    }}"""
    ids = {"a": ada.id, "b": bob.id, "c": eve.id}
    seen = await ask(who(await as_user(ada)), document, **ids)
    assert seen["mine"]["email"] == "ada@example.org"
    assert set(seen["other"].values()) == {"bob", None}
    assert seen["stranger"] is None
    assert [(u["name"], u["email"]) for u in seen["users"]["nodes"]] == [
        ("ada", "ada@example.org"),
        ("bob", None),
        ("owner", None),
    ]
    assert seen["users"]["totalCount"] == 3
    for_admin = await ask(who(owner), document, **ids)
    assert for_admin["other"]["email"] == "bob@example.org"
    assert for_admin["stranger"] == {"name": "eve"}


async def test_users_are_made_and_changed(ask: Ask, owner: Context, services: Services) -> None:
    made = await ask(
        who(owner),
        """mutation {
          createUser(input: {name: "ada", role: DEVELOPER, password: "longenough"}) {
            cursor user { id kind role version }
          }
        }""",
    )
    user = made["createUser"]["user"]
    assert (user["kind"], user["role"]) == ("PERSON", "DEVELOPER")
    assert made["createUser"]["cursor"] is not None
    done = await ask(
        who(owner),
        """mutation ($id: ID!) {
          updateUser(input: {id: $id, role: null, tier: PREMIUM, fullName: "Ada"}) {
            user { role tier fullName }
          }
          setPreferences(input: {userId: $id, preferences: {theme: "dark"}}) {
            user { preferences }
          }
          changePassword(input: {userId: $id, newPassword: "even longer"}) { user { version } }
        }""",
        id=user["id"],
    )
    assert done["updateUser"]["user"] == {"role": None, "tier": "PREMIUM", "fullName": "Ada"}
    assert done["setPreferences"]["user"]["preferences"] == {"theme": "dark"}
    assert done["changePassword"]["user"]["version"] == 4


async def test_a_token_does_not_tell_of_a_workspace_its_holder_lost(
    ask: Ask, owner: Context, as_user: AsUser
) -> None:
    from resolvers.members import remove_member

    ada: User = await create_user(owner, name="ada")
    workspace = await create_workspace(owner, name="Board")
    await add_member(owner, workspace_id=workspace.id, user_id=ada.id)
    await create_token(await as_user(ada), workspace_id=workspace.id)
    document = "{ tokens { nodes { workspace { name } } } }"
    seen = await ask(who(await as_user(ada)), document)
    assert seen["tokens"]["nodes"] == [{"workspace": {"name": "Board"}}]
    await remove_member(owner, workspace_id=workspace.id, user_id=ada.id)
    seen = await ask(who(await as_user(ada)), document)
    assert seen["tokens"]["nodes"] == [{"workspace": None}]


async def test_one_way_of_naming_a_workspace_at_a_time(ask: Ask, owner: Context) -> None:
    for arguments in ("", '(slug: "a", number: 1)'):
        refused = await ask(who(owner), f"{{ workspace{arguments} {{ id }} }}")
        assert refused == {"errors": ["INVALID"]}
    assert await ask(who(owner), '{ workspace(slug: "none") { id } }') == {"workspace": None}


def test_everything_in_the_schema_is_described() -> None:
    own = {"Workspace", "Member", "Repository", "TaskTotal", "Viewer", "User", "Token"}
    for name, type_ in SCHEMA._schema.type_map.items():
        if name in own or name.endswith(("Payload", "Input", "Query", "Mutation")):
            for field_name, field in type_.fields.items():
                assert field.description, f"{name}.{field_name}"
                for argument_name, argument in getattr(field, "args", {}).items():
                    assert argument.description, f"{name}.{field_name}({argument_name})"
