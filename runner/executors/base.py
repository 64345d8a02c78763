"""What every executor is: a pure translation between a run and one kind of agent program.

No executor does any input or output. It says which command to start (``build``), understands one
line of its output (``parse``) and judges how it ended (``classify``).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

from runner.ending import ExitInfo, Outcome, StopCause
from runner.executors.progress import ProgressEvent

OutputStream = Literal["stdout", "stderr"]


class ExecutorSettingsError(ValueError):
    """An executor is configured wrongly; the text says what to change."""


class LaunchRefusedError(ValueError):
    """This run cannot be started with this executor; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What an executor is told of a run.

    ``files`` is the folder into which the files of the launch will be written before the start.
    ``resume_session`` names the agent's session to go on with, ``fork_session`` to go on in a copy;
    a new session gets the id ``new_session`` where the agent lets others choose it.
    ``instructions`` is what the repository tells agents (its CLAUDE.md), for those agents that are
    kept from reading the repository's configuration; ``entries`` are the names in the worktree's
    topmost folder. ``is_root``: the server's user is root. ``read_only``: an answer is wanted and
    nothing else, so the agent gets the least permissions it knows, whatever the operator allows.
    """

    run_id: str
    prompt: str
    worktree: Path
    branch: str
    files: Path
    task_id: str | None = None
    model: str | None = None
    resume_session: str | None = None
    fork_session: bool = False
    new_session: str | None = None
    instructions: str | None = None
    entries: frozenset[str] = frozenset()
    is_root: bool = False
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start the agent: no shell, ``env`` on top of the common environment.

    ``stdin_text`` is its whole standard input (None: empty). ``files`` maps names to contents.
    ``interactive``: it reads ``runner.beside.orders``, so it can be answered and told more.
    """

    argv: tuple[str, ...]
    stdin_text: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    interactive: bool = False


class Verdict(StrEnum):
    """The agent's own judgement, from its terminal event; ``OPEN``: it is at work again."""

    SUCCESS = "success"
    ERROR = "error"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the lines so far have told for certain; None is not known."""

    session_id: str | None = None
    verdict: Verdict | None = None
    result_text: str | None = None
    error: str | None = None

    def merge(self, later: "Facts") -> "Facts":
        """These facts, with those of a later line over them."""
        known = {name.name: getattr(later, name.name) for name in fields(later)}
        return replace(self, **{name: value for name, value in known.items() if value is not None})


NO_FACTS = Facts()


@dataclass(frozen=True, slots=True)
class Parsed:
    """What one line of output meant. The line itself is kept as run output in any case."""

    events: tuple[ProgressEvent, ...] = ()
    facts: Facts = NO_FACTS


NOTHING = Parsed()


class Executor(Protocol):
    """One kind of agent program."""

    @property
    def name(self) -> str:
        """Name of the executor in settings and on runs, such as ``CUSTOM``."""

    @property
    def program(self) -> str:
        """The program it starts, as written in the settings; to be looked up on PATH."""

    def build(self, spec: RunSpec) -> Launch:
        """How to start a run. Raises LaunchRefusedError."""

    def parse(self, line: str, *, stream: OutputStream = "stdout") -> Parsed:
        """What one line (without newline) means; never raises for what an agent wrote."""

    def classify(self, end: ExitInfo, facts: Facts, *, stop: StopCause | None) -> Outcome:
        """How the run went, all its lines parsed. ``stop``: why the server ended it, if it did."""


def find_json_object(line: str) -> dict[str, Any] | None:
    """The JSON object a line consists of, None for any other line."""
    stripped = line.strip()
    if not (stripped.startswith("{") and stripped.endswith("}")):
        return None
    try:
        value = json.loads(stripped, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
