"""Verbs about hosts (docs/mogilefs.md 4)."""

from __future__ import annotations

import re

from tawara.metadata import cluster as rows
from tawara.model import addresses, errors
from tawara.model.cluster import HostState
from tawara.model.limits import HOST_NAME_BYTES
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.wire.line import Args, Value

_MASK = re.compile(r"[0-9a-fA-F.:/]{1,64}")


async def create_host(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Create a host, with state `down` by default."""
    name = call.new_name("host", errors.NoHost, HOST_NAME_BYTES)
    if name in tracker.cluster.hosts_by_name:
        raise errors.HostExists
    if not call.flag("ip"):
        raise errors.NoIp
    if not call.flag("port"):
        raise errors.NoPort
    hostid = await tracker.metadata.write(rows.create_host, name, **_fields(call))
    await tracker.view.renew()
    return {"hostid": hostid, "hostname": name}


async def update_host(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Change the given fields of a host; an empty `getport`, `altip` or `altmask` removes the value."""
    name = call.name("host", errors.NoHost)
    if name not in tracker.cluster.hosts_by_name and name not in (await tracker.view.refresh()).hosts_by_name:
        raise errors.HostNotFound
    hostid = await tracker.metadata.write(rows.update_host, name, **_fields(call))
    await tracker.view.renew()
    return {"hostid": hostid, "hostname": name}


async def delete_host(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Remove a host that has no devices."""
    await tracker.metadata.write(rows.delete_host, call.name("host", errors.UnknownHost))
    await tracker.view.renew()
    return {}


async def get_hosts(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """List all hosts, or the one with the given `hostid`."""
    wanted = call.number("hostid") if call.flag("hostid") else None
    hosts = [host for host in tracker.cluster.hosts.values() if wanted in (None, host.hostid)]
    reply: dict[str, Value] = {"hosts": len(hosts)}
    for number, host in enumerate(hosts, 1):
        reply |= {
            f"host{number}_hostid": host.hostid,
            f"host{number}_status": host.state.value,
            f"host{number}_hostname": host.name,
            f"host{number}_hostip": host.ip,
            f"host{number}_http_port": host.http_port,
            f"host{number}_http_get_port": host.http_get_port,
            f"host{number}_altip": host.altip,
            f"host{number}_altmask": host.altmask,
        }
    return reply


# --- parsing of arguments ---------------------------------------------------------------------------------------------


def _fields(call: TrackerRequest) -> dict[str, object]:
    """Return the fields of `model.cluster.Host` that the request contains."""
    fields: dict[str, object] = {}
    if call.raw("status"):
        try:
            fields["state"] = HostState(call.text("status"))
        except ValueError:
            raise errors.UnknownState from None
    if call.flag("ip"):
        fields["ip"] = _address(call, "ip")
    if call.flag("port"):
        fields["http_port"] = _port(call, "port")
    if "getport" in call.args:
        fields["http_get_port"] = _port(call, "getport") if call.flag("getport") else None
    if "altip" in call.args:
        fields["altip"] = _address(call, "altip") if call.flag("altip") else None
    if "altmask" in call.args:
        fields["altmask"] = _mask(call) if call.flag("altmask") else None
    return fields


def _port(call: TrackerRequest, name: str) -> int:
    port = call.number(name) or 0
    if not 0 < port < 65536:
        raise errors.BadParams(f"{name} must be a number from 1 to 65535")
    return port


def _address(call: TrackerRequest, name: str) -> str:
    """Return an argument that is an IP address or a host name, as valid in a URL."""
    try:
        return addresses.reachable(call.text(name))
    except ValueError as error:
        raise errors.BadParams(f"{name} {error}") from None


def _mask(call: TrackerRequest) -> str:
    text = call.text("altmask")
    if not _MASK.fullmatch(text):
        raise errors.BadParams("altmask must be a network, such as 10.0.0.0/8")
    return text
