"""PostHog Tasks put together."""

from models.enums import Dialect
from rest_compat.catalog import CATALOG
from rest_compat.house import House
from rest_compat.language import Language
from rest_compat.posthog import artifacts, devices, people, run_logs, runs, tasks
from rest_compat.posthog.auth import authenticate
from rest_compat.posthog.errors import render


def make_language(house: House) -> Language:
    """PostHog Tasks as this server speaks it."""
    entry = next(entry for entry in CATALOG if entry.dialect == Dialect.POSTHOG)
    return Language(
        entry,
        house,
        version="1",
        routers=[
            tasks.router,
            runs.router,
            run_logs.router,
            artifacts.router,
            people.router,
            devices.router,
        ],
        render=render,
        authenticate=authenticate,
        authenticates_first=True,
    )
