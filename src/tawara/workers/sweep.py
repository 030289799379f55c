"""The sweeper: gives up uploads that were never closed, and deletes what abandoned copies left (section 11.2)."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from tawara.client.nodes import NodeClient
from tawara.metadata import files, queues, replicas, traces
from tawara.metadata.bell import Bells
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.view import ClusterView
from tawara.model.errors import NodeUnreachable

log = structlog.get_logger(__name__)

PERIOD = 15.0
"""Seconds between two looks."""
UPLOADS_AT_ONCE = 50
FORGET_EVERY = 60
"""Seconds between two times that traces which are too old are forgotten."""


class Sweep:
    """See the module. A unit of work is the place (fid, devid) of an abandoned copy."""

    name = "sweep"

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        *,
        bells: Bells,
        upload_open: int,
        period: float = PERIOD,
    ) -> None:
        """`upload_open`: seconds after which an upload that is not closed is given up."""
        self._metadata = metadata
        self._view = view
        self._nodes = nodes
        self._delete_bell = bells.delete
        self._replicate_bell = bells.replicate
        self._upload_open = upload_open
        self._period = period
        self._last = 0.0
        self._forgets_at = 0

    async def take(self, limit: int) -> Sequence[tuple[int, int]]:
        """See Worker."""
        self._last = time.time()
        now = int(self._last)
        expired = UPLOADS_AT_ONCE
        while expired == UPLOADS_AT_ONCE:
            expired = await self._metadata.write(
                files.expire_uploads, before=now - self._upload_open, now=now, limit=UPLOADS_AT_ONCE
            )
            if expired:
                log.info("uploads given up", count=expired)
                self._delete_bell.ring()
        if now >= self._forgets_at:
            while await self._metadata.write(traces.forget, now=now):
                pass
            self._forgets_at = now + FORGET_EVERY
        return await self._metadata.write(replicas.claim_abandoned_copies, now=now, limit=limit)

    async def work(self, item: tuple[int, int]) -> float | None:
        """See Worker. A device that cannot be written now keeps its announcement, and is asked again later."""
        fid, devid = item
        cluster = self._view.current
        url = cluster.url(devid, fid)
        # Since it was claimed it may have become a replica, of a mogilefsd that does not know of announcements.
        a_replica = devid in await self._metadata.read(replicas.devices_of, fid)
        if not a_replica and not cluster.is_lost(devid) and url is not None:
            try:
                await self._nodes.delete(url)
            except NodeUnreachable as error:
                log.info("abandoned copy not deleted yet", fid=fid, device=devid, reason=str(error))
                return None
        await self._metadata.write(_end, fid, devid, now=int(time.time()))
        self._delete_bell.ring()
        self._replicate_bell.ring()
        return None

    async def next_due(self) -> float | None:
        """See Worker."""
        return self._last + self._period

    async def renew(self, items: Sequence[tuple[int, int]]) -> None:
        """See Worker. Nothing to do: the work is short."""

    async def release(self, items: Sequence[tuple[int, int]]) -> None:
        """See Worker. Nothing to do: it can wait."""


async def _end(tx: Transaction, fid: int, devid: int, *, now: int) -> None:
    """The place is free again: whoever waited for that goes on, to copy the file there or to forget it."""
    await replicas.retract_copy(tx, fid, devid)
    if await files.find_fid(tx, fid) is not None:
        await queues.enqueue_replication(tx, fid, nexttry=now)
    else:
        await queues.hasten_deletion(tx, fid, now)
