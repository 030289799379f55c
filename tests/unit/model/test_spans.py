"""Text for spans of time and for counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.spans import counted, listed, roughly, span, when


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (60, "1 minute"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (3600, "1 hour"),
        (86400, "1 day"),
        (200_000, "2 days"),
        (-5, "0 seconds"),
    ],
)
def test_span(seconds: int, words: str) -> None:
    """A span is given in the largest unit of which there are two, or exactly one."""
    assert span(seconds) == words


@given(st.floats(0, 1e9))
def test_a_span_is_nearly_exact(seconds: float) -> None:
    """The text differs from the span by a quarter at most, or half a second."""
    number, unit = span(seconds).split()
    size = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}[unit.removesuffix("s")]
    assert abs(int(number.replace(",", "")) * size - seconds) <= max(0.5, seconds / 4)


def test_an_estimate() -> None:
    """A very short estimate is not given as zero."""
    assert (roughly(90), roughly(1), roughly(0.2)) == ("about 90 seconds", "about 1 second", "less than a second")


def test_moments_and_counts() -> None:
    """Moments are past, present or future; counts have the plural of their noun."""
    assert (when(10, 10), when(75, 10), when(10, 75)) == ("now", "in 65 seconds", "65 seconds ago")
    assert (counted(1, "file"), counted(2000, "file"), counted(3, "copy")) == ("1 file", "2,000 files", "3 copies")
    assert counted(2, "key") == "2 keys"
    assert (listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])) == ("a", "a and b", "a, b and c")
