"""Findings about a cluster, decided purely from the replies of its trackers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tawara.client.replies import DeviceInfo
from tawara.client.status import StoreStatus
from tawara.model.certificates import EXPIRES_SOON, ListenerCertificate
from tawara.model.cluster import DeviceState, Host, HostState, Observed
from tawara.model.health import DiskHealth, DiskVerdict
from tawara.model.safety import Tally
from tawara.model.spans import counted, span

FULL: Final = 0.95
"""Used share of a device above which it is reported."""
LATE: Final = 120
"""Seconds of waiting above which a queue is reported."""


class Severity(StrEnum):
    """Severity of a finding."""

    NOTE = "note"
    """Known or requested, no action needed: a drain in progress."""
    WARNING = "warning"
    """A problem; files are safe for the moment."""
    CRITICAL = "critical"
    """Files are lost or cannot be read, or the store does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about the cluster."""

    severity: Severity
    text: str


def note(text: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(Severity.NOTE, text)


def warning(text: str) -> Finding:
    """Return a finding that needs attention."""
    return Finding(Severity.WARNING, text)


def critical(text: str) -> Finding:
    """Return a finding that needs immediate attention."""
    return Finding(Severity.CRITICAL, text)


def problems(trackers: Mapping[str, str | None], hosts: Sequence[Host], devices: Sequence[DeviceInfo]) -> list[Finding]:
    """Return one finding for each problem. `trackers`: address -> problem, or None.

    Devices out of service (dead ones, and those of hosts that are not alive) are reported once.
    """
    found = [warning(f"Tracker {address}: {trouble}") for address, trouble in trackers.items() if trouble]
    by_id = {host.hostid: host for host in hosts}
    found += [warning(f"Host {host.name} is {host.state}") for host in hosts if host.state is not HostState.ALIVE]
    for device in devices:
        host = by_id.get(device.hostid)
        if host is None or host.state is not HostState.ALIVE:
            continue
        if device.health and device.health.verdict is DiskVerdict.FAILING and device.state is not DeviceState.DEAD:
            found.append(warning(f"The disk of dev{device.devid} on {host.name} is failing: {device.health.detail}"))
        trouble = _trouble(device)
        if trouble:
            told = note if device.state in _ASKED_FOR else warning
            found.append(told(f"Device dev{device.devid} on {host.name} {trouble}"))
    if not any(_takes_files(device, by_id) for device in devices):
        found.append(critical("No device takes new files"))
    return found


_ASKED_FOR: Final = (DeviceState.DRAIN, DeviceState.READONLY)
"""Device states set by an operator or a rebalance run, which need no action."""


def find_risks(store: StoreStatus) -> list[Finding]:
    """Return a finding for each risk to files, and for each sign that no worker handles it."""
    safety = store.safety
    found: list[Finding] = [critical(store.stale)] if store.stale else []
    if safety.lost.files:
        found.append(critical(f"{_files(safety.lost)} lost: no copy is left"))
    if safety.unreadable.files:
        found.append(critical(f"{_files(safety.unreadable)} out of reach: no copy can be read now"))
    at_risk = safety.one_device.files - safety.one_device_wanted.files
    if at_risk and not _only_new_files_affected(store):
        text = f"{counted(at_risk, 'file')}, which should not be, {_are(at_risk)} one failing device from loss"
        found.append(warning(text))
    waiting = [each for each in store.queues if each.name in _PROMPT and each.due]
    if waiting and not store.processes:
        due = counted(sum(each.due for each in waiting), "file")
        found.append(critical(f"No workers run, and {due} wait for them"))
    for queue in waiting:
        age = queue.age(store.now)
        if store.processes and age is not None and age >= LATE:
            found.append(warning(f"The first file to {queue.name} has waited for {span(age)}"))
    stuck = sum(each.stuck for each in store.queues)
    if stuck:
        wait = "waits" if stuck == 1 else "wait"
        found.append(warning(f"{counted(stuck, 'file')} {wait} for manual intervention: see `tawara fsck start`"))
    return found


def find_expiring(certificates: Sequence[ListenerCertificate], now: int) -> list[Finding]:
    """Return a finding for each certificate that has expired or expires soon; `now` is unix seconds."""
    found = []
    for each in certificates:
        left, date = each.left(now), time.strftime("%Y-%m-%d", time.gmtime(each.expires))
        if left <= 0:
            found.append(critical(f"The TLS certificate of the gateway at {each.listener} expired on {date}"))
        elif left < EXPIRES_SOON:
            text = f"The TLS certificate of the gateway at {each.listener} expires in {span(left)}, on {date}"
            found.append(warning(text))
    return found


_PROMPT: Final = ("replicate", "delete")
"""Queues that should become empty soon, unlike those of checks and moves."""


def _files(tally: Tally) -> str:
    return f"{counted(tally.files, 'file')} {_are(tally.files)}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _only_new_files_affected(store: StoreStatus) -> bool:
    """Return whether all files with too few copies are new ones that wait briefly for their second copy."""
    queue = store.queue("replicate")
    age = queue.age(store.now)
    young = age is None or age < LATE
    return bool(store.processes and young and 0 < store.safety.one_device.files <= queue.due + queue.later)


def _trouble(device: DeviceInfo) -> str | None:
    if device.state is not DeviceState.ALIVE:
        return f"is {device.state}"
    if device.observed is None:
        return "has not been monitored yet"
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
    """Return the used share of a device, 0.0 to 1.0; None if unknown."""
    if not device.mb_total or device.mb_used is None:
        return None
    return min(1.0, device.mb_used / device.mb_total)


def shown_health(health: DiskHealth | None) -> str:
    """Format the health of a disk for a table cell: `ok 38°C`, `failing 51°C`, `-` if unknown."""
    if health is None or (health.verdict is DiskVerdict.UNKNOWN and health.temperature is None):
        return "-"
    return health.verdict.value if health.temperature is None else f"{health.verdict.value} {health.temperature}°C"
