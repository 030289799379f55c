"""Verbs about devices that no monitor can reach. MogileFS lacks them, hence the prefix `tawara_`."""

from __future__ import annotations

from tawara.metadata import device_liveness as rows
from tawara.model import errors, liveness
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.wire.line import Args, Value

_LARGEST_DEVID = 2**31 - 1


async def absences(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """List the devices that no monitor can reach, the state of each, and the safety limit in force."""
    cluster = tracker.cluster
    reply: dict[str, Value] = {"absences": len(cluster.absences)}
    for number, (devid, absent) in enumerate(sorted(cluster.absences.items()), 1):
        reply |= {
            f"absence{number}_devid": devid,
            f"absence{number}_liveness": absent.liveness.value,
            f"absence{number}_seconds": absent.seconds,
            f"absence{number}_since": absent.since,
            f"absence{number}_to_queue": int(absent.to_queue),
        }
    rules = tracker.view.rules
    reply["after"] = rules.after
    reply["brake"] = liveness.safety_limit(cluster, rules) or ""
    return reply


async def trust(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Count the replicas on a `device`, or on all devices of a `host`, again: it is expected to come back."""
    cluster = await tracker.view.refresh()
    if call.flag("host"):
        host = cluster.hosts_by_name.get(call.name("host", errors.UnknownHost))
        if host is None:
            raise errors.UnknownHost
        wanted = [device.devid for device in cluster.devices.values() if device.hostid == host.hostid]
    elif call.flag("device"):
        wanted = [call.identifier("device", _LARGEST_DEVID)]
        if wanted[0] not in cluster.devices:
            raise errors.NoDevice
    else:
        raise errors.BadParams
    trusted = await tracker.metadata.write(rows.trust, wanted)
    await tracker.view.refresh()
    return {"devids": ",".join(map(str, trusted))}
