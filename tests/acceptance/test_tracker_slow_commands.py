"""Slow requests, because of a storage node or by their nature, delay no other connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tawara.metadata import cluster, files
from tawara.metadata.contract import Transaction
from tawara.model.cluster import HostState, Observation, Observed
from tawara.model.files import NewFile
from tests.acceptance.tracker_fixture import SEEN, StoreFixture, store_fixture

SOON = 0.5
"""Seconds in which others are answered, on a machine that does other things as well."""
WAITING = 60


@asynccontextmanager
async def silent_node() -> AsyncIterator[int]:
    """A storage node that accepts connections and sends nothing; its port."""
    held: list[asyncio.StreamWriter] = []

    def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(hold, "127.0.0.2", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in held:
            writer.transport.abort()


async def _add_silent_host(tx: Transaction, port: int) -> None:
    hostid = await cluster.create_host(tx, "silent", ip="127.0.0.2", http_port=port, state=HostState.ALIVE)
    await cluster.create_device(tx, 3, hostid)
    fid = await files.open_upload(tx, dmid=1, key=b"silent", classid=0, devids=(3,), now=1)
    await files.close_upload(tx, NewFile(fid=fid, dmid=1, key=b"silent", classid=0, length=5, devids=(3,)), now=1)


async def timed(here: StoreFixture, line: bytes, answer: bytes) -> float:
    """The seconds until a reply with this beginning on a new connection."""
    began = time.perf_counter()
    assert (await here.ask(line)).startswith(answer)
    return time.perf_counter() - began


async def test_slow_requests_delay_no_other(tmp_path: Path) -> None:
    """Checks of a silent node's replicas, sleeps and refreshed views wait by themselves; all else is answered at
    once."""
    async with silent_node() as port, store_fixture(tmp_path) as here:
        await here.store(b"well", fid=1)
        await here.metadata.write(_add_silent_host, port)
        await here.view.refresh()
        here.view.observe({**SEEN, 3: Observation(Observed.READABLE)})
        turned = asyncio.Event()
        here.view.refresh_devices = turned.wait  # type: ignore[assignment] # its True is of no consequence
        waiting = []
        for line in (b"get_paths domain=d&key=silent\n", b"sleep duration=60\n", b"clear_cache\n"):
            for _ in range(WAITING):
                reader, writer = await here.connect()
                writer.write(line)
                waiting.append((asyncio.create_task(reader.readline()), writer))
        for _ in range(20):
            assert await timed(here, b"noop", b"OK") < SOON
            assert await timed(here, b"get_paths domain=d&key=well", b"OK paths=1&") < SOON  # this one is verified, too
            assert await timed(here, b"get_paths domain=d&key=silent&noverify=1", b"OK paths=1&") < SOON
            assert await timed(here, b"create_open domain=d&key=k", b"OK fid=") < SOON
        assert not any(task.done() for task, _ in waiting)
        turned.set()
        renewed = waiting[2 * WAITING :]
        assert await asyncio.wait_for(asyncio.gather(*(task for task, _ in renewed)), 10) == [b"OK \r\n"] * WAITING
        for task, writer in waiting:
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*(task for task, _ in waiting), return_exceptions=True)
