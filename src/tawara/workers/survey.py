"""Measures replicas on storage nodes: many lengths at once, or one file with digests (docs/mogilefs.md 12)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import TypeAlias

from yarl import URL

from tawara.metadata.view import ClusterView
from tawara.model.cluster import Checksum, HashType
from tawara.model.errors import NodeUnreachable, NoSource, ReadFailed
from tawara.model.files import StoredFile
from tawara.model.fsck import CheckedReplica, ReplicaFinding
from tawara.nodes.client import NodeClient
from tawara.workers.throttle import Throttle

AT_ONCE = 32
"""Concurrent HTTP requests."""
RETRY_AFTER = 60.0
"""Seconds after which the side channel of a node that had none is tried again."""


Measured: TypeAlias = Mapping[int, int | None]
"""Devid -> bytes of a file's replica there; None if the storage node reports that there is none."""
_NOTHING: Measured = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Expected:
    """A replica to measure."""

    number: int
    """Index of its file."""
    devid: int
    url: str
    length: int
    """Expected bytes."""


def is_right(file: StoredFile, measured: Measured) -> bool:
    """Whether all replicas of a file are known to have its length; False gives no reason."""
    return all(measured.get(devid) == file.length for devid in file.devids)


class Survey:
    """See the module. Without a `side_channel_port` all requests go over HTTP."""

    def __init__(
        self, view: ClusterView, nodes: NodeClient, *, side_channel_port: int | None, throttle: Throttle | None = None
    ) -> None:
        """`throttle`: limits the bytes read for digests, here or by the storage node."""
        self._view = view
        self._throttle = throttle
        self._nodes = nodes
        self._port = side_channel_port
        self._over_http: dict[tuple[str, int], float] = {}
        """Host and devid -> monotonic time until which the side channel is not used for the device."""
        self._at_once = asyncio.Semaphore(AT_ONCE)

    # --- many lengths -------------------------------------------------------------------------------------------------

    async def measure(self, wanted: Sequence[StoredFile]) -> list[Measured]:
        """Measure the replicas of each file; only certain lengths are returned.

        A replica is left out when its device cannot be read or did not answer, or when the side channel reports no file
        of the right length: it does not distinguish a missing file from a missing disk.
        """
        cluster = self._view.current
        measured: list[dict[int, int | None]] = [{} for _ in wanted]
        by_device: dict[tuple[str, int], list[_Expected]] = {}
        for number, file in enumerate(wanted):
            for devid in file.devids:
                url = cluster.url(devid, file.fid)
                if url is not None and cluster.should_read_from(devid):
                    replica = _Expected(number, devid, url, file.length)
                    by_device.setdefault((URL(url, encoded=True).host or "", devid), []).append(replica)
        results = await asyncio.gather(*(self._lengths(device, replicas) for device, replicas in by_device.items()))
        for replica, length in chain.from_iterable(results):
            measured[replica.number][replica.devid] = length
        return list(measured)

    async def _lengths(
        self, device: tuple[str, int], replicas: Sequence[_Expected]
    ) -> list[tuple[_Expected, int | None]]:
        """The replicas of one device with a certain length (None: no file).

        A side channel results in the order of the requests, so each call is about one device: one that hangs must not
        delay the others.
        """
        if self._port is not None and self._over_http.get(device, 0.0) < time.monotonic():
            try:
                sizes = await self._nodes.sizes([replica.url for replica in replicas], self._port)
            except NodeUnreachable:  # a node need not have a side channel (docs/mogilefs.md 18.3)
                self._over_http[device] = time.monotonic() + RETRY_AFTER
            else:
                found = zip(replicas, sizes, strict=True)
                return [(replica, size) for replica, size in found if size == replica.length]
        results = await asyncio.gather(*map(self._length, replicas))
        return [result for result in results if result is not None]

    async def _length(self, replica: _Expected) -> tuple[_Expected, int | None] | None:
        try:
            async with self._at_once:
                return replica, await self._nodes.size(replica.url)
        except NodeUnreachable:
            return None

    # --- one file -----------------------------------------------------------------------------------------------------

    async def look(
        self, file: StoredFile, hashtype: HashType | None, measured: Measured = _NOTHING
    ) -> tuple[CheckedReplica, ...]:
        """Check each replica of a file, with its digest if a `hashtype` is given.

        `measured`: lengths that `measure` has just found, which are not requested again.
        """
        looks = (self._look_at(file, devid, hashtype, measured) for devid in file.devids)
        return tuple(await asyncio.gather(*looks))

    async def _look_at(
        self, file: StoredFile, devid: int, hashtype: HashType | None, measured: Measured = _NOTHING
    ) -> CheckedReplica:
        cluster = self._view.current
        if cluster.is_lost(devid):
            return CheckedReplica(devid, ReplicaFinding.LOST)
        url = cluster.url(devid, file.fid)
        if url is None or not cluster.can_read_from(devid):
            return CheckedReplica(devid, ReplicaFinding.DOWN)
        if not cluster.should_read_from(devid):
            return CheckedReplica(devid, ReplicaFinding.SILENT)
        try:
            async with self._at_once:
                size = measured[devid] if devid in measured else await self._nodes.size(url)
                return await self._judge(file, devid, url, size, hashtype)
        except NodeUnreachable:
            return CheckedReplica(devid, ReplicaFinding.SILENT)

    async def _judge(
        self, file: StoredFile, devid: int, url: str, size: int | None, hashtype: HashType | None
    ) -> CheckedReplica:
        if size is not None and size != file.length:
            return CheckedReplica(devid, ReplicaFinding.WRONG_LENGTH)
        digest: bytes | None = None
        if size is not None and hashtype is not None:
            if self._throttle is not None:
                await self._throttle.spend(file.length)
            try:
                digest = await self._nodes.digest(url, hashtype, side_channel_port=self._port, reason="fsck")
            except ReadFailed:
                return CheckedReplica(devid, ReplicaFinding.UNREADABLE)
            if digest is None:
                size = None
        if size is None:
            return CheckedReplica(
                devid, ReplicaFinding.MISSING if await self._is_device_available(url) else ReplicaFinding.SILENT
            )
        return CheckedReplica(devid, ReplicaFinding.RIGHT, Checksum(hashtype, digest) if hashtype and digest else None)

    async def _is_device_available(self, url: str) -> bool:
        """Whether a missing file is really missing rather than on a disk that is not mounted. Raises as `usage`."""
        try:
            await self._nodes.usage(url.rsplit("/", 4)[0] + "/usage")
        except NoSource:
            return False
        return True

    async def search(self, file: StoredFile, hashtype: HashType | None, rng: random.Random) -> CheckedReplica | None:
        """Find a device that has the file although no row says so; None if there is none."""
        cluster = self._view.current
        devids = [devid for devid in cluster.devices if devid not in file.devids and cluster.should_read_from(devid)]
        rng.shuffle(devids)
        for devid in devids:
            replica = await self._look_at(file, devid, file.checksum.hashtype if file.checksum else hashtype)
            if replica.seen is ReplicaFinding.RIGHT and (file.checksum is None or replica.checksum == file.checksum):
                return replica
        return None
