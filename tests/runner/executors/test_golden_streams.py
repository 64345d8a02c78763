"""What each kind of agent writes, read line by line and judged; no process runs here.

The streams were made by hand from the shapes the real programs write. Beside each stands what it
means: an exit code, the judgement, the facts, and the events of every line (values that are an
event's defaults left out).
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.configuration import ExecutorSettings
from runner.ending import ExitInfo
from runner.executors.base import NO_FACTS, NOTHING, Executor, Facts
from runner.executors.native import place
from runner.executors.progress import MAX_TEXT_BYTES, Message, ToolResult, read_event, to_dict
from runner.executors.registry import ACP_ONLY, ADAPTERS
from runner.output import CUT_MARK

GOLDEN = Path(__file__).parents[1] / "golden"
WORKTREE = Path("/srv/worktrees/task-7")
STREAMS = sorted(GOLDEN.glob("*/*.jsonl"))


NAMES = [*(name for name in ADAPTERS if name not in ACP_ONLY), "ACP"]


def adapter(name: str) -> Executor:
    if name.upper() == "ACP":
        return ExecutorSettings().make("KIRO")
    return ExecutorSettings().make(name.upper())


def without_defaults(event: Any) -> dict[str, Any]:
    defaults = {field.name: field.default for field in dataclasses.fields(event)}
    return {
        name: value
        for name, value in to_dict(event).items()
        if name == "type" or value != defaults.get(name, dataclasses.MISSING)
    }


def known(value: Any) -> dict[str, Any]:
    return {name: v for name, v in dataclasses.asdict(value).items() if v is not None}


def test_every_adapter_has_streams() -> None:
    assert {path.parent.name for path in STREAMS} == {name.lower() for name in NAMES}


@pytest.mark.parametrize("stream", STREAMS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_stream_means_what_stands_beside_it(stream: Path) -> None:
    expected = json.loads(stream.with_suffix(".expected.json").read_text())
    executor, facts, events = adapter(stream.parent.name), NO_FACTS, []
    for line in stream.read_text().splitlines():
        parsed = executor.parse(line)
        facts = facts.merge(parsed.facts)
        events.append([without_defaults(place(event, WORKTREE)) for event in parsed.events])
    end = ExitInfo(reason="exited", exit_code=expected["exit_code"])
    outcome = executor.classify(end, facts, stop=None)
    # By way of JSON, tuples are lists and enumerations their words.
    assert json.loads(json.dumps(events)) == expected["events"]
    assert json.loads(json.dumps(known(facts))) == expected["facts"]
    assert json.loads(json.dumps(known(outcome))) == expected["outcome"]


@pytest.mark.parametrize("name", NAMES)
def test_lines_on_standard_error_are_never_progress(name: str) -> None:
    for stream in (GOLDEN / name.lower()).glob("*.jsonl"):
        for line in stream.read_text().splitlines():
            assert adapter(name).parse(line, stream="stderr") is NOTHING


@pytest.mark.parametrize("name", NAMES)
def test_every_beginning_of_a_line_is_only_output(name: str) -> None:
    executor = adapter(name)
    for stream in (GOLDEN / name.lower()).glob("*.jsonl"):
        longest = max(stream.read_text().splitlines(), key=len)
        for length in range(0, len(longest) - 1, 7):
            assert executor.parse(longest[:length]) == NOTHING
        assert executor.parse(longest[:50] + CUT_MARK) == NOTHING


def test_a_line_of_megabytes_becomes_an_event_of_bearable_size() -> None:
    output = "x" * (2 << 20)
    line = json.dumps(
        {
            "type": "item.completed",
            "item": {
                "id": "1",
                "type": "command_execution",
                "aggregated_output": output,
                "exit_code": 0,
                "status": "completed",
            },
        }
    )
    [event] = adapter("codex").parse(line).events
    assert isinstance(event, ToolResult)
    assert (len(event.output), event.truncated, event.ok) == (MAX_TEXT_BYTES, True, True)
    blocks = [{"type": "text", "text": output}]
    line = json.dumps({"type": "assistant", "message": {"content": blocks}})
    [event] = adapter("claude_code").parse(line).events
    assert isinstance(event, Message)
    assert (len(event.text), event.truncated) == (MAX_TEXT_BYTES, True)


def test_a_path_outside_of_the_worktree_is_not_taken_for_one_inside() -> None:
    for path in ("/srv/worktrees/task-70/a", "/etc/passwd", f"{WORKTREE}/../other/a"):
        change = read_event({"type": "file_change", "path": path})
        assert place(change, WORKTREE) == change
    change = read_event({"type": "file_change", "path": f"{WORKTREE}/a b/c"})
    assert to_dict(place(change, WORKTREE))["path"] == "a b/c"
    assert place(change, None) == change


def _session_line(name: str, session_id: str) -> dict[str, Any]:
    match name:
        case "CODEX":
            return {"type": "thread.started", "thread_id": session_id}
        case "OPENCODE" | "KILO":
            return {"type": "step_start", "sessionID": session_id, "part": {}}
        case "ACP":
            return {"acp": "session", "session": session_id}
        case "GEMINI":
            return {"type": "init", "session_id": session_id}
    return {"type": "system", "subtype": "init", "session_id": session_id}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("session_id", ["--yolo", "-c", "", "a b", "x" * 201, "a\nb", "../../x"])
def test_a_session_id_that_could_be_an_option_is_forgotten(name: str, session_id: str) -> None:
    executor = adapter(name)
    assert executor.parse(json.dumps(_session_line(name, session_id))).facts.session_id is None
    good = executor.parse(json.dumps(_session_line(name, "ses_1-a.b")))
    assert good.facts.session_id == "ses_1-a.b"


MEMBERS = sorted(
    {
        name
        for stream in STREAMS
        for line in stream.read_text().splitlines()
        if line.startswith("{") and line.endswith("}")
        for name in json.loads(line)
    }
    | {
        "content",
        "text",
        "id",
        "name",
        "input",
        "path",
        "kind",
        "changes",
        "items",
        "tool",
        "todos",
    }
    | {"state", "status", "metadata", "usage", "tokens", "cache", "input_tokens", "args", "result"}
)
WORDS = sorted(
    {
        word
        for stream in STREAMS
        for line in stream.read_text().splitlines()
        if line.startswith("{") and line.endswith("}")
        for word in (json.loads(line).get("type"), json.loads(line).get("acp"))
        if isinstance(word, str)
    }
    | {"init", "success", "completed", "file_change", "tool_result", "text", "stop", "assistant"}
    | {"tool_call", "tool_call_update", "agent_message_chunk"}
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=6)
    ),
    max_leaves=25,
)
LINES = st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=8)


@pytest.mark.parametrize("name", NAMES)
@given(value=LINES, word=st.sampled_from(WORDS), text=st.text())
def test_nothing_an_agent_writes_breaks_the_reader(
    name: str, value: dict[str, Any], word: str, text: str
) -> None:
    executor = adapter(name)
    for line in (text, json.dumps(value), json.dumps({**value, "type": word, "acp": word})):
        parsed = executor.parse(line)
        assert isinstance(parsed.facts, Facts)
        for event in parsed.events:
            stored = json.dumps(to_dict(event), allow_nan=False, ensure_ascii=False).encode()
            assert len(stored) < 20 * MAX_TEXT_BYTES
            assert read_event(json.loads(stored)) == event


@pytest.mark.parametrize("name", NAMES)
def test_deep_nesting_does_not_break_the_reader(name: str) -> None:
    executor = adapter(name)
    for depth in (50, 500, 950, 5000):
        deep = '{"content":' * depth + "1" + "}" * depth
        for word in WORDS:
            for member in (
                "message",
                "item",
                "part",
                "parameters",
                "tool_call",
                "output",
                "meta",
                "update",
            ):
                executor.parse(f'{{"type": "{word}", "acp": "{word}", "{member}": {deep}}}')
