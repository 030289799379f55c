"""What is wrong with a cluster: a pure judgement of what its trackers tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tawara.client.answers import DeviceInfo
from tawara.client.oversight import StoreStatus
from tawara.model.cluster import DeviceState, Host, HostState, Observed
from tawara.model.health import DiskHealth, Verdict
from tawara.model.safety import Tally
from tawara.model.spans import counted, span

FULL: Final = 0.95
"""Share of a device that may be used before it is worth a word."""
LATE: Final = 120
"""Seconds for which work may wait before it is worth a word."""


def problems(trackers: Mapping[str, str | None], hosts: Sequence[Host], devices: Sequence[DeviceInfo]) -> list[str]:
    """One sentence for each thing that is not as it should be. `trackers`: address -> what is wrong with it, or None.

    What people have taken out of service (dead devices, and what is in hosts that are not alive) is said once.
    """
    found = [f"Tracker {address}: {trouble}" for address, trouble in trackers.items() if trouble]
    by_id = {host.hostid: host for host in hosts}
    found += [f"Host {host.name} is {host.state}" for host in hosts if host.state is not HostState.ALIVE]
    for device in devices:
        host = by_id.get(device.hostid)
        if host is None or host.state is not HostState.ALIVE:
            continue
        if device.health and device.health.verdict is Verdict.FAILING and device.state is not DeviceState.DEAD:
            found.append(f"The disk of dev{device.devid} on {host.name} is failing: {device.health.detail}")
        trouble = _trouble(device)
        if trouble:
            found.append(f"Device dev{device.devid} on {host.name} {trouble}")
    if not any(_takes_files(device, by_id) for device in devices):
        found.append("No device takes new files")
    return found


def worries(store: StoreStatus) -> list[str]:
    """One sentence for each danger that files are in, and for each sign that nobody does anything about it."""
    safety = store.safety
    found: list[str] = []
    if safety.lost.files:
        found.append(f"{_files(safety.lost)} lost: no copy is left")
    if safety.unreadable.files:
        found.append(f"{_files(safety.unreadable)} out of reach: no copy can be read now")
    at_risk = safety.one_device.files - safety.one_device_wanted.files
    if at_risk and not _in_hand(store):
        found.append(f"{counted(at_risk, 'file')}, which should not be, {_are(at_risk)} one failing device from loss")
    waiting = [each for each in store.queues if each.name in _PROMPT and each.due]
    if waiting and not store.processes:
        found.append(f"No workers run, and {counted(sum(each.due for each in waiting), 'file')} wait for them")
    for queue in waiting:
        age = queue.age(store.now)
        if store.processes and age is not None and age >= LATE:
            found.append(f"The first file to {queue.name} has waited for {span(age)}")
    stuck = sum(each.stuck for each in store.queues)
    if stuck:
        found.append(
            f"{counted(stuck, 'file')} wait{'s' if stuck == 1 else ''} for a person: `tawara fsck start` looks"
        )
    return found


_PROMPT: Final = ("replicate", "delete")
"""The queues that should always be empty soon; checks and moves take the time that they take."""


def _files(tally: Tally) -> str:
    return f"{counted(tally.files, 'file')} {_are(tally.files)}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _in_hand(store: StoreStatus) -> bool:
    """Whether files with too few copies are just new: each waits for its second copy, and not for long."""
    queue = store.queue("replicate")
    age = queue.age(store.now)
    young = age is None or age < LATE
    return bool(store.processes and young and 0 < store.safety.one_device.files <= queue.due + queue.later)


def _trouble(device: DeviceInfo) -> str | None:
    if device.state is not DeviceState.ALIVE:
        return f"is {device.state}"
    if device.observed is None:
        return "has not been looked at yet"
    if device.observed is not Observed.WRITEABLE:
        return f"is alive, but {device.observed}{f': {device.trouble}' if device.trouble else ''}".rstrip(".")
    used = used_share(device)
    return f"is {used:.0%} full" if used is not None and used >= FULL else None


def _takes_files(device: DeviceInfo, hosts: Mapping[int, Host]) -> bool:
    host = hosts.get(device.hostid)
    return (
        host is not None
        and host.state is HostState.ALIVE
        and device.state is DeviceState.ALIVE
        and device.observed is Observed.WRITEABLE
    )


def used_share(device: DeviceInfo) -> float | None:
    """The used share of a device, 0.0 to 1.0; None if it is not known."""
    if not device.mb_total or device.mb_used is None:
        return None
    return min(1.0, device.mb_used / device.mb_total)


def shown_health(health: DiskHealth | None) -> str:
    """How a disk is, in a table's cell: `ok 38°C`, `failing 51°C`, `-` if nobody knows."""
    if health is None or (health.verdict is Verdict.UNKNOWN and health.temperature is None):
        return "-"
    return health.verdict.value if health.temperature is None else f"{health.verdict.value} {health.temperature}°C"
