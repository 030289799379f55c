"""Drains devices whose disks report that they are failing, if the setting allows it (`model.failing`)."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from tawara.metadata import drain
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeup
from tawara.model.failing import to_drain
from tawara.workers.runner import NoClaims

log = structlog.get_logger(__name__)

PERIOD = 10.0
"""Seconds between two checks."""


class DrainFailing(NoClaims):
    """See the module. A unit of work is one device to drain."""

    name = "drain_failing"

    def __init__(self, metadata: Metadata, view: ClusterView, *, drain_wakeup: Wakeup, period: float = PERIOD) -> None:
        self._metadata = metadata
        self._view = view
        self._drain_wakeup = drain_wakeup
        self._period = period

    async def take(self, limit: int) -> Sequence[int]:
        """See Worker. One at a time, so that the next decision takes this one into account."""
        return to_drain(self._view.current)[:1]

    async def work(self, item: int) -> float | None:
        """See Worker."""
        if await self._metadata.write(_drain, item, now=await self._metadata.clock.seconds()):
            log.warning("failing_device_drained", devid=item)
        await self._view.refresh()
        self._drain_wakeup.notify()
        return None

    async def next_due(self) -> float | None:
        """See Worker."""
        return self._metadata.clock.guess() + self._period


async def _drain(tx: Transaction, devid: int, *, now: int) -> bool:
    """Start draining a device that is alive; False if its state has changed meanwhile."""
    if await tx.row("SELECT 1 FROM device WHERE devid = ? AND status = 'alive'", devid) is None:
        return False
    await drain.start(tx, devid, now=now)
    return True
