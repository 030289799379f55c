"""Explanations of files: the text for each situation, and for random clusters that none is wrong."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.cluster import Cluster, DeviceState, Domain, HostState, Observation, Observed, StorageClass
from tawara.model.explanation import (
    Deleted,
    ExplainedFile,
    Explanation,
    Failure,
    FileVerdict,
    PendingWork,
    ReplicaState,
    Topic,
    explain,
    why_not_written,
    why_unreadable,
)
from tawara.model.files import Deletion, QueuedTask, Replication, StoredFile, TaskType, Upload
from tawara.model.limits import END_OF_TIME
from tawara.model.policy import Copy, Situation, parse
from tests.unit.model.clusters import cluster, clusters

NOW = 1_000_000


def with_class(seen: Cluster, policy: str | None = None, copies: int = 2) -> Cluster:
    """The same cluster with the domain `photos`, whose default class has this policy."""
    return replace(seen, domains={"photos": Domain(1, "photos", {0: StorageClass(0, "default", copies, policy)})})


def file_on(*devids: int, length: int = 5) -> StoredFile:
    return StoredFile(7, 1, b"cat", length, 0, len(devids), devids, stored_at=NOW - 3600)


def told(view: Cluster, *devids: int, **facts: object) -> Explanation:
    case = ExplainedFile(7, NOW, "photos/cat", file=file_on(*devids), replicas=devids)
    return explain(view, replace(case, **facts), random.Random(1))  # type: ignore[arg-type]


def texts(explanation: Explanation, topic: Topic) -> list[str]:
    return [each.text for each in explanation.sentences if each.topic is topic]


CLUSTER = with_class(cluster({1: [11, 12], 2: [21], 3: [31]}))


def test_a_file_in_order() -> None:
    """A file with enough copies has no problem, and each copy has its place and reason."""
    explanation = told(CLUSTER, 11, 21, seen={11: ReplicaState.THERE, 21: ReplicaState.THERE})
    assert explanation.verdict is FileVerdict.SATISFIED
    assert not any(each.trouble for each in explanation.sentences)
    assert texts(explanation, Topic.FILE) == ["photos/cat is fid 7, 5 bytes, stored 1 hour ago"]
    assert texts(explanation, Topic.COPY) == [
        "dev11 on h1: there, with the right size; needed, the only copy on h1",
        "dev21 on h2: there, with the right size; needed, the only copy on h2",
    ]
    assert texts(explanation, Topic.POLICY) == [
        "Class default wants 2 copies on different hosts (MultipleHosts()); there are 2 copies on 2 hosts:"
        " that satisfies it"
    ]


def test_as_good_as_the_cluster_allows() -> None:
    """Two copies on the only host satisfy the class, and the explanation says that more is impossible."""
    explanation = told(with_class(cluster({1: [11, 12]})), 11, 12)
    assert explanation.verdict is FileVerdict.SATISFIED
    assert texts(explanation, Topic.POLICY)[0].endswith("satisfies it, as good as this cluster allows")
    assert texts(explanation, Topic.COPY)[0].endswith("on the same host as dev12")


def test_obstacles() -> None:
    """Each kind of obstacle is named with the devices that it affects."""
    view = replace(
        cluster(
            {1: [11], 2: [21, 22, 23], 3: [31, 32], 4: [41]},
            dev21=DeviceState.READONLY,
            dev22=DeviceState.DRAIN,
            dev23=DeviceState.DEAD,
        ),
        min_free_mb=100,
    )
    devices = dict(view.devices)
    devices[31] = replace(devices[31], mb_used=950)
    devices[32] = replace(devices[32], mb_used=880)
    hosts = dict(view.hosts)
    hosts[4] = replace(hosts[4], state=HostState.DOWN)
    view = with_class(replace(view, devices=devices, hosts=hosts))
    file = file_on(11, length=130 * 2**20)
    failure = Failure(NOW - 60, "no device can take another replica now")
    put_off = Replication(7, NOW + 240, None, 3)
    explanation = told(view, 11, file=file, replication=put_off, failures={PendingWork.REPLICATE: failure})
    assert explanation.verdict is FileVerdict.INCOMPLETE
    assert texts(explanation, Topic.OBSTACLE) == [
        "dev21 on h2: the device is set to readonly",
        "dev22 on h2: the device is set to drain",
        "dev31 on h3: full: less than 100 MiB free",
        "dev32 on h3: too full for this file: 120 MiB free",
        "dev41 on h4: host h4 is set to down",
    ]
    assert texts(explanation, Topic.PENDING) == [
        "To be copied or trimmed: tried again in 4 minutes after 3 failures; the last reason, 1 minute ago:"
        " no device can take another replica now"
    ]


def test_missing_work_is_reported() -> None:
    """A file that needs a copy and is in no queue is reported."""
    explanation = told(CLUSTER, 11)
    assert "one more could go to dev21, dev31" in texts(explanation, Topic.POLICY)[0]
    assert texts(explanation, Topic.PENDING) == [
        "Nothing is queued for it; a check (`tawara fsck start`) will queue it"
    ]


def test_a_lost_file() -> None:
    """A file on dead devices only is reported as lost."""
    explanation = told(with_class(cluster({1: [11], 2: [21]}, dev11=DeviceState.DEAD)), 11)
    assert explanation.verdict is FileVerdict.LOST
    assert texts(explanation, Topic.COPY) == ["dev11 on h1: does not count, for the device is dead"]


def test_a_bad_copy() -> None:
    """The storage node's observation of a copy takes precedence over the database."""
    explanation = told(CLUSTER, 11, 21, seen={11: ReplicaState.MISSING, 21: ReplicaState.THERE})
    assert explanation.verdict is FileVerdict.INCOMPLETE
    assert "no such file" in texts(explanation, Topic.COPY)[0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"replication": Replication(7, 0, None, 0)}, "To be copied or trimmed: waits for a worker"),
        ({"replication": Replication(7, NOW - 120, None, 0)}, "waits for a worker, for 2 minutes"),
        (
            {"replication": Replication(7, NOW + 40, None, 0)},
            "a worker has it in hand, or will look again in 40 seconds",
        ),
        ({"replication": Replication(7, END_OF_TIME, None, 2)}, "needs manual intervention after 2 failures"),
        (
            {"deletion": Deletion(7, NOW + 7200, 1)},
            "Its bytes are to be deleted: tried again in 2 hours after 1 failure",
        ),
        ({"check": QueuedTask(7, TaskType.CHECK, NOW, 0)}, "To be checked: waits for a worker"),
        ({"move": QueuedTask(7, TaskType.MOVE, NOW, 0, 11, "21,31")}, "To be moved from dev11 to one of dev21, dev31"),
        ({"announced": {31: NOW + 9}}, "dev31 on h3: a copy is under way"),
        ({"announced": {31: -NOW}}, "dev31 on h3: what an abandoned copy left is being deleted"),
    ],
)
def test_pending_work(row: dict[str, object], words: str) -> None:
    """Each queue's row is described, with the time in human-readable form."""
    (text,) = texts(told(CLUSTER, 11, 21, **row), Topic.PENDING)
    assert words in text


def test_an_open_upload() -> None:
    """An upload that is not closed has its start and the devices that may have its data."""
    upload = Upload(9, 1, b"cat", 0, (11, 21), NOW - 90)
    case = ExplainedFile(9, NOW, "photos/cat", upload=upload, seen={11: ReplicaState.THERE, 21: ReplicaState.MISSING})
    explanation = explain(CLUSTER, case, random.Random(1))
    assert explanation.verdict is FileVerdict.OPEN
    assert "being uploaded since 90 seconds ago" in texts(explanation, Topic.FILE)[0]
    assert texts(explanation, Topic.COPY) == ["dev11 on h1: bytes are there", "dev21 on h2: nothing there yet"]


def test_a_deleted_key() -> None:
    """A deleted key has the time of its deletion, the data that is left, and why."""
    view = with_class(cluster({1: [11], 2: [21], 3: [31]}, dev21=DeviceState.READONLY, dev31=DeviceState.DEAD))
    case = ExplainedFile(
        7, NOW, "photos/cat", deleted=Deleted(7, NOW - 5), replicas=(11, 21, 31), deletion=Deletion(7, NOW, 0)
    )
    explanation = explain(view, case, random.Random(1))
    assert explanation.verdict is FileVerdict.DELETED
    assert texts(explanation, Topic.FILE) == ["photos/cat: deleted 5 seconds ago; it was fid 7"]
    assert texts(explanation, Topic.COPY) == [
        "dev11 on h1: bytes are still there, and are to go",
        "dev31 on h3: gone with the device",
    ]
    assert texts(explanation, Topic.OBSTACLE) == ["dev21 on h2: may not be deleted from: the device is set to readonly"]
    gone = explain(view, ExplainedFile(7, NOW, "photos/cat", deleted=Deleted(7, NOW - 5)), random.Random(1))
    assert texts(gone, Topic.COPY) == ["No bytes of it are known to be left on any device"]


def test_an_unknown_key() -> None:
    """A key without any trace is reported as such."""
    explanation = explain(CLUSTER, ExplainedFile(None, NOW, "photos/dog"), random.Random(1))
    assert explanation.verdict is FileVerdict.UNKNOWN
    assert explanation.sentences[0].trouble


POLICIES = (
    None,
    "MultipleHosts(3)",
    "MultipleDevices()",
    "MultipleNetworks()",
    "HostsPerNetwork(near=1,far=1)",
    "Union(MultipleHosts(2), MultipleDevices(3))",
    "Nonsense(",
)


@given(
    seen=clusters(),
    policy=st.sampled_from(POLICIES),
    devids=st.sets(st.integers(1, 10), max_size=5),
    copies=st.integers(1, 4),
    queued=st.booleans(),
    seed=st.integers(0, 9),
)
def test_no_situation_is_explained_wrongly(
    seen: Cluster, policy: str | None, devids: set[int], copies: int, queued: bool, seed: int
) -> None:
    """For any cluster, the result is the policy's, every copy is listed, and problems are marked as such."""
    view = with_class(seen, policy, copies)
    on = tuple(sorted(devids))
    row = Replication(7, 0, None, 0) if queued else None
    case = ExplainedFile(7, NOW, "photos/cat", file=file_on(*on), replicas=on, replication=row)
    explanation = explain(view, case, random.Random(seed))
    assert len(texts(explanation, Topic.COPY)) == len(on)
    readable = any(view.should_read_from(devid) for devid in on)
    counting = {devid for devid in on if view.counts_as_replica(devid)}
    if policy == "Nonsense(":
        assert explanation.verdict is FileVerdict.INCOMPLETE
        return
    situation = Situation.of(view, on, copies, size=5)
    answer = parse(policy or "MultipleHosts()").decide(situation, random.Random(seed))
    if not counting:
        assert explanation.verdict is FileVerdict.LOST
    elif explanation.verdict in (FileVerdict.SATISFIED, FileVerdict.SURPLUS):
        assert readable
        assert not isinstance(answer, Copy)
    else:
        assert explanation.verdict is FileVerdict.INCOMPLETE
        assert any(each.trouble for each in explanation.sentences)
        if readable and not (isinstance(answer, Copy) and answer.ideal):
            assert texts(explanation, Topic.OBSTACLE)
    if explanation.verdict is not FileVerdict.SATISFIED and isinstance(answer, Copy) and answer.choices and counting:
        assert queued != any("Nothing is queued" in text for text in texts(explanation, Topic.PENDING))


@given(clusters(), st.integers(0, 10**12))
def test_obstacles_match_the_predicates(seen: Cluster, size: int) -> None:
    """A device has an obstacle to reading or writing exactly if it is not read or written."""
    candidates = Situation.of(seen, (), 1, size=size).candidates
    for devid in seen.devices:
        assert (why_unreadable(seen, devid) is None) is seen.should_read_from(devid)
        assert (why_not_written(seen, devid, size) is None) is (devid in candidates)
    assert why_unreadable(seen, 99) == "the device is not known"


def test_a_device_not_observed_yet() -> None:
    """A device that the monitor has not observed yet is not reported as unreachable."""
    view = with_class(replace(CLUSTER, observed={11: Observation(Observed.UNREACHABLE)}))
    assert why_unreadable(view, 11) == "it does not answer"
    assert why_unreadable(view, 21) == "it has not been looked at yet"


@pytest.mark.parametrize(("silent", "goes"), [(None, "goes next"), (31, "none can be spared for certain now")])
def test_more_copies_than_needed(silent: int | None, goes: str) -> None:
    """Of too many copies, the one that is removed next is named, if one can be spared for certain."""
    view = with_class(cluster({1: [11], 2: [21], 3: [31]}), "MultipleHosts()", 2)
    if silent is not None:
        seen = {**view.observed, 11: Observation(Observed.UNREACHABLE), 21: Observation(Observed.UNREACHABLE)}
        view = view.with_observations(seen)
    explanation = told(view, 11, 21, 31)
    assert explanation.verdict is FileVerdict.SURPLUS
    assert any(goes in text for text in texts(explanation, Topic.POLICY))


@pytest.mark.parametrize("readable", [True, False])
def test_whether_a_copy_can_be_made_now(readable: bool) -> None:
    """A file with too few copies says so if none of them can be read now."""
    view = CLUSTER
    if not readable:
        view = view.with_observations({**view.observed, 11: Observation(Observed.UNREACHABLE)})
    explanation = told(view, 11)
    assert explanation.verdict is FileVerdict.INCOMPLETE
    assert any("no copy to copy from" in text for text in texts(explanation, Topic.OBSTACLE)) is not readable
