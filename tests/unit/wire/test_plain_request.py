"""Parsing of plain requests, from literal bytes, and compared with a complete HTTP server."""

import asyncio

import pytest
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import given
from hypothesis import strategies as st

from tawara.wire.plain_request import NotPlain, PlainRequest, head, parse

MOST = 16 * 1024


def parsed(data: bytes) -> PlainRequest:
    found = parse(data, MOST)
    assert found is not None
    return found[0]


def test_a_plain_put() -> None:
    """Method, path without query, length, and the beginning of the body are parsed."""
    data = b"PUT /dev1/0/000/000/0000000001.fid?x=1 HTTP/1.1\r\nHost: n\r\ncontent-LENGTH:  5 \r\n\r\nhello"
    found = parse(data, MOST)
    assert found is not None
    request, end = found
    assert request[:5] == ("PUT", "/dev1/0/000/000/0000000001.fid", 5, True, 1)
    assert data[end:] == b"hello"


def test_an_incomplete_head() -> None:
    """An incomplete head needs more data, up to a limit."""
    data = b"GET /dev1/usage HTTP/1.1\r\nHost: n\r\nRange: bytes=0-1\r\n\r\n"
    assert all(parse(data[:end], MOST) is None for end in range(len(data)))
    assert parsed(data).field(b"range") == "bytes=0-1"
    with pytest.raises(NotPlain):
        parse(data[:-2] + b"X: " + b"y" * MOST, MOST)


@pytest.mark.parametrize(
    ("connection", "minor", "keep"),
    [(None, 1, True), (None, 0, False), ("close", 1, False), ("Keep-Alive", 0, True), ("keep-alive", 1, True)],
)
def test_whether_the_connection_is_kept(connection: str | None, minor: int, keep: bool) -> None:
    """The version's default applies, unless the client says otherwise; the reply says so."""
    line = f"Connection: {connection}\r\n" if connection else ""
    request = parsed(f"GET /dev1/f HTTP/1.{minor}\r\nHost: n\r\n{line}\r\n".encode())
    assert request.keep is keep
    answer = head(request, 200, [("Server", "s")], keep=keep)
    said = {(1, False): b"Connection: close\r\n", (0, True): b"Connection: keep-alive\r\n"}.get((minor, keep), b"")
    assert answer == b"HTTP/1.%d 200 OK\r\nServer: s\r\n%s\r\n" % (minor, said)


@pytest.mark.parametrize(
    "data",
    [
        b"POST /dev1/f HTTP/1.1\r\nHost: n\r\n\r\n",
        b"GET http://n/dev1/f HTTP/1.1\r\nHost: n\r\n\r\n",
        b"GET /dev1/%66 HTTP/1.1\r\nHost: n\r\n\r\n",
        b"GET /dev1/f HTTP/2.0\r\nHost: n\r\n\r\n",
        b"GET  /dev1/f HTTP/1.1\r\nHost: n\r\n\r\n",
        b"GET /dev1/f HTTP/1.1\r\n\r\n",
        b"GET /dev1/f HTTP/1.1\nHost: n\r\n\r\n",
        b"GET /dev1/f HTTP/1.1\r\nHost: n\r\n folded\r\n\r\n",
        b"GET /dev1/f HTTP/1.1\r\nHost : n\r\n\r\n",
        b"GET /dev1/f HTTP/1.1\r\nHost: n\r\nHost: n\r\n\r\n",
        b"GET /dev1/f HTTP/1.1\r\nHost: n\r\nX: \xff\r\n\r\n",
        b"GET /dev1/f HTTP/1.1\r\nHost: n\r\nX: a\rb\r\n\r\n",
        b"GET /dev1/f HTTP/1.1\r\nHost: n\r\nContent-Length: 1\r\n\r\n",
        b"GET /dev1/f HTTP/1.1\r\nHost: n\r\nConnection: upgrade\r\n\r\n",
        b"PUT /dev1/f HTTP/1.1\r\nHost: n\r\n\r\n",
        b"PUT /dev1/f HTTP/1.1\r\nHost: n\r\nContent-Length: +1\r\n\r\n",
        b"PUT /dev1/f HTTP/1.1\r\nHost: n\r\nContent-Length: 1, 1\r\n\r\n",
        b"PUT /dev1/f HTTP/1.1\r\nHost: n\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"PUT /dev1/f HTTP/1.1\r\nHost: n\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT /dev1/f HTTP/1.1\r\nHost: n\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
        b"PUT /dev1/f HTTP/1.1\r\nHost: n\r\nContent-Length: 1\r\nContent-Range: bytes 0-0/2\r\n\r\n",
    ],
)  # fmt: skip
def test_other_requests_are_not_plain(data: bytes) -> None:
    """Rare, invalid or ambiguous requests are left to the complete server."""
    with pytest.raises(NotPlain):
        parse(data, MOST)


FIELD = st.sampled_from(
    [
        b"Host: n", b"Content-Length: 3", b"Content-Length:0", b"content-length: 3 ", b"Transfer-Encoding: chunked",
        b"Connection: close", b"Connection: keep-alive", b"X: y", b"X:", b"Range: bytes=0-1", b"Bad Name: x", b" x: y",
        b"Content-Length: 3\rX: y", b"Content-Length : 3", b"X: \x00", b"Expect: 100-continue",
    ]
)  # fmt: skip
LINE = st.sampled_from(
    [
        b"GET /dev1/f HTTP/1.1", b"PUT /dev1/f HTTP/1.1", b"PUT /dev1/f?q HTTP/1.0", b"HEAD /dev1/f HTTP/1.0",
        b"GET /dev1/f  HTTP/1.1", b"PUT /dev1/f HTTP/1.1 ", b"put /dev1/f HTTP/1.1", b"GET /dev1/f HTTP/1.10",
    ]
)  # fmt: skip


@given(line=LINE, fields=st.lists(FIELD, max_size=5))
async def test_aiohttp_parses_the_same(line: bytes, fields: list[bytes]) -> None:
    """A plain request is a request for aiohttp, too, with the same method, length and keep-alive."""
    data = b"\r\n".join([line, *fields, b"", b""])
    try:
        found = parse(data, MOST)
    except NotPlain:
        return
    assert found is not None
    request, end = found
    assert end == len(data)
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(asyncio.BaseProtocol(), loop, 2**16)  # type: ignore[arg-type] # is given no body
    try:
        ((message, _),), _, _ = parser.feed_data(data)
    except HttpProcessingError:
        pytest.fail(f"{data!r} is wrong")
    assert message.method == request.method
    assert message.path.partition("?")[0] == request.target
    assert int(message.headers.get("Content-Length", "0")) == request.length
    assert message.should_close is not request.keep
    assert not message.chunked
