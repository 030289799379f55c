"""Answers to HEAD, in bytes."""

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
def test_answers(data: bytes, answer: HeadAnswer) -> None:
    """An answer tells status, length where it is sure, and whether the connection goes on; 1xx is passed over."""
    assert parse(data) == answer


@given(st.integers(0, len(OK) - 1))
def test_half_an_answer(size: int) -> None:
    """As long as something is missing there is no answer, and no error."""
    assert parse(OK[:size]) is None


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"x" * 20_000, OK[:-2] + b"X: y" * 5000])
def test_no_answer(data: bytes) -> None:
    """What is no HTTP, or too long, is refused."""
    with pytest.raises(ValueError, match="no answer"):
        parse(data)


@given(st.binary(max_size=200), st.booleans())
def test_anything(data: bytes, status: bool) -> None:
    """Whatever comes, it is an answer, the beginning of one, or refused by ValueError."""
    with suppress(ValueError):
        parse(OK[:17] + data if status else data)
