"""Reschedules deferred work when the reason for the deferral is gone: a device is usable again, or the database clock
moved back.

Without it a file that has waited for days for its second device would wait up to a day more after the device returned,
as in MogileFS, where an operator has to run `replicate_now`.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from tawara.metadata import deferrals, leases, queues
from tawara.metadata.clock import FRESH, MOST_CLOCK_DIFFERENCE, steady
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.deferrals import MOST_FAILURES, SETTLED, BlockedOn, DeferralNote
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.cluster import Cluster
from tawara.model.limits import FAILCOUNT
from tawara.workers.runner import LEASE, NoClaims

log = structlog.get_logger(__name__)

PERIOD = 5.0
"""Seconds between two checks."""
ALERT = 3 * FRESH
"""Seconds until every process has noticed that the database clock moved back."""


class RetryDeferred(NoClaims):
    """See the module. A unit of work is the deferral notes of devices that are usable again.

    The notes are in the database (`metadata.deferrals`), so it does not matter which process deferred the work.
    """

    name = "retry_deferred"

    def __init__(self, metadata: Metadata, view: ClusterView, wakeups: Wakeups) -> None:
        self._metadata = metadata
        self._view = view
        self._wakeups = wakeups
        self._set_back = 0
        """Backward steps of the database clock that have been handled."""
        self._alert_until = 0.0
        """Until when due times may still be ahead of the clock, by the steady clock."""

    async def take(self, limit: int) -> Sequence[list[DeferralNote]]:
        """See Worker."""
        await self._check_clock()
        now = await self._metadata.clock.seconds()
        notes = deferrals.notes(self._view.current.settings)
        cluster = await self._view.refresh_for(each.devid for each in notes)
        # A mogilefsd on the same database defers work without a note.
        unusable = cluster.unusable() - {each.devid for each in notes if each.seen}
        if unusable:
            await self._metadata.write(deferrals.note, BlockedOn(missed=unusable), now=now)
        lost = [each for each in notes if cluster.is_lost(each.devid)]
        if lost:
            await self._metadata.write(deferrals.remove_unchanged, lost)
        usable = [each for each in notes if _is_usable(cluster, each) and not now - SETTLED < each.at <= now]
        return [usable] if usable else []

    async def _check_clock(self) -> None:
        """Bring work forward that was dated before the database clock moved back.

        For a while other processes may still date work by the old time, so this is repeated.
        """
        clock = self._metadata.clock
        now = await clock.seconds()
        latest = await self._metadata.read(leases.latest_sign_of_life)
        if latest > now + MOST_CLOCK_DIFFERENCE or clock.set_back != self._set_back:
            self._set_back = clock.set_back
            self._alert_until = steady() + ALERT
            log.warning("database_clock_set_back", seconds=max(0, latest - now))
        if steady() >= self._alert_until:
            return
        if await self._metadata.write(leases.make_due, now=now, lease=LEASE + MOST_CLOCK_DIFFERENCE):
            self._notify()

    async def work(self, item: list[DeferralNote]) -> float | None:
        """See Worker."""
        rescheduled = await self._metadata.write(_retry_deferred, item, now=await self._metadata.clock.seconds())
        if rescheduled is None:
            return None
        await self._view.refresh()
        if rescheduled:
            log.info("deferred_work_rescheduled", devids=sorted({each.devid for each in item}), rows=rescheduled)
        self._notify()
        return None

    def _notify(self) -> None:
        for wakeup in self._wakeups.of_queues:
            wakeup.notify()

    async def next_due(self) -> float | None:
        """See Worker."""
        return self._metadata.clock.guess() + PERIOD


def _is_usable(cluster: Cluster, note: DeferralNote) -> bool:
    """Whether a device can be used again. One that only failed to answer need not be writeable."""
    return cluster.is_writeable(note.devid) or (not note.seen and cluster.should_read_from(note.devid))


async def _retry_deferred(tx: Transaction, usable: Sequence[DeferralNote], *, now: int) -> int | None:
    """Make the work due that was deferred because of these devices. Returns the number of rows of the queues.

    None if another process did that, or work was rescheduled a moment ago: the notes then stay.
    """
    gone = await deferrals.take_tick(tx, usable, now=now)
    if not gone:
        return None
    return await queues.retry_all_deferred(
        tx, now=now, failures=FAILCOUNT if any(each.seen for each in gone) else MOST_FAILURES
    )
