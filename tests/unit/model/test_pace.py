"""The throughput of the workers, from the counters of each process."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.pace import STOPPED_AFTER, WorkMeter, WorkPace, alive, capacity, rate

NOW = 10_000


def pace(process: str, *, at: int = NOW, rate: float = 0.0, pace: float = 0.0, work: str = "replicate") -> WorkPace:
    return WorkPace(work, 100, 0, rate, pace, process, at)


def test_processes_add_up_while_they_run() -> None:
    """Rates and capacities of running processes add up; processes without recent records do not count."""
    told = [
        pace("a", rate=10, pace=100),
        pace("b", rate=5, pace=50),
        pace("c", at=NOW - STOPPED_AFTER, rate=99, pace=99),
    ]
    assert {each.process for each in alive(told, NOW)} == {"a", "b"}
    assert rate(told, "replicate", NOW) == 15
    assert capacity(told, "replicate", NOW) == 150
    assert (rate(told, "delete", NOW), capacity(told, "delete", NOW)) == (0, None)


def test_the_last_processs_capacity() -> None:
    """When no process runs, the last one's pace is used."""
    told = [pace("a", at=NOW - 5000, pace=100), pace("b", at=NOW - 3000, pace=50)]
    assert capacity(told, "replicate", NOW) == 50


def test_the_pace_is_that_of_busy_time() -> None:
    """A process that does 50 units in two busy seconds of ten has a rate of 5 and a pace of 25 a second."""
    progress, of_late = WorkMeter().next(50, 2.0, 10.0)
    assert (progress.pace, of_late) == (25.0, 5.0)
    resting, of_late = progress.next(50, 2.0, 10.0)
    assert (resting, of_late) == (progress, 0.0)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(0.01, 10)), min_size=1, max_size=30))
def test_the_pace_stays_between_its_extremes(periods: list[tuple[int, float]]) -> None:
    """The pace is between the values of single periods, and never negative."""
    progress, done, busy = WorkMeter(), 0, 0.0
    shown = [units / seconds for units, seconds in periods if units]
    for units, seconds in periods:
        done, busy = done + units, busy + seconds
        progress, of_late = progress.next(done, busy, 10.0)
        assert of_late >= 0
    assert progress.pace <= max(shown, default=0.0) * 1.001
    assert progress.pace >= min(shown, default=0.0) * 0.999
