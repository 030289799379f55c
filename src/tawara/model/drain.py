"""State of the drain of a device: passes over its files until none is left (pure).

A file that cannot be moved now, because no other device may hold it, is retried in later passes until the drain is
stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

PREFIX: Final = "tawara_drain_dev"
"""Prefix of the settings that store this state, one for each draining device."""
PAUSE: Final = 15
"""Seconds between two passes."""
LONGEST_PAUSE: Final = 900
"""Most seconds between two passes, after passes that moved nothing."""
SETTLED: Final = 10
"""Seconds until every tracker knows that the device gets no new files."""


@dataclass(frozen=True, slots=True)
class DrainRun:
    """State of one drain. Times are unix seconds."""

    began: int = 0
    files: int = 0
    """Replicas on the device at the start."""
    was_alive: int = 1
    """Whether the device accepted new files before the drain."""
    position: int = 0
    """The last fid queued in this pass."""
    due: int = 0
    """Time of the next tick."""
    left: int = 0
    """Replicas on the device at the start of the pass."""
    pause: int = PAUSE

    def __str__(self) -> str:
        return " ".join(f"{each.name}={getattr(self, each.name)}" for each in fields(self))

    @classmethod
    def parse(cls, text: str) -> DrainRun:
        """Parse the output of `str`; malformed fields keep their defaults."""
        said = dict(word.split("=", 1) for word in text.split() if "=" in word)
        return cls(**{each.name: int(said[each.name]) for each in fields(cls) if said.get(each.name, "").isdecimal()})


def queued(at: DrainRun, fids: list[int], wanted: int, *, left: int, now: int) -> DrainRun:
    """Return the state after a tick that queued `fids` of `wanted`, with `left` replicas on the device."""
    if len(fids) == wanted:
        return replace(at, position=fids[-1], due=now + 1)
    moved = left < at.left or not at.left
    pause = PAUSE if moved else min(2 * at.pause, LONGEST_PAUSE)
    return replace(at, position=0, due=now + pause, left=left, pause=pause)


def is_safe(at: DrainRun, *, left: int, uploads: int, copies: int, now: int) -> bool:
    """Whether the device can be removed without loss: no replica is on it, and no upload or copy writes to it."""
    return not (left or uploads or copies) and now - at.began >= SETTLED


def seconds_left(at: DrainRun, *, left: int, now: int) -> float | None:
    """Estimate the remaining seconds from the rate so far; None if unknown."""
    moved, took = at.files - left, now - at.began
    return left * took / moved if moved > 0 and took > 0 else None
