"""The text an agent is given, made from its task."""

from models import Run, Task

MAX_PART = 50_000


def make_prompt(run: Run, task: Task | None) -> str:
    """The run's own prompt, or one from the task: title, description, criteria, last feedback.

    The instructions that concern the workplace stand at the end: the server commits, so that an
    agent in a sandbox without access to the repository's folder can do its work too.
    """
    if run.prompt:
        return run.prompt
    if task is None:
        return ""
    parts = [f"# {task.title}"]
    for heading, text in (
        ("", task.description),
        ("Specification", task.spec),
        ("Acceptance criteria", _listed(task.acceptance_criteria)),
        ("Steps", _listed(task.steps)),
        ("Keep to", _listed(task.constraints)),
        ("Files it is about", _listed(task.files_hint)),
        ("Good to know", task.context_notes),
        ("Feedback on the last attempt", task.review_comment if _was_rejected(task) else None),
    ):
        if text and text.strip():
            body = text.strip()[:MAX_PART]
            parts.append(f"## {heading}\n\n{body}" if heading else body)
    parts.append("Change the files in the current folder. Do not commit: the server does.")
    return "\n\n".join(parts) + "\n"


def _was_rejected(task: Task) -> bool:
    return task.review_reason == "rejected"


def _listed(items: list[object] | None) -> str | None:
    if not items:
        return None
    return "\n".join(f"- {item}" for item in items)
