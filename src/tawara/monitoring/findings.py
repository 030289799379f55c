"""Findings about a cluster, decided purely from the replies of its trackers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from time import localtime, strftime
from typing import Final

from tawara.client.maintenance_replies import Absences, ScrubStatus
from tawara.client.replies import DeviceInfo
from tawara.client.status import StoreStatus
from tawara.model.certificates import EXPIRES_SOON, ListenerCertificate
from tawara.model.cluster import DeviceAbsence, DeviceState, Host, HostState, Liveness, Observed
from tawara.model.health import DiskVerdict
from tawara.model.health_codes import Finding, HealthCode, Severity
from tawara.model.safety import Tally
from tawara.model.spans import counted, span

FULL: Final = 0.95
"""Used share of a device above which it is reported."""
LATE: Final = 120
"""Seconds of waiting above which a queue is reported."""


def _note(code: HealthCode, text: str) -> Finding:
    return Finding(code, Severity.NOTE, text)


def _warning(code: HealthCode, text: str) -> Finding:
    return Finding(code, Severity.WARNING, text)


def _critical(code: HealthCode, text: str) -> Finding:
    return Finding(code, Severity.CRITICAL, text)


def problems(trackers: Mapping[str, str | None], hosts: Sequence[Host], devices: Sequence[DeviceInfo]) -> list[Finding]:
    """Return one finding for each problem. `trackers`: address -> problem, or None.

    Devices out of service (dead ones, and those of hosts that are not alive) are reported once.
    """
    found = [
        _warning(HealthCode.TRACKER_DOWN, f"Tracker {address}: {trouble}")
        for address, trouble in trackers.items()
        if trouble
    ]
    by_id = {host.hostid: host for host in hosts}
    found += [
        _warning(HealthCode.HOST_DOWN, f"Host {host.name} is {host.state}")
        for host in hosts
        if host.state is not HostState.ALIVE
    ]
    for device in devices:
        host = by_id.get(device.hostid)
        if host is None or host.state is not HostState.ALIVE:
            continue
        if device.health and device.health.verdict is DiskVerdict.FAILING and device.state is not DeviceState.DEAD:
            text = f"The disk of dev{device.devid} on {host.name} is failing: {device.health.detail}"
            found.append(_warning(HealthCode.DISK_FAILING, text))
        trouble = _trouble(device)
        if trouble is not None:
            code, words = trouble
            told = _note if device.state in _ASKED_FOR else _warning
            found.append(told(code, f"Device dev{device.devid} on {host.name} {words}"))
    if not any(_takes_files(device, by_id) for device in devices):
        found.append(_critical(HealthCode.NO_DEVICE_WRITEABLE, "No device takes new files"))
    return found


_ASKED_FOR: Final = (DeviceState.DRAIN, DeviceState.READONLY)
"""Device states set by an operator or a rebalance run, which need no action."""


def find_risks(store: StoreStatus) -> list[Finding]:
    """Return a finding for each risk to files, and for each sign that no worker handles it."""
    safety = store.safety
    found: list[Finding] = [_critical(HealthCode.DATABASE_STALE, store.stale)] if store.stale else []
    if safety.lost.files:
        found.append(_critical(HealthCode.FILES_LOST, f"{_files(safety.lost)} lost: no copy is left"))
    if safety.unreadable.files:
        text = f"{_files(safety.unreadable)} out of reach: no copy can be read now"
        found.append(_critical(HealthCode.FILES_UNREADABLE, text))
    at_risk = safety.one_device.files - safety.one_device_wanted.files
    if at_risk and not _only_new_files_affected(store):
        text = f"{counted(at_risk, 'file')}, which should not be, {_are(at_risk)} one failing device from loss"
        found.append(_warning(HealthCode.FILES_ONE_FAILURE_FROM_LOSS, text))
    waiting = [each for each in store.queues if each.name in _PROMPT and each.due]
    if waiting and not store.processes:
        due = counted(sum(each.due for each in waiting), "file")
        found.append(_critical(HealthCode.NO_WORKERS, f"No workers run, and {due} wait for them"))
    for queue in waiting:
        age = queue.age(store.now)
        if store.processes and age is not None and age >= LATE:
            text = f"The first file to {queue.name} has waited for {span(age)}"
            found.append(_warning(HealthCode.QUEUE_LATE, text))
    stuck = sum(each.stuck for each in store.queues)
    if stuck:
        wait = "waits" if stuck == 1 else "wait"
        text = f"{counted(stuck, 'file')} {wait} for manual intervention: see `tawara fsck start`"
        found.append(_warning(HealthCode.FILES_STUCK, text))
    return found


def find_expiring(certificates: Sequence[ListenerCertificate], now: int) -> list[Finding]:
    """Return a finding for each certificate that has expired or expires soon; `now` is unix seconds."""
    found = []
    for each in certificates:
        left, date = each.left(now), time.strftime("%Y-%m-%d", time.gmtime(each.expires))
        if left <= 0:
            text = f"The TLS certificate of the gateway at {each.listener} expired on {date}"
            found.append(_critical(HealthCode.CERTIFICATE_EXPIRES, text))
        elif left < EXPIRES_SOON:
            text = f"The TLS certificate of the gateway at {each.listener} expires in {span(left)}, on {date}"
            found.append(_warning(HealthCode.CERTIFICATE_EXPIRES, text))
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


_STATES: Final = {
    DeviceState.DRAIN: HealthCode.DEVICE_DRAINING,
    DeviceState.READONLY: HealthCode.DEVICE_READONLY,
}


def _trouble(device: DeviceInfo) -> tuple[HealthCode, str] | None:
    if device.state is not DeviceState.ALIVE:
        return _STATES.get(device.state, HealthCode.DEVICE_DOWN), f"is {device.state}"
    if device.observed is None:
        return HealthCode.DEVICE_UNUSABLE, "has not been monitored yet"
    if device.observed is not Observed.WRITEABLE:
        words = f"is alive, but {device.observed}{f': {device.trouble}' if device.trouble else ''}".rstrip(".")
        return HealthCode.DEVICE_UNUSABLE, words
    used = used_share(device)
    return (HealthCode.DEVICE_FULL, f"is {used:.0%} full") if used is not None and used >= FULL else None


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


def find_version_difference(versions: Mapping[str, str]) -> list[Finding]:
    """Return a finding if trackers run different versions. `versions`: address -> version."""
    if len(set(versions.values())) < 2:
        return []
    told = ", ".join(f"{address} runs {version}" for address, version in versions.items())
    return [_warning(HealthCode.TRACKER_VERSIONS_DIFFER, f"The trackers run different versions: {told}")]


_LIVENESS_CODES: Final = {
    Liveness.SUSPECT: HealthCode.DEVICE_SUSPECT,
    Liveness.PRESUMED_DEAD: HealthCode.DEVICE_PRESUMED_DEAD,
    Liveness.TRUSTED: HealthCode.DEVICE_TRUSTED,
    Liveness.RETURNED: HealthCode.DEVICE_RETURNED,
}
_EXPECTED: Final = (Liveness.TRUSTED, Liveness.RETURNED)
"""States that need no action: set by an operator, or temporary."""


def find_unreachable(absences: Absences) -> list[Finding]:
    """Return one finding for each liveness state, and one for an active safety limit."""
    by_liveness: dict[Liveness, dict[int, DeviceAbsence]] = {}
    for devid, absent in absences.devices.items():
        by_liveness.setdefault(absent.liveness, {})[devid] = absent
    found = [
        (_note if liveness in _EXPECTED else _warning)(
            _LIVENESS_CODES[liveness], _describe_unreachable(liveness, by_liveness[liveness], absences)
        )
        for liveness in Liveness
        if liveness in by_liveness
    ]
    if absences.safety_limit and Liveness.SUSPECT in by_liveness:
        text = f"No further device is presumed dead: {absences.safety_limit}"
        found.append(_warning(HealthCode.SAFETY_LIMIT_HOLDS, text))
    return found


def _describe_unreachable(liveness: Liveness, devices: Mapping[int, DeviceAbsence], absences: Absences) -> str:
    names = _names(sorted(devices))
    match liveness:
        case Liveness.SUSPECT:
            since = strftime("%H:%M on %A", localtime(min(each.since for each in devices.values())))
            then = f"presumed dead after {span(absences.after)}" if absences.after else "never presumed dead"
            return f"{names}: suspect, unreachable since {since}; {then}"
        case Liveness.PRESUMED_DEAD:
            undo = f"`tawara device trust dev{min(devices)}` undoes it"
            return f"{names}: presumed dead, its files are being copied elsewhere; {undo}"
        case Liveness.TRUSTED:
            return f"{names}: unreachable and trusted to come back, so its replicas count"
        case Liveness.RETURNED:
            return f"{names}: back again; surplus replicas are being removed"


def _names(devids: Sequence[int]) -> str:
    return ", ".join(f"dev{devid}" for devid in devids)


def find_scrub_problems(at: ScrubStatus) -> list[Finding]:
    """Return the findings of the scrub."""
    found = []
    if at.unrepairable:
        needs = "needs" if at.unrepairable == 1 else "need"
        text = f"{counted(at.unrepairable, 'file')} {needs} manual intervention, found by the scrub"
        found.append(_warning(HealthCode.REPLICAS_NEED_INTERVENTION, f"{text}: see `tawara scrub status`"))
    if at.late:
        text = f"The scrub does not keep its period of {span(at.period)}: {scrub_pace(at)}"
        found.append(_warning(HealthCode.SCRUB_LATE, text))
    return found


def scrub_pace(at: ScrubStatus) -> str:
    """Describe whether the scrub's round ends in time."""
    if not at.late:
        return "in time"
    return f"this round is expected to take {span(at.expected_end - at.began)}"
