"""PostHog's published client classes do a run's work against a real server."""

import json
import os
import subprocess
from pathlib import Path

import httpx2
import pytest

from tests.conftest import CLIENTS_VARIABLE
from tests.support.server import RunningServer

pytestmark = [pytest.mark.long, pytest.mark.clients]
SCRIPT = Path(__file__).with_name("posthog.mjs")
DEFAULT = Path(__file__).parents[2] / ".cache" / "clients"


def test_a_published_client_works_unchanged(server: RunningServer) -> None:
    server.command("workspace", "create", "Acme Web App")
    key = server.make_token("owner", "--dialect", "posthog")
    assert key.startswith("phx_")
    tasks = f"{server.url}/api/projects/1/tasks/"
    with httpx2.Client(headers={"authorization": f"Bearer {key}"}) as http:
        task = http.post(tasks, json={"title": "Fix the login"}).json()["id"]
        run = http.post(f"{tasks}{task}/runs/", json={}).json()["id"]
    work = {"url": server.url, "key": key, "project": 1, "task": task, "run": run}
    folder = Path(os.environ.get(CLIENTS_VARIABLE) or DEFAULT).absolute()
    done = subprocess.run(
        ["node", str(SCRIPT), str(folder)],
        input=json.dumps(work),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    user = told.pop("user")
    assert user
    assert told == {
        "refreshed": 1,
        "title": "Fix the login",
        "begun": "in_progress",
        "upload": 204,
        "sizes": [6, 70000, 70000],
        "plan": "# Plan",
        "missing": None,
        "reports": [],
        "peers": 404,
        "ended": [
            "completed",
            {"pr_url": "https://example.org/1"},
            {"mode": "background", "step": 1},
            ["plan.md", "big.bin"],
        ],
        "logs": 2,
        "conversation": [
            ["user", [{"type": "text", "text": "Fix it"}]],
            ["assistant", [{"type": "text", "text": "Done"}]],
        ],
    }
