"""Deletes the bytes of fids that no key refers to any more (docs/mogilefs.md 11.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from tawara.metadata import files, queues, replicas
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.deferrals import BlockedOn
from tawara.metadata.view import ClusterView
from tawara.model import backoff
from tawara.model.errors import NodeUnreachable
from tawara.model.explanation import Failure
from tawara.model.files import Deletion
from tawara.nodes.client import NodeClient
from tawara.workers.runner import LEASE, ClaimedRow
from tawara.workers.task_queue import LeaseHolder

log = structlog.get_logger(__name__)

Held = ClaimedRow[Deletion]


@dataclass(frozen=True, slots=True)
class _Gone:
    """The device has no bytes of the fid."""

    devid: int


@dataclass(frozen=True, slots=True)
class _Deferred:
    """The bytes could not be deleted now."""

    devid: int
    seconds: int
    reason: str
    unusable: bool = True
    """False: the device was observed as usable, and did not answer."""


class DeleteFiles(LeaseHolder):
    """See the module. A unit of work is one fid."""

    name = "delete"

    def __init__(self, metadata: Metadata, view: ClusterView, nodes: NodeClient, *, lease: int = LEASE) -> None:
        self._metadata = metadata
        self._view = view
        self._nodes = nodes
        self._lease = lease

    # --- see Worker ---------------------------------------------------------------------------------------------------

    async def take(self, limit: int) -> Sequence[Held]:
        """See Worker."""
        now = await self._metadata.clock.seconds()
        due = await self._metadata.read(queues.next_deletion)
        if due is None or due > now:
            return []
        claimed = await self._metadata.write(queues.claim_deletions, limit=limit, now=now, lease=self._lease)
        return [ClaimedRow(claim) for claim in claimed]

    async def next_due(self) -> float | None:
        """See Worker."""
        return await self._metadata.read(queues.next_deletion)

    async def work(self, item: Held) -> float | None:
        """See Worker. An unusable device does not delay the deletion on the others."""
        claim = item.claim
        if await self._metadata.read(files.find_fid, claim.fid) is not None:
            log.error("named_file_queued_for_deletion", fid=claim.fid)
            await self._metadata.write(queues.forget_deletion, claim)
            return None
        devids = await self._metadata.read(replicas.devices_of, claim.fid)
        await self._view.refresh_for(devids)
        results = await asyncio.gather(*(self._delete(claim, devid) for devid in devids))
        gone = [result.devid for result in results if isinstance(result, _Gone)]
        if await self._metadata.write(_record_result, item.claim, gone):
            return None
        late = [result for result in results if isinstance(result, _Deferred)]
        pause = min((result.seconds for result in late), default=backoff.COPY_UNDER_WAY)
        now = await self._metadata.clock.seconds()
        nexttry = now + pause
        # Waiting for a copy in progress is not a failure.
        failcount = claim.failcount + bool(late)
        reasons = [result.reason for result in late]
        log.debug("deletion_deferred", fid=claim.fid, reason="; ".join(reasons) or "being copied")
        failure = Failure(now, "; ".join(reasons)) if reasons else None
        blocked_on = BlockedOn(
            frozenset(result.devid for result in late if result.unusable),
            frozenset(result.devid for result in late if not result.unusable),
        )
        await self._metadata.write(
            queues.postpone_deletion,
            item.claim,
            nexttry=nexttry,
            failcount=failcount,
            failure=failure,
            blocked_on=blocked_on,
        )
        return nexttry

    async def _delete(self, claim: Deletion, devid: int) -> _Gone | _Deferred:
        """Delete the fid's bytes from one device; those of a lost device count as deleted."""
        cluster = self._view.current
        if cluster.is_lost(devid):  # dead or unknown: MogileFS keeps the row forever
            return _Gone(devid)
        url = cluster.url(devid, claim.fid)
        if not cluster.can_delete_from(devid) or url is None:
            return _Deferred(devid, backoff.while_not_allowed(claim.failcount), f"dev{devid} may not be deleted from")
        if not cluster.is_writeable(devid):
            return _Deferred(devid, backoff.while_not_writeable(claim.failcount), f"dev{devid} is not writeable")
        try:
            await self._nodes.delete(url)
        except NodeUnreachable as error:
            return _Deferred(devid, backoff.after_failed_deletion(claim.failcount), str(error), unusable=False)
        return _Gone(devid)


async def _record_result(tx: Transaction, claim: Deletion, gone: Sequence[int]) -> bool:
    """Drop the rows of deleted replicas, and finish the deletion if they were the last. Returns whether it finished."""
    for devid in gone:
        await replicas.drop_replica(tx, claim.fid, devid)
    return await queues.finish_deletion(tx, claim)
