"""The check worker (fsck): takes turns at queueing files, looks at them, and puts right what it can (section 12).

A unit of work is a batch of files. Most are found to be in order by one query and a question or two to each storage
node; the others are looked at one by one, and `model.fsck` says what follows.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

import structlog

from tawara.client.nodes import NodeClient
from tawara.metadata import files, fsck, leases, queues, runs
from tawara.metadata.bell import Bells
from tawara.metadata.contract import Metadata
from tawara.metadata.runs import TURN
from tawara.metadata.view import ClusterView
from tawara.model.files import Errand, Queued, StoredFile
from tawara.model.fsck import Depth, Rules
from tawara.workers.examination import Examination
from tawara.workers.runner import LEASE, Claimed
from tawara.workers.survey import Survey
from tawara.workers.throttle import Throttle

log = structlog.get_logger(__name__)

Held = Claimed[Queued]
Batch = list[Held]

BATCH = 100
"""Files in a unit of work."""
AHEAD = 8
"""Units claimed at a time."""


class Fsck:
    """See the module."""

    name = "fsck"

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        *,
        bells: Bells,
        side_channel_port: int | None = None,
        lease: int = LEASE,
        rng: random.Random | None = None,
    ) -> None:
        """`side_channel_port`: where storage nodes are asked for many sizes at once, and compute digests."""
        self._metadata = metadata
        self._view = view
        self._lease = lease
        self._rng = rng or random.Random()  # noqa: S311 - spreads questions over devices
        self._next_turn = 0.0
        self._survey = Survey(view, nodes, side_channel_port=side_channel_port, throttle=Throttle(view, "fsck"))
        self._examination = Examination(metadata, view, self._survey, bells=bells, rng=self._rng)

    # --- see Worker ---------------------------------------------------------------------------------------------------

    async def take(self, limit: int) -> Sequence[Batch]:
        """See Worker. While a check runs, the next files are queued before."""
        now = int(time.time())
        if self._turn_is_due() and not await self._metadata.write(fsck.inject, now=now):
            log.info("no check runs any more")
            await self._view.refresh()
        due = await self._metadata.read(queues.next_errand, Errand.CHECK)
        if due is None or due > now:
            return []
        claims = await self._metadata.write(
            queues.claim_errands, Errand.CHECK, limit=BATCH * min(limit, AHEAD), now=now, lease=self._lease
        )
        held = [Claimed(claim) for claim in claims]
        return [held[start : start + BATCH] for start in range(0, len(held), BATCH)]

    def _turn_is_due(self) -> bool:
        """Whether a check runs, and it is time to ask for a turn; if so it will be again somewhat later."""
        now = time.time()
        if not self._running or now < self._next_turn <= now + TURN:
            return False
        self._next_turn = now + TURN
        return True

    @property
    def _running(self) -> bool:
        return bool(self._view.current.settings.get("fsck_host"))

    async def next_due(self) -> float | None:
        """See Worker."""
        due = await self._metadata.read(queues.next_errand, Errand.CHECK)
        if not self._running:
            return due
        return self._next_turn if due is None else min(due, self._next_turn)

    async def renew(self, items: Sequence[Batch]) -> None:
        """See Worker."""
        until = int(time.time()) + self._lease
        held = [each for batch in items for each in batch]
        claims = await self._metadata.write(leases.renew, [each.claim for each in held], until=until)
        for each, claim in zip(held, claims, strict=True):
            each.claim = claim

    async def release(self, items: Sequence[Batch]) -> None:
        """See Worker."""
        claims = [each.claim for batch in items for each in batch]
        await self._metadata.write(leases.release, claims, now=int(time.time()))

    async def work(self, item: Batch) -> float | None:
        """See Worker."""
        found = await self._metadata.read(files.find_fids, [held.claim.fid for held in item])
        by_fid = {file.fid: file for file in found}
        # Not from the view, which may not know yet that a check of another kind was begun.
        rules = Rules.of(await self._metadata.read(runs.settings, ""))
        in_order: list[Held] = []
        to_measure: list[tuple[Held, StoredFile]] = []
        closely: list[Held] = []
        for held in item:
            file = by_fid.get(held.claim.fid)
            how = self._examination.depth(file, rules) if file else Depth.ROWS
            if how is Depth.EVERYTHING or (file and rules.miscounted(file)):
                closely.append(held)
            elif file and how is Depth.LENGTHS:
                to_measure.append((held, file))
            else:
                in_order.append(held)
        right = await self._survey.all_right([file for _, file in to_measure])
        for (held, _), well in zip(to_measure, right, strict=True):
            (in_order if well else closely).append(held)
        if in_order:
            await self._metadata.write(queues.finish_errands, [held.claim for held in in_order])
        await asyncio.gather(*(self._examination.examine(held, by_fid[held.claim.fid], rules) for held in closely))
        return None
