"""The text an agent is given: templates of the server's or of the operator, filled in per run.

Templates are Jinja in a sandbox; whatever is not known to them is an error, never an empty place.
What people wrote is a value in them and is never read as a template. ``docs/operator.md`` lists
the names that a template may use.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import Run, Task, Workspace
from models.enums import RunKind, priority_of
from resolvers.prompt_facts import PromptFacts

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

MAX_PART = 50_000
"""Characters of one text of a user in a prompt; what is beyond is left out, and said to be."""
MAX_PROMPT = 1_000_000
"""Characters of a whole prompt; a longer one is refused."""
MAX_TEMPLATE_BYTES = 256 << 10
PHASES = ("plan", "implement", "check", "work", "refine")
TEMPLATES = (*PHASES, "resume")
"""Names of the templates a run is begun with; each is a file ``<name>.md.j2``."""
SUFFIX = ".md.j2"
_BUILT_IN = Path(__file__).resolve().with_name("templates")
_TEXTS = ("title", "description", "spec", "context_notes")
_LISTS = ("acceptance_criteria", "steps", "constraints", "files_hint")


class PromptError(Exception):
    """A prompt cannot be made; the text says which template is wrong, where, and why."""


@dataclass(frozen=True, slots=True)
class PromptMaker:
    """Makes prompts; files in ``folder`` stand in for built-in templates of the same name."""

    folder: Path | None = None

    def make(
        self, run: Run, task: Task | None, workspace: Workspace, facts: PromptFacts | None = None
    ) -> str:
        """The run's own prompt, or the one its phase's template gives; blocking (reads files).

        Raises:
            PromptError: a template is wrong, or the prompt became too long.
        """
        if run.kind == RunKind.REFINE:
            return self.render("refine", _values(run, run.state, workspace, facts))
        if run.prompt:
            return run.prompt
        if task is None:
            return ""
        return self.render(_template_of(run), _values(run, _columns(task), workspace, facts))

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        """A template with these values. Raises PromptError."""
        from jinja2 import TemplateError

        try:
            text = _environment(self.folder).get_template(name + SUFFIX).render(values)
        except TemplateError as error:
            raise PromptError(_told(error, name)) from error
        except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
            place = _place_in_traceback(error) or name + SUFFIX
            raise PromptError(f"{place}: {type(error).__name__}: {error}") from error
        except OSError as error:
            raise PromptError(f"{name}{SUFFIX} cannot be read: {error}") from error
        text = text.strip() + "\n"
        if len(text) > MAX_PROMPT:
            raise PromptError(f"{name}{SUFFIX} gave a prompt of more than {MAX_PROMPT} characters")
        return text

    def check(self) -> list[str]:
        """What is wrong with the templates, one text each; fills all in for made-up tasks."""
        wrong = [] if self.folder is None else _wrong_files(self.folder)
        for name in TEMPLATES:
            for values in _examples(name):
                try:
                    self.render(name, values)
                except PromptError as error:
                    wrong.append(str(error))
                    break
        return wrong


@cache
def _environment(folder: Path | None) -> "SandboxedEnvironment":
    from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    folders = [] if folder is None else [FileSystemLoader(folder)]
    return ImmutableSandboxedEnvironment(
        loader=ChoiceLoader([*folders, FileSystemLoader(_BUILT_IN)]),
        undefined=StrictUndefined,
        autoescape=False,  # prompts are text, not HTML
        keep_trailing_newline=False,
    )


def _wrong_files(folder: Path) -> list[str]:
    """Files that cannot be meant: an operator's misspelt template would silently not be used."""
    if not folder.is_dir():
        return [f"{folder} is not a folder"]
    known = {path.name for path in _BUILT_IN.iterdir()}
    wrong = []
    for path in sorted(folder.glob("*.j2")):
        # What a template of the operator's includes may have any name, but not a phase's.
        if path.name.endswith(SUFFIX) and path.name not in known and "_" not in path.name[:1]:
            wrong.append(
                f"{path.name} is no template: known are {', '.join(sorted(known))}, and names that "
                "begin with _ for what they include"
            )
        elif path.stat().st_size > MAX_TEMPLATE_BYTES:
            wrong.append(f"{path.name} is larger than {MAX_TEMPLATE_BYTES >> 10} KiB")
    return wrong


def _told(error: Exception, name: str) -> str:
    """The error with its file and line; jinja knows them in different places."""
    place = _place_in_traceback(error) or name + SUFFIX
    if (line := getattr(error, "lineno", None)) is not None:  # a syntax error
        file = Path(getattr(error, "filename", None) or getattr(error, "name", None) or name).name
        place = f"{file}:{line}"
    return f"{place}: {getattr(error, 'message', None) or error}"


def _place_in_traceback(error: BaseException) -> str | None:
    """The innermost line of a template among the callers."""
    place, trace = None, error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.name.endswith(SUFFIX):
            place = f"{file.name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _template_of(run: Run) -> str:
    if run.phase in {"plan", "implement", "check"}:
        return str(run.phase)
    return "resume" if run.session_id else "work"


def _columns(task: Task) -> dict[str, Any]:
    found = {name: getattr(task, name) for name in (*_TEXTS, *_LISTS)}
    return {
        **found,
        "number": task.number,
        "type": str(task.type),
        "priority": str(priority_of(task.priority_level)),
        "labels": task.labels,
    }


def _values(
    run: Run, task: Mapping[str, Any], workspace: Workspace, facts: PromptFacts | None
) -> dict[str, Any]:
    facts = facts or PromptFacts()
    return {
        "task": _task_values(task),
        "workspace": {
            "name": workspace.name,
            "language": workspace.language,
            "spec": _text(workspace.spec),
        },
        "phase": run.phase or "work",
        "branch": run.branch or "",
        "base_branch": run.base_branch or "",
        "resumed": run.session_id is not None,
        "context": [
            {"path": entry.path, "reason": _text(entry.reason), "kind": entry.kind or ""}
            for entry in facts.entries
        ],
        "feedback": [_text(text) for text in facts.feedback],
    }


def _task_values(task: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "number": task.get("number") or 0,
        "type": task.get("type") or "",
        "priority": task.get("priority") or "",
        "labels": list(task.get("labels") or []),
        **{name: _text(task.get(name)) for name in _TEXTS},
        **{name: [_item(item) for item in task.get(name) or []] for name in _LISTS},
    }


def _text(value: Any) -> str:
    text = str(value or "").strip()
    if len(text) <= MAX_PART:
        return text
    return f"{text[:MAX_PART]}\n\n[{len(text) - MAX_PART} more characters were left out]"


def _item(value: Any) -> str:
    return _text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _examples(name: str) -> list[dict[str, Any]]:
    """Values of a task without anything, and of one with everything."""
    common = {"phase": name, "branch": "", "base_branch": "", "resumed": name == "resume"}
    workspace = {"name": "Example", "language": "en", "spec": ""}
    empty = {"task": _task_values({"title": "Example"}), "context": [], "feedback": []}
    task = {**dict.fromkeys(_TEXTS, "text"), **{name: ["one", "two"] for name in _LISTS}}
    full = {
        "task": _task_values({**task, "number": 1, "labels": ["label"], "type": "TASK"}),
        "context": [{"path": "src", "reason": "why", "kind": "directory"}],
        "feedback": ["first", "second"],
    }
    return [
        {**common, **empty, "workspace": workspace},
        {
            **common,
            **full,
            "workspace": {**workspace, "spec": "spec"},
            "branch": "b",
            "base_branch": "main",
        },
    ]
