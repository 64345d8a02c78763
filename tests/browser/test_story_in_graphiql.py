"""The first thing a user does, in the editor's own tabs, against a real server and repository."""

import asyncio
import json
import re
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.long]

AGENT = """
import pathlib, sys
print('I read', len(pathlib.Path(sys.argv[1]).read_text()) > 0, flush=True)
pathlib.Path('hello.txt').write_text('hello')
print('done', flush=True)
"""
VARIABLES = "document.querySelector('.graphiql-editor-tool .CodeMirror').CodeMirror"
ANSWER = "(document.querySelector('.result-window .CodeMirror')?.CodeMirror.getValue() ?? '')"


def git(folder: Path, *arguments: str) -> str:
    result = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return result.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    author = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    git(folder, "init", "-q", "-b", "main")
    git(folder, *author, "commit", "-q", "--allow-empty", "-m", "Begin")
    return folder


@pytest.fixture
async def board(tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """Address and owner's token of a server with a command for CUSTOM."""
    agent = tmp_path / "agent.py"
    agent.write_text(AGENT)
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("dragoman")), "serve", "--port", "0"),
            *("--data-dir", str(tmp_path / "data")),
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": str(tmp_path),
                "DRAGOMAN_CUSTOM_COMMAND": json.dumps(
                    [sys.executable, str(agent), "{prompt_file}"]
                ),
            },
            cwd=tmp_path,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=stderr,
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode()
        [address] = re.findall(r"http://127\.0\.0\.1:\d+", line)
        [token] = re.findall(r"dgm_\S+", log.read_text())
        yield address, token
    finally:
        process.terminate()
        async with asyncio.timeout(30):
            await process.wait()


async def open_tab(page: Any, number: int, **changes: Any) -> dict[str, Any]:
    """Go to a tab and change its variables as a user would, keeping the others."""
    tab = f".graphiql-tab:nth-child({number}) .graphiql-tab-button"
    await page.wait_for(f"document.querySelector({json.dumps(tab)}) !== null")
    await page.click(tab)
    await page.wait_for(
        f"document.querySelector('.graphiql-query-editor .CodeMirror').CodeMirror"
        f".getValue().startsWith('# {number}.')"
    )
    variables = json.loads(await page.evaluate(f"{VARIABLES}.getValue()"))
    place = variables.get("input", variables)
    assert set(changes) <= set(place)
    place.update(changes)
    await page.evaluate(f"{VARIABLES}.setValue({json.dumps(json.dumps(variables))})")
    return dict(place)


async def run_tab(page: Any, number: int, until: str, **changes: Any) -> str:
    """Run a tab and wait until its answer holds the text; the answer."""
    await open_tab(page, number, **changes)
    await page.click(".graphiql-execute-button")
    await page.wait_for(f"{ANSWER}.includes({json.dumps(until)})")
    return str(await page.evaluate(ANSWER))


def first_id(answer: str) -> str:
    found = re.search(r'"id": "([^"]+)"', answer)
    assert found is not None, answer
    return found[1]


@pytest.mark.timeout(240)
async def test_from_a_new_board_to_an_approved_task(
    browser: Any, board: tuple[str, str], repository: Path
) -> None:
    address, token = board
    page = await browser.open(f"{address}/graphiql")
    await page.click("#token")
    await page.insert(token)
    await page.press("Enter")
    await page.wait_for("document.querySelector('#token-state').value.includes('dgm_')")

    made = await run_tab(page, 1, '"cursor"', name="Story", localPath=str(repository))
    workspace = first_id(made)
    task = first_id(await run_tab(page, 2, '"cursor"', workspaceId=workspace))
    run = first_id(await run_tab(page, 4, '"cursor"', taskId=task))

    # The editor shows the newest item of a stream; the board comes to rest with the review.
    await run_tab(page, 3, '"status": "REVIEW"', workspaceId=workspace)
    await page.click(".graphiql-execute-button")  # stops the subscription

    await run_tab(page, 5, "StreamClosed", id=run)
    review = await run_tab(page, 6, "hello.txt", id=task)
    assert '"additions": 1' in review
    assert '"branch"' in review
    approved = await run_tab(page, 7, '"cursor"', id=task, merge=True)
    assert '"status": "COMPLETED"' in approved
    assert git(repository, "show", "main:hello.txt") == "hello"
    assert page.problems == []
