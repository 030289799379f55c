"""The delete worker: removes the bytes of fids that no key names any more (docs/mogilefs.md 11.1)."""

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
from tawara.workers import task_queue
from tawara.workers.runner import LEASE, ClaimedRow

log = structlog.get_logger(__name__)

Held = ClaimedRow[Deletion]


@dataclass(frozen=True, slots=True)
class _Gone:
    """The device has no bytes of the fid (any more)."""

    devid: int


@dataclass(frozen=True, slots=True)
class _Later:
    """The bytes could not be deleted now."""

    devid: int
    seconds: int
    reason: str
    unusable: bool = True
    """False: the device seemed well, and did not answer."""


class DeleteFiles:
    """See the module."""

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

    async def renew(self, items: Sequence[Held]) -> None:
        """See Worker."""
        await task_queue.hold(self._metadata, items, until=await self._metadata.clock.seconds() + self._lease)

    async def release(self, items: Sequence[Held]) -> None:
        """See Worker."""
        await task_queue.hold(self._metadata, items, until=await self._metadata.clock.seconds())

    async def work(self, item: Held) -> float | None:
        """See Worker. A device that cannot be asked now does not keep the bytes on the others."""
        claim = item.claim
        if await self._metadata.read(files.find_fid, claim.fid) is not None:
            log.error("a file that has a name was queued for deletion, and is kept", fid=claim.fid)
            await self._metadata.write(queues.forget_deletion, claim)
            return None
        devids = await self._metadata.read(replicas.devices_of, claim.fid)
        await self._view.look_for(devids)
        outcomes = await asyncio.gather(*(self._delete(claim, devid) for devid in devids))
        gone = [outcome.devid for outcome in outcomes if isinstance(outcome, _Gone)]
        if await self._metadata.write(_settle, item.claim, gone):
            return None
        late = [outcome for outcome in outcomes if isinstance(outcome, _Later)]
        pause = min((outcome.seconds for outcome in late), default=backoff.COPY_UNDER_WAY)
        now = await self._metadata.clock.seconds()
        nexttry = now + pause
        # What waits only for a copy under way has not failed.
        failcount = claim.failcount + bool(late)
        reasons = [outcome.reason for outcome in late]
        log.debug("deletion put off", fid=claim.fid, reasons=reasons or ["being copied"])
        failure = Failure(now, "; ".join(reasons)) if reasons else None
        blocked_on = BlockedOn(
            frozenset(outcome.devid for outcome in late if outcome.unusable),
            frozenset(outcome.devid for outcome in late if not outcome.unusable),
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

    async def _delete(self, claim: Deletion, devid: int) -> _Gone | _Later:
        """Remove the fid's bytes from one device, or find that they are gone with it."""
        cluster = self._view.current
        if cluster.is_lost(devid):  # dead, or unknown: MogileFS kept the row for ever
            return _Gone(devid)
        url = cluster.url(devid, claim.fid)
        if not cluster.can_delete_from(devid) or url is None:
            return _Later(devid, backoff.while_not_allowed(claim.failcount), f"dev{devid} may not be deleted from")
        if not cluster.is_writeable(devid):
            return _Later(devid, backoff.while_not_writeable(claim.failcount), f"dev{devid} is not writeable")
        try:
            await self._nodes.delete(url)
        except NodeUnreachable as error:
            return _Later(devid, backoff.after_failed_deletion(claim.failcount), str(error), unusable=False)
        return _Gone(devid)


async def _settle(tx: Transaction, claim: Deletion, gone: Sequence[int]) -> bool:
    """Forget the replicas that are gone, and the fid if they were the last; whether that was so."""
    for devid in gone:
        await replicas.drop_replica(tx, claim.fid, devid)
    return await queues.finish_deletion(tx, claim)
