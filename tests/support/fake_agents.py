"""Programs that behave like the real coding agents, as far as anybody outside can tell.

``install_fakes(folder)`` puts ``claude codex gemini opencode kilo cursor-agent kiro-cli`` there.
Those that speak the Agent Client Protocol do so where its argument is given, see
``tests.support.fake_acp_agent``. Otherwise each reads its whole standard input, notes how it was
started in ``$HOME/started.jsonl``, replays a golden stream with its own folder in the paths, and
ends with the exit code the real program has then.
Sessions are files below HOME: an unknown one cannot be resumed, a known id not be used again.

The lines ``do: …`` of the prompt: ``do: stream NAME`` (which golden stream; ``success`` by
default) · ``do: write FILE TEXT`` · ``do: await FILE`` (before the end) · ``do: tool`` (a process
in a session of its own works on, and the agent waits for it).

Its standard library is all it needs.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

GOLDEN = Path(__file__).resolve().parents[1] / "runner" / "golden"
WORKTREE = "/srv/worktrees/task-7"
ACP = Path(__file__).with_name("fake_acp_agent.py")
FOLDERS = {
    "claude": "claude_code",
    "codex": "codex",
    "gemini": "gemini",
    "opencode": "opencode",
    "kilo": "kilo",
    "cursor-agent": "cursor",
}
VERSION = "9.9.9"


def install_fakes(folder: Path) -> Path:
    """Make the programs in a new folder; the folder."""
    folder.mkdir(parents=True)
    for name in (*FOLDERS, "kiro-cli"):
        program = folder / name
        program.write_text(
            f"#!{sys.executable} -IS\nimport runpy, sys\nsys.argv.insert(1, {name!r})\n"
            f"runpy.run_path({__file__!r}, run_name='__main__')\n"
        )
        program.chmod(0o700)
    return folder


class Agent:
    """One start of one of the programs."""

    def __init__(self, name: str, arguments: list[str], prompt: str) -> None:
        self.name = name
        self.arguments = arguments
        self.orders = [
            line.removeprefix("do: ").strip().partition(" ")[::2]
            for line in prompt.splitlines()
            if line.startswith("do: ")
        ]
        self.home = Path(os.environ["HOME"])
        note = {
            "program": name,
            "argv": arguments,
            "stdin": prompt,
            "env": dict(os.environ),
            "cwd": str(Path.cwd()),
        }
        with (self.home / "started.jsonl").open("a") as file:
            file.write(json.dumps(note) + "\n")

    def run(self) -> NoReturn:
        """Work, and end."""
        self.check_permissions()
        resumed = self.find_resumed()
        if resumed is not None and not self.session(resumed).exists():
            self.refuse_session(resumed)
        stream = next((text for verb, text in self.orders if verb == "stream"), "success")
        if stream == "success" and resumed is not None and self.name == "codex":
            stream = "resumed"
        signal.signal(signal.SIGINT, self.interrupted)
        text = (GOLDEN / FOLDERS[self.name] / f"{stream}.jsonl").read_text()
        lines = text.replace(WORKTREE, str(Path.cwd())).splitlines()
        for number, line in enumerate(lines):
            self.say(self.adapt(line, resumed))
            if number == 0:
                self.work()
        for verb, argument in self.orders:
            while verb == "await" and not Path(argument).exists():
                time.sleep(0.01)
        expected = GOLDEN / FOLDERS[self.name] / f"{stream}.expected.json"
        raise SystemExit(json.loads(expected.read_text())["exit_code"])

    def say(self, line: str) -> None:
        """A line on standard output, at once."""
        data = f"{line}\n".encode()
        while data:
            data = data[os.write(1, data) :]

    def work(self) -> None:
        """What the prompt orders."""
        for verb, argument in self.orders:
            if verb == "write":
                name, _, text = argument.partition(" ")
                Path(name).write_text(f"{text}\n")
            if verb == "tool":
                sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
                subprocess.Popen(sleep, start_new_session=True).wait()

    def adapt(self, line: str, resumed: str | None) -> str:
        """The line with the session of this start in it; that session is remembered."""
        if not (line.startswith("{") and line.endswith("}")):
            return line
        value: dict[str, Any] = json.loads(line)
        key = {"codex": "thread_id", "opencode": "sessionID", "kilo": "sessionID"}
        name = key.get(self.name, "session_id")
        if name in value and not str(value[name]).startswith("-"):
            value[name] = resumed or self.option("--session-id") or value[name]
            self.session(value[name]).touch()
        if resumed and "total_cost_usd" in value:
            value["total_cost_usd"] *= 2
        return json.dumps(value)

    def option(self, name: str) -> str | None:
        """The value of an option written with ``=``."""
        found = [word for word in self.arguments if word.startswith(f"{name}=")]
        return found[-1].partition("=")[2] if found else None

    def find_resumed(self) -> str | None:
        """The session to resume."""
        if self.name == "codex":
            words = self.arguments
            return words[words.index("resume") + 1] if "resume" in words else None
        return self.option("--session" if self.name in {"opencode", "kilo"} else "--resume")

    def session(self, session_id: str) -> Path:
        """The file of a session."""
        return self.home / f"session-{self.name}-{session_id}"

    def check_permissions(self) -> None:
        """Refusals of the real programs, before any event."""
        free = "--permission-mode=bypassPermissions" in self.arguments
        if (
            self.name == "claude"
            and free
            and os.geteuid() == 0
            and not os.environ.get("IS_SANDBOX")
        ):
            sys.exit("bypassPermissions cannot be used with root privileges")
        chosen = self.option("--session-id")
        if chosen and self.session(chosen).exists():
            sys.exit(f"Error: session {chosen} is already in use")

    def refuse_session(self, session_id: str) -> NoReturn:
        """The end of every program for a session it does not know."""
        if self.name in {"claude", "cursor-agent"}:
            self.say((GOLDEN / "claude_code" / "unknown_session.jsonl").read_text().strip())
        os.write(2, f"no session {session_id}\n".encode())
        raise SystemExit(42 if self.name == "gemini" else 1)

    def interrupted(self, *_: object) -> NoReturn:
        """SIGINT: claude has a last word and ends with 0, gemini has none and ends with 0."""
        if self.name == "claude":
            stream = GOLDEN / "claude_code" / "interrupted.jsonl"
            self.say(self.adapt(stream.read_text().splitlines()[-1], self.find_resumed()))
        raise SystemExit(0 if self.name in {"claude", "gemini"} else 1)


def main() -> None:
    name, *arguments = sys.argv[1:]
    if arguments == ["--version"]:
        print(f"{VERSION} ({name})")  # noqa: T201  # what the programs do
        return
    if {"acp", "--acp"} & set(arguments):
        runpy.run_path(str(ACP))["AcpAgent"](name, arguments).serve()
        return
    # As some of the real ones, it waits for the end of its input, for ever if need be.
    Agent(name, arguments, sys.stdin.read()).run()


if __name__ == "__main__":
    main()
