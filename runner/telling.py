"""Handing on what people tell a run: from its rows into the file the process beside it reads."""

import asyncio
import json
import os
from dataclasses import dataclass, field

from models import Run, RunInput
from resolvers.context import Context
from resolvers.run_inputs import inputs_after
from runner.folder import RunFolder, open_regular


@dataclass(slots=True)
class Courier:
    """Writes each order once, in order; the file itself says how far that is done."""

    system: Context
    run: Run
    folder: RunFolder
    news: asyncio.Event = field(default_factory=asyncio.Event)
    _written: int | None = None

    @property
    def is_heard(self) -> bool:
        """Whether there is a process that reads what is written."""
        return self.run.process.get("interactive") is True

    async def deliver(self) -> None:
        """Write what is new; blocking work in a thread."""
        if not self.is_heard:
            return
        self.news.clear()
        new = await self.find_new()
        if new:
            await asyncio.to_thread(self._write, new)
            self._written = new[-1].number

    async def find_new(self) -> list[RunInput]:
        """What was told and not yet written."""
        if self._written is None:
            self._written = await asyncio.to_thread(self._find_written)
        try:
            return await inputs_after(self.system, run_id=self.run.id, number=self._written)
        finally:
            await self.system.release()

    def _find_written(self) -> int:
        """The last number in the file, else the one up to which earlier processes were told."""
        number = int(self.run.process.get("inputs", 0))
        try:
            with open_regular(self.folder.orders) as file:
                lines = file.read().splitlines()
        except OSError:
            return number
        return max([number, *(int(json.loads(line)["number"]) for line in lines)])

    def _write(self, inputs: list[RunInput]) -> None:
        lines = [json.dumps({**one.data, "number": one.number}) + "\n" for one in inputs]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        fd = os.open(self.folder.orders, flags, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write("".join(lines).encode())
