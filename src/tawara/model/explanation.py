"""Explains the placement and state of a file in sentences.

The input is an `ExplainedFile`, which has the rows of the fid, and the `Cluster`. Each sentence has a topic and a flag
for trouble, so that programs can evaluate it. Times are unix seconds.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tawara.model.cluster import MIB, Cluster, DeviceState, HostState, Observed, StorageClass
from tawara.model.errors import InvalidReplpolicy
from tawara.model.files import Deletion, QueuedTask, Replication, StoredFile, Upload
from tawara.model.limits import END_OF_TIME
from tawara.model.policy import (
    Copy,
    NoAnswer,
    OverReplicated,
    Policy,
    Satisfied,
    Situation,
    is_content,
    parse,
    pick_surplus,
)
from tawara.model.policy.ideal import is_ideal
from tawara.model.policy.words import describe
from tawara.model.spans import counted, listed, span, when


class PendingWork(StrEnum):
    """Kinds of pending work of a fid."""

    REPLICATE = "replicate"
    DELETE = "delete"
    CHECK = "check"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class Failure:
    """Reason for the last deferral of a task."""

    at: int
    reason: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """A fid whose key was deleted."""

    fid: int
    at: int


class ReplicaState(StrEnum):
    """State of a replica as reported by the storage node."""

    THERE = "there"
    MISSING = "missing"
    WRONG_SIZE = "wrong size"
    SILENT = "no answer"


@dataclass(frozen=True, slots=True)
class ExplainedFile:
    """All facts about one fid, or about a key without a file."""

    fid: int | None
    now: int
    name: str = ""
    """The requested file, as written on the command line: `photos/cat.jpg`, `fid 7`."""
    file: StoredFile | None = None
    upload: Upload | None = None
    deleted: Deleted | None = None
    replicas: tuple[int, ...] = ()
    """The devices with a row for a replica, also if the fid has no key."""
    announced: Mapping[int, int] = field(default_factory=dict)
    """Running copies: devid -> expiry of the reservation, negative while the copy is cleaned up."""
    replication: Replication | None = None
    deletion: Deletion | None = None
    check: QueuedTask | None = None
    move: QueuedTask | None = None
    failures: Mapping[PendingWork, Failure] = field(default_factory=dict)
    seen: Mapping[int, ReplicaState] = field(default_factory=dict)
    """States by devid, for the storage nodes that were queried."""


class Topic(StrEnum):
    """Topic of a sentence."""

    FILE = "file"
    COPY = "copy"
    POLICY = "policy"
    PENDING = "pending"
    OBSTACLE = "obstacle"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of an explanation."""

    topic: Topic
    text: str
    trouble: bool = False
    """Whether it reports a problem."""


class FileVerdict(StrEnum):
    """Overall state of a file."""

    SATISFIED = "satisfied"
    """Its copies are as its class requires."""
    SURPLUS = "surplus"
    """More copies than its class requires."""
    INCOMPLETE = "wanting"
    """Copies are missing or cannot be read."""
    LOST = "lost"
    """No copy exists."""
    OPEN = "open"
    """An open upload."""
    DELETED = "deleted"
    """The file was deleted or replaced."""
    UNKNOWN = "unknown"
    """The database has no record of it."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """An explanation: verdict and sentences."""

    verdict: FileVerdict
    sentences: tuple[Statement, ...]
    fid: int | None = None


def explain(cluster: Cluster, case: ExplainedFile, rng: random.Random) -> Explanation:
    """Explain where the copies are and why, whether they suffice, which work is pending, and what blocks it."""
    if case.file is not None:
        return _of_file(cluster, case, case.file, rng)
    if case.upload is not None:
        return Explanation(
            FileVerdict.OPEN, (*_of_upload(cluster, case, case.upload), *_pending(cluster, case)), case.fid
        )
    if case.deleted or case.deletion or case.replicas or case.announced:
        return Explanation(FileVerdict.DELETED, tuple(_of_deleted(cluster, case)), case.fid)
    nothing = "There is no trace of it: neither stored, nor being uploaded, nor deleted recently"
    return Explanation(FileVerdict.UNKNOWN, (Statement(Topic.FILE, f"{case.name}: {nothing}", trouble=True),))


# --- a stored file ----------------------------------------------------------------------------------------------------


def _of_file(cluster: Cluster, case: ExplainedFile, file: StoredFile, rng: random.Random) -> Explanation:
    storage_class = cluster.storage_class(file.dmid, file.classid)
    policy = _policy_of(storage_class)
    mindevcount = storage_class.mindevcount if storage_class else 1
    situation = Situation.of(cluster, file.devids, mindevcount, size=file.length)
    sentences = [Statement(Topic.FILE, f"{case.name} is fid {file.fid}, {counted(file.length, 'byte')}{_stored(case)}")]
    sentences += [_copy(cluster, case, devid, policy, situation, rng) for devid in file.devids]
    if policy is None or storage_class is None:
        verdict = FileVerdict.INCOMPLETE
        what = (
            "is not known here yet"
            if storage_class is None
            else f"has a policy that is not understood: {storage_class.policy}"
        )
        sentences.append(Statement(Topic.POLICY, f"Its class {what}", trouble=True))
    else:
        verdict, said = _judged(cluster, case, storage_class, policy, situation, rng)
        sentences += said
    if verdict is not FileVerdict.LOST and not any(cluster.should_read_from(devid) for devid in file.devids):
        verdict = FileVerdict.INCOMPLETE
        sentences.append(Statement(Topic.OBSTACLE, "None of its copies can be read now", trouble=True))
    if verdict is not FileVerdict.LOST and any(seen in _BAD for seen in case.seen.values()):
        verdict = FileVerdict.INCOMPLETE
        sentences.append(
            Statement(Topic.OBSTACLE, "A copy is not as it should be; a check (`tawara fsck start`) replaces it", True)
        )
    sentences += _pending(cluster, case)
    return Explanation(verdict, tuple(sentences), case.fid)


_BAD = (ReplicaState.MISSING, ReplicaState.WRONG_SIZE)


def _policy_of(storage_class: StorageClass | None) -> Policy | None:
    try:
        return parse(storage_class.policy) if storage_class else None
    except InvalidReplpolicy:
        return None


def _stored(case: ExplainedFile) -> str:
    stored_at = case.file.stored_at if case.file else None
    return "" if stored_at is None else f", stored {when(stored_at, case.now)}"


def _copy(
    cluster: Cluster, case: ExplainedFile, devid: int, policy: Policy | None, situation: Situation, rng: random.Random
) -> Statement:
    """Describe one copy: its device, its observed state, and the reason for its placement."""
    where = _place(cluster, devid)
    if devid not in situation.on:
        known = "is presumed dead" if cluster.is_presumed_dead(devid) else "is dead"
        state = known if devid in cluster.devices else "is not known"
        return Statement(Topic.COPY, f"{where}: does not count, for the device {state}", trouble=True)
    obstacle = why_unreadable(cluster, devid)
    seen = case.seen.get(devid)
    if obstacle is not None:
        said, trouble = f"counts, but cannot be read now: {obstacle}", True
    elif seen is ReplicaState.THERE:
        said, trouble = "there, with the right size", False
    elif seen is None:
        said, trouble = "there, as far as the database knows", False
    else:
        said, trouble = _WORDS[seen], True
    return Statement(Topic.COPY, f"{where}: {said}; {_reason(cluster, devid, policy, situation, rng)}", trouble)


_WORDS = {
    ReplicaState.MISSING: "the storage node has no such file",
    ReplicaState.WRONG_SIZE: "the storage node has it with another size",
    ReplicaState.SILENT: "the storage node did not answer just now",
}


def _reason(cluster: Cluster, devid: int, policy: Policy | None, situation: Situation, rng: random.Random) -> str:
    """Return the reason why a copy is on this device."""
    if policy is not None and is_content(policy, situation.without_copy(devid), rng):
        return "more than its class needs"
    host = situation.host(devid)
    beside = sorted(other for other in situation.on if other != devid and situation.host(other) == host)
    if beside:
        return f"on the same host as {listed([f'dev{each}' for each in beside])}"
    name = cluster.hosts[host].name if host in cluster.hosts else f"host {host}"
    return f"needed, the only copy on {name}" if len(situation.on) > 1 else "needed, the only copy"


def _judged(
    cluster: Cluster,
    case: ExplainedFile,
    storage_class: StorageClass,
    policy: Policy,
    situation: Situation,
    rng: random.Random,
) -> tuple[FileVerdict, list[Statement]]:
    """Describe the policy's verdict on the copies."""
    wants = (
        f"Class {storage_class.name} wants {describe(policy, situation.mindevcount)} ({storage_class.policy}); "
        f"there {'is' if len(situation.on) == 1 else 'are'} {_on(situation)}"
    )
    if not situation.on:
        text = f"{wants}: the file is lost, unless a dead device can be read by hand"
        return FileVerdict.LOST, [Statement(Topic.POLICY, text, trouble=True)]
    answer = policy.decide(situation, rng)
    match answer:
        case Satisfied():
            limited = "" if is_ideal(policy, situation, rng) else ", as good as this cluster allows"
            return FileVerdict.SATISFIED, [Statement(Topic.POLICY, f"{wants}: that satisfies it{limited}")]
        case OverReplicated():
            surplus = pick_surplus(policy, situation, rng)
            goes = "none can be spared for certain now" if surplus is None else f"the one on dev{surplus} goes next"
            said = [Statement(Topic.POLICY, f"{wants}: more than enough, {goes}")]
            if case.replication is None:
                said.append(_unqueued())
            return FileVerdict.SURPLUS, said
        case Copy() if answer.choices:
            to = ", ".join(f"dev{devid}" for devid in sorted(answer.ideal or answer.choices)[:8])
            said = [Statement(Topic.POLICY, f"{wants}: not enough, one more could go to {to}", trouble=True)]
            if not answer.ideal:
                said += _conflict(cluster, situation)
            if not any(cluster.should_read_from(devid) for devid in situation.on):
                said.append(Statement(Topic.OBSTACLE, "There is no copy to copy from: none can be read now", True))
            if case.replication is None and case.move is None:
                said.append(_unqueued())
            return FileVerdict.INCOMPLETE, said
        case NoAnswer() | Copy():
            said = [Statement(Topic.POLICY, f"{wants}: not enough, and no device can take another now", trouble=True)]
            return FileVerdict.INCOMPLETE, said + _conflict(cluster, situation)


def _unqueued() -> Statement:
    return Statement(
        Topic.PENDING, "Nothing is queued for it; a check (`tawara fsck start`) will queue it", trouble=True
    )


def _on(situation: Situation) -> str:
    hosts = len(situation.hosts_on)
    return f"{counted(len(situation.on), 'copy')} on {counted(hosts, 'host')}"


def _conflict(cluster: Cluster, situation: Situation) -> list[Statement]:
    """Explain why no other device can take a copy, grouping devices by reason."""
    groups: dict[str, list[int]] = {}
    for devid in sorted(cluster.devices.keys() - situation.on):
        obstacle = why_not_written(cluster, devid, situation.size)
        if obstacle is None:
            obstacle = "on a host that has a copy already"
        if cluster.devices[devid].state is not DeviceState.DEAD:
            groups.setdefault(obstacle, []).append(devid)
    said = [
        Statement(Topic.OBSTACLE, f"{', '.join(_place(cluster, devid) for devid in devids)}: {obstacle}", trouble=True)
        for obstacle, devids in groups.items()
    ]
    return said or [Statement(Topic.OBSTACLE, "There is no other device: the cluster needs more of them", trouble=True)]


# --- devices ----------------------------------------------------------------------------------------------------------


def _place(cluster: Cluster, devid: int) -> str:
    device = cluster.devices.get(devid)
    host = cluster.hosts.get(device.hostid) if device else None
    return f"dev{devid} on {host.name}" if host else f"dev{devid}"


def why_unreadable(cluster: Cluster, devid: int) -> str | None:
    """Return the reason why a device cannot be read now; None if it can."""
    if cluster.should_read_from(devid):
        return None
    return _decided(cluster, devid, (DeviceState.DOWN, DeviceState.DEAD), (HostState.DOWN, HostState.DEAD)) or (
        "it has not been looked at yet" if devid not in cluster.observed else "it does not answer"
    )


def why_not_written(cluster: Cluster, devid: int, size: int = 0) -> str | None:
    """Return the reason why a device cannot take a copy of `size` bytes now; None if it can."""
    decided = _decided(
        cluster,
        devid,
        (DeviceState.DOWN, DeviceState.DEAD, DeviceState.READONLY, DeviceState.DRAIN),
        (HostState.DOWN, HostState.DEAD, HostState.READONLY),
    )
    if decided is not None:
        return decided
    seen = cluster.observed.get(devid)
    if seen is None:
        return "not looked at yet"
    if seen.state is not Observed.WRITEABLE:
        return "does not answer" if seen.state is Observed.UNREACHABLE else "cannot be written: a test file was refused"
    free = cluster.devices[devid].mb_free
    if free is not None and free < cluster.min_free_mb:
        return f"full: less than {cluster.min_free_mb} MiB free"
    if free is not None and free * MIB <= size:
        return f"too full for this file: {free:,} MiB free"
    return None if cluster.should_get_new_files(devid) else "takes no new files now"


def _decided(cluster: Cluster, devid: int, devices: Iterable[DeviceState], hosts: Iterable[HostState]) -> str | None:
    """Return the configured state that forbids an operation, if it is one of the given states."""
    device = cluster.devices.get(devid)
    if device is None:
        return "the device is not known"
    host = cluster.hosts.get(device.hostid)
    if host is None:
        return "its host is not known"
    if device.state in devices:
        return f"the device is set to {device.state}"
    return f"host {host.name} is set to {host.state}" if host.state in hosts else None


# --- pending work -----------------------------------------------------------------------------------------------------


def _pending(cluster: Cluster, case: ExplainedFile) -> list[Statement]:
    said: list[Statement] = []
    for devid, lease in sorted(case.announced.items()):
        if devid in case.replicas:
            continue
        doing = "a copy is under way" if lease > case.now else "what an abandoned copy left is being deleted"
        said.append(Statement(Topic.PENDING, f"{_place(cluster, devid)}: {doing}"))
    if case.replication is not None:
        said.append(_waits(case, PendingWork.REPLICATE, "To be copied or trimmed", case.replication))
    if case.deletion is not None:
        said.append(_waits(case, PendingWork.DELETE, "Its bytes are to be deleted", case.deletion))
    if case.check is not None:
        said.append(_waits(case, PendingWork.CHECK, "To be checked", case.check))
    if case.move is not None:
        to = ", ".join(f"dev{each}" for each in case.move.arg.split(",") if each)
        what = f"To be moved from dev{case.move.devid}" + (f" to one of {to}" if to else "")
        said.append(_waits(case, PendingWork.MOVE, what, case.move))
    return said


def _waits(case: ExplainedFile, work: PendingWork, what: str, row: Replication | Deletion | QueuedTask) -> Statement:
    """Describe when a task is due, and why it was deferred."""
    failure = case.failures.get(work)
    failed = row.failcount > 0 or failure is not None
    last = f"; the last reason, {when(failure.at, case.now)}: {failure.reason}" if failure else ""
    times = f" after {counted(row.failcount, 'failure')}" if row.failcount else ""
    if row.nexttry >= END_OF_TIME:
        return Statement(Topic.PENDING, f"{what}: needs manual intervention{times}{last}", trouble=True)
    if row.nexttry > case.now:
        soon = (
            f"tried again {when(row.nexttry, case.now)}"
            if row.failcount
            else (f"a worker has it in hand, or will look again {when(row.nexttry, case.now)}")
        )
        return Statement(Topic.PENDING, f"{what}: {soon}{times}{last}", trouble=failed)
    late = f", for {span(case.now - row.nexttry)}" if 0 < row.nexttry < case.now - 1 else ""
    return Statement(Topic.PENDING, f"{what}: waits for a worker{late}{times}{last}", trouble=failed)


# --- uploads and deleted files ----------------------------------------------------------------------------------------


_NOT_ALIVE = (HostState.DOWN, HostState.DEAD, HostState.READONLY)


def _of_upload(cluster: Cluster, case: ExplainedFile, upload: Upload) -> list[Statement]:
    began = when(upload.created_at, case.now)
    said = [Statement(Topic.FILE, f"{case.name}: fid {upload.fid} is being uploaded since {began}; not closed yet")]
    for devid in upload.devids:
        seen = case.seen.get(devid)
        is_there = {
            ReplicaState.MISSING: "nothing there yet",
            ReplicaState.SILENT: _WORDS[ReplicaState.SILENT],
            None: "offered",
        }
        text = is_there.get(seen, "bytes are there")
        said.append(Statement(Topic.COPY, f"{_place(cluster, devid)}: {text}", trouble=seen is ReplicaState.SILENT))
    return said


def _of_deleted(cluster: Cluster, case: ExplainedFile) -> list[Statement]:
    """Describe a fid without a key: when it was deleted, which bytes remain, and why."""
    number = f"fid {case.fid}"
    if case.deleted is not None:
        said = [Statement(Topic.FILE, f"{case.name}: deleted {when(case.deleted.at, case.now)}; it was {number}")]
    else:
        said = [Statement(Topic.FILE, f"{case.name}: no key names {number} (any more)")]
    for devid in case.replicas:
        said.append(_remains(cluster, case, devid))
    if not case.replicas:
        said.append(Statement(Topic.COPY, "No bytes of it are known to be left on any device"))
    elif case.deletion is None:
        said.append(
            Statement(Topic.PENDING, "Its bytes are queued for no deletion; a check (`tawara fsck`) finds them", True)
        )
    return said + _pending(cluster, case)


def _remains(cluster: Cluster, case: ExplainedFile, devid: int) -> Statement:
    seen = case.seen.get(devid)
    where = _place(cluster, devid)
    if cluster.is_lost(devid):
        return Statement(Topic.COPY, f"{where}: gone with the device")
    if not cluster.can_delete_from(devid):
        decided = _decided(cluster, devid, (DeviceState.DOWN, DeviceState.READONLY), _NOT_ALIVE)
        return Statement(Topic.OBSTACLE, f"{where}: may not be deleted from: {decided}", trouble=True)
    if not cluster.is_writeable(devid):
        return Statement(Topic.OBSTACLE, f"{where}: cannot be deleted from now: it does not answer", trouble=True)
    gone = "its bytes are gone already" if seen is ReplicaState.MISSING else "bytes are still there, and are to go"
    return Statement(Topic.COPY, f"{where}: {gone}")
