"""How far two clocks are apart, as far as that can be told."""

from __future__ import annotations

import pytest

from tawara.metadata import clock


@pytest.mark.parametrize(
    ("before", "told", "after", "apart"),
    [
        (100.9, 100, 101.0, 0),
        (100.1, 100, 130.0, 0),  # the answer was long in coming, and may have been given early
        (90.0, 100, 130.0, 0),
        (3701.0, 100, 3701.1, 3600),
        (100.0, 3700, 101.0, -3599),
    ],
)
def test_seconds_apart(before: float, told: int, after: float, apart: float) -> None:
    """Only what the time that the question took cannot explain counts."""
    assert clock.seconds_apart(before, told, after) == pytest.approx(apart)
