"""Pools of connections that share what the server allows."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from tawara.metadata.pool import GROW_PERIOD, Budget, ConnectionLost, LimitMet, Pool
from tawara.model.errors import Db


class Server:
    """A server that allows up to `most` connections."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open = 0
        self.refused = 0
        self.now = 0.0

    async def connect(self) -> Connection:
        await asyncio.sleep(0)
        if self.open >= self.most:
            self.refused += 1
            raise LimitMet("too many connections for role")
        self.open += 1
        return Connection(self)

    def pools(self, readers: int = 4, writers: int = 8) -> tuple[Pool[Connection], Pool[Connection]]:
        budget = Budget(self.connect, readers + writers, clock=lambda: self.now)
        return Pool(budget, readers), Pool(budget, writers)


class Connection:
    """A connection to it."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def close(self) -> None:
        self.terminate()

    def terminate(self) -> None:
        self._server.open -= 1


async def work(connection: Connection) -> int:
    for _ in range(3):
        await asyncio.sleep(0)
    return 1


@pytest.mark.parametrize("most", [1, 2, 4, 11, 12, 100])
async def test_all_work_is_done_with_the_allowed_connections(most: int) -> None:
    """Whatever the server allows, all work of both pools is done, and few connections are refused."""
    server = Server(most)
    readers, writers = server.pools()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            jobs = [pool.use(work) for _ in range(100) for pool in (readers, writers)]
            assert await asyncio.gather(*jobs) == [1] * 200
    assert server.open <= min(most, 12)
    assert server.refused <= 12
    limited = [each for each in logs if each["event"] == "database_connection_limit_met"]
    assert bool(limited) is (most < 12)
    assert all(each["reason"] == "too many connections for role" for each in limited)


async def test_a_pool_without_a_connection_replaces_an_idle_one() -> None:
    """When reads hold all allowed connections, an idle one is closed for a write."""
    server = Server(4)
    readers, writers = server.pools()
    await asyncio.gather(*(readers.use(work) for _ in range(4)))
    assert (len(readers.idle), server.open) == (4, 4)
    assert await writers.use(work) == 1
    assert await readers.use(work) == 1
    assert server.open <= 4


async def test_a_process_without_a_connection_waits() -> None:
    """While other processes hold all connections, work waits until one is free."""
    server = Server(0)
    _, writers = server.pools()
    waiting = asyncio.create_task(writers.use(work))
    while not server.refused:
        await asyncio.sleep(0)
    server.most = 1
    assert await waiting == 1


async def test_processes_share_the_connections() -> None:
    """Of two processes that are always busy each gets connections, whichever had them all first."""
    server = Server(4)
    one, two = server.pools()[1], server.pools()[1]
    done = {"one": 0, "two": 0}

    async def busy(name: str, pool: Pool[Connection]) -> None:
        while min(done.values()) < 20:
            await pool.use(work)
            server.now += 0.05
            done[name] += 1

    first = [asyncio.create_task(busy("one", one)) for _ in range(20)]
    while done["one"] < 20:
        await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*first, *(busy("two", two) for _ in range(20))), 60)


async def test_the_pools_grow_again() -> None:
    """After some time one more connection is tried; if the server accepts it, so are the others."""
    server = Server(2)
    readers, writers = server.pools()
    await asyncio.gather(*(writers.use(work) for _ in range(50)))
    assert server.open == 2
    server.most = 100
    await asyncio.gather(*(writers.use(work) for _ in range(50)))
    assert server.open == 2
    server.now += GROW_PERIOD
    await asyncio.gather(*(pool.use(work) for _ in range(100) for pool in (readers, writers)))
    assert server.open == 12


@pytest.mark.parametrize("error", [ConnectionLost(), Db("odd"), asyncio.CancelledError(), KeyError()])
async def test_the_connection_after_an_error(error: BaseException) -> None:
    """A connection is kept only after an error that is unrelated to it; the slot is freed in any case."""
    server = Server(1)
    readers, _ = server.pools()

    async def fail(_: Connection) -> None:
        raise error

    with pytest.raises(type(error)):
        await readers.use(fail)
    assert server.open == (1 if isinstance(error, KeyError) else 0)
    assert await readers.use(work) == 1


async def test_cancelled_work_frees_its_slot() -> None:
    """Work that is cancelled while it waits for a connection does not block others."""
    server = Server(1)
    readers, _ = server.pools()
    for _ in range(20):
        jobs = [asyncio.create_task(readers.use(work)) for _ in range(6)]
        await asyncio.sleep(0)
        for job in jobs[::2]:
            job.cancel()
        done = await asyncio.gather(*jobs, return_exceptions=True)
        assert done[1::2] == [1, 1, 1]
    assert await asyncio.wait_for(readers.use(work), 60) == 1
