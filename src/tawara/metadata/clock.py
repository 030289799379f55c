"""The database's clock. It dates all rows, because leases and due times are compared on different machines.

A machine's own clock may be wrong, or be corrected while a daemon runs. The time is therefore read from the database,
seldom, and the seconds since then are measured by a monotonic clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from tawara.metadata.contract import Metadata, Transaction
from tawara.model.errors import ConfigurationError

MOST_CLOCK_DIFFERENCE: Final = 20
"""Seconds by which two clocks may differ: a third of a lease, the age at which leases are renewed."""
FRESH: Final = 10.0
"""Seconds after which the time is read from the database again."""
JUMP: Final = 0.5
"""Most seconds by which a machine's clock may drift between two readings; more means that it was set."""


def steady() -> float:
    """Return the seconds of a monotonic clock; where the system has one, it also counts while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def wall() -> float:
    """Return this machine's own time, in unix seconds."""
    return time.time()  # noqa: TID251 - here it is compared with the database's


class Clock:
    """The database's time, read seldom and counted on locally. Belongs to one event loop."""

    def __init__(
        self,
        metadata: Metadata,
        *,
        wall: Callable[[], float] = wall,
        steady: Callable[[], float] = steady,
    ) -> None:
        self._metadata = metadata
        self._wall = wall
        self._steady = steady
        self._asked_at: float | None = None
        """Time of the last reading, by the monotonic clock."""
        self._ahead = 0.0
        """Offset of the database's clock from the monotonic clock, in seconds."""
        self._own_ahead = 0.0
        """Offset of this machine's clock from the monotonic clock, in seconds."""
        self.set_back = 0
        """Number of times that the database's clock was found to have been set back."""
        self._reading = asyncio.Lock()

    async def now(self) -> float:
        """Return the database's time, in unix seconds. Raises Db.

        The time is read from the database if the last reading is old, or if this machine's clock was set, as after a
        suspend, during which the monotonic clock may have stopped.
        """
        while not self._is_fresh():
            async with self._reading:
                if not self._is_fresh():
                    await self._ask()
        return self._ahead + self._steady()

    async def seconds(self) -> int:
        """Return the database's time in whole unix seconds, as stored in rows. Raises Db."""
        return int(await self.now())

    def guess(self) -> float:
        """Estimate the time without reading the database, accurately enough to decide how long to sleep."""
        return self._wall() if self._asked_at is None else self._ahead + self._steady()

    def _is_fresh(self) -> bool:
        at = self._steady()
        return (
            self._asked_at is not None
            and at - self._asked_at < FRESH
            and abs(self._wall() - at - self._own_ahead) < JUMP
        )

    async def _ask(self) -> None:
        before = self._steady()
        told = await self._metadata.read(now)
        after = self._steady()
        least, most = told - after, told - before
        if self._asked_at is not None and most < self._ahead - JUMP:
            self.set_back += 1
        # The estimate is kept within the new bounds, so that one slow reading does not shift it.
        self._ahead = (least + most) / 2 if self._asked_at is None else min(max(self._ahead, least), most)
        self._own_ahead = self._wall() - after
        self._asked_at = after


async def check(metadata: Metadata) -> None:
    """Raise ConfigurationError if this machine's clock is too far from the database's. Raises Db.

    Rows would still be right, but the machine's log times would be misleading.
    """
    before = wall()
    told = await metadata.read(now)
    apart = seconds_apart(before, told, wall())
    if abs(apart) > MOST_CLOCK_DIFFERENCE:
        direction = "ahead of" if apart > 0 else "behind"
        raise ConfigurationError(
            f"This machine's clock is {abs(apart):.0f} s {direction} the database's",
            hint="Set both by a time server (chrony, systemd-timesyncd), and start again.",
        )


def seconds_apart(before: float, told: float, after: float) -> float:
    """Return the least offset of the local clock, if the other one read `told` between `before` and `after`.

    The result is negative if the local clock is behind, and 0 if the clocks may agree.
    """
    if before > told:
        return before - told
    return min(0.0, after - told)


async def now(tx: Transaction) -> float:
    """Return the database's time, in unix seconds."""
    row = await tx.row(f"SELECT {tx.dialect.unix_now}")
    assert row
    return float(row[0])
