"""Links that open something for a while without a credential."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from resolvers.context import Context
from resolvers.errors import ForbiddenError
from resolvers.signed_links import check_link, sign_link, sign_steady_link
from server.security import FernetBox

START = datetime(2030, 1, 1, 12, 7, tzinfo=UTC)


def at(ctx: Context, moment: datetime) -> Context:
    return Context(replace(ctx.services, clock=lambda: moment), ctx.principal)


def test_a_link_opens_its_subject_until_it_ends(system: Context) -> None:
    token = sign_link(at(system, START), "log:1")
    check_link(at(system, START + timedelta(minutes=59)), "log:1", token)
    for ctx, subject, given in (
        (at(system, START + timedelta(hours=1)), "log:1", token),
        (at(system, START), "log:2", token),
        (at(system, START), "log:1", "9" + token),
        (at(system, START), "log:1", token[:-1]),
        (at(system, START), "log:1", token + "\udcff"),
        (at(system, START), "log:1", ""),
        (at(system, START), "log:1", "٣." + token),
    ):
        with pytest.raises(ForbiddenError):
            check_link(ctx, subject, given)


def test_a_steady_link_is_the_same_for_a_while_and_always_valid(system: Context) -> None:
    tokens = set()
    for minutes in range(0, 220, 5):
        now = START + timedelta(minutes=minutes)
        token = sign_steady_link(at(system, now), "log:1")
        check_link(at(system, now + timedelta(minutes=4)), "log:1", token)
        with pytest.raises(ForbiddenError):
            check_link(at(system, now + timedelta(hours=1, seconds=1)), "log:1", token)
        tokens.add(token)
    assert 4 <= len(tokens) <= 5


def test_signatures_outlive_a_rotation_of_keys() -> None:
    from cryptography.fernet import Fernet

    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    signature = FernetBox([old]).sign("x")
    assert FernetBox([new, old]).is_signed("x", signature)
    assert not FernetBox([new]).is_signed("x", signature)
