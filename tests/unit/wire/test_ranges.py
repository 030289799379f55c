"""Parsing of a Range header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.wire.ranges import NotPartial, Span, resolve


@pytest.mark.parametrize(
    ("header", "size", "answer"),
    [
        (None, 10, NotPartial.WHOLE),
        ("bytes=0-0", 10, Span(0, 1)),
        ("bytes=0-9", 10, Span(0, 10)),
        ("bytes=2-5", 10, Span(2, 4)),
        ("bytes=5-", 10, Span(5, 5)),
        ("bytes=5-999", 10, Span(5, 5)),
        ("bytes=-3", 10, Span(7, 3)),
        ("bytes=-99", 10, Span(0, 10)),
        ("BYTES=1-2", 10, Span(1, 2)),
        ("bytes=10-", 10, NotPartial.UNSATISFIABLE),
        ("bytes=10-12", 10, NotPartial.UNSATISFIABLE),
        ("bytes=-0", 10, NotPartial.UNSATISFIABLE),
        ("bytes=0-", 0, NotPartial.UNSATISFIABLE),
        ("bytes=-5", 0, NotPartial.UNSATISFIABLE),
        ("bytes=5-2", 10, NotPartial.WHOLE),
        ("bytes=-", 10, NotPartial.WHOLE),
        ("bytes=0-1,4-5", 10, NotPartial.WHOLE),
        ("chunks=0-1", 10, NotPartial.WHOLE),
        ("bytes=a-b", 10, NotPartial.WHOLE),
        ("bytes=１-２", 10, NotPartial.WHOLE),
        ("bytes=" + "9" * 15000 + "-", 10, NotPartial.UNSATISFIABLE),
        ("bytes=0-" + "9" * 15000, 10, Span(0, 10)),
    ],
)
def test_the_range_matrix(header: str | None, size: int, answer: Span | NotPartial) -> None:
    """Single ranges are resolved, clipped or unsatisfiable as in RFC 9110; malformed ones are ignored."""
    assert resolve(header, size) == answer


@given(st.one_of(st.text(), st.from_regex(r"bytes=[0-9]{0,25}-[0-9]{0,25}", fullmatch=True)), st.integers(0, 2**63))
def test_a_part_is_never_empty_and_never_outside(header: str, size: int) -> None:
    """For any range, a part lies within the file."""
    answer = resolve(header, size)
    if isinstance(answer, Span):
        assert answer.length >= 1
        assert answer.start >= 0
        assert answer.start + answer.length <= size


@given(st.binary(min_size=1, max_size=50), st.integers(0, 60), st.integers(0, 60))
def test_a_part_equals_a_slice(data: bytes, first: int, last: int) -> None:
    """`bytes=A-B` is the slice A to B inclusive."""
    answer = resolve(f"bytes={first}-{last}", len(data))
    if isinstance(answer, Span):
        assert data[answer.start : answer.start + answer.length] == data[first : last + 1]
    else:
        assert last < first or not data[first : last + 1]
