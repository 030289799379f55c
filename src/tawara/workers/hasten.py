"""Has done now what waits for no reason any more: a device can be used again, or the database's clock was set back.

Without it a file that waited for days for its second device would wait up to a day more after that returned, as in
MogileFS, where a person has to say `replicate_now`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from tawara.metadata import leases, queues
from tawara.metadata.bell import Bells
from tawara.metadata.clock import MOST_APART
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.workers.runner import LEASE, Unclaimed

log = structlog.get_logger(__name__)

PERIOD = 5.0
"""Seconds between two looks."""
PAUSE = 60.0
"""Seconds between two hastenings, whatever a device that comes and goes does."""


class Hasten(Unclaimed):
    """See the module. A unit of work is the devices that became usable."""

    name = "hasten"

    def __init__(self, metadata: Metadata, view: ClusterView, bells: Bells) -> None:
        self._metadata = metadata
        self._view = view
        self._bells = bells
        self._usable: frozenset[int] = frozenset()
        """Those for which nothing waits any more: none at the start, for devices may return together with this."""
        self._last = -PAUSE
        self._set_back = 0
        """How often the clock was set back, as far as this has heeded it."""

    async def take(self, limit: int) -> Sequence[frozenset[int]]:
        """See Worker."""
        await self._mind_the_clock()
        cluster = self._view.current
        usable = frozenset(devid for devid in cluster.devices if cluster.is_writeable(devid))
        self._usable &= usable
        returned = usable - self._usable
        if not returned or time.monotonic() - self._last < PAUSE:
            return []
        self._last = time.monotonic()
        return [returned]

    async def _mind_the_clock(self) -> None:
        """What the database's clock had dated before it was set back would wait until it is there again."""
        clock = self._metadata.clock
        now = await clock.seconds()
        latest = await self._metadata.read(leases.latest_sign_of_life)
        if latest <= now + MOST_APART and clock.set_back == self._set_back:
            return
        count = await self._metadata.write(leases.bring_forward, now=now, lease=LEASE)
        self._set_back = clock.set_back
        log.warning("the database's clock was set back", ahead=max(0, latest - now), hastened=count)
        self._bells.replicate.ring()
        self._bells.delete.ring()

    async def work(self, item: frozenset[int]) -> float | None:
        """See Worker."""
        hastened = await self._metadata.write(queues.hasten_all, now=await self._metadata.clock.seconds())
        self._usable |= item
        if hastened:
            log.info("devices are usable again", devices=sorted(item), hastened=hastened)
        self._bells.replicate.ring()
        self._bells.delete.ring()
        return None

    async def next_due(self) -> float | None:
        """See Worker."""
        return self._metadata.clock.guess() + PERIOD
