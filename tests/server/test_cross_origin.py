"""Pages of other sites: refused, unless the operator lists them; then browsers let them call."""

from pathlib import Path

import httpx2

from tests.support.server import a_server

FRIEND = "https://board.example.org"
STRANGER = "https://evil.example.com"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
}


async def test_a_listed_site_may_call_and_others_may_not(tmp_path: Path) -> None:
    with a_server(tmp_path, allowed_origins=FRIEND) as server:
        async with httpx2.AsyncClient(base_url=server.url) as client:

            async def ask(origin: str) -> httpx2.Response:
                return await client.post(
                    "/graphql",
                    json={"query": "{ viewer { __typename } }"},
                    headers={"Origin": origin, "Authorization": f"Bearer {server.token}"},
                )

            asked = await client.options("/graphql", headers={"Origin": FRIEND, **PREFLIGHT})
            assert asked.status_code == 200
            assert asked.headers["access-control-allow-origin"] == FRIEND
            answer = await ask(FRIEND)
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == FRIEND
            assert "X-Query-Cost" in answer.headers["access-control-expose-headers"]
            refused = await client.options("/graphql", headers={"Origin": STRANGER, **PREFLIGHT})
            assert "access-control-allow-origin" not in refused.headers
            assert (await ask(STRANGER)).status_code == 403
