"""A stored file as a raw file object of `io`, with random access, for libraries that want a file."""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING

from tawara.client.synchronous import Client

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class RandomAccessReader(io.RawIOBase):
    """Reads the content that a key has when this is created; wrap it in `io.BufferedReader`.

    Each read is one request, so the buffer's size decides how many there are. Raises OSError (ESTALE) when the key has
    got other content meanwhile, and as `Client.get`.
    """

    def __init__(self, client: Client, domain: str, key: str | bytes) -> None:
        """Raises UnknownKey."""
        super().__init__()
        self._client, self._domain, self._key = client, domain, key
        self._at = 0
        self.info = client.info(domain, key)
        """Metadata of the content that is read."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position, in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Set the position, in bytes; return it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.info.length}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, "The position is before the start of the file")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer from the position on; return the number of bytes, 0 at the end."""
        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self.info.length)
        if self._at >= end:
            return 0
        read = 0
        with self._client.open(self._domain, self._key, start=self._at, end=end) as reading:
            if reading.info.fid != self.info.fid:
                raise OSError(errno.ESTALE, "The file was replaced while it was open")
            for chunk in reading:
                view[read : read + len(chunk)] = chunk
                read += len(chunk)
        self._at += read
        return read
