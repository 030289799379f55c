"""Finds where nginx can read the replicas of a file: on a local disk, or at a storage node's address."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

import structlog

from tawara.gateway.acceleration import ReplicaLocation
from tawara.model import fid as fids
from tawara.model.cluster import Cluster
from tawara.model.errors import TawaraError
from tawara.model.files import StoredFile
from tawara.model.node_errors import DeviceFailed, NoSuchDevice
from tawara.nodes.signing import RequestSigner
from tawara.store.local_devices import LocalDevices
from tawara.wire.signatures import NodeRight

log = structlog.get_logger(__name__)


class NginxReplicas:
    """Finds replicas for nginx. Local files are checked first: a missing or truncated one is skipped."""

    def __init__(self, local: LocalDevices | None, signer: RequestSigner | None = None) -> None:
        """`signer` signs nginx's requests to storage nodes."""
        self._local, self._signer = local, signer

    async def of(self, cluster: Cluster, stored: StoredFile, devids: Iterable[int]) -> list[ReplicaLocation]:
        """Return the replicas on `devids` that can be sent, in that order.

        After the first local one all are at storage nodes, which check their files themselves when asked.
        """
        found: list[ReplicaLocation] = []
        local = self._local
        for devid in devids:
            path = fids.path(devid, stored.fid)
            if local is not None and local.cached_size(devid, path, cluster.identities) == stored.length:
                found.append(ReplicaLocation(path, None))
                local = None
                continue
            if local is not None and await local.has(devid):
                try:
                    if await self._is_whole(local, cluster, stored, devid, path):
                        found.append(ReplicaLocation(path, None))
                        local = None
                    continue
                except (NoSuchDevice, DeviceFailed) as error:  # the storage node may run as another user
                    log.debug("replica_not_read_locally", devid=devid, fid=stored.fid, reason=str(error))
            origin = cluster.origin(devid, get=True)
            if origin is not None:
                host, port, address = _parse_origin(origin)
                if address is not None or (address := await _resolve(host, port)) is not None:
                    signature = "" if self._signer is None else self._signer.field(NodeRight.READ, path)
                    found.append(ReplicaLocation(path, address, signature))
        return found

    async def _is_whole(self, local: LocalDevices, cluster: Cluster, stored: StoredFile, devid: int, path: str) -> bool:
        """Return whether the replica can be read whole from a local disk. Raises NoSuchDevice, DeviceFailed."""
        try:
            size = await local.size(devid, path, cluster.identities)
        except (NoSuchDevice, DeviceFailed):
            raise
        except TawaraError as error:
            log.warning("replica_read_failed", devid=devid, fid=stored.fid, reason=str(error))
            return False
        if size != stored.length:
            log.warning("replica_read_failed", devid=devid, fid=stored.fid, reason="its length is wrong")
            return False
        return True


@lru_cache(4096)
def _parse_origin(origin: str) -> tuple[str, int, str | None]:
    """Return host and port of a storage node's base URL, and `ADDRESS:PORT` unless the host is given by name."""
    place = urlsplit(origin)
    host, port = place.hostname or "", place.port or 80
    try:
        return host, port, _joined(ipaddress.ip_address(host), port)
    except ValueError:
        return host, port, None


async def _resolve(host: str, port: int) -> str | None:
    """Return `ADDRESS:PORT` of a host that is given by name, since nginx resolves no names here; None if unknown."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        log.warning("host_not_resolved", host=host, reason=str(error))
        return None
    return _joined(ipaddress.ip_address(found[0][4][0]), port)


def _joined(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
