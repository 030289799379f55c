"""The request body of a PUT to a storage node, for aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter

from tawara.model import errors


class UploadBody(aiohttp.Payload):
    """A body that records whether it was sent completely, and fails if the node stops reading it."""

    def __init__(self, source: bytes | AsyncIterable[bytes], length: int | None, stall: float, chunk: int) -> None:
        """`length` in bytes, None for a chunked body; `stall` in seconds; `chunk` is the bytes of one write."""
        super().__init__(source, content_type="application/octet-stream")
        self._source = source
        self._expected = length
        self._stall = stall
        self._chunk = chunk
        self.complete = length == 0
        """Whether all announced bytes were written, so that the node may reply."""
        self.begun = False
        """Whether some bytes may have been sent."""
        self.failure: Exception | None = None
        """The error of the source, or its wrong length; None without one."""

    @property
    def size(self) -> int | None:
        """Length in bytes; None makes aiohttp send chunks."""
        return self._expected

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Part of aiohttp's interface for text bodies. Raises TypeError."""
        raise TypeError("the body of a file is not text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the body."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Send the body; `content_length` is ignored, since the length is known. Raises SizeMismatch."""
        sent = 0
        self.begun = True
        self._consumed = not isinstance(self._source, bytes)
        pieces = aiter(self._pieces())
        while True:
            try:
                piece = await anext(pieces, None)
                sent += len(piece or b"")
                if self._expected is not None and (sent > self._expected or (piece is None and sent < self._expected)):
                    raise errors.SizeMismatch(f"{sent} bytes came where {self._expected} were announced")
            except BaseException as error:
                if isinstance(error, Exception):  # not a cancellation by aiohttp
                    self.failure = error
                _abort(writer)
                raise
            if piece is None:
                break
            self.complete = sent == self._expected  # the node may reply before the source is exhausted
            try:
                async with asyncio.timeout(self._stall):
                    await writer.write(piece)
            except BaseException:
                _abort(writer)  # closing would wait until the node has read the buffered bytes
                raise
        self.complete = True

    async def _pieces(self) -> AsyncIterator[bytes | memoryview]:
        if isinstance(self._source, bytes):
            view = memoryview(self._source)
            for start in range(0, len(view), self._chunk):
                yield view[start : start + self._chunk]
        else:
            async for piece in self._source:
                if piece:
                    yield piece


def _abort(writer: AbstractStreamWriter) -> None:
    """Close a connection on which half a body was sent."""
    if isinstance(writer, StreamWriter) and writer.transport is not None:
        writer.transport.abort()
