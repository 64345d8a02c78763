"""What the executors of real agent programs have in common.

Every one reads its prompt from standard input, which then ends: a long prompt fits, one that begins
with ``-`` is no option, and no agent waits for more. All other words are an argument list, values
behind ``=`` where the program allows it, so that no value is taken for an option.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from runner.ending import (
    ExitInfo,
    Outcome,
    OutcomeStatus,
    StopCause,
    find_forced_outcome,
    judge_exit,
)
from runner.executors.base import (
    NOTHING,
    Facts,
    Launch,
    LaunchRefusedError,
    OutputStream,
    Parsed,
    RunSpec,
    Verdict,
    find_json_object,
)
from runner.executors.progress import FileChange, ProgressEvent, ToolCall
from runner.executors.reading import is_session_id


class Permissions(StrEnum):
    """What an unattended agent may do.

    ``EDITS``: read and change files; shell commands only where the agent itself confines them
    (codex does), else they are refused. ``ASK``: as ``EDITS``, but what would be refused is asked.
    ``FULL``: everything the server's user may do.
    """

    EDITS = "edits"
    ASK = "ask"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeSettings:
    """What an operator may change of a built-in executor; None and empty are its defaults.

    ``args`` are added to the program's arguments. ``passed`` are the names or patterns of the
    server's own variables that the agent gets too; ``env`` wins over them.
    """

    program: str | None = None
    args: tuple[str, ...] = ()
    model: str | None = None
    permissions: Permissions = Permissions.EDITS
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    passed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Where a program finds its credential: any of these variables, or any of these files.

    A file is (variable that names its folder, folder below HOME without it, name).
    """

    variables: tuple[str, ...] = ()
    files: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class NativeExecutor(ABC):
    """A pure adapter to one agent program; see the modules of its subclasses."""

    default_program: ClassVar[str]
    credentials: ClassVar[Credentials]
    install_hint: ClassVar[str]
    can_ask: ClassVar[bool] = False
    """Whether its native protocol lets people answer its questions."""
    default_acp_program: ClassVar[str | None] = None
    """The program that speaks the Agent Client Protocol for it, where that is another one."""
    acp_auth: ClassVar[str | None] = None
    """The way to log in over that protocol, of those the agent offers."""
    acp_modes: ClassVar[Mapping[Permissions, str]] = {}
    """The agent's modes over that protocol, where its command line does not choose one."""

    name: str
    settings: NativeSettings = field(default_factory=NativeSettings)

    @property
    def program(self) -> str:
        """The program as written in the settings, or the usual one."""
        return self.settings.program or self.default_program

    @property
    def acp_program(self) -> str:
        """The program that speaks the Agent Client Protocol."""
        return self.settings.program or self.default_acp_program or self.default_program

    @property
    def acp_mode(self) -> str | None:
        """The agent's mode for these permissions over that protocol."""
        return self.acp_modes.get(self.settings.permissions)

    def acp_while_exists(self, spec: RunSpec) -> str | None:
        """Files below HOME (a pattern, with the time in it) during which no session is loaded."""
        del spec
        return None

    def build_acp(self, spec: RunSpec) -> Launch:
        """How to start it as an agent of the Agent Client Protocol. Raises LaunchRefusedError."""
        del spec
        raise LaunchRefusedError(f"{self.name} does not speak the Agent Client Protocol")

    @property
    def is_free(self) -> bool:
        """Whether the agent may do everything."""
        return self.settings.permissions is Permissions.FULL

    @abstractmethod
    def build(self, spec: RunSpec) -> Launch:
        """How to start a run. Raises LaunchRefusedError."""

    @abstractmethod
    def read(self, value: dict[str, Any]) -> Parsed:
        """What one JSON object of standard output means."""

    def parse(self, line: str, *, stream: OutputStream = "stdout") -> Parsed:
        """Progress and facts of a line; lines of other shapes are only output."""
        value = find_json_object(line) if stream == "stdout" else None
        return NOTHING if value is None else self.read(value)

    def classify(self, end: ExitInfo, facts: Facts, *, stop: StopCause | None) -> Outcome:
        """Done is: a good last word of the agent *and* exit code 0 *and* nobody stopped it.

        Agents end with 0 after an interrupt and after errors, so neither alone is believed.
        """
        if forced := find_forced_outcome(end, stop=stop):
            return forced
        if facts.verdict is Verdict.ERROR:
            text = facts.error or facts.result_text or "The agent reported an error"
            return Outcome(OutcomeStatus.FAILED, "agent_error", text)
        outcome = judge_exit(end)
        if outcome.status is not OutcomeStatus.COMPLETED:
            error = f"{outcome.error}: {facts.error}" if facts.error else outcome.error
            return replace(outcome, error=error)
        if facts.verdict is not Verdict.SUCCESS:
            text = "The agent ended without saying how it went"
            error = f"{text}: {facts.error}" if facts.error else text
            return Outcome(OutcomeStatus.FAILED, "no_result", error)
        if not (facts.result_text or "").strip():
            return replace(outcome, warning="The agent ended without a closing word")
        return outcome

    # --- for subclasses ---

    def find_model(self, spec: RunSpec) -> str | None:
        """The run's model, else the operator's."""
        return spec.model or self.settings.model

    def model_option(self, spec: RunSpec) -> tuple[str, ...]:
        """``--model=…`` where a model is known."""
        model = self.find_model(spec)
        return (f"--model={_checked(model)}",) if model else ()

    def launch(
        self,
        spec: RunSpec,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        own: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> Launch:
        """The launch with these arguments.

        The operator's variables win over ``env``; ``own`` has regarded them already and wins.
        """
        return Launch(
            argv=(self.program, *arguments),
            stdin_text=spec.prompt,
            env={**(env or {}), **self.settings.env, **(own or {})},
            files=files or {},
        )


def session_of(spec: RunSpec) -> str | None:
    """The session to resume, fit for an argument list. Raises LaunchRefusedError."""
    if spec.resume_session is not None and not is_session_id(spec.resume_session):
        raise LaunchRefusedError("The run's session id cannot be given to the agent")
    return spec.resume_session


def _checked(value: str) -> str:
    if "\0" in value:
        raise LaunchRefusedError("A NUL character cannot be part of an argument")
    return value


def place(event: ProgressEvent, worktree: Path | None) -> ProgressEvent:
    """The event with paths relative to the worktree: of a changed file, and of a tool's title.

    A path outside of it stays absolute, so that nobody takes it for one inside.
    """
    if worktree is None:
        return event
    if isinstance(event, FileChange):
        return replace(event, path=_inside(event.path, worktree))
    if isinstance(event, ToolCall) and event.title:
        return replace(event, title=_inside(event.title, worktree))
    return event


def _inside(text: str, worktree: Path) -> str:
    path = PurePosixPath(text)
    is_inside = path.is_absolute() and ".." not in path.parts and path.is_relative_to(worktree)
    return str(path.relative_to(worktree)) if is_inside else text
