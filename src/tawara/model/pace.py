"""How fast the workers are: what each process counts of itself, and what that comes to for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

BUSY_PERIOD: Final = 10
"""Seconds between two recordings of a process that has done something since the last."""
IDLE_PERIOD: Final = 60
"""Seconds between two recordings of one that has not."""
COPIED: Final = "copied"
"""Name of what is counted beside the files of `replicate`: the bytes that were copied meanwhile."""
LAPSE: Final = 150
"""Seconds after which a process that has recorded nothing counts as gone."""


@dataclass(frozen=True, slots=True)
class WorkPace:
    """What one process has done of one kind of work."""

    work: str
    done: int
    """Units since the process began."""
    failed: int
    rate: float
    """Recent units a second; 0 when there was nothing to do."""
    pace: float
    """Units a second while it had any to do: what it is capable of, or less; 0 when that is not known yet."""
    process: str = ""
    recorded_at: int = 0
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class WorkMeter:
    """What a process remembers of one kind of work between two recordings."""

    done: int = 0
    busy: float = 0.0
    """Seconds in which at least one unit was under way."""
    pace: float = 0.0

    def next(self, done: int, busy: float, seconds: float) -> tuple[WorkMeter, float]:
        """What to remember, and the rate, when so much was done in all and `seconds` have passed since the last time.

        The pace follows what was done while busy, the more of it the faster; moments say too little.
        """
        more, busier = done - self.done, busy - self.busy
        pace = self.pace
        if more > 0 and busier > 0:
            weight = 1.0 if not pace else min(1.0, busier / BUSY_PERIOD) / 2
            pace += (more / busier - pace) * weight
        return WorkMeter(done, busy, pace), max(0, more) / seconds if seconds > 0 else 0.0


def alive(paces: Iterable[WorkPace], now: int) -> list[WorkPace]:
    """Those of processes that run, as far as can be told."""
    return [each for each in paces if now - LAPSE < each.recorded_at]


def rate(paces: Iterable[WorkPace], work: str, now: int) -> float:
    """Recent units a second of all running processes together."""
    return sum(each.rate for each in alive(paces, now) if each.work == work)


def capacity(paces: Iterable[WorkPace], work: str, now: int) -> float | None:
    """Units a second that the running processes could do together, judged by what they have done; None if unknown.

    When none runs: what the last one was capable of.
    """
    known = [each for each in paces if each.work == work and each.pace > 0]
    running = alive(known, now)
    if running:
        return sum(each.pace for each in running)
    return max(known, key=lambda each: each.recorded_at).pace if known else None
