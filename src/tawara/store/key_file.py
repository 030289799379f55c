"""Reads, checks and writes the installation's key file (wire.installation_key)."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from tawara.model.errors import ConfigurationError
from tawara.wire.installation_key import SIZE, InstallationKey, MalformedKeyFile, parse_key_file, render_key_file

log = structlog.get_logger(__name__)

_LOOK_EVERY: Final = 1.0
"""Seconds between two looks whether the file has changed."""
_LARGEST: Final = 64 * 1024
"""Most bytes of the file that are read."""


class KeyFileMissing(ConfigurationError):
    """The key file does not exist."""

    code = "key_file_missing"
    message = "The key file does not exist"
    hint = (
        "Copy it from a machine of the store, and check store.keys_file; `tawara key reseal --new-key` makes the first."
    )


class KeyFile:
    """The keys in a file; a change of the file is noticed within a second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: tuple[InstallationKey, ...] = ()
        self._seen: tuple[int, int, int] | None = None
        self._looked = -_LOOK_EVERY

    def load(self) -> tuple[InstallationKey, ...]:
        """Read the file now. Raises KeyFileMissing; ConfigurationError if it is not private, readable, well-formed."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            raise KeyFileMissing(f"The key file {self.path} does not exist") from None
        except OSError as error:
            raise ConfigurationError(f"The key file {self.path} cannot be read: {error.strerror}") from error
        with file:
            facts = os.fstat(file.fileno())
            if facts.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
                raise ConfigurationError(
                    f"The key file {self.path} has mode {stat.S_IMODE(facts.st_mode):04o}: other users can read or"
                    " change it",
                    hint=f"chmod 600 {self.path}",
                )
            try:
                keys = parse_key_file(file.read(_LARGEST).decode())
            except (MalformedKeyFile, UnicodeDecodeError) as error:
                reason = error if isinstance(error, MalformedKeyFile) else "it is not text"
                raise ConfigurationError(f"The key file {self.path} is malformed: {reason}") from None
        self._keys, self._seen = keys, (facts.st_ino, facts.st_mtime_ns, facts.st_size)
        return keys

    def keys(self) -> tuple[InstallationKey, ...]:
        """Return the keys, the one to seal and sign with first; none if the file has never been readable.

        When the file has become unreadable, the keys read last are returned.
        """
        now = time.monotonic()
        if now - self._looked >= _LOOK_EVERY:
            self._looked = now
            self._look()
        return self._keys

    def _look(self) -> None:
        try:
            facts = self.path.stat()
            if self._seen != (facts.st_ino, facts.st_mtime_ns, facts.st_size):
                self.load()
        except (KeyFileMissing, FileNotFoundError):
            pass  # the keys that were read last stay in use; `AccessKeys.check` reports a missing file at the start
        except (OSError, ConfigurationError) as error:
            log.warning("key_file_unreadable", path=str(self.path), reason=str(error))


def new_key() -> InstallationKey:
    """Return a new random key."""
    return InstallationKey(secrets.token_bytes(SIZE))


def write(path: Path, keys: Sequence[InstallationKey]) -> None:
    """Write a key file with mode 0600 atomically. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(render_key_file(keys))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
