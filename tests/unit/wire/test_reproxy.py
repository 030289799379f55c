"""The response fields of applications behind Perlbal."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tawara.wire.reproxy import LONGEST, CacheFor, parse_cache_for, parse_size, parse_urls


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("0", None),
        ("x", None),
        ("-5", None),
        ("60", CacheFor(60, frozenset())),
        ("60;Last-Modified  Content-Type", CacheFor(60, frozenset({"last-modified", "content-type"}))),
        (" 60 ; a b:c", CacheFor(60, frozenset({"a"}))),
        ("999999999", CacheFor(LONGEST, frozenset())),
    ],
)
def test_cache_times(text: str | None, expected: CacheFor | None) -> None:
    """Seconds, and after a semicolon the names of fields; anything else is not cached."""
    assert parse_cache_for(text) == expected


def test_sizes() -> None:
    """A malformed size matches no file; a missing one any."""
    assert [parse_size(text) for text in (None, " ", "0", "12", "-1", "1x", "9" * 30)] == [
        None,
        None,
        0,
        12,
        -1,
        -1,
        -1,
    ]


@given(st.text())
@example("0\x1f")
def test_any_text(text: str) -> None:
    """No text of an application's raises an exception, or costs much."""
    parse_cache_for(text)
    parse_size(text)
    assert len(parse_urls(text)) <= 32
