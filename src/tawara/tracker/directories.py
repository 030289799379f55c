"""Making the directories of new files on storage nodes ahead of the upload, and remembering where that is of no use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from tawara.model.cluster import Cluster
from tawara.model.errors import NodeUnreachable

REMEMBERED_SECONDS = 3600.0
"""How long a directory is taken to exist, and a node not to make any."""
REMEMBERED = 10_000
"""How many directories are remembered; beyond that all are forgotten, and asked for again."""

Make = Callable[[str], Awaitable[bool]]


class Directories:
    """What this process knows of directories on storage nodes (docs/mogilefs.md 3 and 18.1)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._there: dict[str, float] = {}
        self._refuses: dict[int, float] = {}

    async def make(self, cluster: Cluster, fid: int, devids: Sequence[int], make_directory: Make) -> None:
        """Make the directory of `fid` on all the devices at once. Failures are of no consequence, the upload tells."""
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
            return  # the client will find out, and has other destinations to try
        until = self._clock() + REMEMBERED_SECONDS
        if not made:
            self._refuses[hostid] = until
            return
        if len(self._there) >= REMEMBERED:
            self._there.clear()
        self._there[url] = until
