"""Executor CUSTOM and the common progress events, as laws over values; no process runs here."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.ending import ExitInfo, OutcomeStatus, StopCause
from runner.executors.base import (
    NO_FACTS,
    ExecutorSettingsError,
    Facts,
    LaunchRefusedError,
    RunSpec,
    Verdict,
)
from runner.executors.custom import CustomExecutor
from runner.executors.progress import (
    MAX_TEXT_BYTES,
    FileChange,
    Message,
    NotAProgressEventError,
    Plan,
    PlanItem,
    Result,
    ToolCall,
    Usage,
    read_event,
    to_dict,
)

FILES = Path("/runs/r1/files")


def spec(**changes: Any) -> RunSpec:
    values = {
        "run_id": "r1",
        "prompt": "Do it",
        "worktree": Path("/w"),
        "branch": "task/1",
        "files": FILES,
        "task_id": "t1",
        "model": "m",
    }
    return RunSpec(**{**values, **changes})


def test_placeholders_are_filled_and_the_prompt_is_file_and_input_too() -> None:
    executor = CustomExecutor(
        ("my-agent", "--task={prompt_file}", "{prompt}", "{worktree}:{branch}", "{{x}}", "{model}"),
        env={"KEY": "secret"},
    )
    launch = executor.build(spec())
    assert launch.argv == (
        "my-agent",
        "--task=/runs/r1/files/prompt.md",
        "Do it",
        "/w:task/1",
        "{x}",
        "m",
    )
    assert (launch.stdin_text, launch.files) == ("Do it", {"prompt.md": "Do it"})
    assert executor.program == "my-agent"
    assert "secret" not in repr(launch) + repr(executor)


@pytest.mark.parametrize(
    "template",
    [
        (),
        "my-agent",
        ("",),
        ("a", 5),
        ("a", "{unknown}"),
        ("a", "{prompt.__class__}"),
        ("a", "{prompt!r}"),
        ("a", "{prompt:>10}"),
        ("a", "{0}"),
        ("a", "{}"),
        ("a", "{prompt"),
        ("{prompt}",),
        ("a", "x\0"),
    ],
)
def test_a_wrong_template_is_refused_when_it_is_configured(template: Any) -> None:
    with pytest.raises(ExecutorSettingsError):
        CustomExecutor(template)


def test_the_refusal_names_what_is_known() -> None:
    with pytest.raises(ExecutorSettingsError, match=r"\{promt\}.*known are \{prompt_file\}"):
        CustomExecutor(("a", "{promt}"))


def test_a_prompt_too_long_for_an_argument_is_refused_with_the_way_out() -> None:
    long = spec(prompt="é" * 52_000)
    with pytest.raises(LaunchRefusedError, match=r"\{prompt_file\}"):
        CustomExecutor(("a", "{prompt}")).build(long)
    assert CustomExecutor(("a", "{prompt_file}")).build(long).stdin_text == long.prompt


def test_no_value_becomes_an_option() -> None:
    assert CustomExecutor(("a", "{prompt}")).build(spec(prompt="-rf")).argv == ("a", "\n-rf")
    for template, changes in (
        (("a", "{model}"), {"model": "--yes"}),
        (("a", "{branch}"), {"branch": "-x"}),
    ):
        with pytest.raises(LaunchRefusedError, match="option"):
            CustomExecutor(template).build(spec(**changes))
    assert CustomExecutor(("a", "--m={model}")).build(spec(model="-x")).argv == ("a", "--m=-x")


def test_what_cannot_be_an_argument_is_refused() -> None:
    with pytest.raises(LaunchRefusedError, match="NUL"):
        CustomExecutor(("a", "{prompt}")).build(spec(prompt="x\0"))
    with pytest.raises(LaunchRefusedError, match="model"):
        CustomExecutor(("a", "{model}")).build(spec(model=None))


EVENTS = [
    Message("hello", partial=True),
    ToolCall("1", "Write", kind="edit", input={"path": "a", "n": [1, 2.5, None, True]}),
    FileChange("a.txt", kind="add"),
    Plan((PlanItem("one", "completed"), PlanItem("two"))),
    Usage(input=5, cost_usd=0.25, scope="session"),
    Result("error", error="no"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_events_survive_json(event: Any) -> None:
    assert read_event(json.loads(json.dumps(to_dict(event)))) == event


def test_progress_is_recognised_on_standard_output_only() -> None:
    executor = CustomExecutor(("a",))
    line = '{"type": "message", "text": "hi", "unknown": 1}'
    assert executor.parse(line).events == (Message("hi"),)
    assert executor.parse(line, stream="stderr").events == ()
    parsed = executor.parse('{"type": "result", "verdict": "error", "error": "no"}')
    assert parsed.facts == Facts(verdict=Verdict.ERROR, error="no")


@pytest.mark.parametrize(
    "line",
    [
        "plain text",
        "",
        "{",
        "[1]",
        '{"type": 5}',
        '{"type": "unknown"}',
        '{"type": "message"}',
        '{"type": "message", "text": 5}',
        '{"type": "message", "text": "x", "role": "devil"}',
        '{"type": "usage", "input": NaN}',
        '{"type": "usage", "input": 1e999}',
        '{"type": "usage", "input": -1}',
        '{"type": "usage", "input": 1.5}',
        '{"type": "usage", "input": true}',
        '{"type": "plan", "items": {}}',
        '{"type": "plan", "items": [{"status": "pending"}]}',
        '{"a":' * 100_000 + "}",
        '{"type": "usage", "input": ' + "9" * 5000 + "}",
    ],
)
def test_every_other_line_is_only_output(line: str) -> None:
    assert CustomExecutor(("a",)).parse(line).events == ()


def test_long_texts_are_cut_and_unstorable_characters_replaced() -> None:
    event = read_event({"type": "message", "text": "é" * MAX_TEXT_BYTES})
    assert isinstance(event, Message)
    assert event.truncated
    assert len(event.text.encode()) == MAX_TEXT_BYTES
    event = read_event(json.loads('{"type": "thinking", "text": "a\\u0000\\ud800b\\ud83d\\ude00"}'))
    assert (event.text, event.truncated) == ("a\ufffd\ufffdb\U0001f600", False)
    tool = read_event({"type": "tool_call", "id": "1", "name": "n", "input": {"a": "x" * 100_000}})
    assert isinstance(tool, ToolCall)
    assert tool.truncated
    assert len(json.dumps(tool.input)) <= MAX_TEXT_BYTES + 100
    plan = read_event({"type": "plan", "items": [{"text": "x"}] * 1000})
    assert isinstance(plan, Plan)
    assert (len(plan.items), plan.truncated) == (200, True)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(value=ANYTHING, kind=st.sampled_from([event.type for event in EVENTS]), rest=ANYTHING)
def test_no_value_breaks_the_reader_and_what_it_gives_can_be_stored(
    value: Any, kind: str, rest: Any
) -> None:
    names = ("text", "id", "name", "path", "input", "items", "verdict")
    for candidate in (value, {"type": kind, **dict.fromkeys(names, rest)}):
        try:
            event = read_event(candidate)
        except NotAProgressEventError:
            continue
        stored = json.dumps(to_dict(event), allow_nan=False, ensure_ascii=False).encode()
        assert b"\\u0000" not in stored


@pytest.mark.parametrize(
    ("end", "facts", "stop", "expected"),
    [
        (ExitInfo(reason="exited", exit_code=0), NO_FACTS, None, ("completed", "done")),
        (ExitInfo(reason="exited", exit_code=3), NO_FACTS, None, ("failed", "exit_code")),
        (ExitInfo(reason="exited", signal=9), NO_FACTS, None, ("failed", "signal")),
        (ExitInfo(reason="exited", exit_code=0), NO_FACTS, StopCause.USER, ("cancelled", "user")),
        (
            ExitInfo(reason="exited", exit_code=0),
            NO_FACTS,
            StopCause.SILENCE,
            ("failed", "silence"),
        ),
        (
            ExitInfo(reason="exited", exit_code=0),
            Facts(verdict=Verdict.ERROR, error="tests fail"),
            None,
            ("failed", "agent_error"),
        ),
        (
            ExitInfo(reason="exited", exit_code=1),
            Facts(verdict=Verdict.SUCCESS),
            None,
            ("failed", "exit_code"),
        ),
        (ExitInfo(reason="output_limit", signal=9), NO_FACTS, None, ("failed", "output_limit")),
        (
            ExitInfo(reason="spawn_error", errno="ENOENT", error="x: No such file"),
            NO_FACTS,
            None,
            ("failed", "spawn_error"),
        ),
        (ExitInfo(reason="orphaned", exit_code=0), NO_FACTS, None, ("failed", "orphaned")),
    ],
)
def test_how_an_end_is_judged(
    end: ExitInfo, facts: Facts, stop: StopCause | None, expected: tuple[str, str]
) -> None:
    outcome = CustomExecutor(("a",)).classify(end, facts, stop=stop)
    assert (outcome.status, outcome.reason) == expected
    assert (outcome.error is not None) == (outcome.status is OutcomeStatus.FAILED)


def test_later_facts_stand_over_earlier_ones() -> None:
    first = Facts(session_id="s", error="old")
    assert first.merge(Facts(error="new")) == Facts(session_id="s", error="new")
