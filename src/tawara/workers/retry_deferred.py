"""Has done now what waits for no reason any more: a device can be used again, or the database's clock was set back.

Without it a file that waited for days for its second device would wait up to a day more after that returned, as in
MogileFS, where a person has to say `replicate_now`.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from tawara.metadata import deferrals, leases, queues
from tawara.metadata.clock import FRESH, MOST_APART, steady
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.deferrals import FEW, SETTLED, BlockedOn, DeferralNote
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.cluster import Cluster
from tawara.model.limits import FAILCOUNT
from tawara.workers.runner import LEASE, NoClaims

log = structlog.get_logger(__name__)

PERIOD = 5.0
"""Seconds between two looks."""
WARY = 3 * FRESH
"""Seconds after which every process has noticed that the database's clock was set back."""


class RetryDeferred(NoClaims):
    """See the module. A unit of work is what is noted of devices that are well.

    Nothing hangs on what this process has seen: which devices work was put off for stands in the database (`missed`).
    """

    name = "hasten"

    def __init__(self, metadata: Metadata, view: ClusterView, wakeups: Wakeups) -> None:
        self._metadata = metadata
        self._view = view
        self._wakeups = wakeups
        self._set_back = 0
        """How often the clock was set back, as far as this has heeded it."""
        self._wary_until = 0.0
        """By the steady clock."""

    async def take(self, limit: int) -> Sequence[list[DeferralNote]]:
        """See Worker."""
        await self._mind_the_clock()
        now = await self._metadata.clock.seconds()
        notes = deferrals.notes(self._view.current.settings)
        cluster = await self._view.look_for(each.devid for each in notes)
        # Others that have the database, too, put off work without a note.
        unusable = cluster.unusable() - {each.devid for each in notes if each.seen}
        if unusable:
            await self._metadata.write(deferrals.note, BlockedOn(missed=unusable), now=now)
        lost = [each for each in notes if cluster.is_lost(each.devid)]
        if lost:
            await self._metadata.write(deferrals.forget, lost)
        well = [each for each in notes if _is_well(cluster, each) and not now - SETTLED < each.at <= now]
        return [well] if well else []

    async def _mind_the_clock(self) -> None:
        """What the database's clock had dated before it was set back would wait until it is there again.

        So would what another process dates a moment later, which has not noticed yet.
        """
        clock = self._metadata.clock
        now = await clock.seconds()
        latest = await self._metadata.read(leases.latest_sign_of_life)
        if latest > now + MOST_APART or clock.set_back != self._set_back:
            self._set_back = clock.set_back
            self._wary_until = steady() + WARY
            log.warning("the database's clock was set back", ahead=max(0, latest - now))
        if steady() >= self._wary_until:
            return
        if await self._metadata.write(leases.bring_forward, now=now, lease=LEASE + MOST_APART):
            self._notify()

    async def work(self, item: list[DeferralNote]) -> float | None:
        """See Worker."""
        rescheduled = await self._metadata.write(_retry_deferred, item, now=await self._metadata.clock.seconds())
        if rescheduled is None:
            return None
        await self._view.refresh()
        if rescheduled:
            log.info("devices are usable again", devices=sorted({each.devid for each in item}), rescheduled=rescheduled)
        self._notify()
        return None

    def _notify(self) -> None:
        for wakeup in self._wakeups.of_queues:
            wakeup.notify()

    async def next_due(self) -> float | None:
        """See Worker."""
        return self._metadata.clock.guess() + PERIOD


def _is_well(cluster: Cluster, note: DeferralNote) -> bool:
    """Whether a device can be used again; to be read from may be all that one is for that did not answer."""
    return cluster.is_writeable(note.devid) or (not note.seen and cluster.should_read_from(note.devid))


async def _retry_deferred(tx: Transaction, well: Sequence[DeferralNote], *, now: int) -> int | None:
    """Have done now what was put off for the sake of these devices; how many rows of the queues.

    None if someone else has done that, or anything was hastened a moment ago: then what is noted stays.
    """
    gone = await deferrals.take_tick(tx, well, now=now)
    if not gone:
        return None
    return await queues.retry_all_deferred(tx, now=now, failures=FAILCOUNT if any(each.seen for each in gone) else FEW)
