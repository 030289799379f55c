"""Requests to storage nodes, also to faulty ones."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from tawara.model import errors
from tawara.model.assembling import ByteRange
from tawara.model.cluster import HashType
from tawara.nodes.client import NodeClient
from tawara.nodes.usage_report import UsageReport

DATA = os.urandom(3_000_000)
PATH = "/dev1/0/000/000/0000000001.fid"


async def _pieces(data: bytes = DATA) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_001):
        yield data[start : start + 100_001]


class _Node:
    """An in-memory storage node, and the URL of a file on it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.refuse: int | None = None
        self.ignore_range = False
        self.connections: set[object] = set()

    async def serve(self, request: web.Request) -> web.Response:
        self.connections.add(request.transport)
        if self.refuse:
            return web.Response(status=self.refuse, headers={"Location": "/elsewhere"})
        if request.method == "PUT":
            body = await request.read()
            self.files[request.path] = body
            return web.Response(status=201)
        if request.path not in self.files:
            return web.Response(status=404)
        if request.method == "DELETE":
            del self.files[request.path]
            return web.Response(status=204)
        body = self.files[request.path]
        if "Range" in request.headers and not self.ignore_range:
            wanted = request.http_range
            body = body[wanted]
            where = f"bytes {wanted.start}-{(wanted.start or 0) + len(body) - 1}/{len(DATA)}"
            return web.Response(status=206, body=body, headers={"Content-Range": where})
        return web.Response(body=body, headers={"Content-Length": str(len(body))})


@asynccontextmanager
async def _serving(node: _Node) -> AsyncIterator[str]:
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", node.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}{PATH}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _raw(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[tuple[str, int]]:
    """A server with a scripted reply; its URL and port."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield f"http://127.0.0.1:{port}{PATH}", port


@pytest.mark.parametrize("body", [b"", b"short", DATA], ids=["empty", "short", "long"])
@pytest.mark.parametrize("kind", ["bytes", "iterable", "iterable of unknown length"])
async def test_stored_data_can_be_read(body: bytes, kind: str) -> None:
    """Bytes and iterables of known and unknown length are stored completely, and read completely and in ranges."""
    node = _Node()
    async with _serving(node) as url, NodeClient() as nodes:
        length = None if "unknown" in kind else len(body)
        await nodes.put(url, body if kind == "bytes" else _pieces(body), length=length)
        assert node.files[PATH] == body
        assert await nodes.size(url) == len(body)
        async with nodes.get(url) as download:
            assert (download.length, download.status) == (len(body), 200)
            assert b"".join([piece async for piece in download]) == body
        if body:
            async with nodes.get(url, byte_range=(2, 3)) as download:
                assert [piece async for piece in download] == [body[2:4]]
            async with nodes.get(url, byte_range=(2, None)) as download:
                assert b"".join([piece async for piece in download]) == body[2:]
        assert await nodes.digest(url, HashType.SHA1) == hashlib.sha1(body).digest()
        assert await nodes.delete(url)
        assert not await nodes.delete(url)
        assert await nodes.size(url) is None
        assert await nodes.digest(url, HashType.MD5) is None
        with pytest.raises(errors.NoSource):
            async with nodes.get(url):
                pass


async def test_connections_are_reused() -> None:
    """Many consecutive requests use one connection, and size requests one more."""
    node = _Node()
    async with _serving(node) as url, NodeClient() as nodes:
        for _ in range(10):
            await nodes.put(url, b"x", length=1)
            assert await nodes.size(url) == 1
            assert await nodes.read(url, limit=1) == b"x"
        assert len(node.connections) == 2


@pytest.mark.parametrize("status", [302, 400, 403, 500, 503, 507])
async def test_a_node_that_refuses(status: int) -> None:
    """Any unexpected status, also a redirect, is NodeUnreachable; a refused digest is named."""
    node = _Node()
    node.refuse = status
    async with _serving(node) as url, NodeClient() as nodes:
        for work in (
            nodes.size(url),
            nodes.delete(url),
            nodes.usage(url),
            nodes.put(url, DATA, length=len(DATA)),
            nodes.put(url, _pieces(), length=len(DATA)),
            nodes.digest(url, HashType.MD5),
        ):
            with pytest.raises(errors.NodeUnreachable, match=str(status)):
                await work
        if status == 400:
            assert not await nodes.make_directory(url)
            with pytest.raises(errors.ChecksumMismatch):
                await nodes.put(url, b"x", length=1, md5=b"x" * 16)


@pytest.mark.parametrize("length", [len(DATA) - 1, len(DATA) + 1])
async def test_a_body_of_a_wrong_length(length: int) -> None:
    """A source that yields more or less than announced is an error, and the file is not stored."""
    node = _Node()
    async with _serving(node) as url, NodeClient() as nodes:
        with pytest.raises(errors.SizeMismatch):
            await nodes.put(url, _pieces(), length=length)
        assert not node.files


async def test_a_source_that_fails_raises_its_own_error() -> None:
    """An exception of the body's iteration is raised unchanged."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise KeyError("mine")

    async with _serving(_Node()) as url, NodeClient() as nodes:
        with pytest.raises(KeyError, match="mine"):
            await nodes.put(url, broken(), length=10)


async def test_a_node_that_disconnects_while_the_source_is_slow() -> None:
    """A disconnection in the middle of a body is NodeUnreachable, also while the source is awaited."""

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        await asyncio.sleep(30)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.transport.abort()

    async with _raw(serve) as (url, _), NodeClient() as nodes, asyncio.timeout(5):
        with pytest.raises(errors.NodeUnreachable):
            await nodes.put(url, slow(), length=200_000)


async def test_a_node_that_refuses_while_the_source_is_slow() -> None:
    """A refusal before the end of the body is raised at once, without waiting for the rest."""

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        await asyncio.sleep(30)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with _raw(serve) as (url, _), NodeClient() as nodes, asyncio.timeout(5):
        with pytest.raises(errors.NodeUnreachable, match="507"):
            await nodes.put(url, slow(), length=200_000)


async def test_an_ignored_range() -> None:
    """A complete file in reply to a range is an error."""
    node = _Node()
    node.files[PATH], node.ignore_range = DATA, True
    async with _serving(node) as url, NodeClient() as nodes:
        with pytest.raises(errors.NodeUnreachable):
            async with nodes.get(url, byte_range=(1, 2)):
                pass


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\n\r\nno length",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX: " + b"x" * 100_000 + b"\r\n\r\nx",
    ],
    ids=["nothing", "garbage", "negative", "short", "no length", "long header"],
)
async def test_invalid_replies(answer: bytes) -> None:
    """Anything but an HTTP reply is NodeUnreachable, and so is an incomplete body."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async with _raw(serve) as (url, _), NodeClient() as nodes:
        with pytest.raises(errors.NodeUnreachable):
            async with nodes.get(url) as download:
                assert [piece async for piece in download] != []


def _impatient() -> NodeClient:
    return NodeClient(connect_timeout=0.2, answer_timeout=0.05, stall_timeout=0.05)


async def test_stalled_nodes() -> None:
    """A node that neither reads nor writes is given up after the configured time, in either direction."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()

    async with (
        _raw(serve) as (url, _),
        _impatient() as nodes,
    ):
        for work in (nodes.size(url), nodes.put(url, DATA * 10, length=len(DATA) * 10), nodes.read(url, limit=1)):
            async with asyncio.timeout(5):
                with pytest.raises(errors.NodeUnreachable, match="no answer in time"):
                    await work
        ended.set()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234"])
async def test_time_for_the_header_and_for_the_body(sent: bytes) -> None:
    """A download is given up after the time of an answer if nothing arrives, and after that of a body if it stalls."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        await ended.wait()

    answer, stall = (0.05, 30) if not sent else (30, 0.05)
    async with (
        _raw(serve) as (url, _),
        NodeClient(connect_timeout=1, answer_timeout=answer, stall_timeout=stall) as nodes,
    ):
        async with asyncio.timeout(5):
            with pytest.raises(errors.NodeUnreachable):
                async with nodes.get(url) as download:
                    assert [piece async for piece in download] != []
        ended.set()


async def test_whether_anything_was_sent() -> None:
    """The error tells whether the upload may still arrive, also after an idle connection was tried."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with _raw(hang_up) as (url, _), NodeClient() as nodes:
        for place, nothing in ((url, False), ("http://127.0.0.1:1/dev1/x", True)):
            with pytest.raises(errors.NodeUnreachable) as told:
                await nodes.put(place, DATA, length=len(DATA))
            assert told.value.nothing_sent is nothing

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(1)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        left.close()
        await left.wait_closed()
        writer.close()

    left = await asyncio.start_server(answer_once, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{left.sockets[0].getsockname()[1]}/dev1/x"
    async with NodeClient() as nodes:
        await nodes.put(url, b"x", length=1)
        with pytest.raises(errors.NodeUnreachable) as told:
            await nodes.put(url, b"x", length=1)
        assert isinstance(told.value.__cause__, aiohttp.ClientConnectorError)
        assert not told.value.nothing_sent


async def test_no_server() -> None:
    """A refused connection, and an invalid address, are NodeUnreachable."""
    async with NodeClient() as nodes:
        for url in ("http://127.0.0.1:1/dev1/x", "http://[::/x", "nonsense"):
            with pytest.raises(errors.NodeUnreachable):
                await nodes.size(url)


@pytest.mark.parametrize(
    ("text", "usage"),
    [
        (b"available: 5\ntotal: 10\nused: 5\nuse: 50%\n", UsageReport(10, 5)),
        (b"total: 10\r\nused: 0\r\n", None),
        (b"total: 18446744073709551616\nused: 5\n", UsageReport((2**31 - 1) * 1024, 5)),
        (b"total: " + b"9" * 5000 + b"\nused: 5\n", None),
        (b"total: ten\nused: 5\n", None),
        (b"\xff\x00", None),
        (b"", None),
    ],
)
def test_usage_files(text: bytes, usage: UsageReport | None) -> None:
    """A usage file is valid if its total and used size are not zero."""
    assert UsageReport.parse(text) == usage


async def test_digests_from_the_side_channel() -> None:
    """The side channel is tried first; if it is unavailable or its reply is invalid the file is read instead."""
    answers = [f"{PATH} MD5={'ab' * 16}\r\n", f"{PATH} MD5=-1\r\n", "ERR read\r\n", f"/other MD5={'ab' * 16}\r\n"]
    asked = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(answers[len(asked) - 1].encode())
        await writer.drain()

    node = _Node()
    node.files[PATH] = b"data"
    async with _serving(node) as url, _raw(serve) as (_, port), NodeClient() as nodes:

        async def digest(side: int = port) -> bytes | None:
            return await nodes.digest(url, HashType.MD5, side_channel_port=side, reason="fsck")

        assert await digest() == b"\xab" * 16
        assert await digest() is None
        for side in (port, port, 1):
            assert await digest(side) == hashlib.md5(b"data").digest()
        assert asked == [f"MD5 {PATH} fsck\r\n".encode()] * 4


async def test_watching_a_node() -> None:
    """Each round of `watch` yields one mapping; its end, or an invalid line, is NodeUnreachable."""
    texts = [b"1\t0.40\n2\t-\n.\n1\t100\n.\n", b"ERR iostat unavailable\r\n", b"x" * 100_000]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"watch\r\n"
        writer.write(texts.pop(0))
        await writer.drain()

    async with _raw(serve) as (_, port), NodeClient() as nodes:
        seen = []
        for _ in range(3):
            with pytest.raises(errors.NodeUnreachable):
                async for each in nodes.watch("127.0.0.1", port):
                    seen.append(dict(each))
        assert seen == [{1: 0.4, 2: None}, {1: 100.0}]


async def test_sizes_from_the_side_channel() -> None:
    """Sizes of many files are asked for on one connection; -1 is a missing file, another reply is NodeUnreachable."""
    paths = [f"/dev1/0/000/000/000000000{number}.fid" for number in (1, 2)]
    answers = [f"{paths[0]} 5\r\n{paths[1]} -1\r\n", f"{paths[1]} 5\r\n", f"{paths[0]} five\r\n", f"{paths[0]} 5\r\n"]
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(answers[len(asked) - 1].encode())
        await writer.drain()

    async with _raw(serve) as (_, port), NodeClient() as nodes:
        urls = [f"http://127.0.0.1:7500{path}" for path in paths]
        assert await nodes.sizes(urls, port) == [5, None]
        assert asked == [f"size {paths[0]}\r\n".encode()]
        for _ in answers[1:]:
            with pytest.raises(errors.NodeUnreachable):
                await nodes.sizes(urls, port)
        with pytest.raises(errors.NodeUnreachable, match="cannot be said"):
            await nodes.sizes([f"{urls[0]}%20x", "http://127.0.0.1:7500/a b"], port)


@pytest.mark.parametrize(("status", "error"), [(404, errors.NoSource), (503, errors.NodeUnreachable)])
async def test_a_usage_file_that_is_missing(status: int, error: type[Exception]) -> None:
    """A device without a usage file is distinguished from a node that refuses."""
    node = _Node()
    node.refuse = status
    async with _serving(node) as url, NodeClient() as nodes:
        for call in (nodes.usage(url), nodes.read_small(url)):
            with pytest.raises(error):
                await call


@pytest.mark.parametrize(("status", "made"), [(201, True), (405, True), (400, False), (501, False)])
async def test_directories(status: int, made: bool) -> None:
    """A directory that exists already (405) is as good as a new one; a node without MKCOL says so."""
    node = _Node()
    node.refuse = status
    async with _serving(node) as url, NodeClient() as nodes:
        assert await nodes.make_directory(f"{url}/") is made


async def test_a_request_to_assemble_follows_no_redirect() -> None:
    """A redirect, which could lead anywhere, is an unexpected answer."""
    node = _Node()
    node.refuse = 307
    async with _serving(node) as url, NodeClient() as nodes:
        with pytest.raises(errors.TawaraError, match="307"):
            await nodes.assemble(url, [ByteRange(7, 0, 5)])
    assert len(node.connections) == 1
