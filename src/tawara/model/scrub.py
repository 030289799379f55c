"""State and pacing of the continuous scrub: passes ("rounds") over all files (pure).

A round takes one period. The remaining files are spread evenly over the remaining period, so that the load stays low,
also when files are stored or deleted meanwhile. A round proceeds in order of fid and includes files stored while it
runs, since their fids are higher. The number of files is estimated from the previous round.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import ceil
from typing import Final

PERIOD: Final = 30 * 86400
"""Default period in seconds within which every byte is read once."""
TICK: Final = 10
"""Least seconds between two ticks."""
MOST: Final = 2000
"""Most files queued in one tick."""
CHECKS_PER_PERIOD: Final = 64
"""Least number of checks for new files per period."""
LARGEST_SPEEDUP: Final = 8
"""Largest factor by which a late round is faster than one on time."""


@dataclass(frozen=True, slots=True)
class ScrubRound:
    """State of a round. Times are unix seconds."""

    began: int = 0
    """Start of the round; 0 if there was none yet."""
    end: int = 0
    """The highest fid of the round."""
    position: int = 0
    """The highest fid that was queued."""
    done: int = 0
    """Files queued."""
    known: int = 0
    """Number of files found by the previous round..."""
    known_end: int = 0
    """... up to this fid."""
    ticked_at: int = 0
    """Time of the last tick."""
    credit: float = 0.0
    """Fraction of a file due at the last tick."""

    @property
    def left(self) -> int:
        """Estimated files still to be queued, an upper bound: every new fid counts as a file."""
        if self.position >= self.end:
            return 0
        return max(1, self.known + self.end - self.known_end - self.done)

    def __str__(self) -> str:
        return " ".join(f"{each.name}={getattr(self, each.name)}" for each in fields(self))

    @classmethod
    def parse(cls, text: str) -> ScrubRound:
        """Parse the output of `str`; a new round if malformed."""
        said = dict(word.split("=", 1) for word in text.split() if "=" in word)
        try:
            counted = {each.name: int(said[each.name]) for each in fields(cls) if each.name != "credit"}
            return cls(**counted, credit=float(said["credit"]))
        except (KeyError, ValueError):
            return cls()


def begin(before: ScrubRound, *, first: int, last: int, now: int) -> ScrubRound:
    """Begin the next round, over the files from fid `first` to `last` and those stored later."""
    known, known_end = (before.done, before.end) if before.began else (0, first - 1)
    return ScrubRound(began=now, end=last, known=known, known_end=min(known_end, last), ticked_at=now)


def is_over(at: ScrubRound, period: int, now: int) -> bool:
    """Whether all files of the round were queued and the next round is due."""
    return not at.began or (not at.left and now >= at.began + period)


def due(at: ScrubRound, period: int) -> float:
    """Return the time of the next tick."""
    if not at.began:
        return 0.0
    look = at.ticked_at + max(TICK, period / CHECKS_PER_PERIOD)
    if not at.left:
        return min(look, max(at.began + period, at.ticked_at + TICK))
    return min(look, at.ticked_at + max(TICK, (1 - at.credit) / _pace(at, period, at.ticked_at)))


def take(at: ScrubRound, period: int, *, last: int, now: int) -> tuple[ScrubRound, int]:
    """Return the number of files to queue now; `last` is the highest existing fid.

    Time without a running worker is made up for gradually.
    """
    if now < at.began + period:
        at = replace(at, end=max(at.end, last))
    elapsed = min(max(0, now - at.ticked_at), max(TICK, 2 * period // CHECKS_PER_PERIOD))
    credit = at.credit + elapsed * _pace(at, period, now) if at.left else 0.0
    number = min(int(credit), MOST)
    return replace(at, ticked_at=now, credit=min(credit - number, 1.0)), number


def taken(at: ScrubRound, fids: list[int], wanted: int) -> ScrubRound:
    """Return the round after `fids` were queued; fewer than `wanted` means that no more exist."""
    at = replace(at, done=at.done + len(fids), position=max([at.position, *fids]))
    return at if len(fids) == wanted else replace(at, position=at.end, known=at.done, known_end=at.end)


def wait(at: ScrubRound, *, now: int) -> ScrubRound:
    """Return the round after a tick that queued nothing because earlier tasks are not finished."""
    return replace(at, ticked_at=now)


def expected_end(at: ScrubRound, period: int, *, unread: int, now: int, capacity: float | None) -> int:
    """Estimate the end of the round, with `unread` queued files; the end of its period if the capacity suffices.

    `capacity`: maximum files per second of the workers; None if unknown.
    """
    in_time = at.began + period
    fastest = LARGEST_SPEEDUP * (at.done + at.left) / period
    if capacity is not None:
        fastest = min(fastest, capacity)
    left = at.left + unread
    return max(in_time, now + ceil(left / fastest)) if left and fastest else in_time


def is_late(at: ScrubRound, period: int, expected: int) -> bool:
    """Whether the expected end of a round is late enough to be reported, beyond a small tolerance."""
    return expected > at.began + period + max(3 * TICK, period / CHECKS_PER_PERIOD)


def _pace(at: ScrubRound, period: int, now: int) -> float:
    """Return the files per second to queue."""
    return min(at.left / max(at.began + period - now, 1), LARGEST_SPEEDUP * (at.done + at.left) / period)
