"""Sources of uploads: data in chunks, and whether it can be read again."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.client.replies import key_bytes, key_text
from tawara.client.upload_source import Data, UploadSource
from tawara.model.cluster import HashType


async def _all(source: UploadSource) -> bytes:
    return b"".join([chunk async for chunk in source.chunks()])


async def _later(data: bytes) -> AsyncIterator[bytes]:
    yield data[:5]
    yield data[5:]


@given(st.binary(max_size=300), st.binary(max_size=10))
async def test_every_kind_gives_its_bytes_and_its_hash(data: bytes, before: bytes) -> None:
    """Each kind of source yields all its bytes from its current position, counts and hashes them, and has its size."""
    opened = io.BytesIO(before + data)
    opened.seek(len(before))
    kinds: list[Data] = [data, bytearray(data), memoryview(data), opened, iter([data[:3], b"", data[3:]]), _later(data)]
    for kind in kinds:
        source = UploadSource(kind)
        assert source.size in (None, len(data))
        hasher = source.hashing(HashType.MD5)
        assert await _all(source) == data
        assert (source.sent, hasher.digest()) == (len(data), hashlib.md5(data).digest())
        if source.replayable:
            assert await _all(source) == data


async def test_which_sources_can_be_read_again(tmp_path: Path) -> None:
    """Bytes, regular files and seekable streams can be read again; pipes and iterables only before they have begun."""
    (tmp_path / "file").write_bytes(b"data")
    os.mkfifo(tmp_path / "pipe")
    again: list[tuple[Data, bool]] = [
        (b"data", True), (tmp_path / "file", True), (io.BytesIO(b"data"), True), (iter([b"data"]), False),
    ]  # fmt: skip
    for data, replayable in again:
        source = UploadSource(data)
        assert source.replayable
        assert await _all(source) == b"data"
        assert source.replayable is replayable
    assert UploadSource(tmp_path / "pipe").size is None


async def test_progress_restarts_with_the_upload() -> None:
    """The reported progress adds up to the bytes sent in the successful attempt."""
    told: list[int] = []
    source = UploadSource(b"12345", progress=told.append)
    await _all(source)
    await _all(source)
    assert told == [5, -5, 5]


async def test_small_pieces_are_joined() -> None:
    """An iterable of very small pieces is joined into larger writes, and an empty piece is not its end."""
    source = UploadSource(piece for _ in range(10_000) for piece in (b"", b"12345"))
    chunks = [chunk async for chunk in source.chunks()]
    assert b"".join(chunks) == b"12345" * 10_000
    assert len(chunks) == 1


def test_text_is_refused() -> None:
    """Text is refused, because it could be a path or data."""
    with pytest.raises(TypeError):
        UploadSource("text")  # type: ignore[arg-type]  # that is the point


@given(st.binary())
def test_keys_round_trip_as_text(key: bytes) -> None:
    """Each key converts to text and back without loss; valid UTF-8 becomes that text."""
    assert key_bytes(key_text(key)) == key
    assert key_bytes("俵") == "俵".encode()
