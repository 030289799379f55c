"""What waits in a queue of work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MOST: Final = 100_000
"""Where counting ends: more is "so many, or more"."""


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue: `replicate`, `delete`, `check`, `move`, or what is under way: `upload`, `copy`."""

    name: str
    due: int
    """Rows that a worker may take now; for what is under way, all of them."""
    later: int = 0
    """Rows that a worker has in hand, or that were put off."""
    stuck: int = 0
    """Rows that need manual intervention."""
    since: int | None = None
    """Since when the first row in line is due (unix seconds); None if nothing is due or it is unknown."""

    @property
    def waiting(self) -> int:
        """Everything that is in it."""
        return self.due + self.later + self.stuck

    def age(self, now: int) -> int | None:
        """For how many seconds the first in line has waited."""
        return None if self.since is None else max(0, now - self.since)
