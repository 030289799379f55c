"""The scrub worker: reads every byte of every replica again within a period, and repairs what has rotted.

`model.scrub` says how many files are due when, so that it hardly costs anything; `model.fsck` what follows from what is
seen. A digest is compared with the one that is stored; where none is, with those of the other replicas, and stored once
most of them agree. Storage nodes compute digests by themselves, one at a time for each disk, or are read from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from tawara.client.nodes import NodeClient
from tawara.metadata import files, queues, scrub
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.model.cluster import HashType
from tawara.model.files import Errand, Queued
from tawara.model.fsck import Code, Rules
from tawara.model.scrub import TURN
from tawara.workers.claims import Errands
from tawara.workers.examination import Examination, Options
from tawara.workers.runner import LEASE, Claimed

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
        lease: int = LEASE,
        **options: Unpack[Options],
    ) -> None:
        self._metadata = metadata
        self._view = view
        self._setting: str | None = None
        self._errands = Errands(metadata, Errand.SCRUB, lease=lease)
        self._examination = Examination(metadata, view, nodes, throttle="scrub", untold=UNTOLD, **options)

    async def take(self, limit: int) -> Sequence[Held]:
        """See Worker. When a turn is due, the next files are queued before."""
        now = await self._metadata.clock.seconds()
        setting = self._view.current.settings.get(scrub.PERIOD, "")
        if setting != self._setting or self._errands.turn_is_due(now=now, pause=LOOKS):
            self._setting = setting
            due = await self._metadata.write(scrub.inject, now=now)
            self._errands.next_turn = now + LOOKS if due is None else min(max(due, now + TURN), now + LOOKS)
        return await self._errands.claim(limit, now=now)

    async def next_due(self) -> float | None:
        """See Worker."""
        return await self._errands.next_due()

    async def renew(self, items: Sequence[Held]) -> None:
        """See Worker."""
        await self._errands.renew(items)

    async def release(self, items: Sequence[Held]) -> None:
        """See Worker."""
        await self._errands.release(items)

    async def work(self, item: Held) -> float | None:
        """See Worker."""
        file = await self._metadata.read(files.find_fid, item.claim.fid)
        if file is None:
            await self._metadata.write(queues.finish_errands, [item.claim])
        else:
            skip_devcount = self._view.current.settings.get("skip_devcount", "") not in ("", "0")
            await self._examination.examine(item, file, Rules(hashtype=HASHTYPE, skip_devcount=skip_devcount))
        return None
