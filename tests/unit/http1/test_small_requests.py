"""HEAD and small GET over connections that the server may close at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, closing, suppress

import pytest

from tawara.http1.small_requests import SmallRequests


class _Server:
    """Answers `answers` requests on each connection, then closes it."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.connections = 0
        self.closed = asyncio.Event()
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for _ in range(self.answers):
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
            self.closed.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[SmallRequests, str]]:
        requests = SmallRequests(connect_timeout=2, answer_timeout=2, connections_per_host=2)
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        async with server:
            with closing(requests):
                yield requests, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dev1/x"


async def test_requests_are_minimal_and_share_a_connection() -> None:
    """A request has only the Host field, and the next request uses the same connection."""
    server = _Server(answers=9)
    async with server.running() as (requests, url):
        assert [(await requests.head(url)).length for _ in range(3)] == [5, 5, 5]
        assert server.requests[0] == b"HEAD /dev1/x HTTP/1.1\r\nHost: %s\r\n\r\n" % url.split("/")[2].encode()
        assert (server.connections, len(server.requests)) == (1, 3)


async def test_a_small_file_over_the_same_connection() -> None:
    """GET and HEAD share a connection; a reply without a length raises ValueError."""
    bodies = [b"Content-Length: 5\r\n\r\nhello", b"Content-Length: 3\r\n\r\n", b"\r\n"]
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while bodies and await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\n" + bodies.pop(0))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        with closing(SmallRequests(connect_timeout=2, answer_timeout=2, connections_per_host=2)) as requests:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dev1/usage"
            assert (await requests.get(url)).body == b"hello"
            assert (await requests.head(url)).length == 3
            with pytest.raises(ValueError, match="no response with a Content-Length"):
                await requests.get(url)
        assert connections == 1


async def test_a_connection_closed_meanwhile() -> None:
    """A request on a connection that the server has closed is repeated on a new one."""
    server = _Server(answers=1)
    async with server.running() as (requests, url):
        for expected in (1, 2, 3):
            assert (await requests.head(url)).length == 5
            assert server.connections == expected


async def test_a_server_that_never_replies() -> None:
    """A new connection that is closed without a reply is an error, and retries are limited."""
    server = _Server(answers=0)
    async with server.running() as (requests, url):
        with pytest.raises(ConnectionError):
            await requests.head(url)
        assert server.connections == 1


async def test_many_at_once() -> None:
    """Requests beyond the connection limit wait, and all are answered."""
    server = _Server(answers=100)
    async with server.running() as (requests, url):
        answers = await asyncio.gather(*(requests.head(url) for _ in range(50)))
        assert [answer.length for answer in answers] == [5] * 50
        assert server.connections == 2


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/x", "http://127.0.0.1/a b", "http://127.0.0.1/\r\nX: y", "http://h"]
)
async def test_invalid_urls(url: str) -> None:
    """Nothing is sent to a URL that is not plain HTTP, and no URL can add lines to the request."""
    requests = SmallRequests(connect_timeout=1, answer_timeout=1, connections_per_host=1)
    with pytest.raises(ValueError, match="not a URL"):
        await requests.head(url)


@pytest.mark.parametrize(
    ("reply", "reused"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nunsolicited", False),
    ],
)
async def test_a_connection_is_reused_only_if_the_server_keeps_it(reply: bytes, reused: bool) -> None:
    """A connection that the server closes, or on which it has sent more than the reply, carries no other request."""
    async with _replying(reply) as (requests, url, connections):
        for _ in range(2):
            assert (await requests.head(url)).length == 5
            await _settle()
        assert len(connections) == (1 if reused else 2)


async def test_an_idle_connection_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle connection is closed after 15 seconds; a request on it restarts the time."""
    loop, timers = asyncio.get_running_loop(), []
    later = loop.call_later

    def call_later(delay: float, callback: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        timer = later(delay, callback, *arguments)
        if delay == 15:
            timers.append((timer, callback))
        return timer

    monkeypatch.setattr(loop, "call_later", call_later)
    async with _replying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") as (requests, url, connections):
        await requests.head(url)
        await requests.head(url)
        assert [timer.cancelled() for timer, _ in timers] == [True, False]
        timers[1][1]()
        await _settle()
        await requests.head(url)
        assert len(connections) == 2
    assert timers[2][0].cancelled()


async def test_a_broken_reply_closes_its_connection() -> None:
    """After a reply that cannot be parsed the connection is closed, and the next request has a new one."""
    async with _replying(b"nonsense\r\n\r\n") as (requests, url, connections):
        for expected in (1, 2):
            with pytest.raises(ValueError, match="no answer of HTTP"):
                await requests.head(url)
            assert len(connections) == expected


async def test_a_silent_server_times_out() -> None:
    """A server that never replies raises TimeoutError, and its connection is closed."""
    async with _replying(b"", timeout=0.02) as (requests, url, connections):
        with pytest.raises(TimeoutError):
            await requests.head(url)
        await _ended(connections)


@asynccontextmanager
async def _replying(
    reply: bytes, *, timeout: float = 2
) -> AsyncIterator[tuple[SmallRequests, str, list[asyncio.StreamWriter]]]:
    """A server that sends `reply` to each request; also the connections that it has had."""
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(reply)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        requests = SmallRequests(connect_timeout=timeout, answer_timeout=timeout, connections_per_host=2)
        with closing(requests):
            yield requests, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dev1/x", connections
        await _ended(connections)


async def _ended(connections: Iterable[asyncio.StreamWriter]) -> None:
    async with asyncio.timeout(10):
        for each in connections:
            with suppress(ConnectionError):
                await each.wait_closed()


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)
