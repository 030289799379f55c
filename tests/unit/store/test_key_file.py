"""The key file on disk: private, replaced atomically, reread when it changes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tawara.model.errors import ConfigurationError
from tawara.store import key_file
from tawara.store.key_file import KeyFile, KeyFileMissing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys.key"
    key_file.write(path, [key_file.new_key()])
    return path


def test_a_written_file_is_private(path: Path) -> None:
    """The file has mode 0600 from the beginning, also when it replaces one, and nothing else is left."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = KeyFile(path).load()
    second = key_file.new_key()
    key_file.write(path, [second, *first])
    assert KeyFile(path).load() == (second, *first)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o601, 0o660])
def test_a_file_that_others_can_read_is_refused(path: Path, mode: int) -> None:
    """A file that other users can read, or the group can change, is refused with the command that helps."""
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="other users") as caught:
        KeyFile(path).load()
    assert caught.value.hint == f"chmod 600 {path}"
    path.chmod(0o640)
    KeyFile(path).load()


def test_other_faults(tmp_path: Path, path: Path) -> None:
    """A missing file, a directory, a malformed and a binary file are named with what is wrong."""
    with pytest.raises(KeyFileMissing, match="does not exist"):
        KeyFile(tmp_path / "none").load()
    path.write_bytes(b"tawara-key-1 short\n")
    with pytest.raises(ConfigurationError, match="malformed: line 1"):
        KeyFile(path).load()
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="not text"):
        KeyFile(path).load()
    directory = tmp_path / "directory"
    directory.mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        KeyFile(directory).load()


def test_a_changed_file_is_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key is used after a second at most; a file that becomes unreadable leaves the keys as they were."""
    now = 100.0
    monkeypatch.setattr("tawara.store.key_file.time.monotonic", lambda: now)
    file = KeyFile(path)
    first = file.keys()
    assert len(first) == 1
    both = (key_file.new_key(), *first)
    key_file.write(path, both)
    assert file.keys() == first
    now += 1
    assert file.keys() == both
    path.chmod(0o644)
    path.write_text("nonsense")
    now += 1
    assert file.keys() == both
    path.unlink()
    now += 1
    assert file.keys() == both
    assert KeyFile(path.with_name("none")).keys() == ()
