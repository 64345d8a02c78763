import asyncio
import json
import re
import signal
import subprocess
import tomllib
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("packaging")]


def environment(home: Path) -> dict[str, str]:
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}


def dragoman(programs: Path, folder: Path, *arguments: str) -> str:
    result = subprocess.run(
        [str(programs / "dragoman"), *arguments],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_wheel_holds_every_file_that_the_packages_have(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    tracked = subprocess.run(
        ["git", "ls-files", "-z", *packages], cwd=ROOT, check=True, capture_output=True, text=True
    )
    expected = {name for name in tracked.stdout.split("\0") if name and (ROOT / name).exists()}
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        licence = [name for name in names if name.endswith("licenses/LICENSE")]
        assert archive.read(licence[0]) == (ROOT / "LICENSE").read_bytes()
    assert expected <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(packages)
    assert {
        "server/assets/graphiql.html",
        "server/assets/vendor/graphiql.min.js",
        "server/assets/vendor/LICENSES.txt",
    } <= names
    assert any(re.fullmatch(r"migrations/versions/\w+\.py", name) for name in names)


def test_the_command_line_works_from_a_hostile_folder(programs: Path, hostile_folder: Path) -> None:
    assert "serve" in dragoman(programs, hostile_folder, "--help")
    assert "type Query" in dragoman(programs, hostile_folder, "schema")


async def test_the_server_works_from_a_hostile_folder(
    programs: Path, hostile_folder: Path, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(programs / "dragoman"),
            *("serve", "--port", "0", "--data-dir", str(tmp_path / "data")),
            cwd=hostile_folder,
            env=environment(hostile_folder),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=log,
        )
    try:
        address = await _ready(process)
        await _use(address, _token((tmp_path / "log").read_text()))
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await process.wait()
        assert process.returncode in {0, -signal.SIGTERM}
    except BaseException:
        print((tmp_path / "log").read_text())  # noqa: T201  (shown with the failure)
        raise
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (tmp_path / "data" / "dragoman.db").stat().st_size > 0
    assert (tmp_path / "data" / "secret.keys").stat().st_mode & 0o077 == 0


async def _ready(process: asyncio.subprocess.Process) -> str:
    """The address of the ready line, which is alone on stdout."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = (await process.stdout.readline()).decode()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found is not None, f"ended before it was ready: {line}"
    return found[0]


def _token(said: str) -> str:
    """The token of the owner, which the first start tells once."""
    [token] = re.findall(r"dgm_\S+", said)
    return str(token)


async def _use(address: str, token: str) -> None:
    async with httpx2.AsyncClient(base_url=address, trust_env=False) as http:
        for path in ("/healthz", "/readyz", "/", "/graphiql"):
            answer = await http.get(path)
            assert answer.status_code == 200, f"{path}: {answer.text}"
        for asset in re.findall(r'(?:src|href)="(/assets/[^"]+)"', answer.text):
            assert (await http.get(asset)).status_code == 200
        made = await _ask(
            http,
            token,
            "mutation ($input: CreateWorkspaceInput!) {"
            " createWorkspace(input: $input) { workspace { id } cursor } }",
            {"input": {"name": "Packaged"}},
        )
        assert made["createWorkspace"]["cursor"]
        listed = await _ask(http, token, "{ workspaces { nodes { name } } }", {})
        assert {"name": "Packaged"} in listed["workspaces"]["nodes"]


async def _ask(
    http: httpx2.AsyncClient, token: str, query: str, variables: dict[str, Any]
) -> dict[str, Any]:
    answer = await http.post(
        "/graphql",
        headers={"authorization": f"Bearer {token}"},
        json={"query": query, "variables": variables},
    )
    body: dict[str, Any] = answer.json()
    assert "errors" not in body, json.dumps(body)
    data: dict[str, Any] = body["data"]
    return data
