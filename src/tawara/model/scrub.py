"""The continuous scrub: how far a round over all files has got, and how many are due when (pure).

A round takes one period. What is left of it is spread evenly over what is left of the period, whatever was stored,
deleted or missed meanwhile, so that it hardly costs anything at any moment. It goes by fid, and takes in what is stored
while it lasts: those have higher fids than all others. How many files there are it learns from the round before.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import ceil
from typing import Final

PERIOD: Final = 30 * 86400
"""Seconds in which every byte is read again, unless the setting says otherwise."""
TICK: Final = 10
"""Seconds at least from one turn to the next."""
MOST: Final = 2000
"""Files at most in one turn."""
LOOKS: Final = 64
"""How often in a period, at least, it is looked whether files were stored."""
HASTE: Final = 8
"""A round that is late goes at most as many times as fast as one in time."""


@dataclass(frozen=True, slots=True)
class ScrubRound:
    """Where a round stands. Times are unix seconds."""

    began: int = 0
    """0 if none ever did."""
    end: int = 0
    """The highest fid that belongs to it."""
    position: int = 0
    """The highest fid that was queued."""
    done: int = 0
    """Files queued."""
    known: int = 0
    """How many files there were..."""
    known_end: int = 0
    """... up to this fid."""
    turn_at: int = 0
    """When the last turn was."""
    credit: float = 0.0
    """The part of a file that was due by then."""

    @property
    def left(self) -> int:
        """Files still to be queued, rather too many than too few: every fid that is new counts as one."""
        if self.position >= self.end:
            return 0
        return max(1, self.known + self.end - self.known_end - self.done)

    def __str__(self) -> str:
        return " ".join(f"{each.name}={getattr(self, each.name)}" for each in fields(self))

    @classmethod
    def parse(cls, text: str) -> ScrubRound:
        """Read what `str` made; a fresh round if it makes no sense."""
        said = dict(word.split("=", 1) for word in text.split() if "=" in word)
        try:
            counted = {each.name: int(said[each.name]) for each in fields(cls) if each.name != "credit"}
            return cls(**counted, credit=float(said["credit"]))
        except (KeyError, ValueError):
            return cls()


def begin(before: ScrubRound, *, first: int, last: int, now: int) -> ScrubRound:
    """The next round, over the files from fid `first` to `last` and those to come."""
    known, known_end = (before.done, before.end) if before.began else (0, first - 1)
    return ScrubRound(began=now, end=last, known=known, known_end=min(known_end, last), turn_at=now)


def is_over(at: ScrubRound, period: int, now: int) -> bool:
    """Whether all files of the round were queued, and it is time for the next round."""
    return not at.began or (not at.left and now >= at.began + period)


def due(at: ScrubRound, period: int) -> float:
    """When the next turn is to be taken."""
    if not at.began:
        return 0.0
    look = at.turn_at + max(TICK, period / LOOKS)
    if not at.left:
        return min(look, max(at.began + period, at.turn_at + TICK))
    return min(look, at.turn_at + max(TICK, (1 - at.credit) / _pace(at, period, at.turn_at)))


def take(at: ScrubRound, period: int, *, last: int, now: int) -> tuple[ScrubRound, int]:
    """How many files to queue now, when `last` is the highest fid there is.

    Time in which no worker was there is not made up for at once.
    """
    if now < at.began + period:
        at = replace(at, end=max(at.end, last))
    elapsed = min(max(0, now - at.turn_at), max(TICK, 2 * period // LOOKS))
    credit = at.credit + elapsed * _pace(at, period, now) if at.left else 0.0
    number = min(int(credit), MOST)
    return replace(at, turn_at=now, credit=min(credit - number, 1.0)), number


def taken(at: ScrubRound, fids: list[int], wanted: int) -> ScrubRound:
    """The round after `fids` were queued, of `wanted`; fewer than that means that there are no more."""
    at = replace(at, done=at.done + len(fids), position=max([at.position, *fids]))
    return at if len(fids) == wanted else replace(at, position=at.end, known=at.done, known_end=at.end)


def wait(at: ScrubRound, *, now: int) -> ScrubRound:
    """The round after a turn in which nothing could be queued, for what was queued before is not done yet."""
    return replace(at, turn_at=now)


def expected_end(at: ScrubRound, period: int, *, unread: int, now: int, capacity: float | None) -> int:
    """When the round will have been read, with `unread` of its queued files; at the end of its period, if it can.

    `capacity`: files a second that the workers are capable of, None if that is not known.
    """
    in_time = at.began + period
    fastest = HASTE * (at.done + at.left) / period
    if capacity is not None:
        fastest = min(fastest, capacity)
    left = at.left + unread
    return max(in_time, now + ceil(left / fastest)) if left and fastest else in_time


def is_late(at: ScrubRound, period: int, expected: int) -> bool:
    """Whether a round that is expected to end then is worth a word: it may last a little longer than its period."""
    return expected > at.began + period + max(3 * TICK, period / LOOKS)


def _pace(at: ScrubRound, period: int, now: int) -> float:
    """Files a second."""
    return min(at.left / max(at.began + period - now, 1), HASTE * (at.done + at.left) / period)
