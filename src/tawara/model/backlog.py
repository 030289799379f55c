"""The length and age of a work queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MOST: Final = 100_000
"""Rows at which counting stops; shown as "this many or more"."""


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue: `replicate`, `delete`, `check`, `move`, or running operations: `upload`, `copy`."""

    name: str
    due: int
    """Rows that a worker may claim now; for running operations all rows."""
    later: int = 0
    """Rows that are claimed by a worker or deferred."""
    stuck: int = 0
    """Rows that need manual intervention."""
    since: int | None = None
    """When the oldest due row became due (unix seconds); None if no row is due or the time is unknown."""

    @property
    def waiting(self) -> int:
        """Number of rows in the queue."""
        return self.due + self.later + self.stuck

    def age(self, now: int) -> int | None:
        """Return the seconds for which the oldest due row has been due."""
        return None if self.since is None else max(0, now - self.since)
