"""Compares the database with the marks on its devices, so that one that is older than they are is not written with."""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import Final

import structlog

from tawara.metadata import epochs
from tawara.metadata.cluster import ACCEPTED
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.model import epoch
from tawara.model.cluster import Cluster
from tawara.model.epoch import Epoch, Relation
from tawara.model.errors import NodeUnreachable
from tawara.nodes import epoch_marks as marks
from tawara.nodes.client import NodeClient

log = structlog.get_logger(__name__)

SAMPLED: Final = 4
"""Devices whose mark is read again in a round, on average; each is read when it is first seen."""
TIMEOUT: Final = 2.0
"""Seconds that a mark may take."""


def new_token() -> str:
    """What tells an epoch from that of another database with the same number."""
    return secrets.token_hex(4)


class EpochWatch:
    """What one process knows of the marks on devices."""

    def __init__(self, metadata: Metadata, view: ClusterView, nodes: NodeClient) -> None:
        self._metadata, self._view, self._nodes = metadata, view, nodes
        self._rng = random.Random()  # noqa: S311 - only chooses devices
        self._read: set[int] = set()
        """Devices whose mark was read, or that turned out to have none."""
        self._marked = False
        """Whether any device had a mark."""
        self._strangers: dict[int, str] = {}
        """Devices of another store, and why they are taken for that."""
        self._accepted: set[int] = set()
        """Devices that were marked because they are to be taken as they are."""
        self._told = False

    def forget(self, devid: int) -> None:
        """The device is away: what it shows when it is back has to be read."""
        self._read.discard(devid)

    async def trouble_with(self, cluster: Cluster, devid: int) -> str | None:
        """Why a device that answers is not to be used, None if it may be; a stale database is written down.

        Raises NodeUnreachable when its mark cannot be read, though it has to be.
        """
        if str(devid) in cluster.settings.get(ACCEPTED, "").split():
            await self._accept(cluster, devid)
            return None
        self._accepted.discard(devid)
        if devid not in self._read or devid in self._strangers or self._is_sampled(cluster):
            await self._compare(cluster, devid)
        return self._strangers.get(devid)

    def _is_sampled(self, cluster: Cluster) -> bool:
        return self._rng.random() * len(cluster.devices) < SAMPLED

    async def _mark(self, cluster: Cluster, devid: int) -> Epoch | None:
        origin = cluster.origin(devid, get=True)
        if origin is None:
            return None
        try:
            async with asyncio.timeout(TIMEOUT):
                return await marks.read_mark(self._nodes, origin, devid)
        except TimeoutError as error:
            raise NodeUnreachable(f"dev{devid} does not tell its epoch in time") from error

    async def _compare(self, cluster: Cluster, devid: int) -> None:
        mark = await self._mark(cluster, devid)
        self._strangers.pop(devid, None)
        if mark is not None:
            self._marked = True
            if epoch.relation(await self._metadata.read(epochs.lineage), mark) is not Relation.KNOWN:
                await self._examine(devid, mark)
        self._read.add(devid)

    async def _examine(self, devid: int, mark: Epoch) -> None:
        relation = await self._metadata.write(epochs.examine, devid, mark)
        if relation is Relation.OTHER_STORE:
            self._strangers[devid] = (
                f"it belongs to another store ({mark.store}). If it is to be used as it is:"
                f" `tawara device accept dev{devid}`"
            )
        elif relation is not Relation.KNOWN:
            await self._view.refresh()

    async def _accept(self, cluster: Cluster, devid: int) -> None:
        """Mark the device as this store's, whatever it showed. Its names are written anew by a worker."""
        origin, known = cluster.origin(devid), await self._metadata.read(epochs.lineage)
        if origin is not None and known is not None and devid not in self._accepted:
            await marks.write_mark(self._nodes, origin, devid, known.current)
            self._accepted.add(devid)
        self._strangers.pop(devid, None)
        self._read.add(devid)

    async def end_round(self) -> None:
        """Begin the first epoch where no device that answered has a mark; tell of a stale database."""
        cluster = self._view.current
        if epochs.EPOCH not in cluster.settings and self._read and not self._marked and not cluster.stale:
            await self._metadata.write(epochs.found, secrets.token_hex(8), new_token())
        if cluster.stale and not self._told:
            log.error("database_stale", reason=cluster.stale, command="tawara rebuild --merge DATABASE_URL")
        self._told = bool(cluster.stale)
