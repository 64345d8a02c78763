"""Addresses that work without a credential, for a while: what they open is signed, not stored."""

from datetime import UTC, datetime, timedelta

from resolvers.context import Context
from resolvers.errors import ForbiddenError

LIFETIME = timedelta(hours=1)
STEADY = timedelta(minutes=55)
"""How long the same address is given out, so that clients can keep answers that hold it."""


def sign_link(ctx: Context, subject: str, *, lifetime: timedelta = LIFETIME) -> str:
    """A token that opens a subject for ``lifetime`` from now; ``<expiry>.<signature>``."""
    return _token(ctx, subject, ctx.now + lifetime)


def sign_steady_link(ctx: Context, subject: str) -> str:
    """A token that opens a subject for at most an hour; the same one for 55 minutes.

    Whoever asks late in these 55 minutes gets one that is valid for 5 more.
    """
    now = ctx.now
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    begin = now - (now - epoch) % STEADY
    return _token(ctx, subject, begin + LIFETIME)


def check_link(ctx: Context, subject: str, token: str) -> None:
    """Refuse what is not a valid token of a subject.

    Raises:
        ForbiddenError: it is malformed, forged, of another subject, or has expired.
    """
    expiry, dot, signature = token.partition(".")
    known = dot and expiry.isdecimal() and expiry.isascii()
    if not known or not ctx.services.secrets.is_signed(_text(subject, expiry), signature):
        raise ForbiddenError("The link is not valid")
    if ctx.now.timestamp() >= int(expiry):
        raise ForbiddenError("The link has expired")


def _token(ctx: Context, subject: str, expires_at: datetime) -> str:
    expiry = str(int(expires_at.timestamp()))
    return f"{expiry}.{ctx.services.secrets.sign(_text(subject, expiry))}"


def _text(subject: str, expiry: str) -> str:
    return f"{subject}\n{expiry}"
