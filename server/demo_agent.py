"""A small scripted agent, for trying runs without any coding agent installed.

    python server/demo_agent.py [--pause SECONDS] PROMPT_FILE

It reads its task, tells what it does as common progress events (one JSON object a line), writes
``hello.txt``, mentions it in ``README.md`` where there is one, and ends with exit code 0. It is an
example of all that the executor CUSTOM asks of a program, and uses the standard library only.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

GREETING = "Hello! This repository greets its reader.\n"
MENTION = "\nA greeting stands in [hello.txt](hello.txt).\n"
STEPS = ("Read the task", "Look around", "Write hello.txt", "Check the result")


def main() -> int:
    """Do the work in the current folder; the exit code."""
    arguments = argparse.ArgumentParser(description="A scripted agent for trying runs.")
    arguments.add_argument("prompt_file", type=Path)
    arguments.add_argument("--pause", type=float, default=0.5, help="seconds between two steps")
    given = arguments.parse_args()
    try:
        Agent(given.prompt_file, pause=given.pause).work(Path.cwd())
    except OSError as error:
        tell("result", verdict="error", error=str(error))
        return 1
    return 0


class Agent:
    """What is told and done, step by step, ``pause`` seconds apart."""

    def __init__(self, prompt_file: Path, *, pause: float) -> None:
        self.prompt_file = prompt_file
        self.pause = pause
        self.done = 0

    def work(self, folder: Path) -> None:
        """The whole task, in ``folder``."""
        self.plan()
        title = self.prompt_file.read_text("utf-8").partition("\n")[0].lstrip("# ")
        tell("message", text=f"My task: {title}")
        self.next_step()
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        self.call("look", "search", "list the folder", output=", ".join(names) or "nothing")
        self.next_step()
        changed = self.greet(folder)
        self.next_step()
        text = (folder / "hello.txt").read_text("utf-8")
        self.call("check", "read", "hello.txt", output=text.strip())
        tell("usage", input=1200, output=80, scope="run")
        self.next_step()
        tell("result", verdict="success", text=f"Done: {' and '.join(changed)}.")

    def greet(self, folder: Path) -> list[str]:
        """Write the greeting and mention it; names of the files that were changed."""
        tell("message", text="I write the greeting and mention it where people look first.")
        (folder / "hello.txt").write_text(GREETING, "utf-8")
        tell("file_change", path="hello.txt", kind="add")
        readme = folder / "README.md"
        if not readme.is_file() or readme.is_symlink():
            return ["hello.txt"]
        with readme.open("a", encoding="utf-8") as file:
            file.write(MENTION)
        tell("file_change", path="README.md", kind="update")
        return ["hello.txt", "README.md"]

    def call(self, name: str, kind: str, title: str, *, output: str) -> None:
        """Tell of a tool and what it gave."""
        identifier = f"call-{self.done}"
        tell("tool_call", id=identifier, name=name, kind=kind, title=title)
        time.sleep(self.pause)
        tell("tool_result", id=identifier, ok=True, output=output)

    def next_step(self) -> None:
        """One step is done: tell the plan as it stands now, and take a breath."""
        self.done += 1
        self.plan()

    def plan(self) -> None:
        """Tell the whole plan with the status of each step."""
        words = ["completed"] * self.done + ["in_progress"] + ["pending"] * len(STEPS)
        pairs = zip(STEPS, words, strict=False)
        tell("plan", items=[{"text": text, "status": status} for text, status in pairs])
        time.sleep(self.pause)


def tell(type_: str, /, **fields: Any) -> None:
    """Write one progress event."""
    sys.stdout.write(json.dumps({"type": type_, **fields}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
