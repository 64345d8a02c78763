import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet, MultiFernet

from server.secret_keys import load_secret_keys
from server.settings import SettingsError, load_settings


def test_the_first_start_makes_a_key_that_only_the_owner_reads(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "data")
    keys = load_secret_keys(settings)
    assert len(keys) == 1
    assert load_secret_keys(settings) == keys
    file = tmp_path / "data" / "secret.keys"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_keys_rotate_by_putting_a_new_one_first(tmp_path: Path) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    sealed = Fernet(old).encrypt(b"text")
    keys = load_secret_keys(load_settings(data_dir=tmp_path, secret_keys=f"{new},{old}"))
    assert keys == (new, old)
    assert MultiFernet([Fernet(key) for key in keys]).decrypt(sealed) == b"text"
    assert not (tmp_path / "secret.keys").exists()


def test_first_starts_at_the_same_moment_agree(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: load_secret_keys(settings), range(32)))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        (b"", 0o600, "holds no key"),
        (b"short\n", 0o600, "must be keys of 32 bytes"),
        (b"\xff\n", 0o600, "must be keys of 32 bytes"),
        (b"", 0o644, "others may read it; run chmod 600 on it"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(
    tmp_path: Path, content: bytes, mode: int, expected: str
) -> None:
    file = tmp_path / "secret.keys"
    file.write_bytes(content)
    file.chmod(mode)
    with pytest.raises(SettingsError) as caught:
        load_secret_keys(load_settings(data_dir=tmp_path))
    assert caught.value.problems[0].startswith(f"{file}: ")
    assert expected in caught.value.problems[0]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="Not a directory"):
        load_secret_keys(load_settings(data_dir=tmp_path / "file" / "data"))
