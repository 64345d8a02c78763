import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import strawberry
import uvicorn
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Route, WebSocketRoute
from strawberry.asgi import GraphQL

from server.pages import routes
from server.settings import load_settings

pytestmark = [pytest.mark.browser, pytest.mark.long]

EDITOR = ".graphiql-query-editor .CodeMirror"
EDITOR_TEXT = f"document.querySelector('{EDITOR}').CodeMirror.getValue()"
ANSWER = "(document.querySelector('.result-window .CodeMirror')?.CodeMirror.getValue() ?? '')"


@strawberry.type
class Query:
    @strawberry.field
    def whoami(self, info: strawberry.Info) -> str:
        connection: HTTPConnection = info.context["request"]
        return connection.headers.get("authorization", "nobody")


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def ticks(self, info: strawberry.Info) -> AsyncIterator[str]:
        params: dict[str, Any] = info.context["connection_params"] or {}
        for number in range(3):
            yield f"{number} for {params.get('authorization', 'nobody')}"
        await asyncio.Event().wait()  # a stream that stays open, until the client goes


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """A server of the real pages over a GraphQL endpoint that needs no database."""
    schema = strawberry.Schema(query=Query, subscription=Subscription)
    endpoint: GraphQL[Any, Any] = GraphQL(schema, graphql_ide=None)
    graphql = [Route("/graphql", endpoint), WebSocketRoute("/graphql", endpoint)]
    app = Starlette(routes=[*routes(load_settings()), *graphql])
    config = uvicorn.Config(app, log_config=None, ws="websockets-sansio", lifespan="off")
    server = uvicorn.Server(config)
    # Listening before the server runs: a connection made now waits to be accepted.
    listener = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    server.force_exit = True
    await task


async def run(page: Any, document: str) -> None:
    await page.wait_for(f"document.querySelector('{EDITOR}') !== null")
    await page.click(f"{EDITOR} .CodeMirror-line")
    await page.press("a", ctrl=True)
    await page.insert(document)
    await page.wait_for(f"{EDITOR_TEXT} === {document!r}")
    await page.click(".graphiql-execute-button")


async def test_a_user_gets_answers_with_and_without_a_token(browser: Any, address: str) -> None:
    page = await browser.open(f"{address}/graphiql")
    await run(page, "{ whoami }")
    await page.wait_for(f"{ANSWER}.includes('nobody')")

    await page.click("#token")
    await page.insert("Bearer dgm_secret")
    await page.press("Enter")
    await page.wait_for("document.querySelector('#token-state').value.includes('dgm_')")
    await run(page, "{ whoami }")
    await page.wait_for(f"{ANSWER}.includes('Bearer dgm_secret')")

    await run(page, "subscription { ticks }")
    await page.wait_for(f"{ANSWER}.includes('2 for Bearer dgm_secret')")

    await page.goto(f"{address}/graphiql?again")
    await page.wait_for("document.querySelector('#token-state').value.includes('dgm_')")
    await page.click("#forget")
    await page.wait_for("document.querySelector('#token-state').value.includes('no token')")
    assert await page.evaluate("JSON.stringify(sessionStorage)") == "{}"
    assert "dgm_secret" not in await page.evaluate("JSON.stringify(localStorage)")

    assert page.problems == []
    foreign = [url for url in page.requests if not url.startswith((address, "data:", "blob:"))]
    assert foreign == []


async def test_the_documentation_of_the_schema_opens(browser: Any, address: str) -> None:
    page = await browser.open(f"{address}/graphiql")
    await page.click("[aria-label='Show Documentation Explorer']")
    await page.wait_for(
        "document.querySelector('.graphiql-doc-explorer').innerText.includes('Query')"
    )
    await page.click("[aria-label='Open settings dialog']")
    await page.wait_for("document.querySelector('.graphiql-dialog') !== null")
    assert page.problems == []


async def test_the_first_page_leads_to_the_editor(browser: Any, address: str) -> None:
    page = await browser.open(f"{address}/")
    await page.click("a[href='/graphiql']")
    await page.wait_for("document.title.startsWith('GraphiQL')")
    assert page.problems == []
