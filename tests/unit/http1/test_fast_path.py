"""The fast path: which requests it answers, and which it passes to the complete server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from tawara.disks.devices import Devices
from tawara.disks.pools import DevicePools
from tawara.http1.fast_path import FastPath, FastPathConnection
from tawara.listening import OnClosed
from tawara.model.limits import Limits
from tawara.node.file_requests import FileRequests
from tawara.wire.plain_request import PlainRequest

Address = tuple[str, int]


class CompleteServer(asyncio.Protocol):
    """A fake complete server: echoes what it receives, and closes."""

    def __init__(self, on_closed: OnClosed) -> None:
        self._on_closed = on_closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(b"complete: " + data)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_closed()


def no_complete_server(on_closed: OnClosed) -> asyncio.Protocol:
    raise AssertionError("the connection was handed over")


@asynccontextmanager
async def listener(
    root: Path, complete_server: Callable[[OnClosed], asyncio.Protocol], limits: Limits | None = None
) -> AsyncIterator[tuple[Address, list[int]]]:
    """A listener with a fast path for dev1: its address, and a list that grows with each closed connection."""
    (root / "dev1").mkdir()
    devices = Devices(root)
    pools = DevicePools(devices)
    await pools.of("/dev1/f")
    pools.start("dev1", lambda: None)
    limits = limits or Limits()
    fast_path = FastPath(FileRequests(devices, pools, limits), limits, complete_server)
    closed: list[int] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: fast_path.connection(lambda: closed.append(1)), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname(), closed
    finally:
        server.close()
        await fast_path.close(1)
        pools.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


def put(name: str, body: bytes) -> bytes:
    return b"PUT /dev1/%s HTTP/1.1\r\nHost: n\r\nContent-Length: %d\r\n\r\n%s" % (name.encode(), len(body), body)


async def test_plain_requests_stay_on_the_fast_path(tmp_path: Path) -> None:
    """All five methods work on one connection, whether requests arrive byte by byte or all at once."""
    async with listener(tmp_path, no_complete_server) as (address, closed):
        reader, writer = await asyncio.open_connection(*address)
        (tmp_path / "dev1" / "large").write_bytes(b"L" * 100_000)
        requests = (
            (put("f", b"hello"), b"200 OK", b""),
            (b"GET /dev1/f HTTP/1.1\r\nHost: n\r\n\r\n", b"200 OK", b"hello"),
            (b"GET /dev1/large HTTP/1.1\r\nHost: n\r\n\r\n", b"200 OK", b"L" * 100_000),
            (b"DELETE /dev1/f HTTP/1.1\r\nHost: n\r\n\r\n", b"204 No Content", b""),
            (b"MKCOL /dev1/d/e HTTP/1.1\r\nHost: n\r\n\r\n", b"201 Created", b""),
        )
        for bytewise in (True, False):
            for request, _, _ in requests:
                for piece in [request[at : at + 1] for at in range(len(request))] if bytewise else [request]:
                    writer.write(piece)
                    await asyncio.sleep(0)
            for _, status, body in requests:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
                assert head.startswith(b"HTTP/1.1 " + status)
                assert await asyncio.wait_for(reader.readexactly(len(body)), 20) == body
        writer.close()
        await until(lambda: closed == [1])


async def test_other_requests_are_handed_over_with_the_connection(tmp_path: Path) -> None:
    """A request that is not plain goes to the complete server with all later bytes, after the earlier replies."""
    strange = put("g", b"x").replace(b"Host: n", b"Host: n\r\nExpect: 100-continue")
    async with listener(tmp_path, CompleteServer) as (address, closed):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(put("f", b"hello") + strange + put("h", b"y"))
        answer = await asyncio.wait_for(reader.read(), 20)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\ncomplete: " + strange + put("h", b"y"))
        assert (tmp_path / "dev1" / "f").read_bytes() == b"hello"
        writer.close()
        await until(lambda: closed == [1])


@pytest.mark.parametrize(
    "said", [b"GET /dev9/f HTTP/1.1\r\nHost: n\r\n\r\n", put("f", b"x" * 100_000), b"\0\xff\r\n\r\n"]
)
async def test_unknown_devices_large_bodies_and_garbage_are_handed_over(tmp_path: Path, said: bytes) -> None:
    """Requests for devices not seen before, with large bodies, or that are not HTTP go to the complete server."""
    async with listener(tmp_path, CompleteServer) as (address, _):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(said[:1000])
        assert await asyncio.wait_for(reader.read(), 20) == b"complete: " + said[:1000]
        writer.close()


async def test_a_stalled_small_body_is_refused(tmp_path: Path) -> None:
    """After `stalled_body` seconds without a byte the reply is 408, and the connection is closed."""
    async with listener(tmp_path, no_complete_server, Limits(stalled_body=0.2)) as (address, closed):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(put("f", b"x" * 1000)[:-1])
        answer = await asyncio.wait_for(reader.read(), 20)
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"\r\nConnection: close\r\n" in answer
        assert not (tmp_path / "dev1" / "f").exists()
        await until(lambda: closed == [1])
        writer.close()


async def test_an_idle_connection_is_closed(tmp_path: Path) -> None:
    """A connection is closed after `header_time` seconds without a request, whether new or used."""
    async with listener(tmp_path, no_complete_server, Limits(header_time=0.05)) as (address, closed):
        for said in (b"", put("f", b"x"), b"GET /dev1"):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(said)
            await asyncio.wait_for(reader.read(), 20)
            writer.close()
        await until(lambda: closed == [1, 1, 1])


async def test_a_half_closed_connection_gets_the_reply(tmp_path: Path) -> None:
    """A client may close its sending half after its request."""
    async with listener(tmp_path, no_complete_server) as (address, _):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(put("f", b"x"))
        writer.write_eof()
        assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()


async def test_a_flood_of_refused_requests_is_no_recursion(tmp_path: Path) -> None:
    """Pipelined requests that fail without disk access are answered in a loop, not recursively."""
    count = 1500
    request = b"PUT /dev1/f HTTP/1.1\r\nHost: n\r\nContent-Length: 0\r\nContent-MD5: x\r\n\r\n"
    async with listener(tmp_path, no_complete_server) as (address, _):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request * count)
        for _ in range(count):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            assert head.startswith(b"HTTP/1.1 400 ")
            await reader.readexactly(len("Content-MD5 is not the base64 of 16 bytes\n"))
        writer.close()


async def test_a_stop_waits_for_the_last_connection_only(tmp_path: Path) -> None:
    """Without connections a stop takes no time; otherwise it ends with the last connection, before its grace ends."""

    class Slow:
        """Handles a request only when told to."""

        request: FastPathConnection | None = None

        def accept(self, request: PlainRequest) -> PlainRequest:
            return request

        def handle(self, connection: FastPathConnection, request: object, body: bytes) -> None:
            self.request = connection

    handler = Slow()
    fast_path = FastPath(cast("Any", handler), Limits(), no_complete_server)
    async with asyncio.timeout(20):
        await fast_path.close(1000)
        loop = asyncio.get_running_loop()
        async with await loop.create_server(lambda: fast_path.connection(lambda: None), "127.0.0.1", 0) as server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"GET /dev1/f HTTP/1.1\r\nHost: h\r\n\r\n")
            await until(lambda: handler.request is not None)
            stopping = asyncio.create_task(fast_path.close(1000))
            await asyncio.sleep(0)
            assert not stopping.done()
            assert handler.request is not None
            handler.request.abort()
            await stopping
            writer.close()
