"""Sources of uploads: bytes, paths, open files and iterables, read in chunks and, if possible, more than once."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

from tawara.model.checksums import Hasher, new_hasher
from tawara.model.cluster import HashType
from tawara.model.limits import Limits

_CHUNK = Limits().chunk
_HASHED_HERE = 64 * 1024
"""Bytes up to which hashing on the event loop is cheaper than in a thread."""
_GATHERED = 256 * 1024
"""Bytes of small pieces that are read from an iterable in one thread call."""


class Readable(Protocol):
    """A file object open for reading bytes."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes; none at the end."""
        ...


Data: TypeAlias = (
    "bytes | bytearray | memoryview | os.PathLike[str] | Readable | Iterable[bytes] | AsyncIterable[bytes]"
)
"""Data accepted by `put`. A path is a `pathlib.Path`; blocking reads run in a thread."""


class UploadSource:
    """One upload's data. `chunks` may be called again only while `replayable`."""

    def __init__(self, data: Data, size: int | None = None, progress: Callable[[int], None] | None = None) -> None:
        """`size`: bytes, for data without a known size; `progress` as for `put`."""
        self._progress = progress
        self._data = data
        self._started = False
        self._regular = True
        self._start = 0
        self._hashers: list[Hasher] = []
        self.size = size
        self.sent = 0
        """Bytes yielded by the latest `chunks`."""
        if isinstance(data, bytes | bytearray | memoryview):
            self.size = len(memoryview(data).cast("B"))
        elif isinstance(data, str):
            raise TypeError("text is neither a path nor data: give Path(...) or encode it")
        elif isinstance(data, os.PathLike):
            found = Path(data).stat()
            self.size = found.st_size if stat.S_ISREG(found.st_mode) else size
            self._regular = stat.S_ISREG(found.st_mode)
        elif (file := self._seekable()) is not None:
            self._start = file.tell()
            if size is None:
                self.size = file.seek(0, os.SEEK_END) - self._start
                file.seek(self._start)

    @property
    def replayable(self) -> bool:
        """Whether `chunks` can be called again."""
        if not self._started or isinstance(self._data, bytes | bytearray | memoryview):
            return True
        if isinstance(self._data, os.PathLike):
            return self._regular
        return self._seekable() is not None

    def small(self) -> bytes | None:
        """The complete data, if it is in memory and short."""
        if isinstance(self._data, bytes | bytearray | memoryview) and (self.size or 0) <= _CHUNK:
            return bytes(self._data)
        return None

    def hashing(self, hashtype: HashType) -> Hasher:
        """Return a hash object that is updated by the next `chunks`."""
        hasher = new_hasher(hashtype)
        self._hashers = [hasher]
        return hasher

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the data, in pieces of bounded size if the source allows it."""
        self._started = True
        if self._progress is not None and self.sent:
            self._progress(-self.sent)
        self.sent = 0
        async for chunk in self._read():
            for hasher in self._hashers:
                if len(chunk) <= _HASHED_HERE:
                    hasher.update(chunk)
                else:
                    await asyncio.to_thread(hasher.update, chunk)
            self.sent += len(chunk)
            if self._progress is not None:
                self._progress(len(chunk))
            yield chunk

    async def _read(self) -> AsyncIterator[bytes]:
        data = self._data
        if isinstance(data, bytes | bytearray | memoryview):
            view = memoryview(data).cast("B")
            for start in range(0, len(view), _CHUNK):
                yield bytes(view[start : start + _CHUNK])
        elif isinstance(data, os.PathLike):
            opened = await asyncio.to_thread(Path(data).open, "rb", buffering=0)
            try:
                while chunk := await asyncio.to_thread(opened.read, _CHUNK):
                    yield chunk
            finally:
                opened.close()
        elif isinstance(data, AsyncIterable):
            async for chunk in data:
                yield chunk
        elif hasattr(data, "read"):
            if (file := self._seekable()) is not None:
                file.seek(self._start)
            while chunk := await asyncio.to_thread(data.read, _CHUNK):
                yield chunk
        else:
            iterator = iter(data)
            while piece := await asyncio.to_thread(_gather, iterator):
                yield piece

    def _seekable(self) -> BinaryIO | None:
        seekable = getattr(self._data, "seekable", None)
        return self._data if callable(seekable) and seekable() else None  # type: ignore[return-value]  # duck-typed


def _gather(iterator: Iterator[bytes]) -> bytes:
    """Join the next pieces of an iterator, enough to be worth a thread call; empty at the end."""
    pieces: list[bytes] = []
    length = 0
    for piece in iterator:
        pieces.append(piece)
        length += len(piece)
        if length >= _GATHERED:
            break
    return b"".join(pieces)
