"""Finds the devices from which a file can be read now, best first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Protocol

from tawara.metadata.view import ClusterView
from tawara.model.cluster import Cluster
from tawara.model.errors import NodeUnreachable
from tawara.model.files import StoredFile
from tawara.model.limits import REPLICAS_TRIED
from tawara.model.placement import order_for_reading


class SizeQuery(Protocol):
    """Asks storage nodes for the length of files; `nodes.client.NodeClient` is one."""

    async def size(self, url: str) -> int | None:
        """Return the bytes of the file at `url`, None if there is none. Raises NodeUnreachable."""
        ...


def devices_to_read(cluster: Cluster, stored: StoredFile, rng: Random) -> list[int]:
    """Return the devices to read the file from, best first; draining and unresponsive devices come last."""
    order = order_for_reading(cluster, stored.devids, rng)
    backup = [] if order.backup is None or not cluster.can_read_from(order.backup) else [order.backup]
    return [*order.preferred, *order.draining, *backup][:REPLICAS_TRIED]


class ReplicaLocator:
    """Orders the replicas of files by the observed state, load and weight of their devices."""

    def __init__(self, view: ClusterView, nodes: SizeQuery, rng: Random) -> None:
        self._view, self._nodes, self._rng = view, nodes, rng

    async def devices(self, stored: StoredFile) -> list[int]:
        """Return the devices to read from, at most REPLICAS_TRIED; refresh the view of the cluster if none exists."""
        found = devices_to_read(self._view.current, stored, self._rng)
        if not found:
            # The gateway may call this outside any task, but a round of the monitor needs one.
            cluster = await asyncio.ensure_future(self._view.refresh_for(stored.devids))
            found = devices_to_read(cluster, stored, self._rng)
        return found

    def urls(self, stored: StoredFile, devids: Sequence[int]) -> list[str]:
        """Return the URLs of the replicas on `devids` at their storage nodes."""
        cluster = self._view.current
        return [url for devid in devids if (url := cluster.url(devid, stored.fid, get=True))]

    async def responsive(self, stored: StoredFile, wanted: int, *, verify: bool) -> list[int]:
        """Return up to `wanted` devices, without those considered unresponsive (get_paths, docs/mogilefs.md 3).

        `verify` asks storage nodes for the length, and drops the devices before the first one whose replica has it.
        """
        order = order_for_reading(self._view.current, stored.devids, self._rng)
        chosen: list[int] = []
        for devids in (order.preferred, order.draining):
            if devids and len(chosen) < wanted:
                if not chosen and verify:
                    devids = await self._from_first_whole(stored, devids)
                chosen.extend(devids[: wanted - len(chosen)])
        return chosen

    def last_resort(self, stored: StoredFile) -> int | None:
        """Return the device to try when `responsive` has found none, None if the file has no known device."""
        return order_for_reading(self._view.current, stored.devids, self._rng).backup

    async def _from_first_whole(self, stored: StoredFile, devids: Sequence[int]) -> Sequence[int]:
        for position, devid in enumerate(devids):
            url = self._view.current.url(devid, stored.fid, get=True)
            if url is None:
                continue
            try:
                # The tracker may call this outside any task, but the timeouts of a request to a node need a task.
                length = await asyncio.ensure_future(self._nodes.size(url))
            except NodeUnreachable:
                continue
            if length == stored.length:
                return devids[position:]
        return ()
