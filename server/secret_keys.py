"""The keys that encrypt stored secrets: given by the operator, or made on first start."""

import base64
import os
import stat
import tempfile
from pathlib import Path

from server.setting_values import check_secret_key
from server.settings import Settings, SettingsError

SECRET_KEYS_FILE = "secret.keys"  # noqa: S105  (the name of a file)


def load_secret_keys(settings: Settings) -> tuple[str, ...]:
    """The keys, newest first: the first encrypts, all decrypt.

    Without ``DRAGOMAN_SECRET_KEYS`` they stand in the data folder, one a line; on first start one
    is made there. Two servers that start at the same moment end up with the same key.

    Raises:
        SettingsError: the file is unreadable, holds no key, or others may read it.
    """
    if settings.secret_keys:
        return tuple(key.get_secret_value() for key in settings.secret_keys)
    file = settings.data_dir / SECRET_KEYS_FILE
    try:
        if not file.exists():
            _make_file(file)
        mode = stat.S_IMODE(file.stat().st_mode)
        lines = file.read_bytes().decode("ascii", "replace").splitlines()
    except OSError as error:
        raise SettingsError([f"{file}: {error.strerror or error}"]) from error
    if mode & 0o077:
        raise SettingsError([f"{file}: others may read it; run chmod 600 on it"])
    keys = tuple(line.strip() for line in lines if line.strip())
    try:
        for key in keys:
            check_secret_key(key)
    except ValueError as error:
        raise SettingsError([f"{file}: {error}"]) from None
    if not keys:
        raise SettingsError([f"{file}: holds no key"])
    return keys


def _make_file(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Written whole under another name, then linked: a reader never sees half a key, and of two
    # first starts the later one finds the name taken and reads the key of the earlier.
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.")
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(base64.urlsafe_b64encode(os.urandom(32)) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(draft, file)
        except FileExistsError:
            return
    finally:
        draft.unlink()
