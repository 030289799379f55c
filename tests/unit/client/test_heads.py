"""HEAD over connections that servers close as they like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest

from tawara.nodes.heads import Heads


class _Server:
    """Answers `answers` requests on each connection, then closes it without a word."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.connections = 0
        self.closed = asyncio.Event()
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for _ in range(self.answers):
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
            self.closed.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Heads, str]]:
        heads = Heads(connect_timeout=2, answer_timeout=2, connections_per_host=2)
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        async with server:
            with closing(heads):
                yield heads, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dev1/x"


async def test_what_is_sent() -> None:
    """A request is a line and the host, no more, and the next one goes over the same connection."""
    server = _Server(answers=9)
    async with server.running() as (heads, url):
        assert [(await heads.ask(url)).length for _ in range(3)] == [5, 5, 5]
        assert server.heads[0] == b"HEAD /dev1/x HTTP/1.1\r\nHost: %s\r\n\r\n" % url.split("/")[2].encode()
        assert (server.connections, len(server.heads)) == (1, 3)


async def test_a_small_file_over_the_same_connection() -> None:
    """A small file is read whole, between two requests for a length; one without a length is refused."""
    bodies = [b"Content-Length: 5\r\n\r\nhello", b"Content-Length: 3\r\n\r\n", b"\r\n"]
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while bodies and await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\n" + bodies.pop(0))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        with closing(Heads(connect_timeout=2, answer_timeout=2, connections_per_host=2)) as heads:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dev1/usage"
            assert (await heads.get(url)).body == b"hello"
            assert (await heads.ask(url)).length == 3
            with pytest.raises(ValueError, match="length"):
                await heads.get(url)
        assert connections == 1


async def test_a_connection_closed_meanwhile() -> None:
    """A connection that the server has closed between two requests fails neither."""
    server = _Server(answers=1)
    async with server.running() as (heads, url):
        for expected in (1, 2, 3):
            assert (await heads.ask(url)).length == 5
            assert server.connections == expected


async def test_a_server_that_never_answers() -> None:
    """A fresh connection that is closed without an answer is an error, and is not tried for ever."""
    server = _Server(answers=0)
    async with server.running() as (heads, url):
        with pytest.raises(ConnectionError):
            await heads.ask(url)
        assert server.connections == 1


async def test_many_at_once() -> None:
    """More requests than connections wait for their turn, and all are answered."""
    server = _Server(answers=100)
    async with server.running() as (heads, url):
        answers = await asyncio.gather(*(heads.ask(url) for _ in range(50)))
        assert [answer.length for answer in answers] == [5] * 50
        assert server.connections == 2


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/x", "http://127.0.0.1/a b", "http://127.0.0.1/\r\nX: y", "http://h"]
)
async def test_addresses_that_are_none(url: str) -> None:
    """Nothing is sent to what is no plain address of HTTP, and nothing slips into the request."""
    heads = Heads(connect_timeout=1, answer_timeout=1, connections_per_host=1)
    with pytest.raises(ValueError, match="no address"):
        await heads.ask(url)
