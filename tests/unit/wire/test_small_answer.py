"""Parsing of the reply to GET of a small file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.wire.small_answer import MOST, SmallAnswer, parse

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@given(st.integers(0, len(ANSWER) - 1))
def test_a_reply_in_pieces(end: int) -> None:
    """The reply is complete with the last byte of its body, and not before."""
    assert parse(ANSWER[:end]) is None
    assert parse(ANSWER) == SmallAnswer(200, b"hello", keep=True)


def test_whether_the_connection_can_be_reused() -> None:
    """The connection is not reused if the server closes it, speaks HTTP/1.0, or sent more than requested; interim
    replies are skipped."""
    assert parse(b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER) == SmallAnswer(200, b"hello", keep=True)
    assert parse(ANSWER + b"x") == SmallAnswer(200, b"hello", keep=False)
    assert parse(ANSWER.replace(b"1.1", b"1.0")) == SmallAnswer(200, b"hello", keep=False)
    closing = ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert parse(closing) == SmallAnswer(200, b"hello", keep=False)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d" % (MOST + 1),
        b"something else",
    ],
)
def test_other_replies(head: bytes) -> None:
    """A reply without a length, encoded or too long is left to a complete HTTP client."""
    with pytest.raises(ValueError):
        parse(head + b"\r\n\r\nhello")
