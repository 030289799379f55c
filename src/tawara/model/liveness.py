"""Decides when an unreachable device is presumed dead, so that its files get new copies automatically.

An unreachable device is *suspect*; after enough time unreachable it is *presumed dead*, unless a safety limit holds: a
failed switch is not ten failed disks. Only observed absence is counted, in short steps, so that neither a clock that
jumps nor a time without any monitor condemns a device. An operator's decision takes precedence: a device that is
configured down or dead, or whose host is, is neither suspect nor presumed dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tawara.model.cluster import Cluster, DeviceAbsence, Liveness, Observed

LONGEST_STEP: Final = 10
"""Most seconds that one observation adds: about two rounds of a monitor."""
_SPECK: Final = 1e-9
_COUNTED: Final = (Liveness.SUSPECT, Liveness.RETURNED)


@dataclass(frozen=True, slots=True)
class LivenessRules:
    """When to presume a device dead, and the safety limits. Shares are of the hosts and devices in service."""

    after: int = 900
    """Seconds of absence after which a device is presumed dead; 0 for never."""
    hosts: float = 0.34
    """Share of hosts that may be entirely absent; if more are, no further device is presumed dead."""
    bytes: float = 0.5
    """Share of stored bytes that may be on absent devices; if more are, no further device is presumed dead."""


def judge(cluster: Cluster, elapsed: Mapping[int, int], rules: LivenessRules) -> dict[int, DeviceAbsence | None]:
    """Return the changes to `cluster.absences` from the observations of one process: devid -> absence, or None.

    `elapsed`: seconds since each absence was last updated, by the database's clock.
    """
    changes: dict[int, DeviceAbsence | None] = {}
    seen, unseen = _seen(cluster), _unseen(cluster)
    for devid, was in cluster.absences.items():
        now: DeviceAbsence | None
        if not cluster.can_read_from(devid):
            changes[devid] = None
        elif devid in seen and (now := _seen_again(was)) != was:
            changes[devid] = now
    if majority_is_silent(cluster):
        return changes
    due: list[int] = []
    for devid in unseen:
        was_absent = cluster.absences.get(devid)
        absent = _counted(was_absent, elapsed.get(devid, 0), rules.after)
        if absent != was_absent:
            changes[devid] = absent
        if _is_due(absent, rules):
            due.append(devid)
    if due and safety_limit(cluster, rules) is None:
        changes.update({devid: _presumed(changes.get(devid) or cluster.absences[devid]) for devid in due})
    return changes


def worth_reporting(cluster: Cluster, rules: LivenessRules) -> bool:
    """Whether `judge` could change anything; False if no device is absent or a safety limit prevents all changes."""
    seen = _seen(cluster)
    for devid, was in cluster.absences.items():
        if not cluster.can_read_from(devid) or (devid in seen and _seen_again(was) != was):
            return True
    if majority_is_silent(cluster):
        return False
    unseen = [cluster.absences.get(devid) for devid in _unseen(cluster)]
    if any(was is None or _counted(was, LONGEST_STEP, rules.after) != was for was in unseen):
        return True
    return any(was is not None and _is_due(was, rules) for was in unseen) and safety_limit(cluster, rules) is None


def safety_limit(cluster: Cluster, rules: LivenessRules) -> str | None:
    """Return the reason why no further device is presumed dead now; None if no safety limit is active."""
    if majority_is_silent(cluster):
        hosts = _hosts(cluster)
        return f"{len(_silent_hosts(cluster))} of {len(hosts)} hosts are unreachable, and that is most of them"
    absent = {
        devid
        for devid in _unseen(cluster)
        if devid not in cluster.absences or cluster.absences[devid].liveness is not Liveness.TRUSTED
    } | {devid for devid in cluster.absences if cluster.is_presumed_dead(devid)}
    hosts = _hosts(cluster)
    gone = [hostid for hostid, devids in hosts.items() if devids <= absent]
    if len(gone) > rules.hosts * len(hosts) + _SPECK:
        return (
            f"{len(gone)} of {len(hosts)} hosts are absent at once, and the share that may be is {rules.hosts:g}"
            " (care.presume_dead_hosts)"
        )
    stored = _bytes(cluster, (devid for devids in hosts.values() for devid in devids))
    missing = _bytes(cluster, absent)
    if missing > rules.bytes * stored + _SPECK:
        return (
            f"{missing / stored:.0%} of the bytes are absent at once, and the share that may be is {rules.bytes:g}"
            " (care.presume_dead_bytes)"
        )
    return None


def majority_is_silent(cluster: Cluster) -> bool:
    """Whether more than half of the hosts do not respond, so that this process is probably disconnected itself."""
    return 2 * len(_silent_hosts(cluster)) > len(_hosts(cluster))


# --- the state of one device ------------------------------------------------------------------------------------------


def _seen_again(was: DeviceAbsence) -> DeviceAbsence | None:
    match was.liveness:
        case Liveness.SUSPECT:
            return None
        case Liveness.RETURNED:
            return replace(was, seconds=0)
        case _:  # its files may have surplus copies by now
            return replace(was, liveness=Liveness.RETURNED, seconds=0, to_queue=True)


def _counted(was: DeviceAbsence | None, elapsed: int, enough: int) -> DeviceAbsence:
    """Return the absence with `elapsed` seconds added, up to `enough`."""
    if was is None:
        return DeviceAbsence(Liveness.SUSPECT)
    if was.liveness not in _COUNTED or was.seconds >= enough:
        return was
    return replace(was, seconds=min(enough, was.seconds + min(max(0, elapsed), LONGEST_STEP)))


def _is_due(absent: DeviceAbsence, rules: LivenessRules) -> bool:
    return absent.liveness in _COUNTED and 0 < rules.after <= absent.seconds


def _presumed(was: DeviceAbsence) -> DeviceAbsence:
    return replace(was, liveness=Liveness.PRESUMED_DEAD, to_queue=True)


# --- reachable hosts and devices --------------------------------------------------------------------------------------


def _seen(cluster: Cluster) -> set[int]:
    return {devid for devid in cluster.devices if cluster.should_read_from(devid)}


def _unseen(cluster: Cluster) -> list[int]:
    """Return the devices that should respond but do not; devices not observed yet are left out."""
    return [
        devid
        for devid in cluster.devices
        if cluster.can_read_from(devid)
        and (seen := cluster.observed.get(devid)) is not None
        and seen.state is Observed.UNREACHABLE
    ]


def _hosts(cluster: Cluster) -> dict[int, set[int]]:
    """Return the hosts that should respond, with their devices that should."""
    hosts: dict[int, set[int]] = {}
    for devid, device in cluster.devices.items():
        if cluster.can_read_from(devid):
            hosts.setdefault(device.hostid, set()).add(devid)
    return hosts


def _silent_hosts(cluster: Cluster) -> list[int]:
    unseen = set(_unseen(cluster))
    return [hostid for hostid, devids in _hosts(cluster).items() if devids <= unseen]


def _bytes(cluster: Cluster, devids: Iterable[int]) -> int:
    """Return the used MiB of these devices, as far as known."""
    return sum(cluster.devices[devid].mb_used or 0 for devid in devids)
