"""The scrub worker: reads every byte of every replica again within a period, and repairs what has rotted.

`model.scrub` says how many files are due when, so that it hardly costs anything; `model.fsck` what follows from what is
seen. A digest is compared with the one that is stored; where none is, with those of the other replicas, and stored once
most of them agree. Storage nodes compute digests by themselves, one at a time for each disk, or are read from.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from tawara.client.nodes import NodeClient
from tawara.metadata import files, leases, queues, scrub
from tawara.metadata.bell import Bells
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.model.cluster import HashType
from tawara.model.files import Errand, Queued
from tawara.model.fsck import Code, Rules
from tawara.model.scrub import TURN
from tawara.workers.examination import Examination
from tawara.workers.runner import LEASE, Claimed
from tawara.workers.survey import Survey
from tawara.workers.throttle import Throttle

Held = Claimed[Queued]

HASHTYPE = HashType.MD5
"""Of files whose class asks for none: the cheapest, and the one that storage nodes can check while they receive."""
UNTOLD = (Code.NO_CHECKSUM, Code.BAD_ALGORITHM, Code.BAD_COUNT)
"""What is no damage."""
LOOKS = 60.0
"""Seconds after which the settings are looked at again."""


class Scrub:
    """See the module."""

    name = "scrub"

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
        """`side_channel_port`: where storage nodes compute digests."""
        self._metadata = metadata
        self._view = view
        self._lease = lease
        self._next_turn = 0.0
        self._setting: str | None = None
        survey = Survey(view, nodes, side_channel_port=side_channel_port, throttle=Throttle(view, "scrub"))
        rng = rng or random.Random()  # noqa: S311 - spreads questions over devices
        self._examination = Examination(metadata, view, survey, bells=bells, rng=rng, untold=UNTOLD)

    async def take(self, limit: int) -> Sequence[Held]:
        """See Worker. When a turn is due, the next files are queued before."""
        now = int(time.time())
        setting = self._view.current.settings.get(scrub.PERIOD, "")
        if setting != self._setting or not now < self._next_turn <= now + LOOKS:
            self._setting = setting
            due = await self._metadata.write(scrub.inject, now=now)
            self._next_turn = now + LOOKS if due is None else min(max(due, now + TURN), now + LOOKS)
        due = await self._metadata.read(queues.next_errand, Errand.SCRUB)
        if due is None or due > now:
            return []
        claims = await self._metadata.write(queues.claim_errands, Errand.SCRUB, limit=limit, now=now, lease=self._lease)
        return [Claimed(claim) for claim in claims]

    async def next_due(self) -> float | None:
        """See Worker."""
        due = await self._metadata.read(queues.next_errand, Errand.SCRUB)
        return self._next_turn if due is None else min(due, self._next_turn)

    async def renew(self, items: Sequence[Held]) -> None:
        """See Worker."""
        until = int(time.time()) + self._lease
        claims = await self._metadata.write(leases.renew, [held.claim for held in items], until=until)
        for held, claim in zip(items, claims, strict=True):
            held.claim = claim

    async def release(self, items: Sequence[Held]) -> None:
        """See Worker."""
        await self._metadata.write(leases.release, [held.claim for held in items], now=int(time.time()))

    async def work(self, item: Held) -> float | None:
        """See Worker."""
        file = await self._metadata.read(files.find_fid, item.claim.fid)
        if file is None:
            await self._metadata.write(queues.finish_errands, [item.claim])
        else:
            skip_devcount = self._view.current.settings.get("skip_devcount", "") not in ("", "0")
            await self._examination.examine(item, file, Rules(hashtype=HASHTYPE, skip_devcount=skip_devcount))
        return None
