"""Creates the directories of new files on storage nodes before the upload, and caches existing ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from tawara.model.cluster import Cluster
from tawara.model.errors import NodeUnreachable

CACHE_SECONDS = 3600.0
"""Seconds for which an existing directory, or a node that does not create any, is cached."""
MOST_CACHED = 10_000
"""Most directories in the cache; beyond that it is emptied."""

Make = Callable[[str], Awaitable[bool]]


class Directories:
    """Cache of directories on storage nodes (docs/mogilefs.md 3 and 18.1)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._there: dict[str, float] = {}
        self._refuses: dict[int, float] = {}

    async def make(self, cluster: Cluster, fid: int, devids: Sequence[int], make_directory: Make) -> None:
        """Create the directory of `fid` on all devices at once. Failures are ignored: the upload reports them."""
        wanted = [
            (device.hostid, url.rpartition("/")[0] + "/")
            for devid in devids
            if (device := cluster.devices.get(devid)) and (url := cluster.url(devid, fid))
        ]
        now = self._clock()
        due = [
            (hostid, url)
            for hostid, url in wanted
            if self._refuses.get(hostid, 0.0) <= now and self._there.get(url, 0.0) <= now
        ]
        if due:
            await asyncio.gather(*(self._make(hostid, url, make_directory) for hostid, url in due))

    async def _make(self, hostid: int, url: str, make_directory: Make) -> None:
        try:
            made = await make_directory(url)
        except NodeUnreachable:
            return  # the client's upload fails, and it tries another destination
        until = self._clock() + CACHE_SECONDS
        if not made:
            self._refuses[hostid] = until
            return
        if len(self._there) >= MOST_CACHED:
            self._there.clear()
        self._there[url] = until
