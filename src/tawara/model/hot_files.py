"""Finds the files that are read most: a counter for each of the latest ones, which decays with time."""

from __future__ import annotations

import math
from typing import Final

_SECONDS: Final = 5.0
"""Time in which a counter decays to 1/e."""
_FILES: Final = 512
"""Maximum number of files that are counted."""


class HotFiles:
    """Counts the reads of files by fid."""

    def __init__(self, rate: float) -> None:
        """A file is hot at `rate` reads a second and more."""
        self._least = rate * _SECONDS
        self._counted: dict[int, tuple[float, float]] = {}

    def count(self, fid: int, now: float) -> bool:
        """Count a read at `now` (seconds of a clock that is not set back); return whether the file is hot."""
        score, then = self._counted.pop(fid, (0.0, now))
        score = score * math.exp((then - now) / _SECONDS) + 1
        self._counted[fid] = score, now  # the last of all: the first is the one that was not read for the longest time
        if len(self._counted) > _FILES:
            del self._counted[next(iter(self._counted))]
        return score >= self._least
