"""How fast it could be on PostgreSQL by hand: two statements, rows, orjson; no GraphQL at all.

Serves W1 and W2 in Dragoman's spelling from Dragoman's own database (environment: DB, PORT).
Nobody is authenticated, nothing is checked.
"""

import os
from base64 import urlsafe_b64encode
from datetime import datetime
from typing import Any

import asyncpg
import orjson
import uvicorn

_TASK = """
  t.id, t.title, t.description, t.status, t.priority_level, t.position, t.labels, t.story_points,
  t.branch, t.created_at, t.updated_at, t.due_at,
  s.id AS story_id, s.title AS story_title, a.id AS agent_id, a.name AS agent_name,
  a.status AS agent_status"""
_JOINS = "LEFT JOIN story s ON s.id = t.story_id LEFT JOIN agent a ON a.id = t.agent_id"
HEAD = """
  SELECT name, (SELECT coalesce(sum(total), 0) FROM task_total
    WHERE workspace_id = w.id AND NOT archived) AS total
  FROM workspace w WHERE id = $1 AND deleted_at IS NULL"""
PAGE = f"""
  SELECT {_TASK}, r.id AS run_id, r.status AS run_status, r.progress AS run_progress
  FROM (SELECT * FROM task WHERE workspace_id = $1 AND deleted_at IS NULL AND archived_at IS NULL
    ORDER BY position, id LIMIT $2) t {_JOINS}
  LEFT JOIN LATERAL (SELECT id, status, progress FROM run WHERE task_id = t.id
    ORDER BY created_at DESC, id DESC LIMIT 1) r ON true
  ORDER BY t.position, t.id"""
ONE = f"SELECT {_TASK} FROM task t {_JOINS} WHERE t.id = $1 AND t.deleted_at IS NULL"
RUNS = """
  SELECT id, status, progress, started_at, finished_at FROM run WHERE task_id = $1
  ORDER BY created_at DESC, id DESC LIMIT 5"""
BUCKETS = ("NONE", "LOW", "MEDIUM", "HIGH", *["URGENT"] * 7)
HEADERS = [(b"content-type", b"application/json")]


def task(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "title": row["title"],
        "description": row["description"],
        "status": row["status"],
        "priority": BUCKETS[row["priority_level"]],
        "position": row["position"],
        "labels": orjson.Fragment(row["labels"]),
        "storyPoints": row["story_points"],
        "branch": row["branch"],
        "createdAt": row["created_at"],
        "updatedAt": row["updated_at"],
        "dueAt": row["due_at"],
        "story": row["story_id"] and {"id": row["story_id"], "title": row["story_title"]},
        "agent": row["agent_id"]
        and {"id": row["agent_id"], "name": row["agent_name"], "status": row["agent_status"]},
    }


class Floor:
    """The application; its pool is made at the first request."""

    def __init__(self) -> None:
        self.pool: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if self.pool is None:
            self.pool = await asyncpg.create_pool(os.environ["DB"], min_size=8, max_size=8)
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        request = orjson.loads(body)
        answer = self.board if request["operationName"] == "Board" else self.one
        async with self.pool.acquire() as connection:
            data = await answer(connection, **request["variables"])
        # Times come out of PostgreSQL without a zone: they are UTC.
        content = orjson.dumps({"data": data}, option=orjson.OPT_NAIVE_UTC)
        length = (b"content-length", str(len(content)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, length]})
        await send({"type": "http.response.body", "body": content})

    async def board(self, connection: Any, ws: str, first: int) -> dict[str, Any]:
        head = await connection.fetchrow(HEAD, ws)
        if head is None:
            return {"workspace": None}
        rows = await connection.fetch(PAGE, ws, first + 1)
        nodes = [
            {
                **task(row),
                "latestRun": row["run_id"]
                and {
                    "id": row["run_id"],
                    "status": row["run_status"],
                    "progress": row["run_progress"],
                },
            }
            for row in rows[:first]
        ]
        page = {
            "totalCount": head["total"],
            "pageInfo": {"hasNextPage": len(rows) > first, "endCursor": cursor(nodes)},
            "nodes": nodes,
        }
        return {"workspace": {"id": ws, "name": head["name"], "tasks": page}}

    async def one(self, connection: Any, id: str) -> dict[str, Any]:
        row = await connection.fetchrow(ONE, id)
        if row is None:
            return {"task": None}
        runs = await connection.fetch(RUNS, id)
        nodes: list[dict[str, str | int | datetime | None]] = [
            {
                "id": run["id"],
                "status": run["status"],
                "progress": run["progress"],
                "startedAt": run["started_at"],
                "finishedAt": run["finished_at"],
            }
            for run in runs
        ]
        return {"task": {**task(row), "runs": {"nodes": nodes}}}


def cursor(nodes: list[dict[str, Any]]) -> str | None:
    if not nodes:
        return None
    return urlsafe_b64encode(orjson.dumps([nodes[-1]["position"], nodes[-1]["id"]])).decode()


if __name__ == "__main__":
    uvicorn.run(
        Floor(), port=int(os.environ["PORT"]), access_log=False, log_level="warning", lifespan="off"
    )
