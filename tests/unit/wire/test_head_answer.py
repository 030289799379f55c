"""Parsing of replies to HEAD."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.wire.head_answer import HeadAnswer, parse

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (OK, HeadAnswer(200, "OK", 12, keep=True)),
        (b"HTTP/1.1 404\r\n\r\n", HeadAnswer(404, "", None, keep=True)),
        (b"HTTP/1.0 200 OK\r\ncontent-length:%s\r\n\r\n" % (b"9" * 19), HeadAnswer(200, "OK", None, keep=False)),
        (b"HTTP/1.0 200 OK\r\ncontent-length:7\r\n\r\n", HeadAnswer(200, "OK", 7, keep=False)),
        (
            b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 7 \r\n\r\n",
            HeadAnswer(200, "OK", 7, keep=False),
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX: y\r\n\r\nbody", HeadAnswer(200, "OK", 7, keep=False)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\n", HeadAnswer(200, "OK", None, keep=True)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\n", HeadAnswer(200, "OK", None, keep=True)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n", HeadAnswer(200, "OK", None, keep=True)),
        (b"HTTP/1.1 103 Early Hints\r\nContent-Length: 1\r\n\r\n" + OK, HeadAnswer(200, "OK", 12, keep=True)),
    ],
)
def test_complete_replies(data: bytes, answer: HeadAnswer) -> None:
    """A reply has its status, its length if known, and whether the connection is kept; 1xx is skipped."""
    assert parse(data) == answer


@given(st.integers(0, len(OK) - 1))
def test_incomplete_replies(size: int) -> None:
    """An incomplete reply gives None, and no error."""
    assert parse(OK[:size]) is None


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"x" * 20_000, OK[:-2] + b"X: y" * 5000])
def test_invalid_replies(data: bytes) -> None:
    """Bytes that are not HTTP, or too long, are refused."""
    with pytest.raises(ValueError, match="no answer"):
        parse(data)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes(data: bytes, status: bool) -> None:
    """Any bytes are a reply, an incomplete one, or raise ValueError."""
    with suppress(ValueError):
        parse(OK[:17] + data if status else data)
