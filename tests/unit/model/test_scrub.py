"""The passes of the scrub: every file in time, evenly, during any changes of the store and absences of workers."""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tawara.model import scrub
from tawara.model.scrub import ScrubRound

PERIODS = st.sampled_from([1000, 86400, scrub.PERIOD])


@dataclass
class Store:
    """Fids, and when each was queued."""

    period: int
    now: int = 1_000_000
    fids: list[int] = field(default_factory=list)
    at: ScrubRound = field(default_factory=ScrubRound)
    queued: dict[int, list[int]] = field(default_factory=dict)
    ticks: list[int] = field(default_factory=list)
    rounds: int = 0

    def store(self, count: int, step: int = 1) -> None:
        """Store files, their fids `step` apart."""
        last = max(self.queued, default=0)
        for number in range(count):
            insort(self.fids, last + 1 + number * step)
            self.queued[last + 1 + number * step] = []

    def turn(self) -> None:
        """One tick, as the worker takes it when due."""
        self.now = max(self.now, int(scrub.due(self.at, self.period)) + 1)
        if scrub.is_over(self.at, self.period, self.now) and self.fids:
            self.at = scrub.begin(self.at, first=self.fids[0], last=self.fids[-1], now=self.now)
            self.rounds += 1
        self.at, number = scrub.take(self.at, self.period, last=self.fids[-1] if self.fids else 0, now=self.now)
        start = bisect_right(self.fids, self.at.position)
        chosen = [fid for fid in self.fids[start : start + number] if fid <= self.at.end]
        for fid in chosen:
            self.queued[fid].append(self.now)
        self.at = scrub.taken(self.at, chosen, number) if number else self.at
        self.ticks.append(len(chosen))

    def run(self, seconds: int) -> None:
        """Take ticks for this long."""
        until = self.now + seconds
        while scrub.due(self.at, self.period) < until:
            self.turn()
        self.now = until


@settings(max_examples=20)
@given(PERIODS, st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5)), min_size=1, max_size=12), st.data())
def test_every_file_is_read_once_a_period(period: int, stored: list[tuple[int, int]], data: st.DataObject) -> None:
    """In a constant store files are read once a period; before that, a file waits at most two periods."""
    made = Store(period)
    made.store(1)
    born = dict.fromkeys(made.fids, made.now)
    for count, step in stored:
        made.store(count, step)
        born |= {fid: made.now for fid in made.fids if fid not in born}
        made.run(data.draw(st.integers(1, period // 2)))
    made.run(4 * period)
    grown = made.now
    made.run(3 * period)
    for fid in made.fids:
        times = [born[fid], *made.queued[fid], made.now]
        assert max(later - earlier for earlier, later in pairwise(times)) <= 2 * period
        steady = [at for at in times if at >= grown]
        assert max(later - earlier for earlier, later in pairwise(steady)) <= 1.1 * period


@settings(max_examples=20)
@given(PERIODS, st.integers(1, 300), st.integers(1, 4))
def test_the_pace_is_even(period: int, count: int, step: int) -> None:
    """From the second pass on, a tick takes at most a few times its share of the files."""
    made = Store(period)
    made.store(count, step)
    made.run(period + period // 8)
    begun = len(made.ticks)
    made.run(2 * period)
    assert max(made.ticks[begun:]) <= 1 + 4 * count / (scrub.CHECKS_PER_PERIOD / 2) + 4 * count * scrub.TICK / period


@settings(max_examples=20)
@given(PERIODS, st.integers(1, 200), st.integers(1, 20), st.data())
def test_a_pause_is_not_compensated_at_once(period: int, count: int, away: int, data: st.DataObject) -> None:
    """After any time without a worker the next tick takes a small part, and every pass ends."""
    made = Store(period)
    made.store(count)
    made.run(data.draw(st.integers(1, period)))
    made.now += away * period // 4
    made.turn()
    assert (
        made.ticks[-1]
        <= 1
        + 2 * count * scrub.LARGEST_SPEEDUP / scrub.CHECKS_PER_PERIOD
        + count * scrub.LARGEST_SPEEDUP * scrub.TICK / period
    )
    before = made.rounds
    made.run(3 * period)
    assert made.rounds > before


@settings(max_examples=20)
@given(PERIODS, st.integers(2, 200), st.data())
def test_passes_end_despite_deletions(period: int, count: int, data: st.DataObject) -> None:
    """Files deleted during a pass neither prevent its end nor the reading of others."""
    made = Store(period)
    made.store(count)
    for _ in range(4):
        made.run(period // 4)
        gone = data.draw(st.sets(st.sampled_from(made.fids), max_size=len(made.fids) - 1))
        made.fids = [fid for fid in made.fids if fid not in gone]
    before = {fid: len(made.queued[fid]) for fid in made.fids}
    made.run(3 * period)
    assert all(len(made.queued[fid]) >= before[fid] + 2 for fid in made.fids)


def test_an_empty_store_has_no_pass() -> None:
    """In an empty store nothing is due, and the first file begins a pass."""
    made = Store(scrub.PERIOD)
    made.turn()
    assert made.rounds == 0
    made.store(1)
    made.turn()
    assert made.rounds == 1


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.floats(0, 1))
def test_a_pass_round_trips(began: int, position: int, credit: float) -> None:
    """The text in the database parses to an equal pass; an invalid text to a new one."""
    made = ScrubRound(began=began, position=position, credit=credit)
    assert ScrubRound.parse(str(made)) == made
    assert ScrubRound.parse("began=x") == ScrubRound.parse("") == ScrubRound()


@pytest.mark.parametrize(
    ("done", "elapsed", "unread", "capacity", "late"),
    [
        (500, 500, 0, None, False),
        (0, 500, 0, None, False),  # nothing was done for half of the period: a round that hurries makes up for that
        (0, 950, 0, None, True),  # but not for more than it may hurry
        (500, 500, 500, 3.0, False),
        (500, 500, 500, 1.0, True),  # what is queued is not read as fast as it should be
        (1000, 1300, 0, 1.0, False),  # all is read, however long ago
        (1000, 1300, 20, 5.0, True),
    ],
)
def test_whether_a_pass_is_late(done: int, elapsed: int, unread: int, capacity: float | None, late: bool) -> None:
    """A pass of a thousand files in a thousand seconds is late if the rest cannot be read in time."""
    at = ScrubRound(began=10_000, end=1000, position=done, done=done, known=1000, known_end=1000)
    expected = scrub.expected_end(at, 1000, unread=unread, now=10_000 + elapsed, capacity=capacity)
    assert scrub.is_late(at, 1000, expected) is late
    assert expected >= 11_000
