"""Files of runs in the schema."""

from datetime import datetime
from typing import Any

import strawberry
from strawberry.scalars import JSON

from compiler import BATCH
from resolvers.artifacts import artifacts_of_runs, sign_artifact
from resolvers.loading import loader
from schema.context import Info
from schema.node import Node
from schema.reading import reads


@strawberry.type(description="A file of a run.")
class Artifact(Node):
    """See models.Artifact."""

    name: str = strawberry.field(description="Its name, without folders.")
    type: str = strawberry.field(description="What it is: plan, output, user_attachment …")
    source: str = strawberry.field(description="Who made it, as its maker says; may be empty.")
    content_type: str = strawberry.field(description="Its media type, as its maker says.")
    size: float = strawberry.field(description="Bytes.")
    created_at: datetime = strawberry.field(description="When it was announced.")
    uploaded_at: datetime | None = strawberry.field(description="When its bytes were there.")
    expires_at: datetime | None = strawberry.field(description="When it will be removed.")

    @strawberry.field(description="What its maker noted, a JSON object.", metadata=reads("meta"))
    def metadata(self) -> JSON | None:
        row: Any = self
        noted: Any = row.meta
        return noted

    @strawberry.field(
        description="Path on this server that gives its bytes without a credential, for 5 minutes "
        "to an hour: ask again for one that lasts."
    )
    def download_path(self, info: Info) -> str:
        row: Any = self
        return f"/artifacts/{row.id}?token={sign_artifact(info.context, row)}"


async def artifacts_of(runs: list[Any], info: Info) -> list[Any]:
    """The files of sibling runs, in one statement."""
    found = await artifacts_of_runs(info.context, [run.id for run in runs])
    return [found[run.id] for run in runs]


async def load_artifacts(run_id: str, info: Info) -> list[Any]:
    """The files of one run, batched with its siblings'."""

    async def load(run_ids: Any) -> list[Any]:
        found = await artifacts_of_runs(info.context, run_ids)
        return [found[run_id] for run_id in run_ids]

    files: list[Any] = await loader(info.context, "artifacts_of", load).load(run_id)
    return files


ARTIFACTS = reads("id", list_size=10, **{BATCH: artifacts_of})
"""Metadata of a field with the files of a run."""
