"""The blob store behind artifacts: a folder, or what obstore reaches by URL (S3 and its like)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from resolvers.errors import UnavailableError

CHUNK = 256 * 1024


class ObjectStore:
    """Blobs in a folder of this machine, or under a URL such as ``s3://bucket/prefix``.

    Credentials, region and endpoint of S3 come from the usual ``AWS_…`` variables. The store is
    opened at the first use.
    """

    def __init__(self, place: Path | str) -> None:
        self._place = place
        self._opened: Any = None

    def _store(self) -> Any:
        if self._opened is None:
            from obstore.store import LocalStore, from_url

            if isinstance(self._place, Path):
                self._opened = LocalStore(self._place, mkdir=True)
            else:
                self._opened = from_url(self._place)
        return self._opened

    async def put(self, path: str, data: bytes) -> None:
        """See ``resolvers.ports.Blobs``."""
        import obstore

        try:
            store = await asyncio.to_thread(self._store)
            await obstore.put_async(store, path, data)
        except Exception as error:
            raise _unavailable(error) from error

    async def size(self, path: str) -> int | None:
        """See ``resolvers.ports.Blobs``."""
        import obstore

        try:
            store = await asyncio.to_thread(self._store)
            return int((await obstore.head_async(store, path))["size"])
        except FileNotFoundError:
            return None
        except Exception as error:
            raise _unavailable(error) from error

    async def open(self, path: str) -> AsyncIterator[bytes] | None:
        """See ``resolvers.ports.Blobs``."""
        import obstore

        try:
            store = await asyncio.to_thread(self._store)
            found = await obstore.get_async(store, path)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise _unavailable(error) from error
        return _chunks(found)

    async def delete(self, path: str) -> None:
        """See ``resolvers.ports.Blobs``."""
        import obstore

        try:
            store = await asyncio.to_thread(self._store)
            await obstore.delete_async(store, path)
        except FileNotFoundError:
            return
        except Exception as error:
            raise _unavailable(error) from error


async def _chunks(found: Any) -> AsyncIterator[bytes]:
    async for chunk in found.stream(min_chunk_size=CHUNK):
        yield bytes(chunk)


def _unavailable(error: Exception) -> UnavailableError:
    """What clients are told; the cause is in the log."""
    return UnavailableError(f"The artifact store does not answer ({type(error).__name__})")
