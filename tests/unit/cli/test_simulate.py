"""The estimated repair time in the output of `tawara simulate`."""

from __future__ import annotations

import pytest

from tawara.cli.simulate import Speed, _repair
from tawara.model.safety import Safety
from tawara.model.simulation import ClassOutcome, LossOutcome


def outcome(copies: int, size: int) -> LossOutcome:
    """A loss after which this many copies of this size have to be made."""
    made = ClassOutcome(copies=copies, bytes=copies * size)
    return LossOutcome((1,), {(1, 0): made}, Safety(), Safety(), Safety(), {}, {}, ())


@pytest.mark.parametrize(
    ("speed", "words"),
    [
        (Speed(), "The duration of the repair is unknown: no rate was measured yet; give --rate or --byte-rate"),
        (Speed(files=20), "The repair would take about 5 seconds, at 20 copies a second: 100 copies, 100 MB"),
        (Speed(bytes=1e6), "The repair would take about 1 minute, at 1.0 MB a second: 100 copies, 60.0 MB"),
        (
            Speed(files=1, bytes=1e6, shown=True),
            "The repair would take about 1 minute, at 1 copy or 1.0 MB a second, the recent rate of the workers:"
            " 60 copies, 60.0 MB",
        ),
    ],
)
def test_the_slower_rate_decides(speed: Speed, words: str) -> None:
    """The slower of the two rates decides, and the output names both with their source."""
    size, copies = (1_000_000, 100) if speed.bytes is None else (600_000, 100)
    if speed.shown:
        size, copies = 1_000_000, 60
    assert _repair(outcome(copies, size), speed) == [words]


def test_files_larger_than_measured_ones() -> None:
    """When the files are much larger than recently copied ones, the output warns that the estimate is too long."""
    told = _repair(outcome(10, 20_000_000), Speed(files=1000, bytes=10_000_000, shown=True))
    assert told[1] == "Recently copied files had 10.0 kB on average, these have 20.0 MB: it may go faster"
    assert len(_repair(outcome(10, 20_000), Speed(files=1000, bytes=10_000_000, shown=True))) == 1
    assert _repair(outcome(0, 0), Speed()) == ["There would be nothing to repair"]
