"""What a GET or HEAD is answered."""

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
    """Content-Length is that of the part, and the part lies inside the file."""
    answer = decide(stored(length), Conditions(), asked, head=False)
    if answer.status == 416:
        assert answer.part is None
        assert answer.headers["Content-Range"] == f"bytes */{length}"
        return
    assert answer.part is not None
    assert int(answer.headers["Content-Length"]) == answer.part.length
    assert answer.part.start + answer.part.length <= length
    assert (answer.status == 206) == answer.partial == ("Content-Range" in answer.headers)


def test_head_knows_no_ranges() -> None:
    """HEAD is answered as if there were no Range, and has no body (RFC 9110, section 14.2)."""
    answer = decide(stored(), Conditions(), "bytes=1-2", head=True)
    assert (answer.status, answer.headers["Content-Length"], answer.part) == (200, "10", None)


def test_preconditions_come_first() -> None:
    """A range that cannot be satisfied is no matter when the client has the file already."""
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
    """As the uploader said, else by extension, else bytes; what is no media type is never sent."""
    assert type_of(stored(key=key, content_type=given_type)) == expected


@given(st.text())
def test_media_types_are_one_line(text: str) -> None:
    """Nothing that could end a header field passes for a media type."""
    assert media_type(text) is None or text.isprintable() or "\t" in text
