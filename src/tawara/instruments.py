"""Counters of requests that cost little on the hot path; `tawara.monitoring` exposes them as metrics."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the duration histograms, in seconds; one more bucket has no bound."""


@dataclass(slots=True)
class DurationHistogram:
    """Number of durations in each bucket, and their sum."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    """Durations above the bound of the bucket before, and not above this one's."""
    seconds: float = 0.0

    def record(self, seconds: float) -> None:
        """Count one duration."""
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


class RequestMeter:
    """Counts the answered requests of one server by operation and result, and their durations by operation.

    The caller passes names of closed sets only: no key, no client, no name that a client has chosen.
    """

    __slots__ = ("counts", "durations")

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        """(operation, result) -> requests."""
        self.durations: dict[str, DurationHistogram] = {}
        """Operation -> durations."""

    def record(self, operation: str, result: str, seconds: float) -> None:
        """Count one request."""
        key = (operation, result)
        self.counts[key] = self.counts.get(key, 0) + 1
        histogram = self.durations.get(operation)
        if histogram is None:
            histogram = self.durations[operation] = DurationHistogram()
        histogram.record(seconds)


METHODS: Final = frozenset(
    {
        *("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "MKCOL"),
        *("COPY", "MOVE", "LOCK", "UNLOCK", "PROPFIND", "PROPPATCH"),
    }
)
OTHER: Final = "other"
ABORTED: Final = "aborted"
"""Result of a request whose connection ended before its answer was complete."""


def method_label(method: str) -> str:
    """Return the label of an HTTP method, from a closed set: a client may send any word."""
    return method if method in METHODS else OTHER
