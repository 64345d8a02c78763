"""Prompts: what is in them, whose words count as template, and how a wrong template is told."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import Run, Task, TaskContext, Workspace, utcnow
from models.base import record_of
from models.enums import RunKind
from resolvers.prompt_facts import PromptFacts
from runner.prompts import MAX_PART, MAX_PROMPT, PHASES, PromptError, PromptMaker
from server.doctor import examine
from server.settings import Settings
from tests.support.server import a_server


def a_record(model: Any, **values: Any) -> Any:
    filled = model(created_at=utcnow(), updated_at=utcnow(), **values)
    kind = record_of(model)
    return kind(*(getattr(filled, name) for name in kind._columns))


def a_run(**values: Any) -> Any:
    return a_record(Run, workspace_id="w", executor="CUSTOM", **values)


def a_task(**values: Any) -> Any:
    return a_record(Task, workspace_id="w", number=7, **{"title": "The title", **values})


WORKSPACE = a_record(Workspace, number=1, slug="w", name="Project", spec="The project's rules")


def entry(path: str, reason: str) -> Any:
    return TaskContext(task_id="t", path=path, reason=reason, created_at=utcnow())


def make(run: Any, task: Any, *feedback: str, folder: Path | None = None) -> str:
    facts = PromptFacts((entry("src/app.py", "the entrance"),), feedback)
    return PromptMaker(folder).make(run, task, WORKSPACE, facts)


def test_a_prompt_has_everything_the_task_says() -> None:
    task = a_task(
        description="What is to be done",
        spec="The specification",
        acceptance_criteria=["it works", {"metric": 1}],
        steps=["first"],
        constraints=["keep it small"],
        files_hint=["README.md"],
        context_notes="Notes",
    )
    prompt = make(a_run(), task, "older words", "Newest words\n\nover lines")
    for words in (
        "# The title",
        "What is to be done",
        "The specification",
        "- it works",
        '- {"metric": 1}',
        "- first",
        "- keep it small",
        "- README.md",
        "`src/app.py`: the entrance",
        "The project's rules",
        "## Feedback on the last attempt\n\nNewest words\n\nover lines",
        "1. older words",
        "Do not commit",
    ):
        assert words in prompt
    assert "None" not in prompt
    assert "\n\n\n" not in prompt


OF_A_TASK = [name for name in PHASES if name != "refine"]


@pytest.mark.parametrize("phase", OF_A_TASK)
def test_each_phase_has_words_of_its_own_and_tells_feedback(phase: str) -> None:
    others = {make(a_run(phase=name), a_task(), "Do better") for name in OF_A_TASK if name != phase}
    prompt = make(a_run(phase=phase), a_task(), "Do better")
    assert prompt not in others
    assert "Do better" in prompt


def test_a_resumed_session_is_told_to_go_on_and_why_it_was_sent_back() -> None:
    run = a_run(session_id="s-1")
    assert make(run, a_task()).startswith("Go on where you stopped.")
    prompt = make(run, a_task(description="Body"), "Tests are missing")
    assert prompt.startswith("Your work was reviewed and sent back.")
    assert "Tests are missing" in prompt
    assert "Body" in prompt  # the agent may have lost the session


def test_a_refinement_asks_for_text_about_title_and_description_as_they_were_asked() -> None:
    run = a_run(kind=RunKind.REFINE, state={"title": "Log in", "description": "as a user"})
    prompt = make(run, None)
    assert "# Log in\n\nas a user" in prompt
    assert "Acceptance criteria" in prompt
    assert "Change the files" not in prompt


def test_the_run_s_own_prompt_stands_alone() -> None:
    assert make(a_run(prompt="{{ exactly }} this"), a_task(), "x") == "{{ exactly }} this"


def test_long_texts_are_cut_and_it_is_said() -> None:
    prompt = make(a_run(), a_task(description="x" * (MAX_PART + 5)))
    assert "[5 more characters were left out]" in prompt


HOSTILE = [
    "{{ 7 * 7 }}",
    "{% include '/etc/passwd' %}",
    "{{ ''.__class__.__mro__ }}",
    "{% for i in range(100000000) %}{% endfor %}",
    "{# gone #}",
    "{% raw %}",
    "\x1b[31m{%",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_people_write_is_no_template(text: str) -> None:
    task = a_task(title=text, description=text, spec=text, steps=[text], context_notes=text)
    facts = PromptFacts((entry(text, text),), (text,))
    prompt = PromptMaker().make(a_run(phase="check", branch=text), task, WORKSPACE, facts)
    assert prompt.count(text) == 9


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip))
def test_any_text_arrives_as_it_was_written(text: str) -> None:
    assert text.strip() in make(a_run(), a_task(description=text), text)


# --- the operator's templates ---


def test_an_operator_s_template_stands_in_and_may_use_the_built_in_parts(tmp_path: Path) -> None:
    (tmp_path / "work.md.j2").write_text(
        '{% from "parts.md.j2" import section %}{% include "_house.md.j2" %} {{ task.title }}'
        '{{ section("Why", feedback[-1] if feedback else "") }}'
    )
    (tmp_path / "_house.md.j2").write_text("We use tabs.")
    maker = PromptMaker(tmp_path)
    assert maker.check() == []
    assert make(a_run(), a_task(), "So.", folder=tmp_path) == (
        "We use tabs. The title\n\n## Why\n\nSo.\n"
    )
    assert "answer with a plan" in make(a_run(phase="plan"), a_task(), folder=tmp_path)


WRONG = {
    "{{ task.titel }}": "work.md.j2:1: 'dict object' has no attribute 'titel'",
    "line\n{% if task.title %}": "work.md.j2:2: ",
    "a\nb\n{{ nobody }}": "work.md.j2:3",
    "{{ ''.__class__ }}": "unsafe",
    "{{ 1 / 0 }}": "ZeroDivisionError",
    '{% include "missing.md.j2" %}': "missing.md.j2",
    '{% include "../secret" %}': "secret",
    "{{ task.update({'title': 'x'}) }}": "work.md.j2",
    "{% for i in range(10000000) %}x{% endfor %}": "OverflowError",
    "{{ 'x' * 2000000 }}": f"more than {MAX_PROMPT} characters",
}


@pytest.mark.parametrize("template", WRONG)
def test_a_wrong_template_is_told_with_its_place_and_gives_no_prompt(
    tmp_path: Path, template: str
) -> None:
    (tmp_path / "work.md.j2").write_text(template)
    [told] = PromptMaker(tmp_path).check()
    assert WRONG[template] in told
    assert "work.md.j2" in told
    with pytest.raises(PromptError):
        make(a_run(), a_task(), folder=tmp_path)


def test_a_misspelt_file_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "implment.md.j2").write_text("x")
    [told] = PromptMaker(tmp_path).check()
    assert "implment.md.j2" in told
    assert "implement.md.j2" in told
    [told] = PromptMaker(tmp_path / "nowhere").check()
    assert "not a folder" in told


def test_a_server_with_a_wrong_template_does_not_start_and_the_doctor_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "plan.md.j2").write_text("ok\n{{ whatever }}")
    settings = Settings(data_dir=tmp_path / "data", prompt_templates=templates)
    asyncio.run(examine(settings))
    assert "plan.md.j2:2" in capsys.readouterr().out
    with (
        pytest.raises(AssertionError, match=r"plan\.md\.j2:2"),
        a_server(tmp_path / "server", prompt_templates=str(templates)),
    ):
        pass
