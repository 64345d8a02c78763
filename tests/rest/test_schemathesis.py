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


def seed_posthog(server: RunningServer) -> dict[str, dict[str, str]]:
    """As for Viban; what takes more than ids is done here, once, by hand."""
    headers = {"authorization": f"Bearer {server.token}"}
    base = f"{server.url}/compat/posthog"
    with httpx2.Client(base_url=base, headers=headers, timeout=30) as http:

        def send(method: str, path: str, body: Any = None) -> Any:
            answer = http.request(method, path, json={} if body is None else body)
            assert answer.is_success, (method, path, answer.text)
            return answer.json() if answer.content else None

        server.command("workspace", "create", "Acme")
        tasks = "/api/projects/1/tasks"
        task, doomed = (send("POST", tasks, {"title": t})["id"] for t in ("lives", "dies"))
        runs = f"{tasks}/{task}/runs"
        run = send("POST", runs, {"environment": "cloud"})
        local = send("POST", runs)
        place = f"{runs}/{run['id']}"
        send("POST", f"{place}/append_log", {"entries": [{"n": 1}]})
        assert httpx2.get(run["log_url"]).is_success
        push = "/api/users/@me/push_tokens"
        device = send("POST", push, {"token": "t", "platform": "ios"})["id"]
        send("POST", f"{push}/unregister", {"token": "unknown"})
        for method in ("POST", "DELETE"):
            send(method, f"{tasks}/{task}/presence", {"device_id": device})
        for folder in (f"{tasks}/{task}/staged_artifacts", f"{place}/artifacts"):
            file = {"name": "a", "type": "plan", "size": 1}
            [form] = send("POST", f"{folder}/prepare_upload", {"artifacts": [file]})["artifacts"]
            post = form["presigned_post"]
            sent = httpx2.post(post["url"], data=post["fields"], files={"file": b"x"})
            assert sent.status_code == 204, sent.text
            kept = {k: form[k] for k in ("id", "name", "type", "storage_path")}
            send("POST", f"{folder}/finalize_upload", {"artifacts": [kept]})
        inline = {"name": "b", "type": "output", "content": "x"}
        send("POST", f"{place}/artifacts", {"artifacts": [inline]})
        path = {"storage_path": form["storage_path"]}
        assert http.post(f"{place}/artifacts/download", json=path).is_success
        link = send("POST", f"{place}/artifacts/presign", path)
        assert httpx2.get(link["url"]).is_success
        ids = {"project_id": "1", "task_id": task, "run_id": run["id"]}
        return {
            "": ids,
            "tasks_destroy": {"task_id": doomed},
            "runs_resume_in_cloud": {"run_id": local["id"]},
        }


SEEDS = {"viban": seed_viban, "posthog": seed_posthog}
BY_HAND = {
    "viban": frozenset[str](),
    "posthog": frozenset(
        {
            "runs_artifacts", "tasks_presence_create", "tasks_presence_destroy",
            "staged_artifacts_finalize_upload",
            "runs_artifacts_finalize_upload", "runs_artifacts_download", "runs_artifacts_presign",
            "task_downloads", "task_uploads", "runs_log_file",
            # Only a run that the server executes hears commands: tests/e2e/test_posthog_day.py.
            "runs_command",
            # This server has no sandboxes.
            "runs_connection_token",
        }
    ),
}  # fmt: skip
"""Operations that need more than ids, so that guessing does not reach their success."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("language", sorted(SEEDS))
def test_schemathesis_finds_nothing(tmp_path: Path, language: str, database: str) -> None:
    with a_server(
        tmp_path / "server",
        database=database,
        allow_local_repositories="1",
        max_concurrent_runs="1",
        rate_limits=json.dumps({name.upper(): {"minute": 0, "hour": 0} for name in SEEDS}),
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
        wanted = _operations(document, besides=BY_HAND[language])
        assert wanted - _succeeded(har, document, language) == set()
        assert server.complaints() == []


def _config(arguments: dict[str, dict[str, str]]) -> str:
    def table(names: dict[str, str]) -> str:
        return ", ".join(f'"path.{name}" = "{value}"' for name, value in names.items())

    parts = [f"parameters = {{ {table(arguments.pop(''))} }}"]
    for operation, names in arguments.items():
        parts.append(f'[[operations]]\ninclude-operation-id = "{operation}"')
        parts.append(f"parameters = {{ {table(names)} }}")
    return "\n".join(parts)


def _operations(document: dict[str, Any], *, besides: frozenset[str]) -> set[tuple[str, str]]:
    return {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if operation["operationId"] not in besides
    }


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
