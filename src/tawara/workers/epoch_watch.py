"""Compares the database with the epoch marks on devices, to detect a database that is older than its devices."""

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
"""Marks read again per round, on average; each mark is also read when its device is first observed."""
TIMEOUT: Final = 2.0
"""Seconds that reading a mark may take."""


def new_token() -> str:
    """A random token that distinguishes epochs of the same number in different databases."""
    return secrets.token_hex(4)


class EpochWatch:
    """The marks on devices as one process knows them."""

    def __init__(self, metadata: Metadata, view: ClusterView, nodes: NodeClient) -> None:
        self._metadata, self._view, self._nodes = metadata, view, nodes
        self._rng = random.Random()  # noqa: S311 - only chooses devices
        self._read: set[int] = set()
        """Devices whose mark was read or found missing."""
        self._marked = False
        """Whether any device had a mark."""
        self._foreign: dict[int, str] = {}
        """Device of another store -> the reason for that conclusion."""
        self._accepted: set[int] = set()
        """Devices that were marked because an operator accepted them."""
        self._stale_logged = False

    def forget(self, devid: int) -> None:
        """Read the mark of this device again when it returns."""
        self._read.discard(devid)

    async def find_trouble(self, cluster: Cluster, devid: int) -> str | None:
        """Why a device that answers must not be used; None if it may be. Records that the database is stale, if so.

        Raises NodeUnreachable when a mark that is needed cannot be read.
        """
        if str(devid) in cluster.settings.get(ACCEPTED, "").split():
            await self._accept(cluster, devid)
            return None
        self._accepted.discard(devid)
        if devid not in self._read or devid in self._foreign or self._is_sampled(cluster):
            await self._compare(cluster, devid)
        return self._foreign.get(devid)

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
            raise NodeUnreachable(f"dev{devid}: no answer in time when reading its epoch") from error

    async def _compare(self, cluster: Cluster, devid: int) -> None:
        mark = await self._mark(cluster, devid)
        self._foreign.pop(devid, None)
        if mark is not None:
            self._marked = True
            if epoch.relation(await self._metadata.read(epochs.lineage), mark) is not Relation.KNOWN:
                await self._examine(devid, mark)
        self._read.add(devid)

    async def _examine(self, devid: int, mark: Epoch) -> None:
        relation = await self._metadata.write(epochs.examine, devid, mark)
        if relation is Relation.OTHER_STORE:
            self._foreign[devid] = (
                f"the device belongs to another store ({mark.store}). To use it as it is:"
                f" `tawara device accept dev{devid}`"
            )
        elif relation is not Relation.KNOWN:
            await self._view.refresh()

    async def _accept(self, cluster: Cluster, devid: int) -> None:
        """Mark the device as this store's. The journal writer then writes its journal again."""
        origin, known = cluster.origin(devid), await self._metadata.read(epochs.lineage)
        if origin is not None and known is not None and devid not in self._accepted:
            await marks.write_mark(self._nodes, origin, devid, known.current)
            self._accepted.add(devid)
        self._foreign.pop(devid, None)
        self._read.add(devid)

    async def end_round(self) -> None:
        """Start the first epoch if no device that answered has a mark; log a stale database once."""
        cluster = self._view.current
        if epochs.EPOCH not in cluster.settings and self._read and not self._marked and not cluster.stale:
            await self._metadata.write(epochs.found, secrets.token_hex(8), new_token())
        if cluster.stale and not self._stale_logged:
            log.error("database_stale", reason=cluster.stale, command="tawara rebuild --merge DATABASE_URL")
        self._stale_logged = bool(cluster.stale)
