"""Uploads by signed form: the form's fields are looked at before a byte of the file is kept."""

import asyncio
import base64
from dataclasses import dataclass
from typing import Any

import orjson
from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from models import Artifact
from resolvers.artifacts import FORM_LIFETIME
from resolvers.errors import ForbiddenError
from resolvers.signed_links import check_link, sign_link
from rest_compat.posthog.artifact_shapes import FILE_MAX
from rest_compat.posthog.errors import ActionRefused
from rest_compat.refusals import Kind, Refusal
from rest_compat.routing import Call

FORM_SLACK = 64 * 1024
FIELDS_MAX = 20
PAUSE_SECONDS = 30.0
WHOLE_SECONDS = 900.0
TOO_LARGE = {"error": "The file is larger than announced"}


@dataclass(frozen=True, slots=True)
class Permit:
    """What a form allows: one file at a path, of at most so many bytes."""

    path: str
    max_bytes: int


def form_fields(call: Call, row: Artifact) -> dict[str, str]:
    """The fields of the form that uploads an announced file."""
    wanted = orjson.dumps({"key": row.storage_path, "max_bytes": row.size + FORM_SLACK})
    policy = base64.urlsafe_b64encode(wanted).decode()
    signature = sign_link(call.ctx, f"upload {policy}", lifetime=FORM_LIFETIME)
    return {"key": row.storage_path, "policy": policy, "signature": signature}


async def read_upload(call: Call) -> tuple[Permit, bytes]:
    """The file of a form with what permits it.

    Raises:
        ForbiddenError: the form is not ours, too old, or its fields come after the file.
        ActionRefused: it cannot be read, has no file, or a larger one than announced.
        Refusal: TOO_SLOW.
    """
    stream = Call(call.scope, _bounded(call.receive), house=call.house, ctx=call.ctx).stream()
    parser = _SignedForm(call, stream)
    if not call.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ActionRefused({"error": "The form cannot be read"})
    try:
        async with asyncio.timeout(WHOLE_SECONDS):
            form = await parser.parse()
    except (MultiPartException, MultipartParseError, UnicodeError, ClientDisconnect):
        raise ActionRefused({"error": "The form cannot be read"}) from None
    except TimeoutError:
        raise Refusal(Kind.TOO_SLOW, "The form did not arrive in time") from None
    try:
        file = form.get("file")
        if parser.permit is None or not isinstance(file, UploadFile):
            raise ActionRefused({"error": "The form has no part named file"})
        return parser.permit, await file.read()
    finally:
        await form.close()


class _SignedForm(MultiPartParser):
    """Refuses a file at its beginning unless the fields before it permit it."""

    def __init__(self, call: Call, stream: Any) -> None:
        super().__init__(call.headers, stream, max_files=1, max_fields=FIELDS_MAX)
        self._call = call
        self._size = 0
        self.permit: Permit | None = None

    def on_headers_finished(self) -> None:
        """Called by the parser before a part's bytes."""
        super().on_headers_finished()
        if self._current_part.file is not None:
            self.permit = _permit(self._call, FormData(self.items))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Called by the parser for each piece of a part."""
        if self._current_part.file is not None and self.permit is not None:
            self._size += end - start
            if self._size > self.permit.max_bytes:
                raise ActionRefused(TOO_LARGE)
        super().on_part_data(data, start, end)


def _permit(call: Call, fields: FormData) -> Permit:
    """What the fields were signed for.

    Raises:
        ForbiddenError: they were not, or too long ago.
    """
    policy, signature = str(fields.get("policy", "")), str(fields.get("signature", ""))
    check_link(call.ctx, f"upload {policy}", signature)
    wanted = orjson.loads(base64.urlsafe_b64decode(policy))
    if fields.get("key") != wanted["key"]:
        raise ForbiddenError("The form was made for another key")
    return Permit(str(wanted["key"]), int(wanted["max_bytes"]))


def _bounded(receive: Receive) -> Receive:
    """Receive at most a form with the largest file, without long pauses.

    Raises:
        ActionRefused, Refusal: TOO_SLOW.
    """
    left = FILE_MAX + 2 * FORM_SLACK

    async def bounded() -> Message:
        nonlocal left
        try:
            async with asyncio.timeout(PAUSE_SECONDS):
                message = await receive()
        except TimeoutError:
            raise Refusal(Kind.TOO_SLOW, "The form did not arrive in time") from None
        left -= len(message.get("body", b""))
        if left < 0:
            raise ActionRefused(TOO_LARGE)
        return message

    return bounded
