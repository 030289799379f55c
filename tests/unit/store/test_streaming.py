"""Bodies that pass through Python."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from tawara.model.errors import NodeUnreachable, NoSource
from tawara.nodes.client import NodeClient
from tawara.store.streaming import read_somewhere, tee
from tawara.wire.ranges import Span


class Half:
    """A storage node whose replies break off after five of ten bytes."""

    length = 10

    @asynccontextmanager
    async def get(self, url: str, *, byte_range: tuple[int, int] | None = None) -> AsyncIterator[Half]:
        if byte_range is not None:
            raise NodeUnreachable
        yield self

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"12345"
        raise NodeUnreachable


async def test_a_body_without_a_replica_left() -> None:
    """When no replica is left in the middle of a body, an error is raised instead of an end of the body."""
    got = b""
    with pytest.raises(NoSource):
        async for piece in read_somewhere(cast(NodeClient, Half()), ["a", "b"], Span(0, 10), 10, timeout=5):
            got += piece
    assert got == b"12345"


async def body(count: int = 100) -> AsyncIterator[bytes]:
    for number in range(count):
        yield b"%03d" % number


WHOLE = b"".join(b"%03d" % number for number in range(100))


class Sink:
    def __init__(self, fail_after: int | None = None, wait: asyncio.Event | None = None) -> None:
        self.got = b""
        self.fail_after, self.wait = fail_after, wait
        self.ended = ""

    async def __call__(self, pieces: AsyncIterator[bytes]) -> None:
        try:
            async for piece in pieces:
                self.got += piece
                if self.wait is not None:
                    await self.wait.wait()
                if self.fail_after is not None and len(self.got) >= self.fail_after:
                    raise NodeUnreachable
            self.ended = "well"
        except BaseException as error:
            self.ended = type(error).__name__
            raise


async def test_every_destination_gets_every_byte() -> None:
    """Each destination gets every byte."""
    sinks = {number: Sink() for number in range(3)}
    assert await tee(body(), sinks) == {0: None, 1: None, 2: None}
    assert [sink.got for sink in sinks.values()] == [WHOLE] * 3


async def test_one_failure_stops_no_other() -> None:
    """A destination that fails is dropped, and named in the result."""
    sinks = {1: Sink(fail_after=30), 2: Sink(), 3: Sink(fail_after=0)}
    outcome = await tee(body(), sinks)
    assert outcome[2] is None
    assert isinstance(outcome[1], NodeUnreachable)
    assert isinstance(outcome[3], NodeUnreachable)
    assert sinks[2].got == WHOLE


async def test_the_slowest_sets_the_pace() -> None:
    """Only a little more of the body is read than the slowest destination needs."""
    gate, taken = asyncio.Event(), 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal taken
        async for piece in body():
            taken += 1
            yield piece

    slow = Sink(wait=gate)
    running = asyncio.create_task(tee(counted(), {1: slow, 2: Sink()}))
    for _ in range(500):
        await asyncio.sleep(0)
    assert taken < 20
    gate.set()
    assert await running == {1: None, 2: None}
    assert slow.got == WHOLE


async def test_all_failed() -> None:
    """When all destinations have failed, the rest of the body is not read."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0)

    outcome = await asyncio.wait_for(tee(endless(), {1: Sink(fail_after=5), 2: Sink(fail_after=9)}), 5)
    assert all(isinstance(result, NodeUnreachable) for result in outcome.values())


async def test_an_aborted_body() -> None:
    """When the body breaks off, each destination's write is cancelled, and none sees a regular end."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    sinks = {1: Sink(), 2: Sink(fail_after=1)}
    with pytest.raises(ConnectionResetError):
        await tee(broken(), sinks)
    assert sinks[1].ended in ("CancelledError", "")
    assert sinks[2].ended != "well"
