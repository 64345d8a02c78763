"""Files of runs by signed address: ``/artifacts/<id>?token=…``."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from resolvers.artifacts import DOWNLOAD_HEADERS, media_type_of, open_artifact
from resolvers.context import Context
from resolvers.errors import ForbiddenError, NotFoundError, OperationError
from server.services import Server


def download_routes() -> list[BaseRoute]:
    """The route; what opens it is the token."""
    return [Route("/artifacts/{artifact_id}", _download)]


async def _download(request: Request) -> Response:
    server: Server = request.app.state.server
    ctx = Context(server.services, None)
    try:
        artifact, chunks = await open_artifact(
            ctx,
            artifact_id=request.path_params["artifact_id"],
            token=request.query_params.get("token", ""),
        )
    except OperationError as error:
        status = {ForbiddenError: 403, NotFoundError: 404}.get(type(error), 503)
        return JSONResponse({"error": {"code": error.code, "message": error.message}}, status)
    finally:
        await ctx.release()
    return StreamingResponse(
        chunks,
        media_type=media_type_of(artifact.content_type),
        headers={**DOWNLOAD_HEADERS, "Content-Length": str(artifact.size)},
    )
