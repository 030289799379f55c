"""Where the client reads a file, and how it continues when replicas fail."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from tawara.client.reading import Located, Reading
from tawara.client.replies import FileInfo
from tawara.model import errors
from tawara.model import fid as fids
from tawara.model.cluster import Checksum, HashType
from tawara.nodes.client import NodeClient
from tawara.nodes.parallel import ParallelRead

DATA = b"0123456789"
INFO = FileInfo("d", "k", 7, len(DATA), "", 2)
LOCATED = Located(INFO, ["a"])


@pytest.mark.parametrize(
    ("urls", "consistent"),
    [
        ([f"http://h1:7500{fids.path(1, 7)}", f"http://h2:7500{fids.path(2, 7)}"], True),
        ([f"http://h1:7500{fids.path(1, 7)}", f"http://h2:7500{fids.path(2, 8)}"], False),
        (["http://h1:7500/elsewhere"], True),
        ([], True),
    ],
)
def test_located_replicas_are_of_one_fid(urls: list[str], consistent: bool) -> None:
    """File information and replicas that name different fids are of different contents; other paths are not
    compared."""
    assert Located(INFO, urls).consistent() is consistent


class _Nodes:
    """Storage nodes that hold DATA; each URL breaks off after the next of its numbers of bytes, else never."""

    def __init__(self, **breaks: list[int]) -> None:
        self.breaks = breaks
        self.asked: list[tuple[str, Any]] = []

    @asynccontextmanager
    async def get(self, url: str, *, byte_range: tuple[int, int] | None = None) -> AsyncIterator[Any]:
        self.asked.append((url, byte_range))
        first, last = byte_range or (0, len(DATA) - 1)
        most = self.breaks[url].pop(0) if self.breaks.get(url) else None

        class Download:
            length = last + 1 - first

            async def __aiter__(self) -> AsyncIterator[bytes]:
                for at in range(first, last + 1)[:most]:
                    yield DATA[at : at + 1]
                if most is not None:
                    raise errors.NodeUnreachable(f"{url} broke off")

        yield Download()


def _reading(nodes: _Nodes, *again: Located | Exception, located: Located = LOCATED, **options: Any) -> Reading:
    answers = list(again)

    async def locate_again() -> Located:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    reading = Reading(cast("NodeClient", nodes), located, locate_again, **options)
    reading.answers = answers  # type: ignore[attr-defined] # those that were not asked for
    return reading


async def _all(reading: Reading) -> bytes:
    return b"".join([chunk async for chunk in reading])


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, None, DATA), (3, None, DATA[3:]), (3, 5, b"34"), (0, 99, DATA), (10, None, b""), (99, None, b""), (5, 2, b""),
     (9, 10, b"9")],
)  # fmt: skip
async def test_a_part_is_cut_to_the_file(start: int, end: int | None, expected: bytes) -> None:
    """A part beyond the end of the file is shortened, also to nothing, and its length is known in advance."""
    nodes = _Nodes()
    reading = _reading(nodes, start=start, end=end)
    assert reading.length == len(expected)
    assert await _all(reading) == expected
    assert len(nodes.asked) == bool(expected)


async def test_begin_waits_for_the_first_bytes_only() -> None:
    """After `begin` the iteration yields all bytes, the first ones once."""
    nodes = _Nodes()
    reading = _reading(nodes)
    await reading.begin()
    assert len(nodes.asked) == 1
    assert await _all(reading) == DATA
    assert len(nodes.asked) == 1


async def test_reading_continues_at_a_replica_found_later() -> None:
    """When all replicas fail, they are located again as long as that yields more bytes, and each byte comes once."""
    nodes = _Nodes(a=[3, 0], b=[4])
    reading = _reading(nodes, Located(INFO, ["a"]), Located(INFO, ["b"]), Located(INFO, ["c"]))
    assert await _all(reading) == DATA
    assert nodes.asked == [("a", None), ("a", (3, 9)), ("b", (3, 9)), ("c", (7, 9))]


async def test_replicas_that_yield_nothing_are_tried_twice() -> None:
    """A file that cannot be read twice in a row raises NoSource with the failures; the tracker is asked once more."""
    nodes = _Nodes(a=[0, 0, 0])
    reading = _reading(nodes, LOCATED, LOCATED)
    with pytest.raises(errors.NoSource, match=r"'k' can be read \(a broke off; a broke off"):
        await _all(reading)
    assert len(nodes.asked) == 2
    assert len(reading.answers) == 1  # type: ignore[attr-defined]
    with pytest.raises(errors.NoSource, match="none is up"):
        await _all(_reading(nodes, Located(INFO, []), located=Located(INFO, [])))


async def test_an_overwritten_key() -> None:
    """Reading an overwritten key fails at once before the first byte; later the old replicas are tried once more."""
    other = Located(replace(INFO, fid=8), ["b"])
    nodes = _Nodes(a=[0])
    with pytest.raises(errors.NoSource):
        await _all(_reading(nodes, other))
    assert nodes.asked == [("a", None)]
    nodes = _Nodes(a=[4])
    assert await _all(_reading(nodes, other)) == DATA
    assert nodes.asked == [("a", None), ("a", (4, 9))]


@pytest.mark.parametrize("error", [errors.UnknownKey(), errors.TrackerUnreachable()])
async def test_a_tracker_without_new_replicas(error: Exception) -> None:
    """While the tracker does not respond, or the key is deleted, the known replicas are tried again."""
    nodes = _Nodes(a=[4])
    assert await _all(_reading(nodes, error)) == DATA


@pytest.mark.parametrize(
    ("stored", "options", "fails"),
    [(DATA, {}, False), (b"other", {}, True), (b"other", {"start": 1}, False), (b"other", {"end": 9}, False),
     (b"other", {"verify": False}, False)],
)  # fmt: skip
async def test_a_whole_file_is_verified(stored: bytes, options: dict[str, Any], fails: bool) -> None:
    """With `verify` a whole file must have the stored checksum; a part cannot be verified."""
    checksum = Checksum(HashType.MD5, hashlib.md5(stored).digest())
    located = Located(replace(INFO, checksum=checksum), ["a"])
    reading = _reading(_Nodes(), located=located, **({"verify": True} | options))
    if fails:
        with pytest.raises(errors.ChecksumMismatch):
            await _all(reading)
    else:
        assert await _all(reading) == DATA[options.get("start", 0) : options.get("end")]
    assert await _all(_reading(_Nodes(), verify=True)) == DATA  # stored without a checksum


async def test_an_unfinished_reading_is_closed() -> None:
    """`close` ends the iteration and the current request, also before the first byte."""
    reading = _reading(_Nodes())
    await reading.close()
    await reading.begin()
    chunks = aiter(reading)
    await anext(chunks)
    await reading.close()
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)


async def test_nodes_without_ranges_are_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file is read from several hosts in ranges, and from one, whole, if none of them can do that."""
    monkeypatch.setattr("tawara.client.reading.WORTHWHILE", 4)

    class Whole(_Nodes):
        @asynccontextmanager
        async def get(self, url: str, *, byte_range: tuple[int, int] | None = None) -> AsyncIterator[Any]:
            async with super().get(url, byte_range=byte_range) as download:
                if byte_range is not None:
                    raise errors.NodeUnreachable("another range than was asked for")
                yield download

    monkeypatch.setattr("tawara.client.reading.ParallelRead", partial(ParallelRead, segment=3))
    nodes, located = Whole(), Located(INFO, ["http://h1/a", "http://h2/b"])
    assert await _all(_reading(nodes, located, located=located)) == DATA
    assert {each[1] for each in nodes.asked} == {(0, 2), (3, 5), None}
