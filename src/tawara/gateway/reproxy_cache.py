"""Answers of applications that were allowed to be repeated (X-Reproxy-Cache-For): kept in memory for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_ENTRIES: Final = 4096


@dataclass(frozen=True, slots=True)
class RepeatedAnswer:
    """The file that an application named for an address, with the fields that are repeated."""

    path: str
    """`/DOMAIN/KEY`."""
    fields: Sequence[tuple[str, str]]


class ReproxyCache:
    """Remembers answers by application, host and address."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns seconds and is not set back."""
        self._clock = clock
        self._kept: dict[tuple[int, str, str], tuple[float, RepeatedAnswer]] = {}

    def find(self, application: int, host: str, target: str) -> RepeatedAnswer | None:
        """Return the answer for an address, unless its time is over."""
        until, answer = self._kept.get((application, host, target), (0.0, None))
        if answer is not None and until <= self._clock():
            del self._kept[application, host, target]
            return None
        return answer

    def keep(self, application: int, host: str, target: str, answer: RepeatedAnswer, seconds: float) -> None:
        """Keep an answer; the one that was kept first of too many is dropped."""
        self._kept.pop((application, host, target), None)
        if len(self._kept) >= _ENTRIES:
            del self._kept[next(iter(self._kept))]
        self._kept[application, host, target] = self._clock() + seconds, answer
