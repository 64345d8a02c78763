"""Schemathesis as an authorized user on seeded data, against a real server of each kind."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.server import RunningServer, a_server
from tests.support.tenants import make_repository

pytestmark = pytest.mark.long
DATABASES = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgres),
]
CHECKS_LEFT_OUT = (
    # A route without a body ignores one, and unknown members, and a limit that is too large.
    "negative_data_rejection",
    # What is well-formed may still be refused: an executor that is not configured, for example.
    "positive_data_acceptance",
)


def seed_viban(server: RunningServer) -> dict[str, dict[str, str]]:
    """The path's arguments for each operation; those that destroy have victims of their own."""
    with httpx2.Client(
        base_url=f"{server.url}/compat/viban",
        headers={"authorization": f"Bearer {server.token}"},
        timeout=30,
    ) as http:

        def make(path: str, body: dict[str, Any]) -> str:
            made = http.post(path, json=body)
            assert made.status_code == 201, made.text
            return str(made.json()["data"]["id"])

        repository = make_repository(server.data_dir / "repository", "P")
        project = make("/api/v1/projects", {"name": "P", "repository_url": str(repository)})
        tasks = f"/api/v1/projects/{project}/tasks"
        task = make(tasks, {"title": "lives"})
        refined = make(tasks, {"title": "is refined", "description": "do: print ## Objective"})
        doomed = make(tasks, {"title": "dies"})
        paused = make(tasks, {"title": "runs later", "status": "inprogress"})
        pause_all(server)
        executions = http.get(f"/api/v1/tasks/{paused}/executions").json()["data"]
        hook = {"url": "https://hooks.example.org/x", "events": ["task.created"]}
        answer = http.post(f"/api/v1/projects/{project}/webhooks", json=hook)
        ids = {"project_id": project, "task_id": task, "execution_id": executions[0]["id"]}
        if answer.status_code == 201:
            ids["webhook_id"] = answer.json()["data"]["id"]
        return {"": ids, "remove_task": {"task_id": doomed}, "refine": {"task_id": refined}}


def pause_all(server: RunningServer) -> None:
    """Runs that wait until somebody cancels them."""
    headers = {"authorization": f"Bearer {server.token}"}
    with httpx2.Client(base_url=server.url, headers=headers) as http:

        def ask(query: str) -> Any:
            return http.post("/graphql", json={"query": query}).json()

        waiting = "{ tasks(filter: {status: [QUEUED, IN_PROGRESS]}) { nodes { id } } }"
        for node in ask(waiting)["data"]["tasks"]["nodes"]:
            paused = ask(f'mutation {{ pauseTask(id: "{node["id"]}") {{ task {{ id }} }} }}')
            assert "errors" not in paused, paused


SEEDS = {"viban": seed_viban}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("language", sorted(SEEDS))
def test_schemathesis_finds_nothing(tmp_path: Path, language: str, database: str) -> None:
    with a_server(
        tmp_path / "server",
        database=database,
        allow_local_repositories="1",
        max_concurrent_runs="1",
        custom_command=json.dumps([sys.executable, "-c", "print('## Objective')"]),
    ) as server:
        config = tmp_path / "schemathesis.toml"
        config.write_text(_config(SEEDS[language](server)))
        har = tmp_path / "answers.har"
        done = subprocess.run(
            [
                Path(sys.executable).with_name("st"),
                f"--config-file={config}",
                "run",
                f"{server.url}/compat/{language}/openapi.json",
                f"--url={server.url}/compat/{language}",
                f"--header=Authorization: Bearer {server.token}",
                f"--exclude-checks={','.join(CHECKS_LEFT_OUT)}",
                "--max-examples=15",
                "--continue-on-failure",
                "--suppress-health-check=all",
                "--warnings=off",
                f"--report-har-path={har}",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        document = httpx2.get(f"{server.url}/compat/{language}/openapi.json").json()
        assert _operations(document) - _succeeded(har, document, language) == set()
        assert server.complaints() == []


def _config(arguments: dict[str, dict[str, str]]) -> str:
    def table(names: dict[str, str]) -> str:
        return ", ".join(f'"path.{name}" = "{value}"' for name, value in names.items())

    parts = [f"parameters = {{ {table(arguments.pop(''))} }}"]
    for operation, names in arguments.items():
        parts.append(f'[[operations]]\ninclude-operation-id = "{operation}"')
        parts.append(f"parameters = {{ {table(names)} }}")
    return "\n".join(parts)


def _operations(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(m.upper(), path) for path, item in document["paths"].items() for m in item}


def _succeeded(har: Path, document: dict[str, Any], language: str) -> set[tuple[str, str]]:
    """The operations that answered 2xx at least once."""
    patterns = {path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in document["paths"]}
    found = set()
    for entry in json.loads(har.read_text())["log"]["entries"]:
        if 200 <= entry["response"]["status"] < 300:
            path = httpx2.URL(entry["request"]["url"]).path.removeprefix(f"/compat/{language}")
            found |= {
                (entry["request"]["method"], template)
                for template, pattern in patterns.items()
                if pattern.fullmatch(path)
            }
    return found
