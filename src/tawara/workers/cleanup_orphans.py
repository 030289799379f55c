"""The sweeper: gives up uploads that were never closed, and deletes what abandoned copies left
(docs/mogilefs.md 11.2)."""

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
from tawara.workers import task_queue
from tawara.workers.runner import LEASE, ClaimedRow

log = structlog.get_logger(__name__)

Held = ClaimedRow[CopyReservation]

PERIOD = 15.0
"""Seconds between two looks."""
UPLOADS_AT_ONCE = 50
FORGET_EVERY = 60
"""Seconds between two times that traces which are too old are forgotten."""


class CleanupOrphans:
    """See the module. A unit of work is the place of an abandoned copy."""

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
        """`upload_open`: seconds after which an upload that is not closed is given up."""
        self._lease = lease
        self._metadata = metadata
        self._view = view
        self._nodes = nodes
        self._delete_wakeup = wakeups.delete
        self._replicate_wakeup = wakeups.replicate
        self._upload_open = upload_open
        self._period = period
        self._last = 0.0
        self._forgets_at = 0

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
                log.info("uploads given up", count=expired)
                self._delete_wakeup.notify()
        if now >= self._forgets_at:
            while await self._metadata.write(traces.forget, now=now):
                pass
            self._forgets_at = now + FORGET_EVERY
        claimed = await self._metadata.write(replicas.claim_abandoned_copies, now=now, limit=limit, lease=self._lease)
        return [ClaimedRow(claim) for claim in claimed]

    async def work(self, item: Held) -> float | None:
        """See Worker. A device that cannot be written now keeps its announcement, and is asked again later."""
        fid, devid, lease = item.claim
        cluster = await self._view.look_for([devid])
        url = cluster.url(devid, fid)
        # Since it was claimed it may have become a replica, of a mogilefsd that does not know of announcements.
        a_replica = devid in await self._metadata.read(replicas.devices_of, fid)
        if await self._metadata.clock.now() > -lease - self._lease / 2:
            return None  # this process had stalled: the place may be another's by now
        if not a_replica and not cluster.is_lost(devid) and url is not None:
            try:
                await self._nodes.delete(url)
            except NodeUnreachable as error:
                log.info("abandoned copy not deleted yet", fid=fid, device=devid, reason=str(error))
                until = await self._metadata.clock.seconds() + backoff.ABANDONED_COPY
                await self._metadata.write(leases.renew_copies, [item.claim], until=until)
                return None
        await self._metadata.write(_end, item.claim, now=await self._metadata.clock.seconds())
        self._delete_wakeup.notify()
        self._replicate_wakeup.notify()
        return None

    async def next_due(self) -> float | None:
        """See Worker."""
        return self._last + self._period

    async def renew(self, items: Sequence[Held]) -> None:
        """See Worker."""
        await task_queue.hold(self._metadata, items, until=await self._metadata.clock.seconds() + self._lease)

    async def release(self, items: Sequence[Held]) -> None:
        """See Worker."""
        await task_queue.hold(self._metadata, items, until=await self._metadata.clock.seconds())


async def _end(tx: Transaction, held: CopyReservation, *, now: int) -> None:
    """The place is free again: whoever waited for that goes on, to copy the file there or to forget it."""
    if not await replicas.end_reservation(tx, held):
        return
    if await files.find_fid(tx, held.fid) is not None:
        await queues.enqueue_replication(tx, held.fid, nexttry=await queues.urgency(tx, held.fid, now=now))
    else:
        await queues.retry_deletion(tx, held.fid, now)
