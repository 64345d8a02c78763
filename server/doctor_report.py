"""How ``dragoman doctor`` tells what it finds, and asks programs for their versions."""

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

VERSION_SECONDS = 10.0


@dataclass
class Report:
    """Prints as it goes and counts what is wrong."""

    problems: int = 0
    warnings: int = 0

    def title(self, text: str) -> None:
        """Begin a section."""
        self._print(f"\n{text}")

    def fact(self, name: str, text: object) -> None:
        """Something to know."""
        self._print(f"   {name:<22} {text}")

    def warn(self, name: str, text: object) -> None:
        """Something that works but should be looked at; not a problem."""
        self.warnings += 1
        self._print(f" ! {name:<22} {text}")

    def wrong(self, name: str, text: object) -> None:
        """A problem."""
        self.problems += 1
        self._print(f"!! {name:<22} {text}")

    def _print(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


async def first_line_of(argv: list[str]) -> str | None:
    """The first line a program says; None when it cannot be run or says nothing in time."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None
    assert process.stdout is not None  # noqa: S101  # asked for above
    said = b""
    try:
        async with asyncio.timeout(VERSION_SECONDS):
            said = await process.stdout.readline()
    except (TimeoutError, ValueError):
        said = b""
    finally:
        await end_process(process)
    text = said[:200].decode(errors="replace").strip()
    return text if text.isprintable() and text else None


async def end_process(process: asyncio.subprocess.Process) -> None:
    """A program that was only asked for its version has nothing to lose."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def told(error: BaseException) -> str:
    """One line of an error, without what SQLAlchemy adds (statements, links, addresses)."""
    origin: Any = getattr(error, "orig", None) or error
    text = str(origin).strip().splitlines()
    return text[0][:300] if text else type(origin).__name__


def counted(number: int, noun: str) -> str:
    """The number and its noun, such as ``no problems`` or ``1 problem``."""
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
