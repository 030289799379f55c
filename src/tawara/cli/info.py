"""`tawara info`: show one file and its replicas."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass

from tawara.cli import output
from tawara.cli.ls import fields
from tawara.cli.session import DEFAULT, Session, file_at
from tawara.client import AsyncClient, FileInfo
from tawara.model import errors, fid
from tawara.model.cluster import Host
from tawara.nodes.client import NodeClient


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """One replica, as its storage node reports it."""

    devid: int
    host: str
    state: str
    """`ok`, `missing`, `wrong size`, or `unreachable`."""
    url: str


async def info(where: str | None = None, /, *, session: Session = DEFAULT) -> int:
    """Show a file, and each of its replicas as the storage nodes report them.

    The exit code is 7 if a replica is missing or has another size, 6 if a storage node does not answer.

    For example:

        tawara info photos/cat.jpg

    Parameters
    ----------
    where
        DOMAIN/KEY.
    """
    async with session.client() as client:
        domain, key = await file_at(client, where)
        found = await client.info(domain, key, devices=True)
        replicas = await _replicas(client, found)
    if session.json:
        output.json_line(fields(found) | {"replicas": [asdict(each) for each in replicas]})
    else:
        for name, value in {
            "domain": found.domain,
            "key": found.key,
            "fid": str(found.fid),
            "size": f"{found.length} ({output.human_size(found.length)})",
            "class": found.storage_class,
            "copies": str(found.copies),
            "stored": output.local_time(found.stored_at),
            "checksum": str(found.checksum or "-"),
        }.items():
            output.line(f"{name + ':':<10}{output.shown(value)}")
        output.line()
        output.table(
            ("DEVICE", "HOST", "STATE", "URL"),
            [(f"dev{each.devid}", each.host, each.state, each.url) for each in replicas],
        )
    states = {each.state for each in replicas}
    if states & {"missing", "wrong size"}:
        return errors.Exit.CORRUPT
    return errors.Exit.UNAVAILABLE if "unreachable" in states else errors.Exit.OK


async def _replicas(client: AsyncClient, found: FileInfo) -> list[ReplicaInfo]:
    hosts = {each.hostid: each for each in await client.hosts()}
    devices = {each.devid: each for each in await client.devices()}
    async with NodeClient() as nodes:
        return await asyncio.gather(
            *(
                _look(nodes, found, devid, hosts.get(devices[devid].hostid) if devid in devices else None)
                for devid in found.devids
            )
        )


async def _look(nodes: NodeClient, found: FileInfo, devid: int, host: Host | None) -> ReplicaInfo:
    if host is None:
        return ReplicaInfo(devid, "?", "unreachable", "")
    address = f"[{host.ip}]" if ":" in host.ip else host.ip
    url = f"http://{address}:{host.http_get_port or host.http_port}{fid.path(devid, found.fid)}"
    try:
        size = await nodes.size(found.signed_urls.get(devid, url))
    except errors.NodeUnreachable:
        return ReplicaInfo(devid, host.name, "unreachable", url)
    state = "missing" if size is None else "ok" if size == found.length else "wrong size"
    return ReplicaInfo(devid, host.name, state, url)
