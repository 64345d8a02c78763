"""Bodies and answers of the routes of files, and the rules that depend on several fields."""

from typing import Annotated, Any

from pydantic import BaseModel

from resolvers.artifacts import NewArtifact
from rest_compat.posthog import words
from rest_compat.posthog.fields import choice, integer, items, json_object, text
from rest_compat.posthog.run_shapes import field_refused
from rest_compat.posthog.shapes import ArtifactShape, Shape

FILE_MAX = 30 * 1024 * 1024
PDF_MAX = 10 * 1024 * 1024
AT_ONCE = 50
BUNDLE_FORMAT = "zip"
DIGEST_LENGTH = 64


class Announced(BaseModel):
    """A file that will be uploaded."""

    name: Annotated[str, text(max_length=255, blank=False)]
    type: Annotated[str, choice(*words.ARTIFACT_TYPES)]
    source: Annotated[str, text(max_length=64)] = ""
    size: Annotated[int, integer(minimum=1, maximum=FILE_MAX)]
    content_type: Annotated[str, text(max_length=255)] = ""
    metadata: Annotated[dict[str, Any] | None, json_object(null=True)] = None


class Uploaded(BaseModel):
    """A file that was uploaded."""

    id: Annotated[str, text(max_length=128, blank=False)]
    name: Annotated[str, text(max_length=255, blank=False)]
    type: Annotated[str, choice(*words.ARTIFACT_TYPES)]
    source: Annotated[str, text(max_length=64)] = ""
    storage_path: Annotated[str, text(max_length=700, blank=False)]
    content_type: Annotated[str, text(max_length=255)] = ""
    metadata: Annotated[dict[str, Any] | None, json_object(null=True)] = None


class Inline(BaseModel):
    """A file with its content."""

    name: Annotated[str, text(max_length=255, blank=False)]
    type: Annotated[str, choice(*words.ARTIFACT_TYPES)]
    source: Annotated[str, text(max_length=64)] = ""
    content: str
    content_encoding: Annotated[str, choice("utf-8", "base64")] = "utf-8"
    content_type: Annotated[str, text(max_length=255)] = ""
    metadata: Annotated[dict[str, Any] | None, json_object(null=True)] = None


class AnnounceBody(BaseModel):
    """Files that will be uploaded."""

    artifacts: Annotated[list[Announced], items(empty_code="invalid_input", maximum=AT_ONCE)]


class FinalizeBody(BaseModel):
    """Files that were uploaded."""

    artifacts: Annotated[list[Uploaded], items(empty_code="invalid_input", maximum=AT_ONCE)]


class InlineBody(BaseModel):
    """Files with their contents."""

    artifacts: Annotated[list[Inline], items(empty_code="invalid_input", maximum=AT_ONCE)]


class PathBody(BaseModel):
    """Which file."""

    storage_path: Annotated[str, text(max_length=700, blank=False)]


class LinkQuery(BaseModel):
    """What opens a file's signed address."""

    path: Annotated[str, text(max_length=700)] = ""
    token: Annotated[str, text(max_length=200)] = ""


class FormShape(Shape):
    """Where and with which fields a file is uploaded; the part ``file`` comes last."""

    url: str
    fields: dict[str, str]


class AnnouncedShape(Shape):
    """A file with its upload form."""

    id: str
    name: str
    type: str
    source: str
    size: int
    content_type: str
    metadata: dict[str, Any] | None = None
    storage_path: str
    expires_in: int
    presigned_post: FormShape


class FormsShape(Shape):
    """Upload forms."""

    artifacts: list[AnnouncedShape]


class ManifestShape(Shape):
    """Files."""

    artifacts: list[ArtifactShape]


class LinkShape(Shape):
    """An address that works without a credential, for so many seconds."""

    url: str
    expires_in: int


def check_file(index: int, file: Announced | Inline, size: int) -> None:
    """The rules that depend on several fields.

    Raises:
        BadShape
    """
    is_pdf = file.name.lower().endswith(".pdf") or file.content_type == "application/pdf"
    where = ("artifacts", index, "size")
    if not 1 <= size <= FILE_MAX:
        message = f"Ensure this value is less than or equal to {FILE_MAX}."
        raise field_refused(where, "max_value" if size else "min_value", message)
    if file.type == "user_attachment" and is_pdf and size > PDF_MAX:
        message = f"{file.name} exceeds the 10MB attachment limit for PDFs in cloud runs"
        raise field_refused(where, "invalid_input", message)
    if file.type == "skill_bundle":
        _check_bundle(index, file.metadata or {})


def _check_bundle(index: int, metadata: dict[str, Any]) -> None:
    digest = metadata.get("content_sha256")
    whole = (
        isinstance(metadata.get("skill_name"), str)
        and 0 < len(metadata["skill_name"]) <= 255  # noqa: PLR2004  # as the contract says
        and metadata.get("skill_source") in {"user", "repo", "marketplace", "codex"}
        and isinstance(digest, str)
        and len(digest) == DIGEST_LENGTH
        and all(c in "0123456789abcdefABCDEF" for c in digest)
        and metadata.get("bundle_format") == BUNDLE_FORMAT
        and isinstance(metadata.get("schema_version"), int)
        and metadata["schema_version"] >= 1
    )
    if not whole:
        message = "This artifact type requires valid bundle metadata."
        raise field_refused(("artifacts", index, "metadata"), "invalid_input", message)


def new_artifact(file: Announced | Uploaded | Inline, size: int) -> NewArtifact:
    """What the operations are told of a file."""
    return NewArtifact(
        name=file.name,
        type=file.type,
        size=size,
        source=file.source,
        content_type=file.content_type,
        metadata=file.metadata,
        id=getattr(file, "id", None),
        storage_path=getattr(file, "storage_path", None),
    )
