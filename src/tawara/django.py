"""A storage of Django that keeps uploaded files in a store. Needs the extra `django`.

STORAGES = {
    "default": {
        "BACKEND": "tawara.django.TawaraStorage",
        "OPTIONS": {"domain": "files", "base_url": "https://files.example/files/"},
    },
    ...
}
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from types import TracebackType
from typing import Any, Final
from urllib.parse import urljoin

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import Storage
from django.core.files.utils import validate_file_name
from django.utils.deconstruct import deconstructible
from django.utils.encoding import filepath_to_uri

from tawara.client import Client, FileInfo, RandomAccessReader
from tawara.client.upload_source import Data
from tawara.model import errors

BUFFER: Final = 1024 * 1024
"""Bytes of an opened file that one request reads."""
IN_MEMORY: Final = 8 * 1024 * 1024
"""Bytes of a file being written that are kept in memory; a longer one is kept in a temporary file."""


@deconstructible(path="tawara.django.TawaraStorage")
class TawaraStorage(Storage):
    """Files of one domain, below an optional prefix.

    A name that is taken gets a suffix, as in all storages of Django. Two uploads of one name at the same moment can
    nevertheless both get it, and the later one then stays: choose names that are unique.
    """

    def __init__(
        self,
        domain: str,
        *,
        trackers: str | Sequence[str] | None = None,
        location: str = "",
        storage_class: str = "",
        base_url: str | None = None,
        allow_overwrite: bool = False,
    ) -> None:
        """`trackers`: as for `Client`. `location`: prefix of all keys. `base_url`: URL under which a gateway serves the
        domain. `allow_overwrite`: save under a name that is taken.
        """
        self._domain, self._trackers = domain, trackers
        self._location = location.strip("/") + "/" if location.strip("/") else ""
        self._storage_class, self._base_url, self._allow_overwrite = storage_class, base_url, allow_overwrite

    @cached_property
    def client(self) -> Client:
        """The client, which all threads share; a forked process gets connections of its own."""
        return Client(self._trackers)

    def _key(self, name: str) -> str:
        """Return the key of a name. Raises SuspiciousFileOperation if the name leads out of the location."""
        plain = str(name).replace("\\", "/")
        validate_file_name(plain, allow_relative_path=True)
        return self._location + plain

    def _info(self, name: str) -> FileInfo:
        """Raises FileNotFoundError."""
        try:
            return self.client.info(self._domain, self._key(name))
        except errors.UnknownKey as error:
            raise FileNotFoundError(f"Not found: {name}") from error

    # --- what Django's applications call ------------------------------------------------------------------------------

    def _open(self, name: str, mode: str = "rb") -> File:
        """Open a file for reading at random, or for writing from the start: it is stored when it is closed."""
        if mode in ("wb", "w"):
            return WrittenFile(self, name)
        if mode not in ("rb", "r"):
            raise ValueError(f"Mode {mode} is not supported: a stored file is never changed, only replaced")
        try:
            raw = RandomAccessReader(self.client, self._domain, self._key(name))
        except errors.UnknownKey as error:
            raise FileNotFoundError(f"Not found: {name}") from error
        file = File(io.BufferedReader(raw, BUFFER), name)
        file.size = raw.info.length
        return file

    def _save(self, name: str, content: File) -> str:
        """Store a file; return its name. It is durable when this returns."""
        plain = name.replace("\\", "/")
        with suppress(AttributeError, io.UnsupportedOperation):
            content.seek(0)
        self.store(plain, content.file if _is_bytes(content) else _encoded(content))
        return plain

    def store(self, name: str, data: Data) -> None:
        """Store bytes under a name, which may be taken."""
        self.client.put(self._domain, self._key(name), data, storage_class=self._storage_class)

    def delete(self, name: str) -> None:
        """Delete a file; without an effect if it does not exist."""
        if not name:
            raise ValueError("The name must be given to delete().")
        with suppress(errors.UnknownKey):
            self.client.delete(self._domain, self._key(name))

    def exists(self, name: str) -> bool:
        """Whether a file has this name."""
        return bool(name) and self.client.exists(self._domain, self._key(name))

    def is_name_available(self, name: str, max_length: int | None = None) -> bool:
        """Whether a file can be saved under this name."""
        if max_length and len(name) > max_length:
            return False
        return self._allow_overwrite or not self.exists(name)

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        """Return the names of the directories and of the files in a directory. Raises FileNotFoundError."""
        plain = str(path).replace("\\", "/").strip("/")
        prefix = self._key(plain) + "/" if plain not in ("", ".") else self._location
        listing = self.client.list_directory(self._domain, prefix)
        if not listing.exists and prefix != self._location:
            raise FileNotFoundError(f"Not found: {path}")
        return (
            [each[len(prefix) : -1] for each in listing.directories],
            [each[len(prefix) :] for each in listing.files],
        )

    def size(self, name: str) -> int:
        """Return the bytes of a file. Raises FileNotFoundError."""
        return self._info(name).length

    def url(self, name: str | None) -> str:
        """Return the URL under which the gateway serves a file. Raises ValueError without `base_url`."""
        if self._base_url is None:
            raise ValueError("TawaraStorage needs base_url to know the URLs of files.")
        base = self._base_url if self._base_url.endswith("/") else self._base_url + "/"
        return urljoin(base, str(filepath_to_uri(self._key(name or ""))))

    def get_modified_time(self, name: str) -> datetime:
        """Return when the file was stored, aware of its time zone if USE_TZ is set. Raises FileNotFoundError."""
        stored_at = self._info(name).stored_at or 0
        aware = datetime.fromtimestamp(stored_at, UTC)
        return aware if settings.USE_TZ else aware.astimezone().replace(tzinfo=None)

    def get_created_time(self, name: str) -> datetime:
        """Return the same as `get_modified_time`; a file is never changed, only replaced."""
        return self.get_modified_time(name)


class WrittenFile(File):
    """A file that is stored when it is closed; left by an exception in its `with` block, it is not."""

    def __init__(self, storage: TawaraStorage, name: str) -> None:
        super().__init__(tempfile.SpooledTemporaryFile(IN_MEMORY), name)  # noqa: SIM115 - closed by `close`
        self._storage = storage

    def write(self, content: str | bytes) -> int:
        """Write bytes, or text as UTF-8."""
        return int(self.file.write(content.encode() if isinstance(content, str) else content))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.file.close()

    def close(self) -> None:
        """Store the file."""
        if not self.file.closed:
            with self.file:
                self.file.seek(0)
                self._storage.store(self.name, self.file)


def _is_bytes(content: Any) -> bool:
    """Whether the file of an upload can be read as bytes."""
    return hasattr(content.file, "read") and not isinstance(content.file, io.TextIOBase)


def _encoded(content: Any) -> Iterator[bytes]:
    for chunk in content.chunks():
        yield chunk.encode() if isinstance(chunk, str) else chunk
