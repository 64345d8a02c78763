"""The part of ``dragoman doctor`` that looks at folders, files and the disk."""

import asyncio
import os
import shutil
from pathlib import Path

from runner.task_worktrees import size_of
from server.doctor_report import Report
from server.settings import Settings, variable_of

DISK_PROBLEM_BYTES = 256 << 20
DISK_WARNING_BYTES = 2 << 30
SIZED_ENTRIES = 200_000
"""Of folders with more entries the size is of so many of them."""


async def examine_places(report: Report, settings: Settings) -> None:
    """The data folder with what is in it, the roots of repositories, the room left."""
    data = settings.data_dir.absolute()
    await asyncio.to_thread(_look_at_data_folder, report, data)
    await asyncio.to_thread(_look_at_keys, report, settings)
    for name, path in (
        ("database file", database_file(settings)),
        ("runs", data / "runs"),
        ("worktrees", settings.worktrees.absolute()),
        ("repositories", data / "repositories"),
        ("artifacts", None if settings.artifacts_url else data / "artifacts"),
    ):
        if path is not None:
            await asyncio.to_thread(_look_at, report, name, path)
    for root in settings.repository_roots:
        if await asyncio.to_thread(root.is_dir):
            report.fact("repository root", root)
        else:
            report.wrong("repository root", f"{root} is not a folder")
    await asyncio.to_thread(_look_at_disk, report, data)


def _look_at_data_folder(report: Report, path: Path) -> None:
    if not path.exists():
        parent = _nearest(path)
        if os.access(parent, os.W_OK | os.X_OK):
            report.fact("data folder", f"{path} (not there yet; the first start makes it)")
        else:
            report.wrong("data folder", f"{path} cannot be made: {parent} is not writable")
        return
    mode = path.stat().st_mode & 0o777
    if not path.is_dir():
        report.wrong("data folder", f"{path} is not a folder")
    elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        report.wrong("data folder", f"{path} is not writable for this user (mode {mode:o})")
    elif mode & 0o077:
        report.warn("data folder", f"{path} is open to others (mode {mode:o}); chmod 700 closes it")
    else:
        report.fact("data folder", path)


def _look_at_keys(report: Report, settings: Settings) -> None:
    from server.secret_keys import SECRET_KEYS_FILE, load_secret_keys
    from server.settings import SettingsError

    name = "secret keys"
    if settings.secret_keys:
        report.fact(name, f"{len(settings.secret_keys)} in {variable_of('secret_keys')}")
        return
    file = settings.data_dir.absolute() / SECRET_KEYS_FILE
    if not file.exists():  # to load them now would make them
        if settings.uses_sqlite:
            report.fact(name, f"{file} (not there yet; the first start makes it)")
        else:
            report.warn(
                name,
                f"{variable_of('secret_keys')} is not set; servers that share a database need "
                "the same keys",
            )
        return
    try:
        report.fact(name, f"{len(load_secret_keys(settings))} in {file}")
    except SettingsError as error:
        report.wrong(name, error)


def _look_at(report: Report, name: str, path: Path) -> None:
    if not path.exists():
        report.fact(name, f"{path} (not there yet)")
    elif not os.access(path, os.R_OK | os.W_OK):
        report.wrong(name, f"{path} is not writable for this user")
    else:
        size = size_of(path, entries=SIZED_ENTRIES) if path.is_dir() else path.stat().st_size
        report.fact(name, f"{path} ({size / (1 << 20):.1f} MiB)")


def _look_at_disk(report: Report, path: Path) -> None:
    free = shutil.disk_usage(_nearest(path)).free
    text = f"{free / (1 << 30):.1f} GiB"
    if free < DISK_PROBLEM_BYTES:
        report.wrong("free disk", f"{text}: too little for a database and for runs")
    elif free < DISK_WARNING_BYTES:
        report.warn("free disk", text)
    else:
        report.fact("free disk", text)


def _nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(p for p in (path, *path.parents) if p.exists())


def database_file(settings: Settings) -> Path | None:
    """The SQLite file of the settings; None where the database is another one."""
    from sqlalchemy.engine import make_url

    url = make_url(settings.database_dsn)
    return Path(url.database).absolute() if settings.uses_sqlite and url.database else None
