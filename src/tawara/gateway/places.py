"""Where nginx finds the replicas of a file: on a disk of this machine, or at a storage node's address."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

import structlog

from tawara.gateway.acceleration import Replica
from tawara.gateway.local import LocalDevices
from tawara.model import fid as fids
from tawara.model.cluster import Cluster
from tawara.model.errors import TawaraError
from tawara.model.files import StoredFile
from tawara.node.errors import DeviceFailed, NoSuchDevice

log = structlog.get_logger(__name__)


class Places:
    """Finds replicas. A file of this machine is looked at, so that one that is missing or cut short is passed over."""

    def __init__(self, local: LocalDevices | None) -> None:
        self._local = local

    async def of(self, cluster: Cluster, stored: StoredFile, devids: Iterable[int]) -> list[Replica]:
        """The replicas on `devids` that can be sent, in that order."""
        found = await asyncio.gather(*(self._one(cluster, stored, devid) for devid in devids))
        return [replica for replica in found if replica is not None]

    async def _one(self, cluster: Cluster, stored: StoredFile, devid: int) -> Replica | None:
        if self._local is not None and await self._local.has(devid):
            try:
                return await self._here(self._local, cluster, stored, devid)
            except (NoSuchDevice, DeviceFailed) as error:  # the storage node may do better: it may be another user
                log.debug("replica not read here", devid=devid, fid=stored.fid, reason=str(error))
        url = cluster.url(devid, stored.fid, get=True)
        if url is None:
            return None
        place = urlsplit(url)
        address = await _address(place.hostname or "", place.port or 80)
        return None if address is None else Replica(fids.path(devid, stored.fid), address)

    async def _here(self, local: LocalDevices, cluster: Cluster, stored: StoredFile, devid: int) -> Replica | None:
        """The replica on a disk of this machine; None if it must not be read. Raises NoSuchDevice, DeviceFailed."""
        path = fids.path(devid, stored.fid)
        try:
            size = await local.size(devid, path, cluster.identities)
        except (NoSuchDevice, DeviceFailed):
            raise
        except TawaraError as error:
            log.warning("replica failed", devid=devid, fid=stored.fid, reason=str(error))
            return None
        if size != stored.length:
            log.warning("replica failed", devid=devid, fid=stored.fid, reason="it has another size")
            return None
        return Replica(path, None)


async def _address(host: str, port: int) -> str | None:
    """`ADDRESS:PORT` of a host that may be given by name: nginx itself looks up no names here."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            log.warning("host not found", host=host, reason=str(error))
            return None
        address = ipaddress.ip_address(found[0][4][0])
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
