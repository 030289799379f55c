"""Reading from several replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from tawara.model.errors import NodeUnreachable, NoSource
from tawara.nodes.client import NodeClient
from tawara.nodes.replicas import Race

DATA = bytes(range(256)) * 4


class Nodes:
    """Storage nodes that hold DATA: by URL, after how many bytes the body breaks off, or the immediate error."""

    def __init__(self, **behaviours: Any) -> None:
        self.behaviours = behaviours
        self.asked: list[tuple[str, Any]] = []
        self.failed: list[str] = []
        self.open = 0
        self.begin = asyncio.Event()

    @asynccontextmanager
    async def get(self, url: str, *, byte_range: tuple[int, int] | None = None) -> AsyncIterator[Any]:
        self.asked.append((url, byte_range))
        self.open += 1
        try:
            yield await self._begin(self.behaviours[url], byte_range)
        finally:
            self.open -= 1

    async def _begin(self, behaviour: Any, byte_range: tuple[int, int] | None) -> Any:
        if behaviour == "gone":
            raise NoSource
        if behaviour == "silent":
            await asyncio.Event().wait()
        if behaviour == "slow":
            await self.begin.wait()
        first, last = byte_range or (0, len(DATA) - 1)
        body = DATA[first : last + 1]
        if behaviour == "short":
            body = body[:-1]

        class Download:
            length = len(body)

            async def __aiter__(self) -> AsyncIterator[bytes]:
                for at in range(0, len(body), 100):
                    if isinstance(behaviour, int) and at >= behaviour:
                        raise NodeUnreachable("broke off")
                    yield body[at : at + 100]

        return Download()


def race(nodes: Nodes, start: int = 0, end: int = len(DATA), **options: Any) -> Race:
    def failed(url: str, at: int, error: Exception) -> None:
        nodes.failed.append(url)

    return Race(cast(NodeClient, nodes), list(nodes.behaviours), start, end, len(DATA), failed, **options)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0)


async def collect(run: Race) -> bytes:
    return b"".join([piece async for piece in run.run()])


@pytest.mark.parametrize(("start", "end"), [(0, len(DATA)), (0, 1), (1000, 1024), (10, 510)])
async def test_the_next_replica_continues(start: int, end: int) -> None:
    """Whatever fails, at any byte, the reader gets the requested bytes, each once."""
    nodes = Nodes(a="gone", b="silent", c=100, d="short", e=200, f="good")
    assert await collect(race(nodes, start, end, timeout=0.05, hedge=60)) == DATA[start:end]
    assert nodes.open == 0


async def test_no_replica_left() -> None:
    """When no replica is left the reading ends, and every failure was reported."""
    nodes = Nodes(a="gone", b=100)
    run = race(nodes)
    assert await collect(run) == DATA[: run.at]
    assert run.at == 100
    assert nodes.failed == ["a", "b"]


async def test_an_empty_file_needs_no_node() -> None:
    """No node is contacted for an empty file."""
    assert await collect(race(Nodes(a="good"), 0, 0)) == b""


async def test_a_slow_replica_is_overtaken() -> None:
    """A replica that is slow to begin is left for the next before it counts as failed, and no request stays open."""
    nodes = Nodes(a="silent", b="good", c="good")
    assert await collect(race(nodes, hedge=0.01)) == DATA
    assert [url for url, _ in nodes.asked] == ["a", "b"]
    assert nodes.failed == []
    assert nodes.open == 0


async def test_a_slow_replica_may_still_win() -> None:
    """If the others fail, a slow replica may still respond; an overtaken one is tried again."""
    nodes = Nodes(a="slow", b="gone", c="gone")
    reading = asyncio.create_task(collect(race(nodes, hedge=0.0)))
    await until(lambda: nodes.failed == ["b", "c"])
    nodes.begin.set()
    assert await reading == DATA
    nodes = Nodes(a="slow", b=100)
    reading = asyncio.create_task(collect(race(nodes, hedge=0.0)))
    await until(lambda: [url for url, _ in nodes.asked] == ["a", "b", "a"])
    nodes.begin.set()
    assert await reading == DATA
    assert nodes.open == 0


async def test_two_replies_at_once() -> None:
    """If two replicas begin at the same time one is read, and the other is closed."""
    nodes = Nodes(a="slow", b="slow")
    both = asyncio.create_task(collect(race(nodes, hedge=0.0)))
    await until(lambda: len(nodes.asked) == 2)
    nodes.begin.set()
    assert await both == DATA
    assert nodes.open == 0


async def test_a_cancelled_reader() -> None:
    """A reader that stops, or is cancelled before any replica begins, leaves no request open."""
    nodes = Nodes(a="good")
    pieces = race(nodes).run()
    await anext(pieces)
    await pieces.aclose()
    assert nodes.open == 0
    nodes = Nodes(a="silent", b="silent")
    reader = asyncio.create_task(collect(race(nodes, hedge=0.0)))
    await until(lambda: len(nodes.asked) == 2)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert nodes.open == 0
