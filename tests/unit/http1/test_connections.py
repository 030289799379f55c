"""The complete HTTP server on an in-memory transport: limits, half-closed connections, error replies."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from unittest.mock import Mock

import pytest
from aiohttp import HttpVersion10, HttpVersion11, web

from tawara.http1.connections import BoundedConnection, HttpServer, body_length, plain, send_continue, send_response
from tawara.model.limits import Limits
from tawara.model.node_errors import LengthRequired, TooLarge

GET = b"GET /dev1/x HTTP/1.1\r\nHost: h\r\n\r\n"
PUT = b"PUT /dev1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n"


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class _Peer:
    """A connection to a server that replies `done` once it has read the body; the test can delay it."""

    def __init__(self, *, most_header_bytes: int = 1000, reads: bool = True) -> None:
        self.reads = reads
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.bodies: list[bytes | str] = []
        self.closed = 0
        self.sent = b""
        self.closing = False
        server = HttpServer(self._handle, Limits(), idle=60)
        self.connection = BoundedConnection(
            server, self._on_closed, most_header_bytes, loop=asyncio.get_running_loop(), access_log=None
        )
        self.transport = Mock(spec=asyncio.Transport)
        self.transport.is_closing.side_effect = lambda: self.closing
        self.transport.get_extra_info.return_value = None
        self.transport.write.side_effect = self._write
        self.transport.writelines.side_effect = lambda pieces: self._write(b"".join(pieces))
        self.transport.close.side_effect = self._close
        self.connection.connection_made(self.transport)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        await self.go_on.wait()
        if not self.reads:
            return plain(405, "no")
        try:
            self.bodies.append(await request.read())
        except Exception as error:
            self.bodies.append(type(error).__name__)
            raise ConnectionResetError from error
        return plain(200, "done")

    def _on_closed(self) -> None:
        self.closed += 1

    def _write(self, data: bytes) -> None:
        self.sent += data

    def _close(self) -> None:
        self.closing = True

    async def receive(self, data: bytes) -> None:
        self.connection.data_received(data)
        await _settle()

    def replies(self) -> int:
        return self.sent.count(b"HTTP/1.1 200 OK")

    async def end(self) -> None:
        self.connection.connection_lost(None)
        await _settle()
        assert self.closed == 1


@pytest.mark.parametrize(("size", "closed"), [(1000, False), (1001, True)])
async def test_a_header_has_a_limit_in_bytes(size: int, closed: bool) -> None:
    """A connection whose header is incomplete beyond the limit is closed; not at the limit."""
    peer = _Peer()
    await _settle()
    header = b"GET / HTTP/1.1\r\n" + b"X: yyyy\r\n" * 200
    for at in range(0, size, 100):
        await peer.receive(header[at : min(at + 100, size)])
    assert peer.closing is closed
    await peer.end()


async def test_bytes_of_a_body_are_no_header() -> None:
    """A body may be larger than the limit of headers, and each request of a connection has the full limit."""
    peer = _Peer(most_header_bytes=100)
    await _settle()
    await peer.receive(PUT.replace(b"9", b"500"))
    for _ in range(5):
        await peer.receive(b"x" * 100)
    for _ in range(3):
        await peer.receive(GET[:20])
        await peer.receive(GET[20:])
    assert (peer.bodies, peer.replies(), peer.closing) == ([b"x" * 500, b"", b"", b""], 4, False)
    await peer.end()


async def test_a_peer_that_has_sent_all_gets_its_replies() -> None:
    """After the end of the peer's data, pending requests are answered, then the connection is closed."""
    peer = _Peer()
    await _settle()
    peer.go_on.clear()
    await peer.receive(GET + GET)
    assert peer.connection.eof_received() is True
    peer.go_on.set()
    await _settle()
    assert (peer.replies(), peer.closing) == (2, True)
    await peer.end()


async def test_the_end_of_an_idle_connection_closes_it() -> None:
    """When the peer ends its data between two requests, asyncio closes the connection."""
    peer = _Peer()
    await _settle()
    assert peer.connection.eof_received() is False
    await peer.end()


async def test_a_body_that_breaks_off_is_an_error() -> None:
    """The end of the data within a body is an error for the handler, never the end of the body."""
    peer = _Peer()
    await _settle()
    await peer.receive(PUT + b"1234")
    assert peer.connection.eof_received() is True
    await _settle()
    assert peer.bodies == ["RequestPayloadError"]
    assert peer.replies() == 0
    await peer.end()


@pytest.mark.parametrize("end", ["before the reply", "after the reply", "of the connection"])
async def test_the_rest_of_a_body_that_is_not_read(end: str, caplog: pytest.LogCaptureFixture) -> None:
    """A body that breaks off and is not being read is no error: the peer gets the reply, and nothing is logged."""
    peer = _Peer(reads=False)
    await _settle()
    if end == "before the reply":
        peer.go_on.clear()
    await peer.receive(PUT + b"1234")
    if end == "of the connection":
        peer.connection.connection_lost(None)
    else:
        assert peer.connection.eof_received() is True
    peer.go_on.set()
    await _settle()
    assert (peer.sent.count(b" 405 "), peer.closing or peer.closed > 0) == (1, True)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
    if end != "of the connection":
        await peer.end()


async def test_a_complete_body_is_no_error_after_the_end() -> None:
    """The end of the data after a complete body does not change the body."""
    peer = _Peer()
    await _settle()
    peer.go_on.clear()
    await peer.receive(PUT + b"123456789")
    assert peer.connection.eof_received() is True
    peer.go_on.set()
    await _settle()
    assert (peer.bodies, peer.replies()) == ([b"123456789"], 1)
    await peer.end()


async def test_a_connection_is_idle_between_requests_only() -> None:
    """idle_since is the time of the last data while no request is begun or pending, otherwise None."""
    peer = _Peer()
    await _settle()
    began = peer.connection.idle_since()
    assert began is not None
    await peer.receive(GET[:10])
    assert peer.connection.idle_since() is None
    peer.go_on.clear()
    await peer.receive(GET[10:])
    assert peer.connection.idle_since() is None
    peer.go_on.set()
    await _settle()
    since = peer.connection.idle_since()
    assert since is not None
    assert began < since <= asyncio.get_running_loop().time()
    await peer.end()


async def test_an_error_outside_of_the_handler_has_no_detail() -> None:
    """Malformed HTTP gets 400 with the standard phrase only; after bytes of a reply the connection is reset."""
    peer = _Peer()
    request = Mock(remote="192.0.2.1", writer=Mock(output_size=0))
    response = cast("web.Response", peer.connection.handle_error(request, 400, ValueError("secret"), "secret"))
    assert (response.status, response.body, response.keep_alive) == (400, b"Bad Request\n", False)
    request.writer.output_size = 1
    with pytest.raises(ConnectionResetError):
        peer.connection.handle_error(request, 400)
    request.writer.output_size = 0
    with pytest.raises(ConnectionResetError):
        peer.connection.handle_error(request, 500, BrokenPipeError())
    await peer.end()


@pytest.mark.parametrize(
    ("length", "coding", "expected"),
    [(0, None, 0), (10, None, 10), (11, None, TooLarge), (None, "Chunked", None), (None, None, LengthRequired),
     (None, "gzip", LengthRequired)],
)  # fmt: skip
def test_length_of_a_body(length: int | None, coding: str | None, expected: Any) -> None:
    """A body has a length up to the limit, or is chunked (in any case of letters); otherwise it is refused."""
    if isinstance(expected, type):
        with pytest.raises(expected):
            body_length(length, coding, most=10)
    else:
        assert body_length(length, coding, most=10) == expected


@pytest.mark.parametrize(
    ("version", "expect", "sent"),
    [(HttpVersion11, "100-Continue", True), (HttpVersion10, "100-continue", False), (HttpVersion11, "", False)],
)
async def test_continue_is_sent_to_clients_that_wait_for_it(version: Any, expect: str, sent: bool) -> None:
    """100 Continue is sent to HTTP/1.1 clients that ask for it, and is not part of the reply."""
    written: list[bytes] = []

    class Writer:
        output_size = 25

        async def write(self, data: bytes) -> None:
            written.append(data)

    request = Mock(version=version, headers={"Expect": expect}, writer=Writer())
    await send_continue(request)
    assert written == [b"HTTP/1.1 100 Continue\r\n\r\n"] * sent
    assert request.writer.output_size == (0 if sent else 25)


@pytest.mark.parametrize("whole", [True, False])
async def test_a_reply_before_the_end_of_the_body_closes_the_connection(whole: bool) -> None:
    """The connection is kept after a reply only if the request's body was read."""
    response = Mock(prepare=_nothing, write_eof=_nothing)
    await send_response(Mock(content=Mock(is_eof=lambda: whole)), response, timeout=5)
    assert response.force_close.called is not whole


async def test_a_reply_that_is_not_read_aborts_the_connection() -> None:
    """A peer that does not read a reply in time is disconnected."""
    request = Mock(content=Mock(is_eof=lambda: True))
    with pytest.raises(ConnectionResetError):
        await send_response(request, Mock(prepare=_forever, write_eof=_nothing), timeout=0)
    request.transport.abort.assert_called_once_with()


async def _nothing(*_: object) -> None:
    pass


async def _forever(*_: object) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(("text", "body"), [("", b""), ("No", b"No\n")])
def test_a_plain_reply(text: str, body: bytes) -> None:
    """A plain reply is empty or has one line, names the server, and has the given fields."""
    response = plain(404, text, Retry_After="5")
    assert (response.status, response.body) == (404, body)
    assert {**response.headers} == {"Server": "tawara", "Content-Type": "text/plain", "Retry-After": "5"}
