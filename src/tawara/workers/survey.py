"""Looking at replicas where they lie: many at once, quickly, or one with care (docs/mogilefs.md 12)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

from yarl import URL

from tawara.client.nodes import NodeClient
from tawara.metadata.view import ClusterView
from tawara.model.cluster import Checksum, HashType
from tawara.model.errors import NodeUnreachable, NoSource, ReadFailed
from tawara.model.files import StoredFile
from tawara.model.fsck import Replica, Seen
from tawara.workers.throttle import Throttle

AT_ONCE = 32
"""Questions over HTTP at the same time."""
FORGET = 60.0
"""Seconds after which a node that had no side channel is asked again whether it has."""


class Survey:
    """See the module. Without a `side_channel_port` everything is asked over HTTP."""

    def __init__(
        self, view: ClusterView, nodes: NodeClient, *, side_channel_port: int | None, throttle: Throttle | None = None
    ) -> None:
        """`throttle`: of the bytes that are read for digests, be it here or by their node."""
        self._view = view
        self._throttle = throttle
        self._nodes = nodes
        self._port = side_channel_port
        self._over_http: dict[str, float] = {}
        """Host -> until when its side channel is left alone."""
        self._at_once = asyncio.Semaphore(AT_ONCE)

    # --- many, quickly ------------------------------------------------------------------------------------------------

    async def all_right(self, wanted: Sequence[StoredFile]) -> list[bool]:
        """For each file whether all its replicas are seen to have its length; False says nothing about why not."""
        cluster = self._view.current
        right = [True] * len(wanted)
        by_host: dict[str, list[tuple[int, str]]] = {}
        for number, file in enumerate(wanted):
            for devid in file.devids:
                url = cluster.url(devid, file.fid)
                if url is None or not cluster.should_read_from(devid):
                    right[number] = False
                else:
                    by_host.setdefault(URL(url, encoded=True).host or "", []).append((number, url))
        sizes = await asyncio.gather(*(self._sizes(host, [url for _, url in asked]) for host, asked in by_host.items()))
        for asked, answered in zip(by_host.values(), sizes, strict=True):
            for (number, _), size in zip(asked, answered, strict=True):
                right[number] &= size == wanted[number].length
        return right

    async def _sizes(self, host: str, urls: Sequence[str]) -> list[int | None]:
        if self._port is not None and self._over_http.get(host, 0.0) < time.monotonic():
            try:
                return await self._nodes.sizes(urls, self._port)
            except NodeUnreachable:  # a node need not have a side channel (docs/mogilefs.md 18.3)
                self._over_http[host] = time.monotonic() + FORGET
        return await asyncio.gather(*map(self._size, urls))

    async def _size(self, url: str) -> int | None:
        try:
            async with self._at_once:
                return await self._nodes.size(url)
        except NodeUnreachable:
            return None

    # --- one, with care -----------------------------------------------------------------------------------------------

    async def look(self, file: StoredFile, hashtype: HashType | None) -> tuple[Replica, ...]:
        """What is seen of each replica, with its digest if a `hashtype` is given."""
        return tuple(await asyncio.gather(*(self._look_at(file, devid, hashtype) for devid in file.devids)))

    async def _look_at(self, file: StoredFile, devid: int, hashtype: HashType | None) -> Replica:
        cluster = self._view.current
        if cluster.is_lost(devid):
            return Replica(devid, Seen.LOST)
        url = cluster.url(devid, file.fid)
        if url is None or not cluster.can_read_from(devid):
            return Replica(devid, Seen.DOWN)
        if not cluster.should_read_from(devid):
            return Replica(devid, Seen.SILENT)
        try:
            async with self._at_once:
                return await self._ask(file, devid, url, hashtype)
        except NodeUnreachable:
            return Replica(devid, Seen.SILENT)

    async def _ask(self, file: StoredFile, devid: int, url: str, hashtype: HashType | None) -> Replica:
        size = await self._nodes.size(url)
        if size is not None and size != file.length:
            return Replica(devid, Seen.WRONG_LENGTH)
        digest: bytes | None = None
        if size is not None and hashtype is not None:
            if self._throttle is not None:
                await self._throttle.spend(file.length)
            try:
                digest = await self._nodes.digest(url, hashtype, side_channel_port=self._port, reason="fsck")
            except ReadFailed:
                return Replica(devid, Seen.UNREADABLE)
            if digest is None:
                size = None
        if size is None:
            return Replica(devid, Seen.MISSING if await self._device_is_there(url) else Seen.SILENT)
        return Replica(devid, Seen.RIGHT, Checksum(hashtype, digest) if hashtype and digest else None)

    async def _device_is_there(self, url: str) -> bool:
        """Whether a "not there" can be believed: of a disk that is not mounted, nothing is there. Raises as `usage`."""
        try:
            await self._nodes.usage(url.rsplit("/", 4)[0] + "/usage")
        except NoSource:
            return False
        return True

    async def search(self, file: StoredFile, hashtype: HashType | None, rng: random.Random) -> Replica | None:
        """A device without a row that has the file after all; None if none has."""
        cluster = self._view.current
        places = [devid for devid in cluster.devices if devid not in file.devids and cluster.should_read_from(devid)]
        rng.shuffle(places)
        for devid in places:
            replica = await self._look_at(file, devid, file.checksum.hashtype if file.checksum else hashtype)
            if replica.seen is Seen.RIGHT and (file.checksum is None or replica.checksum == file.checksum):
                return replica
        return None
