"""The response to a GET or HEAD."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.gateway.reading import decide, media_type, type_of
from tawara.model.files import StoredFile
from tawara.wire.http import Conditions


def stored(length: int = 10, key: bytes = b"k.txt", content_type: str | None = None) -> StoredFile:
    return StoredFile(7, 1, key, length, 0, 1, (1,), 1_000_000, content_type)


@given(st.integers(0, 100), st.none() | st.text(max_size=30) | st.from_regex(r"bytes=\d{0,3}-\d{0,3}", fullmatch=True))
def test_lengths_add_up(length: int, asked: str | None) -> None:
    """Content-Length is the length of the part, and the part is inside the file."""
    answer = decide(stored(length), Conditions(), asked, head=False)
    if answer.status == 416:
        assert answer.part is None
        assert answer.headers["Content-Range"] == f"bytes */{length}"
        return
    assert answer.part is not None
    assert int(answer.headers["Content-Length"]) == answer.part.length
    assert answer.part.start + answer.part.length <= length
    assert (answer.status == 206) == answer.partial == ("Content-Range" in answer.headers)


def test_head_ignores_ranges() -> None:
    """HEAD ignores Range, and its response has no body (RFC 9110, section 14.2)."""
    answer = decide(stored(), Conditions(), "bytes=1-2", head=True)
    assert (answer.status, answer.headers["Content-Length"], answer.part) == (200, "10", None)


def test_preconditions_precede_ranges() -> None:
    """An unsatisfiable range has no effect if the client has the file already."""
    assert decide(stored(), Conditions(if_none_match="*"), "bytes=99-", head=False).status == 304


@pytest.mark.parametrize(
    ("key", "given_type", "expected"),
    [
        (b"a/b.JPG", None, "image/jpeg"),
        (b"a.tar.gz", None, "application/gzip"),
        (b"photo.jpg", "text/x-mine; charset=utf-8", "text/x-mine; charset=utf-8"),
        (b"dir.jpg/noextension", None, "application/octet-stream"),
        (b"\xff\xfe", None, "application/octet-stream"),
        (b"a.txt", "no type\r\nX: y", "text/plain"),
    ],
)
def test_types(key: bytes, given_type: str | None, expected: str) -> None:
    """The type is that of the upload, else by extension, else bytes; an invalid media type is never sent."""
    assert type_of(stored(key=key, content_type=given_type)) == expected


@given(st.text())
def test_media_types_are_one_line(text: str) -> None:
    """A media type with characters that end a header field is invalid."""
    assert media_type(text) is None or text.isprintable() or "\t" in text
