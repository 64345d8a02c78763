"""Files of PostHog's tasks and runs: forms, uploads, downloads, and the runs that take them."""

import asyncio
import base64
import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from models import Artifact, table_of, utcnow
from resolvers.artifacts import base_name, sweep_artifacts
from tests.rest.test_posthog import TASKS, new_run, new_task, posthog
from tests.support.inside import Inside
from tests.support.rest import RestClient

__all__ = ["posthog"]  # a fixture
FILE = {"name": "notes.md", "type": "user_attachment", "size": 5, "content_type": "text/markdown"}


async def upload(posthog: RestClient, form: dict[str, Any], data: bytes) -> int:
    answer = await posthog.http.post(
        form["url"], data=form["fields"], files={"file": ("x", data, "text/plain")}
    )
    return answer.status_code


async def staged(posthog: RestClient, task: str, data: bytes = b"hello") -> dict[str, Any]:
    path = f"{TASKS}/{task}/staged_artifacts"
    file = {**FILE, "size": len(data)}
    [form] = (await posthog.data("POST", f"{path}/prepare_upload/", {"artifacts": [file]}))[
        "artifacts"
    ]
    assert await upload(posthog, form["presigned_post"], data) == 204
    given = {k: form[k] for k in ("id", "name", "type", "storage_path", "content_type")}
    [kept] = (await posthog.data("POST", f"{path}/finalize_upload/", {"artifacts": [given]}))[
        "artifacts"
    ]
    assert kept["size"] == len(data)
    made: dict[str, Any] = kept
    return made


async def test_the_next_run_takes_what_was_staged(posthog: RestClient) -> None:
    task = (await new_task(posthog, title="T"))["id"]
    kept = await staged(posthog, task)
    assert kept["storage_path"] == (
        f"tasks/artifacts/team_1/task_{task}/staged/{kept['id']}/notes.md"
    )
    body = {"pending_user_artifact_ids": [kept["id"]]}
    started = await posthog.data("POST", f"{TASKS}/{task}/run/", body)
    assert started["latest_run"]["artifacts"] == [kept]
    assert started["latest_run"]["state"]["pending_user_artifact_ids"] == [kept["id"]]
    answer = await posthog.send("POST", f"{TASKS}/{task}/run/", body)
    assert answer.json() == {
        "detail": "Some pending_user_artifact_ids are invalid or expired",
        "missing_artifact_ids": [kept["id"]],
    }
    assert (await posthog.data("GET", f"{TASKS}/{task}/runs/"))["count"] == 1, "no run was made"
    path = f"{TASKS}/{task}/runs/{started['latest_run']['id']}/artifacts"
    found = await posthog.send("POST", f"{path}/download/", {"storage_path": kept["storage_path"]})
    assert found.content == b"hello"
    assert found.headers["content-disposition"] == "attachment"
    link = await posthog.data("POST", f"{path}/presign/", {"storage_path": kept["storage_path"]})
    assert (await posthog.http.get(link["url"])).content == b"hello"
    assert (await posthog.http.get(link["url"] + "x")).status_code == 403
    answer = await posthog.send("POST", f"{path}/download", {"storage_path": "elsewhere"})
    assert answer.status_code == 404
    assert answer.json() == {"error": "Artifact not found on this run"}


async def test_files_that_come_with_the_request(posthog: RestClient) -> None:
    path, _ = await new_run(posthog)
    first = {"name": "a/b.txt", "type": "output", "content": "é"}
    second = {
        "name": "p", "type": "plan", "content": base64.b64encode(b"\xff").decode(),
        "content_encoding": "base64", "metadata": {"k": 1},
    }  # fmt: skip
    await posthog.data("POST", f"{path}/artifacts/", {"artifacts": [first]})
    manifest = await posthog.data("POST", f"{path}/artifacts/", {"artifacts": [second]})
    [kept, newest] = manifest["artifacts"]
    assert (kept["name"], kept["size"], newest["size"]) == ("b.txt", 2, 1)
    assert newest["metadata"] == {"k": 1}
    run_id = path.rpartition("/")[2]
    assert kept["storage_path"].endswith(f"/run_{run_id}/{kept['id'][:8]}_b.txt")
    assert (await posthog.data("GET", path))["artifacts"] == manifest["artifacts"]
    bad = {**second, "content": "***"}
    answer = await posthog.send("POST", f"{path}/artifacts", {"artifacts": [first, bad]})
    assert answer.json()["attr"] == "artifacts__1__content"
    form = (await posthog.data("POST", f"{path}/artifacts/prepare_upload/", {"artifacts": [FILE]}))[
        "artifacts"
    ][0]
    given = {k: form[k] for k in ("id", "name", "type", "storage_path")}
    answer = await posthog.send(
        "POST", f"{path}/artifacts/finalize_upload/", {"artifacts": [given]}
    )
    assert answer.json() == {"error": "Artifact upload not found in object storage"}
    answer = await posthog.send(
        "POST",
        f"{path}/artifacts/finalize_upload/",
        {"artifacts": [{**given, "storage_path": kept["storage_path"]}]},
    )
    assert answer.json() == {"error": "Artifact storage path is invalid for this run"}


async def test_a_form_takes_what_it_was_made_for(posthog: RestClient) -> None:
    task = (await new_task(posthog, title="T"))["id"]
    path = f"{TASKS}/{task}/staged_artifacts/prepare_upload"
    form = (await posthog.data("POST", path, {"artifacts": [FILE]}))["artifacts"][0]
    post = form["presigned_post"]
    assert await upload(posthog, post, b"x" * (5 + 64 * 1024)) == 204
    assert await upload(posthog, post, b"x" * (6 + 64 * 1024)) == 400
    for name in ("key", "policy", "signature"):
        forged = {**post, "fields": {**post["fields"], name: post["fields"][name] + "x"}}
        assert await upload(posthog, forged, b"x") == 403
    assert await upload(posthog, post, b"x" * 40_000_000) == 400


@pytest.mark.parametrize(
    ("file", "attr", "code"),
    [
        ({**FILE, "size": 0}, "artifacts__0__size", "min_value"),
        ({**FILE, "size": 31457281}, "artifacts__0__size", "max_value"),
        ({**FILE, "name": "x.PDF", "size": 10485761}, "artifacts__0__size", "invalid_input"),
        ({**FILE, "type": "secret"}, "artifacts__0__type", "invalid_choice"),
        ({**FILE, "type": "skill_bundle"}, "artifacts__0__metadata", "invalid_input"),
        ({"type": "plan", "size": 1}, "artifacts__0__name", "required"),
        (None, "artifacts", "invalid_input"),
    ],
)
async def test_what_may_be_announced(
    posthog: RestClient, file: dict[str, Any] | None, attr: str, code: str
) -> None:
    task = (await new_task(posthog, title="T"))["id"]
    path = f"{TASKS}/{task}/staged_artifacts/prepare_upload/"
    answer = await posthog.send("POST", path, {"artifacts": [] if file is None else [file]})
    assert answer.status_code == 400
    assert (answer.json()["attr"], answer.json()["code"]) == (attr, code)
    bundle = {
        "skill_name": "s", "skill_source": "repo", "bundle_format": "zip", "schema_version": 1,
        "content_sha256": hashlib.sha256(b"").hexdigest(),
    }  # fmt: skip
    whole = {**FILE, "type": "skill_bundle", "metadata": bundle}
    made = await posthog.data("POST", path, {"artifacts": [whole]})
    assert made["artifacts"][0]["metadata"] == bundle


async def test_what_is_over_is_removed(posthog: RestClient, inside: Inside, tmp_path: Path) -> None:
    task = (await new_task(posthog, title="T"))["id"]
    kept = await staged(posthog, task)
    file = tmp_path / "data" / "artifacts" / kept["storage_path"]
    assert file.read_bytes() == b"hello"
    system = inside.system()
    assert await sweep_artifacts(system) == 0
    async with inside.services.database.write() as transaction:
        past = utcnow() - timedelta(seconds=1)
        await transaction.execute(sa.update(table_of(Artifact)).values(expires_at=past))
    assert await sweep_artifacts(system) == 1
    assert not file.exists()
    body = {"pending_user_artifact_ids": [kept["id"]]}
    answer = await posthog.send("POST", f"{TASKS}/{task}/run/", body)
    assert answer.json()["missing_artifact_ids"] == [kept["id"]]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"), ("..", "artifact"), ("a\\b", "b"), ("\n\x00", "artifact"),
        ("é" * 150, "é" * 100), (" x ", "x"), ("a/", "artifact"),
    ],
)  # fmt: skip
def test_names_are_confined(name: str, kept: str) -> None:
    assert base_name(name) == kept


async def test_graphql_sees_the_files(posthog: RestClient, inside: Inside) -> None:
    path, run = await new_run(posthog)
    page = {"name": "x.html", "type": "output", "content": "<script>", "content_type": "text/ж"}
    await posthog.data("POST", f"{path}/artifacts/", {"artifacts": [page]})
    query = "query ($id: ID!) { run(id: $id) { artifacts { name size downloadPath } } }"
    answer = await inside.post(query, {"id": run["id"]}, token=inside.token)
    [file] = answer.data["run"]["artifacts"]
    assert (file["name"], file["size"]) == ("x.html", 8)
    found = await posthog.http.get(file["downloadPath"])
    assert found.content == b"<script>"
    assert found.headers["content-disposition"] == "attachment"
    assert "sandbox" in found.headers["content-security-policy"]
    assert (await posthog.http.get(file["downloadPath"] + "x")).status_code == 403


@pytest.mark.parametrize("content_type", ["text/ж", "a b; c=\u2028", "text/html", "x\x85y"])
async def test_a_file_is_never_a_page_of_this_server(
    posthog: RestClient, content_type: str
) -> None:
    path, _ = await new_run(posthog)
    page = {
        "name": "p.html", "type": "output", "content": "<script>1</script>",
        "content_type": content_type,
    }  # fmt: skip
    answer = await posthog.send("POST", f"{path}/artifacts/", {"artifacts": [page]})
    assert answer.status_code in {200, 400}
    if answer.status_code == 400:
        return
    kept = answer.json()["artifacts"][0]
    where = {"storage_path": kept["storage_path"]}
    link = await posthog.data("POST", f"{path}/artifacts/presign/", where)
    for found in (
        await posthog.send("POST", f"{path}/artifacts/download/", where),
        await posthog.http.get(link["url"]),
    ):
        assert found.content == b"<script>1</script>"
        assert found.headers["content-disposition"] == "attachment"
        assert found.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in found.headers["content-security-policy"]
        assert found.headers["cache-control"] == "private, no-store"


def parts(*fields: tuple[bytes, bytes]) -> bytes:
    heads = [b'--B\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % f for f in fields]
    return b"".join(heads)


FILE_PART = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'


@pytest.mark.parametrize("charset", ["unicode_escape", "utf-7", "idna", "punycode", "nonsense"])
async def test_fields_in_odd_character_sets(posthog: RestClient, charset: str) -> None:
    body = parts((b"key", b"x"), (b"policy", b"\\ud800+2AA-"), (b"signature", b"9.\\udfff"))
    answer = await posthog.http.post(
        f"{posthog.at}/api/projects/1/task_uploads",
        content=body + FILE_PART + b"x\r\n--B--\r\n",
        headers={"content-type": f"multipart/form-data; boundary=B; charset={charset}"},
    )
    assert answer.status_code in {400, 403}, answer.text


async def test_a_form_changes_nothing_that_is_kept(posthog: RestClient, tmp_path: Path) -> None:
    task = (await new_task(posthog, title="T"))["id"]
    path = f"{TASKS}/{task}/staged_artifacts"
    [form] = (await posthog.data("POST", f"{path}/prepare_upload/", {"artifacts": [FILE]}))[
        "artifacts"
    ]
    for data in (b"first", b"again"):
        assert await upload(posthog, form["presigned_post"], data) == 204
    given = {k: form[k] for k in ("id", "name", "type", "storage_path", "content_type")}
    await posthog.data("POST", f"{path}/finalize_upload/", {"artifacts": [given]})
    assert await upload(posthog, form["presigned_post"], b"other") == 400
    kept = tmp_path / "data" / "artifacts" / form["storage_path"]
    assert kept.read_bytes() == b"again"


async def slow_upload(
    inside: Inside, *chunks: bytes, leaves: bool = False
) -> tuple[list[Any], list[bytes]]:
    """Send the beginning of a form and wait, or leave; the answer, and what was not taken."""
    waiting, sent = [*chunks], []

    async def receive() -> dict[str, Any]:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(0), "more_body": True}
        if leaves:
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    path = "/compat/posthog/api/projects/1/task_uploads"
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "client": ("127.0.0.1", 1), "server": ("testserver", 80), "state": {},
        "headers": [(b"host", b"x"), (b"content-type", b"multipart/form-data; boundary=B")],
    }  # fmt: skip
    async with asyncio.timeout(10):
        await inside.app(scope, receive, send)
    return sent, waiting


async def test_an_upload_that_stands_still_is_ended(
    posthog: RestClient, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rest_compat.posthog.uploads.PAUSE_SECONDS", 0.05)
    sent, _ = await slow_upload(inside, parts((b"key", b"x")))
    assert sent[0]["status"] == 408
    await slow_upload(inside, parts((b"key", b"x")), leaves=True)


async def test_bytes_come_after_their_permission(posthog: RestClient, inside: Inside) -> None:
    """Nothing of a file is kept, even for a moment, before the form is known to be ours."""
    rest = [b"x" * 65_536] * 100
    forged = parts((b"key", b"x"), (b"policy", b"x"), (b"signature", b"9.x"))
    for begin, status in ((forged, 403), (b"", 403)):
        sent, left = await slow_upload(inside, begin + FILE_PART, *rest)
        assert sent[0]["status"] == status
        assert len(left) >= 98
