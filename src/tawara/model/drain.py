"""How far the emptying of a device has got: passes over its files until none is left (pure).

A file that cannot be moved now, because no other device may have it, is tried again in a later pass, for as long as the
device is to be emptied.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

PREFIX: Final = "tawara_drain_dev"
"""Of the settings in which this stands, one for each device that is being emptied."""
PAUSE: Final = 15
"""Seconds from one pass to the next."""
LONGEST_PAUSE: Final = 900
"""The same, after passes that moved nothing."""
SETTLED: Final = 10
"""Seconds after which every tracker knows that the device gets no new files."""


@dataclass(frozen=True, slots=True)
class DrainRun:
    """Where it stands. Times are unix seconds."""

    began: int = 0
    files: int = 0
    """Replicas that it had at the beginning."""
    was_alive: int = 1
    """Whether it took new files before."""
    position: int = 0
    """The last fid that was queued in this pass."""
    due: int = 0
    """When the next turn is to be taken."""
    left: int = 0
    """Replicas that it had when the pass began."""
    pause: int = PAUSE

    def __str__(self) -> str:
        return " ".join(f"{each.name}={getattr(self, each.name)}" for each in fields(self))

    @classmethod
    def parse(cls, text: str) -> DrainRun:
        """Read what `str` made; what makes no sense is left at its beginning."""
        said = dict(word.split("=", 1) for word in text.split() if "=" in word)
        return cls(**{each.name: int(said[each.name]) for each in fields(cls) if said.get(each.name, "").isdecimal()})


def queued(at: DrainRun, fids: list[int], wanted: int, *, left: int, now: int) -> DrainRun:
    """After a turn that queued `fids` of `wanted`, when `left` replicas are on the device."""
    if len(fids) == wanted:
        return replace(at, position=fids[-1], due=now + 1)
    moved = left < at.left or not at.left
    pause = PAUSE if moved else min(2 * at.pause, LONGEST_PAUSE)
    return replace(at, position=0, due=now + pause, left=left, pause=pause)


def is_safe(at: DrainRun, *, left: int, uploads: int, copies: int, now: int) -> bool:
    """Whether the device may be pulled: nothing is on it that a row names, nor is anything on its way there."""
    return not (left or uploads or copies) and now - at.began >= SETTLED


def seconds_left(at: DrainRun, *, left: int, now: int) -> float | None:
    """An estimate by the pace so far; None if there is no telling."""
    moved, took = at.files - left, now - at.began
    return left * took / moved if moved > 0 and took > 0 else None
