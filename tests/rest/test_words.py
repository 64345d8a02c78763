from hypothesis import given
from hypothesis import strategies as st

from models.enums import Executor, RunStatus, TaskStatus
from rest_compat.viban import shapes, words


def test_tables_are_total() -> None:
    assert set(words.TASK) == set(TaskStatus)
    assert set(words.EXECUTION) == set(RunStatus)
    assert set(words.AGENT) == set(Executor)
    assert set(words.TASK.values()) == set(words.TASK_BACK) == set(shapes.TaskWord.__args__)
    assert set(words.EXECUTION.values()) <= set(shapes.ExecutionWord.__args__)
    assert set(words.AGENT.values()) == set(words.AGENT_BACK) == set(shapes.AgentWord.__args__)


@given(st.sampled_from(TaskStatus))
def test_writing_back_what_was_read_changes_nothing(status: TaskStatus) -> None:
    assert words.task_status(words.TASK[status], status) == status


@given(st.sampled_from(sorted(words.TASK_BACK)), st.sampled_from(TaskStatus))
def test_what_was_written_is_read(word: str, before: TaskStatus) -> None:
    assert words.TASK[words.task_status(word, before)] == word


@given(st.sampled_from(sorted(words.TASK_BACK)), st.sampled_from(TaskStatus))
def test_a_filter_means_what_is_read(word: str, status: TaskStatus) -> None:
    assert (status in words.TASK_STATUSES[word]) == (words.TASK[status] == word)


@given(st.sampled_from(Executor))
def test_agents_go_there_and_back(executor: Executor) -> None:
    assert words.AGENT_BACK[words.AGENT[executor]] == executor


@given(st.integers(1, 2**31 - 1))
def test_project_ids_go_there_and_back(number: int) -> None:
    assert shapes.number_of(shapes.project_id(number)) == number


@given(st.text(max_size=20) | st.from_regex(r"proj_.{12}", fullmatch=True))
def test_any_text_is_a_project_id_or_none(text: str) -> None:
    number = shapes.number_of(text)
    assert number == 0 or shapes.project_id(number) == text
