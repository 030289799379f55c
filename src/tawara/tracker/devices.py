"""Verbs about devices (docs/mogilefs.md 4)."""

from __future__ import annotations

from tawara.metadata import cluster as rows
from tawara.metadata import drain, identities
from tawara.model import errors
from tawara.model.cluster import DeviceState
from tawara.model.drain import is_safe
from tawara.model.limits import Limits
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.wire.line import Args, Value

_LARGEST_DEVID = 2**31 - 1
_LARGEST_WEIGHT = 2**23 - 1
"""Largest weight that MogileFS's three-byte column holds."""


async def create_device(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Create a device on a host given by id or name; it gets files once the monitor has observed it."""
    state = DeviceState.ALIVE
    if call.raw("state"):
        try:
            state = DeviceState(call.text("state"))
        except ValueError:
            raise errors.InvalidState from None
    devid = _digits(call.raw("devid"), _LARGEST_DEVID)
    if not devid:
        raise errors.InvalidDevid
    cluster = await tracker.view.refresh()  # the host may have been made on another tracker a moment ago
    hostid = _digits(call.raw("hostid"), _LARGEST_DEVID)
    if hostid:
        if hostid not in cluster.hosts:
            raise errors.UnknownHostid
    elif call.flag("hostname"):
        host = cluster.hosts_by_name.get(call.text("hostname"))
        if host is None:
            raise errors.UnknownHost
        hostid = host.hostid
    else:
        raise errors.BadArgs("No hostid/hostname parameter")
    await tracker.metadata.write(rows.create_device, devid, hostid, state)
    await tracker.view.renew()
    return {}


def _digits(raw: bytes, most: int) -> int | None:
    """Return a number of at most `most` written in digits only; None for anything else."""
    return int(raw) if raw.isdigit() and len(raw) <= 10 and int(raw) <= most else None


async def get_devices(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """List all devices, or the one with `devid`; `health` adds the health of their disks."""
    cluster = tracker.cluster
    wanted = call.number("devid") if call.flag("devid") else None
    devices = [device for device in cluster.devices.values() if wanted in (None, device.devid)]
    reply: dict[str, Value] = {"devices": len(devices)}
    for number, device in enumerate(devices, 1):
        seen = cluster.observed.get(device.devid)
        busy = seen.utilization if seen else None
        reply |= {
            f"dev{number}_devid": device.devid,
            f"dev{number}_hostid": device.hostid,
            f"dev{number}_status": device.state.value,
            f"dev{number}_weight": device.weight,
            f"dev{number}_mb_total": device.mb_total,
            f"dev{number}_mb_used": device.mb_used,
            f"dev{number}_mb_free": device.mb_free,
            f"dev{number}_mb_asof": device.mb_asof,
            f"dev{number}_observed_state": seen.state.value if seen else "",
            f"dev{number}_utilization": "" if busy is None else f"{busy:.2f}",
            f"dev{number}_reject_bad_md5": int(seen.rejects_bad_md5) if seen else "",
        }
        if call.flag("health") and seen and seen.trouble:  # an extension: without this argument the reply is MogileFS's
            reply[f"dev{number}_trouble"] = seen.trouble
        if call.flag("health") and seen and seen.file_system:
            reply[f"dev{number}_file_system"] = seen.file_system
            reply[f"dev{number}_whole_disk"] = seen.disk
        if call.flag("health") and seen and seen.health:
            reply |= {
                f"dev{number}_health": seen.health.verdict.value,
                f"dev{number}_temperature": seen.health.temperature,
                f"dev{number}_health_detail": seen.health.detail,
                f"dev{number}_health_time": seen.health.checked_at,
            }
    return reply


async def set_state(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Set a device's state."""
    host, devid = _device(call)
    try:
        state = DeviceState(call.text("state"))
    except ValueError:
        raise errors.BadParams from None
    await tracker.metadata.write(rows.set_device_state, host, devid, state)
    await tracker.view.renew()
    return {}


async def accept(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Accept the disk that is mounted as `device`, whichever disk it had before."""
    if not call.flag("device"):
        raise errors.BadParams
    await tracker.metadata.write(identities.accept, call.identifier("device", _LARGEST_DEVID))
    await tracker.view.renew()
    return {}


async def set_weight(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Set a device's weight: its share of reads relative to other devices."""
    host, devid = _device(call)
    weight = call.number("weight")
    if weight is None or not 0 <= weight <= _LARGEST_WEIGHT:
        raise errors.BadParams
    await tracker.metadata.write(rows.set_device_weight, host, devid, weight)
    await tracker.view.renew()
    return {}


def _device(call: TrackerRequest) -> tuple[str, int]:
    if not call.flag("host") or not call.flag("device"):
        raise errors.BadParams
    return call.name("host", errors.BadParams), call.identifier("device", _LARGEST_DEVID)


# --- extensions of MogileFS -------------------------------------------------------------------------------------------


async def drain_device(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Drain a `device`: it gets no new files, and its files are moved; `undo` cancels that. Not in MogileFS."""
    devid = _digits(call.raw("device"), _LARGEST_DEVID)
    if not devid:
        raise errors.BadParams
    change = drain.undo if call.flag("undo") else drain.start
    await tracker.metadata.write(change, devid, now=await tracker.now())
    await tracker.view.renew()
    tracker.wakeups.drain.notify()
    return {}


async def drain_status(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Report the progress of each draining device; `safe`: its disk may be removed. Not in MogileFS."""
    now = await tracker.now()
    devices = await tracker.metadata.read(drain.read_status)
    reply: dict[str, Value] = {"devices": len(devices), "current_time": now}
    for number, each in enumerate(devices, 1):
        safe = is_safe(each.at, left=each.left, uploads=each.uploads, copies=each.copies, now=now)
        reply |= {
            f"dev{number}_devid": each.devid,
            f"dev{number}_began": each.at.began,
            f"dev{number}_files": each.at.files,
            f"dev{number}_left": each.left,
            f"dev{number}_waiting": each.waiting,
            f"dev{number}_failed": each.failed,
            f"dev{number}_uploads": each.uploads,
            f"dev{number}_uploads_until": each.newest_upload and each.newest_upload + Limits().upload_open,
            f"dev{number}_copies": each.copies,
            f"dev{number}_safe": int(safe),
        }
    return reply
