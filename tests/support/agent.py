"""A small agent for tests: does what the lines ``do: …`` of its prompt say, in its current folder.

``do: print TEXT`` · ``do: err TEXT`` · ``do: write FILE TEXT`` · ``do: append FILE TEXT`` ·
``do: count FROM TO MILLISECONDS`` (numbered lines with a pause after each) · ``do: big N`` (one
line of N bytes) · ``do: raw HEX`` · ``do: await FILE`` (until it exists) · ``do: child`` (a process
that outlives the agent) · ``do: deaf`` (ignores SIGINT and SIGTERM) · ``do: exit CODE``

Its standard library is all it needs.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def print_line(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def complain(text: str) -> None:
    os.write(2, f"{text}\n".encode())


def write(argument: str) -> None:
    name, _, text = argument.partition(" ")
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(f"{text}\n", encoding="utf-8")


def append(argument: str) -> None:
    name, _, text = argument.partition(" ")
    with Path(name).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def count(argument: str) -> None:
    first, last, pause = (int(word) for word in argument.split())
    for number in range(first, last + 1):
        print_line(f"line {number}")
        time.sleep(pause / 1000)


def write_all(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def await_file(name: str) -> None:
    while not Path(name).exists():
        time.sleep(0.01)


def leave_a_child(_: str) -> None:
    program = "import time; time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", program], start_new_session=True)


def turn_deaf(_: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


VERBS: dict[str, Callable[[str], None]] = {
    "print": print_line,
    "err": complain,
    "write": write,
    "append": append,
    "count": count,
    "big": lambda size: write_all(b"x" * int(size) + b"\n"),
    "raw": lambda text: write_all(bytes.fromhex(text)),
    "await": await_file,
    "child": leave_a_child,
    "deaf": turn_deaf,
    "exit": lambda code: sys.exit(int(code)),
}


def main() -> None:
    for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
        if line.startswith("do: "):
            verb, _, argument = line.removeprefix("do: ").strip().partition(" ")
            VERBS[verb](argument)


if __name__ == "__main__":
    main()
