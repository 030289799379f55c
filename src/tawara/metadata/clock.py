"""Whether this machine's clock agrees with the database's: leases and due times are rows that all machines compare."""

from __future__ import annotations

import time
from typing import Final

from tawara.metadata.contract import Metadata, Transaction
from tawara.model.errors import ConfigurationError

MOST_APART: Final = 20
"""Seconds that two clocks may differ: a third of a lease, after which it is renewed."""


async def check(metadata: Metadata) -> None:
    """Raises ConfigurationError when the clocks are too far apart, Db.

    A machine ahead would take over the work of all others while they are at it, and put off its own until their clocks
    get there.
    """
    before = time.time()
    told = await metadata.read(now)
    apart = seconds_apart(before, told, time.time())
    if abs(apart) > MOST_APART:
        direction = "ahead of" if apart > 0 else "behind"
        raise ConfigurationError(
            f"This machine's clock is {abs(apart):.0f} s {direction} the database's",
            hint="Set both by a time server (chrony, systemd-timesyncd), and start again.",
        )


def seconds_apart(before: float, told: int, after: float) -> float:
    """How far ahead our clock is at least, if the other one said `told` (whole seconds) between `before` and `after`.

    Negative if it is behind; 0 if they may agree.
    """
    if before > told + 1:
        return before - told - 1
    return min(0.0, after - told)


async def now(tx: Transaction) -> int:
    """The database's time, in unix seconds."""
    row = await tx.row(f"SELECT {tx.dialect.unix_now}")
    assert row
    return int(row[0])
