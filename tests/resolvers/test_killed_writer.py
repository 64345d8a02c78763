"""A writer that dies between its commit and its wake-up delays its readers, and takes nothing."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from models.database import Database
from resolvers.context import Context
from resolvers.workspaces import create_workspace
from subscriptions.hub import Hub
from subscriptions.log import DatabaseLog
from subscriptions.pages import EventItem
from subscriptions.stream_items import Checkpoint
from subscriptions.streams import event_stream

COMMIT_AND_DIE = """
import asyncio, os, signal, sys
from models.database import Database
from resolvers.context import Context, Services
from resolvers.principal import SYSTEM
from resolvers.tasks import create_task
from datetime import UTC, datetime

class DeadlyWakeUps:
    def events(self, stream_ids):
        os.kill(os.getpid(), signal.SIGKILL)

async def main(url, workspace_id):
    services = Services(
        database=Database(url), wakeups=DeadlyWakeUps(), dispatcher=None,
        clock=lambda: datetime.now(UTC), passwords=None, secrets=None, git=None,
    )
    await create_task(Context(services, SYSTEM), workspace_id=workspace_id, title="Last words")

asyncio.run(main(*sys.argv[1:]))
"""


async def test_an_event_without_a_wake_up_arrives_with_the_tick(
    owner: Context, database: Database
) -> None:
    workspace = await create_workspace(owner, name="W")
    hub = Hub(DatabaseLog(database))

    async def allowed() -> None:
        """Everybody may."""

    stream = event_stream(hub, stream_id=workspace.id, after=None, authorize=allowed)
    try:
        assert isinstance(await anext(stream), Checkpoint)
        waiting = asyncio.ensure_future(anext(stream))
        async with asyncio.timeout(10):
            while hub.ticks_total < 1:  # by then the stream is at rest
                await asyncio.sleep(0.01)
        killed = await asyncio.to_thread(
            subprocess.run,
            [
                sys.executable,
                "-c",
                COMMIT_AND_DIE,
                database.url.render_as_string(hide_password=False),
                workspace.id,
            ],
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert killed.returncode == -signal.SIGKILL
        async with asyncio.timeout(10):
            item = await waiting
        assert isinstance(item, EventItem)
        assert item.event.type == "task.created"
        assert hub.wakeups_lost_total >= 1
    finally:
        await stream.aclose()
        await hub.aclose()
