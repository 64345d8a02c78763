"""Viban put together."""

from models.enums import Dialect
from rest_compat.catalog import CATALOG
from rest_compat.house import House
from rest_compat.language import Language
from rest_compat.viban.auth import authenticate
from rest_compat.viban.errors import render
from rest_compat.viban.routes import router
from rest_compat.viban.webhook_routes import router as webhook_router


def make_language(house: House) -> Language:
    """Viban as this server speaks it."""
    entry = next(entry for entry in CATALOG if entry.dialect == Dialect.VIBAN)
    return Language(
        entry,
        house,
        version="1",
        routers=[router, webhook_router],
        render=render,
        authenticate=authenticate,
        authenticates_first=True,
        exposed_headers=("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
        aliases={"/v1": "/api/v1"},
    )
