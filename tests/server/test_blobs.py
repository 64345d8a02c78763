"""The blob store: the same in a folder and in S3."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from resolvers.errors import UnavailableError
from server.blobs import ObjectStore
from tests.support.s3 import BUCKET, running_s3

PATH = "tasks/artifacts/team_1/task_x/staged/abc/é ü.txt"


@pytest.fixture(params=["folder", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectStore]:
    if request.param == "folder":
        yield ObjectStore(tmp_path / "artifacts")
        return
    with running_s3() as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        yield ObjectStore(f"s3://{BUCKET}/prefix")
        assert s3.refused == []
        assert all(key.startswith("prefix/") for key in s3.objects)


async def content(store: ObjectStore, path: str) -> bytes | None:
    chunks = await store.open(path)
    return None if chunks is None else b"".join([chunk async for chunk in chunks])


async def test_blobs_are_kept_replaced_and_removed(store: ObjectStore) -> None:
    assert await store.size(PATH) is None
    assert await content(store, PATH) is None
    await store.delete(PATH)
    await store.put(PATH, b"x" * 700_000)
    assert await store.size(PATH) == 700_000
    assert await content(store, PATH) == b"x" * 700_000
    await store.put(PATH, b"new")
    assert await content(store, PATH) == b"new"
    await store.delete(PATH)
    assert await store.size(PATH) is None


async def test_no_path_leads_out(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "artifacts")
    with pytest.raises(UnavailableError):
        await store.put("../outside", b"x")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


async def test_a_store_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_s3() as s3:
        environment = s3.environment
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    store = ObjectStore(f"s3://{BUCKET}/?max_retries=0")
    with pytest.raises(UnavailableError, match="does not answer"):
        await store.put("a", b"x")
