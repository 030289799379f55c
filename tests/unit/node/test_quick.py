"""The quick way through the door: what never needs a whole server, and what is handed to one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tawara.disks.devices import Devices
from tawara.disks.pools import DevicePools
from tawara.listening import OnClosed
from tawara.model.limits import Limits
from tawara.node.fast_path import FastPath

Address = tuple[str, int]


class Whole(asyncio.Protocol):
    """Stands for the whole server: says what it was given, and closes."""

    def __init__(self, on_closed: OnClosed) -> None:
        self._on_closed = on_closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(b"whole: " + data)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_closed()


def refuses(on_closed: OnClosed) -> asyncio.Protocol:
    raise AssertionError("the whole server was asked")


@asynccontextmanager
async def listener(
    root: Path, whole: Callable[[OnClosed], asyncio.Protocol], limits: Limits | None = None
) -> AsyncIterator[tuple[Address, list[int]]]:
    """A door before dev1: its address, and a list that grows with each connection that is over."""
    (root / "dev1").mkdir()
    devices = Devices(root)
    pools = DevicePools(devices)
    await pools.of("/dev1/f")
    pools.start("dev1", lambda: None)
    quick = FastPath(devices, pools, limits or Limits(), whole)
    left: list[int] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: quick.connection(lambda: left.append(1)), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname(), left
    finally:
        server.close()
        await quick.close(1)
        pools.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


def put(name: str, body: bytes) -> bytes:
    return b"PUT /dev1/%s HTTP/1.1\r\nHost: n\r\nContent-Length: %d\r\n\r\n%s" % (name.encode(), len(body), body)


async def test_plain_requests_need_no_whole_server(tmp_path: Path) -> None:
    """Files come, go, are read and made room for on one connection, byte by byte or all at once."""
    async with listener(tmp_path, refuses) as (address, left):
        reader, writer = await asyncio.open_connection(*address)
        (tmp_path / "dev1" / "large").write_bytes(b"L" * 100_000)
        requests = (
            (put("f", b"hello"), b"200 OK", b""),
            (b"GET /dev1/f HTTP/1.1\r\nHost: n\r\n\r\n", b"200 OK", b"hello"),
            (b"GET /dev1/large HTTP/1.1\r\nHost: n\r\n\r\n", b"200 OK", b"L" * 100_000),
            (b"DELETE /dev1/f HTTP/1.1\r\nHost: n\r\n\r\n", b"204 No Content", b""),
            (b"MKCOL /dev1/d/e HTTP/1.1\r\nHost: n\r\n\r\n", b"201 Created", b""),
        )
        for dribbled in (True, False):
            for said, _, _ in requests:
                for piece in [said[at : at + 1] for at in range(len(said))] if dribbled else [said]:
                    writer.write(piece)
                    await asyncio.sleep(0)
            for _, status, body in requests:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
                assert head.startswith(b"HTTP/1.1 " + status)
                assert await asyncio.wait_for(reader.readexactly(len(body)), 20) == body
        writer.close()
        await until(lambda: left == [1])


async def test_the_rest_is_handed_over_with_the_connection(tmp_path: Path) -> None:
    """What is not plain goes to the whole server with all that came after it, once all before it is answered."""
    strange = put("g", b"x").replace(b"Host: n", b"Host: n\r\nExpect: 100-continue")
    async with listener(tmp_path, Whole) as (address, left):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(put("f", b"hello") + strange + put("h", b"y"))
        answer = await asyncio.wait_for(reader.read(), 20)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nwhole: " + strange + put("h", b"y"))
        assert (tmp_path / "dev1" / "f").read_bytes() == b"hello"
        writer.close()
        await until(lambda: left == [1])


@pytest.mark.parametrize(
    "said", [b"GET /dev9/f HTTP/1.1\r\nHost: n\r\n\r\n", put("f", b"x" * 100_000), b"\0\xff\r\n\r\n"]
)
async def test_what_is_unknown_large_or_garbage_is_handed_over(tmp_path: Path, said: bytes) -> None:
    """Devices that were not seen, bodies that are not small and what is no HTTP do not go the quick way."""
    async with listener(tmp_path, Whole) as (address, _):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(said[:1000])
        assert await asyncio.wait_for(reader.read(), 20) == b"whole: " + said[:1000]
        writer.close()


async def test_a_small_body_that_stands_still_is_refused(tmp_path: Path) -> None:
    """After `stalled_body` seconds without a byte: 408, and the connection is closed."""
    async with listener(tmp_path, refuses, Limits(stalled_body=0.2)) as (address, left):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(put("f", b"x" * 1000)[:-1])
        answer = await asyncio.wait_for(reader.read(), 20)
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"\r\nConnection: close\r\n" in answer
        assert not (tmp_path / "dev1" / "f").exists()
        await until(lambda: left == [1])
        writer.close()


async def test_a_connection_that_asks_nothing_is_closed(tmp_path: Path) -> None:
    """After `header_time` seconds without a request, on a fresh connection and between requests."""
    async with listener(tmp_path, refuses, Limits(header_time=0.2)) as (address, left):
        for said in (b"", put("f", b"x"), b"GET /dev1"):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(said)
            await asyncio.wait_for(reader.read(), 20)
            writer.close()
        await until(lambda: left == [1, 1, 1])


async def test_whoever_says_no_more_still_gets_the_answer(tmp_path: Path) -> None:
    """A client may close its half of the connection after its request."""
    async with listener(tmp_path, refuses) as (address, _):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(put("f", b"x"))
        writer.write_eof()
        assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()


async def test_a_flood_of_wrong_digests_is_answered_one_by_one(tmp_path: Path) -> None:
    """Requests that fail before the disk is asked are no deeper a recursion the more of them wait."""
    count = 1500
    request = b"PUT /dev1/f HTTP/1.1\r\nHost: n\r\nContent-Length: 0\r\nContent-MD5: x\r\n\r\n"
    async with listener(tmp_path, refuses) as (address, _):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request * count)
        for _ in range(count):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            assert head.startswith(b"HTTP/1.1 400 ")
            await reader.readexactly(len("Content-MD5 is not the base64 of 16 bytes\n"))
        writer.close()
