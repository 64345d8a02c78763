"""Routes of runs: made, driven and reported by clients, or handed to the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from models import Run, Task
from models.enums import Permission, RunStatus
from models.lifecycle import RUN_FINAL
from resolvers.artifacts import ArtifactMissingError
from resolvers.client_runs import (
    append_run_log,
    create_client_run,
    set_run_output,
    update_client_run,
)
from resolvers.errors import ConflictError, IllegalTransitionError, InvalidError
from resolvers.run_handover import hand_over_run, resume_client_run, start_client_run
from resolvers.run_inputs import answer_run, send_run_message
from resolvers.run_lists import list_runs
from resolvers.runs import stop_run
from resolvers.validation import UNSET
from rest_compat.answers import json_answer
from rest_compat.posthog import words
from rest_compat.posthog.errors import ActionRefused
from rest_compat.posthog.logs import is_kept
from rest_compat.posthog.reading import (
    facts_of,
    get_project_task,
    get_task_run,
    page_json,
    shown_run,
    shown_task,
    window,
)
from rest_compat.posthog.run_shapes import (
    CommandBody,
    CommandShape,
    LogBody,
    NewRunBody,
    OutputBody,
    RelayBody,
    RelayShape,
    RunPatch,
    StartBody,
    StartRunBody,
    TokenShape,
)
from rest_compat.posthog.shapes import ERRORS, RUN_COLUMNS, RunPage, RunShape, TaskShape, run_json
from rest_compat.routing import Call, before_body, body_limit, dialect_router

router = dialect_router(ERRORS)
TASK = "/api/projects/{project_id}/tasks/{task_id}"
RUNS = TASK + "/runs"
RUN = RUNS + "/{run_id}"
SERVER_KEYS = frozenset({"github_credential_source", "pr_authorship_mode", "sandbox_id"})
PENDING_KEYS = ("pending_user_message", "pending_user_artifact_ids")
INHERITED = (
    "pr_authorship_mode", "run_source", "signal_report_id", "runtime_adapter", "model",
    "reasoning_effort", "sandbox_environment_id", "snapshot_external_id", "pr_base_branch",
)  # fmt: skip
LOG_BODY = 8 * 1024 * 1024
NO_SANDBOX = "No active sandbox for this task run"


async def _find_task(call: Call, project_id: str, task_id: str) -> None:
    await get_project_task(call, project_id, task_id, Permission.EXECUTE)


async def _find_run(call: Call, project_id: str, task_id: str, run_id: str) -> None:
    await get_task_run(call, project_id, task_id, run_id, Permission.EXECUTE)


@router.post(TASK + "/run", response_model=TaskShape)
@before_body(_find_task)
async def tasks_run_create(call: Call, project_id: str, task_id: str, body: StartRunBody) -> Any:
    """Make a run and start its work; the task with it in ``latest_run``."""
    project, task = await get_project_task(call, project_id, task_id, Permission.EXECUTE)
    body.check_runtime()
    if body.sandbox_environment_id is not None:
        raise ActionRefused({"detail": "Invalid sandbox_environment_id"})
    earlier = await _earlier(call, task, body.resume_from_run_id)
    inherited = {k: earlier.state[k] for k in INHERITED if k in earlier.state} if earlier else {}
    if earlier is not None:
        inherited["resume_from_run_id"] = earlier.id
    state = inherited | body.state()
    message = (body.pending_user_message or "").strip()
    if message:
        state["pending_user_message"] = message
    if body.pending_user_artifact_ids:
        state["pending_user_artifact_ids"] = body.pending_user_artifact_ids
    with _artifacts_told():
        await start_client_run(
            call.ctx,
            task_id=task.id,
            executor=words.ADAPTERS.get(str(state.get("runtime_adapter"))),
            model=state.get("model"),
            branch=body.branch,
            prompt=_prompt(task, message, resumed=earlier is not None),
            state=state,
            resume_from_id=earlier.id if earlier else None,
            artifact_ids=body.pending_user_artifact_ids,
        )
    return await shown_task(call, project, task.id)


async def _earlier(call: Call, task: Task, run_id: str | None) -> Run | None:
    if run_id is None:
        return None
    runs = await list_runs(call.ctx, task_id=task.id, ids=[run_id])
    if not runs.nodes:
        raise ActionRefused({"detail": "Invalid resume_from_run_id"})
    return runs.nodes[0]


def _prompt(task: Task, message: str, *, resumed: bool) -> str | None:
    """What the agent is told where it is more than the task: a session goes on with the message."""
    if not message:
        return None
    return message if resumed else f"{task.title}\n\n{task.description}\n\n{message}"


@contextmanager
def _artifacts_told() -> Iterator[None]:
    try:
        yield
    except ArtifactMissingError as error:
        raise ActionRefused(
            {
                "detail": "Some pending_user_artifact_ids are invalid or expired",
                "missing_artifact_ids": error.details["ids"],
            }
        ) from None


@router.get(RUNS, response_model=RunPage)
async def runs_list(call: Call, project_id: str, task_id: str) -> Any:
    """Runs of a task, newest first."""
    project, task = await get_project_task(call, project_id, task_id)
    page = window(call.query_params.get("limit"), call.query_params.get("offset"))
    found = await list_runs(call.ctx, task_id=task.id, page=page, columns=RUN_COLUMNS)
    count, _ = await found.total()
    results = [run_json(facts) for facts in await facts_of(call, project, found.nodes)]
    return page_json(call, results, count=count, page=page)


async def _find_parent(call: Call, project_id: str, task_id: str) -> None:
    await get_project_task(call, project_id, task_id, Permission.EXECUTE)


@router.post(RUNS, response_model=RunShape, status_code=201)
@before_body(_find_parent)
async def runs_create(call: Call, project_id: str, task_id: str, body: NewRunBody) -> Any:
    """Make a run that its client drives; nothing is started."""
    project, task = await get_project_task(call, project_id, task_id, Permission.EXECUTE)
    body.check_runtime()
    run = await create_client_run(
        call.ctx,
        task_id=task.id,
        environment=body.environment,
        executor=words.ADAPTERS.get(body.runtime_adapter or ""),
        model=body.model,
        branch=body.branch,
        state=body.state(),
    )
    return await shown_run(call, project, run)


@router.get(RUN, response_model=RunShape)
async def runs_retrieve(call: Call, project_id: str, task_id: str, run_id: str) -> Any:
    """One run."""
    project, _, run = await get_task_run(call, project_id, task_id, run_id)
    return await shown_run(call, project, run)


@router.patch(RUN, response_model=RunShape)
@before_body(_find_run)
async def runs_partial_update(
    call: Call, project_id: str, task_id: str, run_id: str, body: RunPatch
) -> Any:
    """What the client says of its run; a run that has ended stays as it ended."""
    project, _, run = await get_task_run(call, project_id, task_id, run_id, Permission.EXECUTE)
    given = body.model_fields_set
    wanted = None if body.status is None else words.status_from(body.status, run.status)
    after = await update_client_run(
        call.ctx,
        run_id=run.id,
        status=wanted,
        branch=body.branch if "branch" in given else UNSET,
        stage=body.stage if "stage" in given else UNSET,
        error=body.error_message if "error_message" in given else UNSET,
        output=body.output if "output" in given else UNSET,
        state=body.state,
        state_remove=body.state_remove_keys,
        protected_state=SERVER_KEYS,
    )
    return await shown_run(call, project, after)


@router.patch(RUN + "/set_output", response_model=RunShape)
@before_body(_find_run)
async def runs_set_output(
    call: Call, project_id: str, task_id: str, run_id: str, body: OutputBody
) -> Any:
    """Replace the output; it has to obey the task's ``json_schema``."""
    project, _, run = await get_task_run(call, project_id, task_id, run_id, Permission.EXECUTE)
    try:
        after = await set_run_output(call.ctx, run_id=run.id, output=body.output)
    except InvalidError as error:
        if not error.details.get("schema"):
            raise
        raise ActionRefused({"error": error.message}) from None
    return await shown_run(call, project, after)


@router.post(RUN + "/append_log", response_model=RunShape)
@body_limit(LOG_BODY)
@before_body(_find_run)
async def runs_append_log(
    call: Call, project_id: str, task_id: str, run_id: str, body: LogBody
) -> Any:
    """Add entries to the run's log, in order."""
    project, _, run = await get_task_run(call, project_id, task_id, run_id, Permission.EXECUTE)
    kept = [entry for entry in body.entries if is_kept(entry)]
    after = await append_run_log(call.ctx, run_id=run.id, entries=kept)
    return json_answer(
        await shown_run(call, project, after), headers={"Server-Timing": "append_log"}
    )


@router.post(RUN + "/start", response_model=TaskShape)
@before_body(_find_run)
async def runs_start(
    call: Call, project_id: str, task_id: str, run_id: str, body: StartBody
) -> Any:
    """Start a prepared ``cloud`` run."""
    project, task, run = await get_task_run(call, project_id, task_id, run_id, Permission.EXECUTE)
    if run.environment != "cloud":
        raise ActionRefused({"error": "Only cloud runs can be started"})
    if run.status != RunStatus.QUEUED or run.managed:
        word = words.status_word(run.status)
        raise ActionRefused({"error": f"A run that is {word} cannot be started"})
    message = (body.pending_user_message or "").strip()
    state: dict[str, Any] = {"pending_user_message": message} if message else {}
    if body.pending_user_artifact_ids:
        state["pending_user_artifact_ids"] = body.pending_user_artifact_ids
    with _artifacts_told():
        await hand_over_run(
            call.ctx,
            run_id=run.id,
            prompt=_prompt(task, message, resumed=run.session_id is not None),
            state=state,
            artifact_ids=body.pending_user_artifact_ids,
        )
    return await shown_task(call, project, task.id)


@router.post(RUN + "/resume_in_cloud", response_model=RunShape)
async def runs_resume_in_cloud(call: Call, project_id: str, task_id: str, run_id: str) -> Any:
    """Queue a run again, in the cloud."""
    project, _, run = await get_task_run(call, project_id, task_id, run_id, Permission.EXECUTE)
    try:
        after = await resume_client_run(
            call.ctx,
            run_id=run.id,
            state={"mode": "interactive"},
            state_remove=[*PENDING_KEYS, "sandbox_id", "sandbox_environment_id"],
        )
    except ConflictError:
        raise ActionRefused({"error": "Run is already active in cloud"}) from None
    return await shown_run(call, project, after)


@router.post(RUN + "/command", response_model=CommandShape)
@before_body(_find_run)
async def runs_command(
    call: Call, project_id: str, task_id: str, run_id: str, body: CommandBody
) -> Any:
    """Say something to a run that the server executes."""
    _, _, run = await get_task_run(call, project_id, task_id, run_id, Permission.EXECUTE)
    if not run.managed or run.status in RUN_FINAL:
        raise ActionRefused({"error": NO_SANDBOX})
    result = await _command(call, run, body)
    return {"jsonrpc": "2.0", "id": body.id, "result": result}


async def _command(call: Call, run: Run, body: CommandBody) -> dict[str, Any]:
    params = body.params or {}
    try:
        match body.method:
            case "user_message":
                await send_run_message(call.ctx, run_id=run.id, text=_said(params))
                return {"queued": True}
            case "permission_response":
                await answer_run(
                    call.ctx,
                    run_id=run.id,
                    question_id=str(params.get("requestId", "")),
                    option=str(params.get("optionId", "")),
                )
                return {"accepted": True}
            case "cancel" | "close":
                await stop_run(call.ctx, run_id=run.id)
                return {"stopped": True}
    except (ConflictError, IllegalTransitionError, InvalidError) as error:
        raise ActionRefused({"error": error.message}) from None
    raise ActionRefused({"error": "This run has no options that can be changed"})


def _said(params: dict[str, Any]) -> str:
    """The text of a message, which may come in blocks."""
    content = params.get("content")
    if isinstance(content, list):
        texts = [block.get("text") for block in content if isinstance(block, dict)]
        content = "\n".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


@router.post(RUN + "/relay_message", response_model=RelayShape)
@before_body(_find_run)
async def runs_relay_message(
    call: Call, project_id: str, task_id: str, run_id: str, body: RelayBody
) -> Any:
    """Pass a message to a chat thread; this server has none."""
    del body
    await get_task_run(call, project_id, task_id, run_id, Permission.EXECUTE)
    return {"status": "skipped"}


@router.get(RUN + "/connection_token", response_model=TokenShape)
async def runs_connection_token(call: Call, project_id: str, task_id: str, run_id: str) -> Any:
    """A token for the run's sandbox; this server runs agents without one."""
    await get_task_run(call, project_id, task_id, run_id, Permission.EXECUTE)
    raise ActionRefused({"error": NO_SANDBOX})
