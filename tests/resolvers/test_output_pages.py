"""Pages of a run's output: bounded by lines and by size, and nothing between two of them lost."""

from typing import Any

from resolvers.context import Context
from resolvers.principal import SYSTEM
from resolvers.run_claims import claim_run
from resolvers.run_execution import append_output
from resolvers.run_queries import OUTPUT_PAGE_CHARACTERS, read_run_output
from resolvers.runs import start_run
from resolvers.tasks import create_task
from tests.resolvers.conftest import Board


def entry(number: int, size: int) -> dict[str, Any]:
    return {"s": "stdout", "t": f"{number} ".ljust(size, "x"), "at": "2026-01-01T00:00:00+00:00"}


async def test_a_page_ends_before_it_is_too_large(board: Board) -> None:
    dev, system = board.context(), Context(board.services, SYSTEM)
    task = await create_task(dev, workspace_id=board.id, title="T")
    run = await start_run(dev, task_id=task.id)
    claimed = await claim_run(system, host="h", executors=["CUSTOM"], maximum=9)
    assert claimed is not None
    sizes = [10] * 40 + [2 << 20, 3 << 20] + [400_000] * 5 + [10] * 1_500
    for start in range(0, len(sizes), 25):
        some = [entry(start + i, size) for i, size in enumerate(sizes[start : start + 25])]
        await append_output(system, run_id=run.id, token=claimed.token, entries=some, offsets={})
    lines: list[int] = []
    pages: list[int] = []
    while True:
        page = await read_run_output(dev, run_id=run.id, after=len(lines), limit=1_000)
        if not page.entries:
            break
        assert [e.line for e in page.entries] == list(
            range(len(lines) + 1, len(lines) + len(page.entries) + 1)
        )
        lines += [int(e.text.split(" ", 1)[0]) for e in page.entries]
        size = sum(len(e.text) for e in page.entries)
        assert size <= OUTPUT_PAGE_CHARACTERS or len(page.entries) == 1
        pages.append(len(page.entries))
    assert lines == list(range(len(sizes)))
    assert pages == [40, 1, 1, 2, 2, 1_000, 501]
    assert page.last_line == len(sizes)
