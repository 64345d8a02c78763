"""Password hashing, encryption of stored secrets, signatures: what is behind those ports."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Sequence

from resolvers.errors import UnavailableError


class ArgonPasswords:
    """Argon2id in a thread, at most two at once: each takes 64 MiB.

    ``fast`` lowers the cost for tests.
    """

    def __init__(self, *, fast: bool = False) -> None:
        from argon2 import PasswordHasher

        self._hasher = (
            PasswordHasher(time_cost=1, memory_cost=8, parallelism=1) if fast else PasswordHasher()
        )
        self._turns = asyncio.Semaphore(2)
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """A salted hash to store."""
        async with self._turns:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether the password fits; takes as long when nothing is stored."""
        from argon2.exceptions import InvalidHashError, VerificationError

        if stored is None:
            if self._nobody is None:
                self._nobody = await self.hash("nobody has this password")
            await self._fits(self._nobody, password)
            return False
        try:
            return await self._fits(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _fits(self, stored: str, password: str) -> bool:
        from argon2.exceptions import VerifyMismatchError

        async with self._turns:
            try:
                return await asyncio.to_thread(self._hasher.verify, stored, password)
            except VerifyMismatchError:
                return False


class FernetBox:
    """MultiFernet: the first key encrypts, all of them decrypt, so keys can be rotated."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Take keys of 32 bytes in URL-safe base64; at least one."""
        from cryptography.fernet import Fernet, MultiFernet

        self._box = MultiFernet([Fernet(key) for key in keys])
        self._signing = [
            hmac.digest(base64.urlsafe_b64decode(key), b"dragoman signatures", hashlib.sha256)
            for key in keys
        ]

    @classmethod
    def generate(cls) -> "FernetBox":
        """A box with a fresh key, for tests and throw-away servers."""
        from cryptography.fernet import Fernet

        return cls([Fernet.generate_key().decode()])

    def encrypt(self, secret: str) -> bytes:
        """The secret under the newest key."""
        return self._box.encrypt(secret.encode())

    def decrypt(self, sealed: bytes) -> str:
        """The secret.

        Raises:
            UnavailableError: none of the keys fits.
        """
        from cryptography.fernet import InvalidToken

        try:
            return self._box.decrypt(sealed).decode()
        except InvalidToken:
            raise UnavailableError(
                "A stored secret cannot be decrypted: DRAGOMAN_SECRET_KEYS lacks its key",
                retry_after=None,
            ) from None

    def sign(self, text: str) -> str:
        """HMAC-SHA256 of a text under a key derived from the newest one, in URL-safe base64."""
        return _signature(self._signing[0], text)

    def is_signed(self, text: str, signature: str) -> bool:
        """Whether one of the keys made this signature of the text."""
        given = signature.encode("utf-8", "surrogatepass")
        return any(
            hmac.compare_digest(_signature(key, text).encode(), given) for key in self._signing
        )


def _signature(key: bytes, text: str) -> str:
    digest = hmac.digest(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
