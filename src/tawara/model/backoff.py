"""Retry delays after failures (docs/mogilefs.md 10.6 and 11.1). All times are seconds."""

from __future__ import annotations

import random
from typing import Final

REPLICATION: Final = (15, 60, 300, 1800, 3600, 7200, 14400, 28800)
REPLICATION_LATER: Final = 86400
LONGEST: Final = 86400
COPY_UNDER_WAY: Final = 10
"""Delay before checking again whether the last copy of a deleted file is gone."""

ABANDONED_COPY: Final = 30
"""Delay before retrying to delete the remains of an abandoned copy from a device that does not respond."""


def after_failed_replication(failcount: int, rng: random.Random) -> int:
    """Return the delay after the `failcount`-th repeated failure of a replication, with a jitter of a fifth."""
    pause = REPLICATION[failcount] if failcount < len(REPLICATION) else REPLICATION_LATER
    return round(pause * rng.uniform(0.8, 1.2))


def while_not_writeable(failcount: int) -> int:
    """Return the delay before deleting from a device that does not respond."""
    return min(60 * (10 + failcount), LONGEST)


def while_not_allowed(failcount: int) -> int:
    """Return the delay before deleting from a device whose state forbids it."""
    return min(3600 * (1 + failcount), LONGEST)


def after_failed_deletion(failcount: int) -> int:
    """Return the delay after a failed deletion; short at first, since the node may just have restarted."""
    return 60 if failcount == 0 else min(1800 * (1 + failcount), LONGEST)


def after_errors(count: int, rng: random.Random) -> float:
    """Return a worker's delay after `count` consecutive errors outside of tasks, such as a lost database."""
    return min(60.0, 0.5 * 2.0 ** min(count - 1, 10)) * rng.uniform(0.5, 1.0)
