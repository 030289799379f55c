"""Expires uploads that were never closed, and deletes the bytes of abandoned copies (docs/mogilefs.md 11.2)."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from tawara.metadata import files, leases, queues, replicas, traces
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model import backoff
from tawara.model.errors import NodeUnreachable
from tawara.model.files import CopyReservation
from tawara.nodes.client import NodeClient
from tawara.workers.runner import LEASE, ClaimedRow
from tawara.workers.task_queue import LeaseHolder

log = structlog.get_logger(__name__)

Held = ClaimedRow[CopyReservation]

PERIOD = 15.0
"""Seconds between two passes."""
UPLOADS_AT_ONCE = 50
TRACE_CLEANUP_PERIOD = 60
"""Seconds between two deletions of expired traces."""


class CleanupOrphans(LeaseHolder):
    """See the module. A unit of work is an expired copy reservation."""

    name = "sweep"

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        *,
        wakeups: Wakeups,
        upload_open: int,
        period: float = PERIOD,
        lease: int = LEASE,
    ) -> None:
        """`upload_open`: seconds after which an upload that is not closed expires. `period`: see PERIOD."""
        self._lease = lease
        self._metadata = metadata
        self._view = view
        self._nodes = nodes
        self._delete_wakeup = wakeups.delete
        self._replicate_wakeup = wakeups.replicate
        self._upload_open = upload_open
        self._period = period
        self._last = 0.0
        self._next_forget = 0

    async def take(self, limit: int) -> Sequence[Held]:
        """See Worker."""
        now = await self._metadata.clock.seconds()
        self._last = float(now)
        expired = UPLOADS_AT_ONCE
        while expired == UPLOADS_AT_ONCE:
            expired = await self._metadata.write(
                files.expire_uploads, before=now - self._upload_open, now=now, limit=UPLOADS_AT_ONCE
            )
            if expired:
                log.info("uploads_expired", count=expired)
                self._delete_wakeup.notify()
        if now >= self._next_forget:
            while await self._metadata.write(traces.forget, now=now):
                pass
            self._next_forget = now + TRACE_CLEANUP_PERIOD
        claimed = await self._metadata.write(replicas.claim_abandoned_copies, now=now, limit=limit, lease=self._lease)
        return [ClaimedRow(claim) for claim in claimed]

    async def work(self, item: Held) -> float | None:
        """See Worker. The reservation on a device that cannot be written now is kept and tried again later."""
        fid, devid, lease = item.claim
        cluster = await self._view.refresh_for([devid])
        url = cluster.url(devid, fid)
        # It may have become a replica since: mogilefsd does not know reservations.
        is_replica = devid in await self._metadata.read(replicas.devices_of, fid)
        if await self._metadata.clock.now() > -lease - self._lease / 2:
            return None  # this process had stalled: another may have reserved the slot
        if not is_replica and not cluster.is_lost(devid) and url is not None:
            try:
                await self._nodes.delete(url)
            except NodeUnreachable as error:
                log.info("orphan_deletion_deferred", fid=fid, devid=devid, reason=str(error))
                until = await self._metadata.clock.seconds() + backoff.ABANDONED_COPY
                await self._metadata.write(leases.renew_copies, [item.claim], until=until)
                return None
        await self._metadata.write(_end_reservation, item.claim, now=await self._metadata.clock.seconds())
        self._delete_wakeup.notify()
        self._replicate_wakeup.notify()
        return None

    async def next_due(self) -> float | None:
        """See Worker."""
        return self._last + self._period


async def _end_reservation(tx: Transaction, held: CopyReservation, *, now: int) -> None:
    """End a reservation, and reschedule the replication or deletion that waited for it."""
    if not await replicas.end_reservation(tx, held):
        return
    if await files.find_fid(tx, held.fid) is not None:
        await queues.enqueue_replication(tx, held.fid, nexttry=await queues.urgency(tx, held.fid, now=now))
    else:
        await queues.retry_deletion(tx, held.fid, now)
