"""Starting the agent of a claimed run: its prompt, its folder, its processes."""

import asyncio
import os
import uuid
from pathlib import Path
from typing import Any

from models import Run
from resolvers.prompt_facts import read_prompt_facts
from resolvers.run_claims import ClaimedRun
from resolvers.run_execution import record_launch
from resolvers.run_queries import find_run_of_session
from runner.environment import build_environment, create_temporary_folder
from runner.executors.base import Executor, Launch, LaunchRefusedError, RunSpec
from runner.executors.claude_code import INSTRUCTIONS_FILE
from runner.executors.registry import find_agent
from runner.folder import (
    Limits,
    RunFolder,
    SupervisorSpec,
    create_run_folder,
    write_launch_files,
)
from runner.instructions import find_instructions
from runner.launch import start
from runner.owned_run import OwnedRun
from runner.probe import find_program, missing_text
from runner.usage import launch_record
from runner.workplace import Workplace

SCRATCH = "work"


async def require_program(owned: OwnedRun, executor: Executor) -> None:
    """Refuse a run whose program is missing before anything is made for it.

    Raises:
        LaunchRefusedError: saying which program.
    """
    configured = owned.settings.executors[owned.claimed.run.executor]
    if await asyncio.to_thread(find_program, executor.program, configured) is None:
        agent = find_agent(executor)
        hint = agent.install_hint if agent else None
        raise LaunchRefusedError(missing_text(executor.program, hint))


async def _make_prompt(owned: OwnedRun) -> str:
    claimed, run = owned.claimed, owned.claimed.run
    try:
        facts = await read_prompt_facts(owned.system, run=run, task=claimed.task)
    finally:
        await owned.system.release()
    prompts = owned.settings.prompts
    return await asyncio.to_thread(prompts.make, run, claimed.task, claimed.workspace, facts)


async def launch_agent(
    owned: OwnedRun, executor: Executor, workplace: Workplace | None
) -> RunFolder:
    """Start a run's agent under a supervisor; where that will be found is in its row before.

    A run without ``workplace`` works in an empty folder. Raises what ``runner.launch.start`` and
    the executor's ``build`` raise.
    """
    claimed, settings = owned.claimed, owned.settings
    prompt = await _make_prompt(owned)
    path = settings.runs_root / owned.run_id / str(claimed.token)
    folder = await asyncio.to_thread(create_run_folder, path)
    temporary = await asyncio.to_thread(create_temporary_folder)
    place = workplace.worktree.path if workplace else temporary / SCRATCH
    if workplace is None:
        await asyncio.to_thread(place.mkdir)
    launch = executor.build(
        RunSpec(
            run_id=owned.run_id,
            prompt=prompt,
            worktree=place,
            branch=workplace.worktree.branch if workplace else "",
            files=folder.files,
            task_id=claimed.run.task_id,
            model=claimed.run.model,
            resume_session=claimed.run.session_id,
            new_session=str(uuid.uuid4()),
            instructions=await asyncio.to_thread(find_instructions, place, INSTRUCTIONS_FILE),
            entries=frozenset(await asyncio.to_thread(os.listdir, place)),
            is_root=os.geteuid() == 0,
            read_only=workplace is None,
        )
    )
    stdin = await asyncio.to_thread(
        write_launch_files, folder, stdin=launch.stdin_text, files=launch.files
    )
    spec = _spec(owned, launch, place, stdin=stdin, temporary=temporary)
    await _record(owned, folder, workplace, temporary, interactive=launch.interactive)
    await start(folder, spec)
    return folder


def _spec(
    owned: OwnedRun, launch: Launch, place: Path, *, stdin: str | None, temporary: Path
) -> SupervisorSpec:
    settings, run = owned.settings, owned.claimed.run
    configured = settings.executors[run.executor]
    return SupervisorSpec(
        run_id=owned.run_id,
        argv=launch.argv,
        cwd=str(place),
        env=build_environment(
            os.environ,
            run_id=owned.run_id,
            temporary=temporary,
            pass_through=configured.pass_env,
            extras=launch.env,
        ),
        stdin=stdin,
        heartbeat=str(settings.heartbeat),
        limits=Limits(
            max_seconds=min(run.timeout_seconds or settings.time_limit, settings.time_limit),
            max_output_bytes=settings.output_limit,
            orphan_after=settings.orphan_after,
            interrupt_seconds=settings.stop_grace,
            terminate_seconds=settings.stop_grace,
        ),
    )


async def _record(
    owned: OwnedRun,
    folder: RunFolder,
    workplace: Workplace | None,
    temporary: Path,
    *,
    interactive: bool,
) -> None:
    """Keep where the processes will be found, before there are any."""
    process: dict[str, Any] = {"folder": str(folder.path), "temporary": str(temporary)}
    process["interactive"] = interactive
    facts: dict[str, Any] = {}
    if workplace is not None:
        process["repository"] = str(workplace.worktree.repository.path)
        facts = {
            "branch": workplace.worktree.branch,
            "base_branch": workplace.base_branch,
            "base_commit": workplace.base_commit,
            "worktree_path": str(workplace.worktree.path),
        }
    usage = launch_record(owned.claimed.run, session_run=await _find_session_run(owned))
    run = await owned.insist(
        lambda: record_launch(
            owned.system,
            run_id=owned.run_id,
            token=owned.claimed.token,
            process={**process, "usage": usage, "inputs": owned.claimed.run.input_count},
            **facts,
            stdout_offset=0,
            stderr_offset=0,
        )
    )
    owned.claimed = ClaimedRun(
        run, owned.claimed.task, owned.claimed.workspace, owned.claimed.token
    )


async def _find_session_run(owned: OwnedRun) -> Run | None:
    """The run whose use of the session goes on now: this one after a pause, or another."""
    run = owned.claimed.run
    if run.session_id is None:
        return None
    if run.process:
        return run
    try:
        return await find_run_of_session(owned.system, session_id=run.session_id, besides=run)
    finally:
        await owned.system.release()
