"""Executor CUSTOM: any program, described by an argument list in the operator's settings.

``["my-agent", "--task", "{prompt_file}"]``: placeholders are filled in per run; no shell reads the
result. The prompt is also the program's standard input. Every line it writes is run output; a line
on standard output that is a JSON object of the common progress events is progress too. Exit code 0
means done, unless its own ``result`` event says otherwise.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
    ExecutorSettingsError,
    Facts,
    Launch,
    LaunchRefusedError,
    OutputStream,
    Parsed,
    RunSpec,
    Verdict,
    find_json_object,
)
from runner.executors.progress import NotAProgressEventError, Result, read_event

PLACEHOLDERS = ("prompt_file", "prompt", "worktree", "branch", "task_id", "run_id", "model")
PROMPT_FILE = "prompt.md"
# The kernel takes 128 KiB for one argument; the rest of the argument needs some of it.
MAX_PROMPT_ARGUMENT_BYTES = 100 << 10


def check_template(template: Sequence[object]) -> tuple[str, ...]:
    """The template, if it can work. Raises ExecutorSettingsError naming the wrong argument."""
    if isinstance(template, str) or not template:
        raise ExecutorSettingsError("The command must be a list that begins with a program")
    checked = []
    for argument in template:
        if not isinstance(argument, str) or "\0" in argument:
            raise ExecutorSettingsError(f"{argument!r} is not an argument")
        _check_placeholders(argument)
        checked.append(argument)
    if not checked[0].strip() or _names(checked[0]):
        raise ExecutorSettingsError("The program itself must be named without placeholders")
    return tuple(checked)


def _check_placeholders(argument: str) -> None:
    hint = f"known are {', '.join('{' + name + '}' for name in PLACEHOLDERS)}; write {{{{ for {{"
    try:
        parts = list(string.Formatter().parse(argument))
    except ValueError as error:
        raise ExecutorSettingsError(f"{argument!r}: {error}; {hint}") from error
    for _, name, form, conversion in parts:
        if name is not None and (name not in PLACEHOLDERS or form or conversion):
            raise ExecutorSettingsError(f"{argument!r}: unknown placeholder {{{name}}}; {hint}")


def _names(argument: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(argument) if name is not None}


@dataclass(frozen=True, slots=True)
class CustomExecutor:
    """See the module's text. Raises ExecutorSettingsError when made from a wrong template."""

    template: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    name: str = "CUSTOM"

    def __post_init__(self) -> None:
        object.__setattr__(self, "template", check_template(self.template))

    @property
    def program(self) -> str:
        """The program as written in the settings."""
        return self.template[0].format()

    def build(self, spec: RunSpec) -> Launch:
        """Fill in the template. Raises LaunchRefusedError where a value does not fit."""
        used = set().union(*(_names(argument) for argument in self.template))
        if (
            "prompt" in used
            and len(spec.prompt.encode(errors="replace")) > MAX_PROMPT_ARGUMENT_BYTES
        ):
            raise LaunchRefusedError(
                f"The prompt is longer than {MAX_PROMPT_ARGUMENT_BYTES >> 10} KiB, too long for an "
                f"argument: the command of {self.name} must use {{prompt_file}} for {{prompt}}"
            )
        if "model" in used and not spec.model:
            raise LaunchRefusedError(f"The command of {self.name} needs a model; the run has none")
        values = {
            "prompt_file": str(spec.files / PROMPT_FILE),
            "prompt": spec.prompt,
            "worktree": str(spec.worktree),
            "branch": spec.branch,
            "task_id": spec.task_id or "",
            "run_id": spec.run_id,
            "model": spec.model or "",
        }
        return Launch(
            argv=tuple(_fill(argument, values) for argument in self.template),
            stdin_text=spec.prompt,
            env=self.env,
            files={PROMPT_FILE: spec.prompt},
        )

    def parse(self, line: str, *, stream: OutputStream = "stdout") -> Parsed:
        """A common progress event, or nothing."""
        value = find_json_object(line) if stream == "stdout" else None
        if value is None:
            return NOTHING
        try:
            event = read_event(value)
        except NotAProgressEventError:
            return NOTHING
        if not isinstance(event, Result):
            return Parsed((event,))
        facts = Facts(
            verdict=Verdict(event.verdict), result_text=event.text or None, error=event.error
        )
        return Parsed((event,), facts)

    def classify(self, end: ExitInfo, facts: Facts, *, stop: StopCause | None) -> Outcome:
        """Exit code 0 is done, unless the agent itself reported an error."""
        if forced := find_forced_outcome(end, stop=stop):
            return forced
        outcome = judge_exit(end)
        if facts.verdict is Verdict.ERROR:
            text = facts.error or facts.result_text or "The agent reported an error"
            return Outcome(OutcomeStatus.FAILED, "agent_error", text)
        return outcome


def _fill(argument: str, values: Mapping[str, str]) -> str:
    filled = argument.format_map(values)
    if "\0" in filled:
        raise LaunchRefusedError("A NUL character cannot be part of an argument")
    if filled.startswith("-") and not argument.startswith("-"):
        # A value that a user wrote must not be read as an option.
        if argument.startswith("{prompt}"):
            return "\n" + filled
        raise LaunchRefusedError(f"{filled[:100]!r} would be read as an option")
    return filled
