"""Reading a large file from several hosts at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.errors import NodeUnreachable, NoSource
from tawara.nodes.client import NodeClient
from tawara.nodes.parallel import MOST_READERS, ParallelRead, best_of_hosts

DATA = bytes(range(256)) * 8
SEGMENT = 64
PIECE = 16
HOSTS = [f"http://h{number}/dev{number}/0/000/000/0000000001.fid" for number in range(1, 7)]


class Hosts:
    """Nodes that hold DATA; by URL how many bytes each sends in all before it fails, or how slow it is."""

    def __init__(self, behaviours: dict[str, Any]) -> None:
        self.behaviours = behaviours
        self.sent: Counter[str] = Counter()
        self.open = 0

    @asynccontextmanager
    async def get(self, url: str, *, byte_range: tuple[int, int] | None = None) -> AsyncIterator[Any]:
        behaviour = self.behaviours[url]
        if behaviour == "gone":
            raise NoSource
        first, last = byte_range or (0, len(DATA) - 1)
        hosts = self

        class Download:
            length = last + 1 - first

            async def __aiter__(self) -> AsyncIterator[bytes]:
                for at in range(first, last + 1, PIECE):
                    piece = DATA[at : min(at + PIECE, last + 1)]
                    if behaviour == "broken":
                        raise ZeroDivisionError
                    if isinstance(behaviour, int) and hosts.sent[url] + len(piece) > behaviour:
                        raise NodeUnreachable("broke off")
                    hosts.sent[url] += len(piece)
                    for _ in range(20 if behaviour == "slow" else 1):
                        await asyncio.sleep(0)
                    yield piece

        self.open += 1
        try:
            yield Download()
        finally:
            self.open -= 1


def reading(hosts: Hosts, start: int = 0, end: int = len(DATA)) -> ParallelRead:
    """A reading of DATA from these hosts."""
    return ParallelRead(
        cast(NodeClient, hosts), list(hosts.behaviours), start, end, len(DATA), lambda *_: None, segment=SEGMENT
    )


async def collect(run: ParallelRead) -> bytes:
    """All that is yielded."""
    return b"".join([piece async for piece in run.run()])


@given(
    st.lists(st.one_of(st.just("good"), st.just("slow"), st.just("gone"), st.integers(0, 600)), max_size=5),
    st.integers(0, len(DATA)),
    st.integers(0, len(DATA)),
)
def test_the_bytes_are_those_asked_for(behaviours: list[Any], start: int, end: int) -> None:
    """Whatever the hosts do, the bytes are yielded in order, each once; all of them if one host is good."""

    async def run() -> None:
        hosts = Hosts(dict(zip(HOSTS, behaviours, strict=False)))
        read = reading(hosts, start, max(start, end))
        got = await collect(read)
        assert got == DATA[start : read.at]
        if "good" in behaviours or "slow" in behaviours:
            assert read.at == max(start, end)
        assert hosts.open == 0

    asyncio.run(run())


async def test_every_host_reads_its_share() -> None:
    """Hosts of one speed send about as much; a slow one sends less, and none waits for it."""
    hosts = Hosts({HOSTS[0]: "good", HOSTS[1]: "good"})
    assert await collect(reading(hosts)) == DATA
    assert min(hosts.sent.values()) >= 0.4 * len(DATA)
    hosts = Hosts({HOSTS[0]: "good", HOSTS[1]: "slow", HOSTS[2]: "good"})
    assert await collect(reading(hosts)) == DATA
    assert hosts.sent[HOSTS[1]] <= 0.2 * len(DATA)


async def test_a_failed_host_is_not_tried_first_again() -> None:
    """A host that fails is left to the others: it costs one attempt of its own reader."""
    hosts = Hosts({HOSTS[0]: 0, HOSTS[1]: "good"})
    failures: list[str] = []
    run = reading(hosts)
    run.told = lambda url, *_: failures.append(url)
    assert await collect(run) == DATA
    assert failures == [HOSTS[0]]


async def test_a_slow_reader_is_not_run_ahead_of() -> None:
    """What is kept in memory is bounded: hosts are asked for few segments more than have been read."""
    hosts = Hosts({HOSTS[0]: "good", HOSTS[1]: "good"})
    async with aclosing(reading(hosts).run()) as chunks:
        await anext(chunks)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert hosts.sent.total() <= 5 * SEGMENT
    assert hosts.open == 0


async def test_unexpected_errors_are_raised() -> None:
    """An error that is no failure of a replica does not look like the end of the file."""
    with pytest.raises(ZeroDivisionError):
        await collect(reading(Hosts({HOSTS[0]: "broken", HOSTS[1]: "broken"})))


def test_readers_begin_with_different_hosts() -> None:
    """Each host has one reader, which begins with the host's best replica."""
    same = HOSTS[0].replace("dev1", "dev9")
    assert best_of_hosts([HOSTS[0], same, HOSTS[1]]) == [HOSTS[0], HOSTS[1]]
    assert best_of_hosts(HOSTS) == HOSTS[:MOST_READERS]
    assert best_of_hosts([]) == []


async def test_a_host_beyond_the_first_replaces_a_failed_one() -> None:
    """When all hosts with which readers began have failed, one further host is read to the end."""
    hosts = Hosts({**dict.fromkeys(HOSTS[:MOST_READERS], "gone"), HOSTS[MOST_READERS]: "good"})
    assert await collect(reading(hosts)) == DATA
