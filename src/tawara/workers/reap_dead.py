"""Queues the files of devices that are marked dead for replication to other devices (docs/mogilefs.md 11.3)."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from tawara.metadata import clock, replicas
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeup
from tawara.model.cluster import DeviceState
from tawara.workers.runner import NoClaims

log = structlog.get_logger(__name__)

GRACE = 16.0
"""Seconds from the first sight of a dead device to the first pass: the operator may have mistyped."""
PASS = 1000
"""Replicas dropped in one transaction."""
LIMITED_PERIOD = 5.0
"""Seconds between two passes when settings limit how many replicas are queued at a time."""
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 7200.0
"""Seconds after which an empty dead device is checked again, doubling each time."""


class ReapDead(NoClaims):
    """See the module. A unit of work is one pass over one device."""

    name = "reap"

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        *,
        replicate_wakeup: Wakeup,
        grace: float = GRACE,
        period: float = 5.0,
    ) -> None:
        """`grace`: see GRACE. `period`: seconds between two checks for dead devices."""
        self._metadata = metadata
        self._view = view
        self._replicate_wakeup = replicate_wakeup
        self._grace = grace
        self._period = period
        self._due: dict[int, float] = {}
        """Dead device -> when its next pass is due, by the steady clock."""
        self._pause: dict[int, float] = {}

    async def take(self, limit: int) -> Sequence[int]:
        """See Worker."""
        now = clock.steady()
        devices = self._view.current.devices.values()
        dead = {device.devid for device in devices if device.state is DeviceState.DEAD}
        for devid in self._due.keys() - dead:  # no longer marked dead
            del self._due[devid]
            self._pause.pop(devid, None)
        for devid in dead - self._due.keys():
            self._due[devid] = now + self._grace
        due = [devid for devid, when in self._due.items() if when <= now][:limit]
        for devid in due:
            self._due[devid] = now + FIRST_PAUSE  # until its pass has ended
        return due

    async def work(self, item: int) -> float | None:
        """See Worker."""
        found = await self._metadata.write(
            replicas.empty_dead_device, item, limit=PASS, now=await self._metadata.clock.seconds()
        )
        if found != 0:
            log.info("dead_device_files_queued", devid=item, files=found or 0)
            self._pause.pop(item, None)
            self._replicate_wakeup.notify()
            pause = 0.0 if found == PASS else LIMITED_PERIOD
        else:
            pause = self._pause.get(item, FIRST_PAUSE)
            self._pause[item] = min(2 * pause, LONGEST_PAUSE)
        if item in self._due:
            self._due[item] = clock.steady() + pause
        return await self.next_due()

    async def next_due(self) -> float | None:
        """See Worker."""
        now = clock.steady()
        return self._metadata.clock.guess() + min([self._period, *(when - now for when in self._due.values())])
