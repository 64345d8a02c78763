"""What of a tenant's stands in the paths of each REST language."""

from typing import Any

from models import Run, Task
from models.enums import TaskStatus
from resolvers.artifacts import artifacts_of_runs
from resolvers.client_runs import create_client_run
from resolvers.run_queries import get_run
from resolvers.task_access import get_task
from rest_compat.viban.shapes import project_id
from tests.support.rest import RestClient
from tests.support.tenants import Tenant


async def path_arguments(
    tenant: Tenant, language: str, client: RestClient, *, ended: bool = False
) -> dict[str, str]:
    """The values of all names in paths: a live run that its client drives, with its task.

    Args:
        tenant: whose.
        language: by its name.
        client: an administrator's of the tenant.
        ended: take a run that has ended instead, with output and an artifact.
    """
    if ended:
        run = await get_run(tenant.owner, run_id=tenant.ids["run finished"])
    else:
        task_id = await tenant.task(TaskStatus.BACKLOG, description=tenant.text("description"))
        run = await create_client_run(tenant.owner, task_id=task_id, stage=tenant.marker)
    task = await get_task(tenant.owner, task_id=str(run.task_id))
    await tenant.owner.release()
    return await SEEDS[language](tenant, client, task, run)


async def _viban(tenant: Tenant, client: RestClient, task: Task, run: Run) -> dict[str, str]:
    project = project_id(tenant.workspace.number)
    hook = {"url": f"https://9.9.9.9/{tenant.word('hook')}", "events": ["task.created"]}
    made = await client.data("POST", f"/api/v1/projects/{project}/webhooks", hook, status=201)
    return {
        "project_id": project,
        "task_id": f"task_{task.public_id}",
        "execution_id": f"exec_{run.public_id}",
        "webhook_id": made["data"]["id"],
    }


async def _posthog(tenant: Tenant, client: RestClient, task: Task, run: Run) -> dict[str, str]:
    project = str(tenant.workspace.number)
    path = f"/api/projects/{project}/tasks/{task.id}/runs/{run.id}/artifacts"
    file = {"name": f"{tenant.word('file')}.txt", "type": "output", "content": tenant.text()}
    await client.data("POST", path, {"artifacts": [file]})
    found = await artifacts_of_runs(tenant.owner, [run.id])
    await tenant.owner.release()
    return {
        "project_id": project,
        "task_id": task.id,
        "run_id": run.id,
        "user_id": str(tenant.users["admin"].number),
        "storage_path": found[run.id][0].storage_path,
    }


SEEDS: dict[str, Any] = {"viban": _viban, "posthog": _posthog}
