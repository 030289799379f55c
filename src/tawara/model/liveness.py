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
"""Seconds that one observation counts at most: about two rounds of a monitor."""
_SPECK: Final = 1e-9
_COUNTED: Final = (Liveness.SUSPECT, Liveness.RETURNED)


@dataclass(frozen=True, slots=True)
class LivenessRules:
    """When to presume a device dead, and the safety limits. Shares are of the hosts and devices in service."""

    after: int = 900
    """Seconds of absence after which a device is presumed dead; 0 for never."""
    hosts: float = 0.34
    """Share of the hosts that may be absent as a whole; when more are, nothing more is presumed."""
    bytes: float = 0.5
    """Share of the stored bytes that may lie on absent devices; when more do, nothing more is presumed."""


def judge(cluster: Cluster, elapsed: Mapping[int, int], rules: LivenessRules) -> dict[int, DeviceAbsence | None]:
    """What changes in `cluster.absences` by what one process has observed: devid -> the absence, None for none.

    `elapsed`: seconds since each absence was last counted, by the database's clock.
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
    """Whether `judge` could change anything: nothing is written while nothing is amiss, or a brake holds for long."""
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
    """Why no further device is presumed dead now, in words; None if none is held back."""
    if majority_is_silent(cluster):
        hosts = _hosts(cluster)
        return f"{len(_silent_hosts(cluster))} of {len(hosts)} hosts are unreachable, and that is most of them"
    absent = {
        devid
        for devid in _unseen(cluster)
        if devid not in cluster.absences or cluster.absences[devid].standing is not Liveness.TRUSTED
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
    """Whether more than half of the hosts do not answer: then it is likelier that this process is cut off."""
    return 2 * len(_silent_hosts(cluster)) > len(_hosts(cluster))


# --- what happens to one device ---------------------------------------------------------------------------------------


def _seen_again(was: DeviceAbsence) -> DeviceAbsence | None:
    match was.standing:
        case Liveness.SUSPECT:
            return None
        case Liveness.RETURNED:
            return replace(was, seconds=0)
        case _:  # its files may have copies too many by now
            return replace(was, standing=Liveness.RETURNED, seconds=0, to_queue=True)


def _counted(was: DeviceAbsence | None, elapsed: int, enough: int) -> DeviceAbsence:
    """The absence some seconds later; no more of them are counted than are `enough`."""
    if was is None:
        return DeviceAbsence(Liveness.SUSPECT)
    if was.standing not in _COUNTED or was.seconds >= enough:
        return was
    return replace(was, seconds=min(enough, was.seconds + min(max(0, elapsed), LONGEST_STEP)))


def _is_due(absent: DeviceAbsence, rules: LivenessRules) -> bool:
    return absent.standing in _COUNTED and 0 < rules.after <= absent.seconds


def _presumed(was: DeviceAbsence) -> DeviceAbsence:
    return replace(was, standing=Liveness.PRESUMED_DEAD, to_queue=True)


# --- who is there -----------------------------------------------------------------------------------------------------


def _seen(cluster: Cluster) -> set[int]:
    return {devid for devid in cluster.devices if cluster.should_read_from(devid)}


def _unseen(cluster: Cluster) -> list[int]:
    """The devices that should answer, and do not. Of those not looked at yet nothing is known."""
    return [
        devid
        for devid in cluster.devices
        if cluster.can_read_from(devid)
        and (seen := cluster.observed.get(devid)) is not None
        and seen.state is Observed.UNREACHABLE
    ]


def _hosts(cluster: Cluster) -> dict[int, set[int]]:
    """The hosts that should answer, with the devices that should."""
    hosts: dict[int, set[int]] = {}
    for devid, device in cluster.devices.items():
        if cluster.can_read_from(devid):
            hosts.setdefault(device.hostid, set()).add(devid)
    return hosts


def _silent_hosts(cluster: Cluster) -> list[int]:
    unseen = set(_unseen(cluster))
    return [hostid for hostid, devids in _hosts(cluster).items() if devids <= unseen]


def _bytes(cluster: Cluster, devids: Iterable[int]) -> int:
    """MiB that are used on these devices, as far as is known."""
    return sum(cluster.devices[devid].mb_used or 0 for devid in devids)
