"""How long to leave alone what failed (docs/mogilefs.md 10.6 and 11.1). All times are seconds."""

from __future__ import annotations

import random
from typing import Final

REPLICATION: Final = (15, 60, 300, 1800, 3600, 7200, 14400, 28800)
REPLICATION_LATER: Final = 86400
LONGEST: Final = 86400
COPY_UNDER_WAY: Final = 10
"""After which to look again whether the last copy of a deleted file is gone."""

ABANDONED_COPY: Final = 30
"""After which to try again to delete what an abandoned copy left on a device that does not answer."""


def after_failed_replication(failcount: int, rng: random.Random) -> int:
    """The pause after a replication that failed for the `failcount`-th time after its first, spread by a fifth."""
    pause = REPLICATION[failcount] if failcount < len(REPLICATION) else REPLICATION_LATER
    return round(pause * rng.uniform(0.8, 1.2))


def while_not_writeable(failcount: int) -> int:
    """The pause before deleting from a device that does not answer now."""
    return min(60 * (10 + failcount), LONGEST)


def while_not_allowed(failcount: int) -> int:
    """The pause before deleting from a device whose state forbids it."""
    return min(3600 * (1 + failcount), LONGEST)


def after_failed_deletion(failcount: int) -> int:
    """The pause after a storage node refused to delete, or was silent: the first time it may just have restarted."""
    return 60 if failcount == 0 else min(1800 * (1 + failcount), LONGEST)


def after_errors(count: int, rng: random.Random) -> float:
    """The pause of a worker after `count` errors in a row outside of units of work, such as a lost database."""
    return min(60.0, 0.5 * 2.0 ** min(count - 1, 10)) * rng.uniform(0.5, 1.0)
