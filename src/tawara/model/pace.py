"""Measures worker throughput: counters of each process, and rates of all processes together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

BUSY_PERIOD: Final = 10
"""Seconds between two recordings by a process that has done work since the last."""
IDLE_PERIOD: Final = 60
"""Seconds between two recordings by an idle process."""
COPIED: Final = "copied"
"""Name of the counter of copied bytes, in addition to the file counter `replicate`."""
STOPPED_AFTER: Final = 150
"""Seconds without a recording after which a process is considered stopped."""


@dataclass(frozen=True, slots=True)
class WorkPace:
    """Throughput of one process for one kind of work."""

    work: str
    done: int
    """Units done since the process started."""
    failed: int
    rate: float
    """Recent units per second; 0 if idle."""
    pace: float
    """Units per second while busy, a lower bound of the capacity; 0 if not known yet."""
    process: str = ""
    recorded_at: int = 0
    """Time of the recording, unix seconds."""


@dataclass(frozen=True, slots=True)
class WorkMeter:
    """State of the measurement of one kind of work between two recordings."""

    done: int = 0
    busy: float = 0.0
    """Seconds during which at least one unit was in progress."""
    pace: float = 0.0

    def next(self, done: int, busy: float, seconds: float) -> tuple[WorkMeter, float]:
        """Return the next state and the rate, given the totals so far and the seconds since the last recording.

        The pace is a moving average over busy time; short busy periods change it little.
        """
        more, busier = done - self.done, busy - self.busy
        pace = self.pace
        if more > 0 and busier > 0:
            weight = 1.0 if not pace else min(1.0, busier / BUSY_PERIOD) / 2
            pace += (more / busier - pace) * weight
        return WorkMeter(done, busy, pace), max(0, more) / seconds if seconds > 0 else 0.0


def alive(paces: Iterable[WorkPace], now: int) -> list[WorkPace]:
    """Return the records of processes that are considered running."""
    return [each for each in paces if now - STOPPED_AFTER < each.recorded_at]


def rate(paces: Iterable[WorkPace], work: str, now: int) -> float:
    """Return the recent units per second of all running processes together."""
    return sum(each.rate for each in alive(paces, now) if each.work == work)


def capacity(paces: Iterable[WorkPace], work: str, now: int) -> float | None:
    """Estimate the maximum units per second of all running processes from their past work; None if unknown.

    If none is running, return the estimate for the last one.
    """
    known = [each for each in paces if each.work == work and each.pace > 0]
    running = alive(known, now)
    if running:
        return sum(each.pace for each in running)
    return max(known, key=lambda each: each.recorded_at).pace if known else None
