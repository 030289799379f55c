"""Looking at replicas where they lie: many at once, quickly, or one with care (docs/mogilefs.md 12)."""

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
"""Questions over HTTP at the same time."""
FORGET = 60.0
"""Seconds after which a node that had no side channel is asked again whether it has."""


Measured: TypeAlias = Mapping[int, int | None]
"""Devid -> bytes of a file's replica there, None where the storage node says that there is none."""
_NOTHING: Measured = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Place:
    """A replica that is to be measured."""

    number: int
    """Of its file."""
    devid: int
    url: str
    length: int
    """What it should have, bytes."""


def is_right(file: StoredFile, measured: Measured) -> bool:
    """Whether all replicas of a file were seen to have its length; False says nothing about why not."""
    return all(measured.get(devid) == file.length for devid in file.devids)


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
        self._over_http: dict[tuple[str, int], float] = {}
        """Host and devid -> until when the side channel is not asked about the device."""
        self._at_once = asyncio.Semaphore(AT_ONCE)

    # --- many, quickly ------------------------------------------------------------------------------------------------

    async def measure(self, wanted: Sequence[StoredFile]) -> list[Measured]:
        """What is known for certain of the length of each file's replicas, by devid.

        A replica is left out when its device cannot be read, when nobody answered, or when a side channel, which does
        not tell a missing file from a missing disk, has seen no file of the right length.
        """
        cluster = self._view.current
        measured: list[dict[int, int | None]] = [{} for _ in wanted]
        by_device: dict[tuple[str, int], list[_Place]] = {}
        for number, file in enumerate(wanted):
            for devid in file.devids:
                url = cluster.url(devid, file.fid)
                if url is not None and cluster.should_read_from(devid):
                    place = _Place(number, devid, url, file.length)
                    by_device.setdefault((URL(url, encoded=True).host or "", devid), []).append(place)
        answers = await asyncio.gather(*(self._lengths(device, places) for device, places in by_device.items()))
        for place, length in chain.from_iterable(answers):
            measured[place.number][place.devid] = length
        return list(measured)

    async def _lengths(self, device: tuple[str, int], places: Sequence[_Place]) -> list[tuple[_Place, int | None]]:
        """The places of one device for which there is a certain answer, with the length, None where no file is.

        A side channel answers in the order of the questions, so that a device that hangs would hold up the others.
        """
        if self._port is not None and self._over_http.get(device, 0.0) < time.monotonic():
            try:
                sizes = await self._nodes.sizes([place.url for place in places], self._port)
            except NodeUnreachable:  # a node need not have a side channel (docs/mogilefs.md 18.3)
                self._over_http[device] = time.monotonic() + FORGET
            else:
                found = zip(places, sizes, strict=True)
                return [(place, size) for place, size in found if size == place.length]
        answers = await asyncio.gather(*map(self._length, places))
        return [answer for answer in answers if answer is not None]

    async def _length(self, place: _Place) -> tuple[_Place, int | None] | None:
        try:
            async with self._at_once:
                return place, await self._nodes.size(place.url)
        except NodeUnreachable:
            return None

    # --- one, with care -----------------------------------------------------------------------------------------------

    async def look(
        self, file: StoredFile, hashtype: HashType | None, measured: Measured = _NOTHING
    ) -> tuple[CheckedReplica, ...]:
        """What is seen of each replica, with its digest if a `hashtype` is given.

        `measured`: what `measure` found a moment ago, which is not asked again.
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
                devid, ReplicaFinding.MISSING if await self._device_is_there(url) else ReplicaFinding.SILENT
            )
        return CheckedReplica(devid, ReplicaFinding.RIGHT, Checksum(hashtype, digest) if hashtype and digest else None)

    async def _device_is_there(self, url: str) -> bool:
        """Whether a "not there" can be believed: of a disk that is not mounted, nothing is there. Raises as `usage`."""
        try:
            await self._nodes.usage(url.rsplit("/", 4)[0] + "/usage")
        except NoSource:
            return False
        return True

    async def search(self, file: StoredFile, hashtype: HashType | None, rng: random.Random) -> CheckedReplica | None:
        """A device without a row that has the file after all; None if none has."""
        cluster = self._view.current
        places = [devid for devid in cluster.devices if devid not in file.devids and cluster.should_read_from(devid)]
        rng.shuffle(places)
        for devid in places:
            replica = await self._look_at(file, devid, file.checksum.hashtype if file.checksum else hashtype)
            if replica.seen is ReplicaFinding.RIGHT and (file.checksum is None or replica.checksum == file.checksum):
                return replica
        return None
