"""What the database records about a key or a fid for explanations, on every engine."""

from __future__ import annotations

from tawara.metadata import cluster, diagnosis, files, queues, replicas, traces
from tawara.metadata.contract import Metadata
from tawara.model.explanation import Deleted, ExplainedFile, Failure, PendingWork
from tawara.model.files import Deletion, NewFile, QueuedTask, Replication, TaskType

BYTES = b"caf\xe9/1"
"""A key that is not UTF-8."""


async def store(metadata: Metadata, key: bytes, devids: tuple[int, ...] = (1,)) -> int:
    fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=devids, now=1)
    await metadata.write(
        files.close_upload, NewFile(fid=fid, dmid=1, key=key, classid=0, length=1, devids=devids), now=2
    )
    return fid


async def case(metadata: Metadata, key: bytes) -> ExplainedFile:
    return await metadata.read(diagnosis.case_of_key, 1, key, name="it", now=50)


async def test_a_file_with_its_pending_work(metadata: Metadata) -> None:
    """The case of a file has every queue's row, reserved copies, and the last reasons."""
    await metadata.write(cluster.create_domain, "d")
    fid = await store(metadata, BYTES, (1, 2))
    await metadata.write(queues.enqueue_tasks, TaskType.CHECK, [(fid, None, "")], now=5)
    await metadata.write(queues.enqueue_tasks, TaskType.MOVE, [(fid, 1, "3,4")], now=6)
    assert await metadata.write(replicas.reserve_copy, fid, 3, now=7, lease=60)
    (claim,) = await metadata.write(queues.claim_replications, limit=1, now=10)
    failure = Failure(11, "no device can take another replica now" + "!" * 300)
    await metadata.write(queues.postpone_replication, claim, nexttry=99, failcount=2, failure=failure)
    found = await case(metadata, BYTES)
    assert found.file is not None
    assert (found.fid, found.name, found.now, found.file.key, found.replicas) == (fid, "it", 50, BYTES, (1, 2))
    assert found.replication == Replication(fid, 99, None, 2)
    assert found.check == QueuedTask(fid, TaskType.CHECK, 5, 0)
    assert found.move == QueuedTask(fid, TaskType.MOVE, 6, 0, 1, "3,4")
    assert found.announced == {3: 67}
    assert found.failures == {PendingWork.REPLICATE: Failure(11, failure.reason[:255])}
    assert (found.upload, found.deleted, found.deletion) == (None, None, None)


async def test_reasons_of_lost_claims_are_not_recorded(metadata: Metadata) -> None:
    """A worker that lost a claim records no reason for the deferral; a later reason replaces an earlier one."""
    for fid in (1, 2):
        await metadata.write(queues.enqueue_deletion, fid, 0)
    await metadata.write(queues.enqueue_tasks, TaskType.MOVE, [(1, 1, "")], now=5)
    lost, kept = await metadata.write(queues.claim_deletions, limit=2, now=10)
    (move,) = await metadata.write(queues.claim_tasks, TaskType.MOVE, limit=1, now=10)
    await metadata.write(queues.enqueue_deletion, lost.fid, 3)
    for claim in (lost, kept):
        await metadata.write(
            queues.postpone_deletion, claim, nexttry=30, failcount=1, failure=Failure(11, "a disk is away")
        )
    await metadata.write(queues.postpone_task, move, nexttry=30, failcount=1, failure=Failure(12, "no target"))
    assert await metadata.read(traces.failures_of, lost.fid) == {PendingWork.MOVE: Failure(12, "no target")}
    assert await metadata.read(traces.failures_of, kept.fid) == {PendingWork.DELETE: Failure(11, "a disk is away")}
    await metadata.write(traces.note_failure, kept.fid, PendingWork.DELETE, Failure(13, "still away"))
    assert await metadata.read(traces.failures_of, kept.fid) == {PendingWork.DELETE: Failure(13, "still away")}


async def test_deleted_keys(metadata: Metadata) -> None:
    """A deleted key leads to its former fid until that expires; a newer upload for it comes first."""
    fid = await store(metadata, BYTES)
    assert await metadata.write(files.delete, 1, BYTES, now=20) == fid
    found = await case(metadata, BYTES)
    assert (found.fid, found.deleted, found.replicas) == (fid, Deleted(fid, 20), (1,))
    assert found.deletion == Deletion(fid, 20, 0)
    assert (await metadata.read(diagnosis.case_of_key, 2, BYTES, name="", now=50)).fid is None
    assert (await case(metadata, b"never")) == ExplainedFile(None, 50, "it")
    opened = await metadata.write(files.open_upload, dmid=1, key=BYTES, classid=0, devids=(2,), now=40)
    found = await case(metadata, BYTES)
    assert found.upload is not None
    assert (found.fid, found.upload.fid, found.upload.devids) == (opened, opened, (2,))
    await metadata.write(files.discard_upload, opened, now=41)
    assert (await case(metadata, BYTES)).fid == fid


async def test_traces_expire(metadata: Metadata) -> None:
    """Rows older than their retention are removed, in batches of limited size, and newer ones stay."""
    now = 10**9
    for fid in range(1, 6):
        old = fid < 5
        at = now - traces.REASONS_RETENTION - old
        await metadata.write(traces.note_failure, fid, PendingWork.CHECK, Failure(at, "x"))
        await metadata.write(traces.note_deletion, fid, 1, b"k%d" % fid, now=now - traces.DELETED_KEPT - old)
    assert await metadata.write(traces.forget, now=now, limit=4) is True
    assert await metadata.write(traces.forget, now=now, limit=4) is False
    assert [bool(await metadata.read(traces.failures_of, fid)) for fid in range(1, 6)] == [False] * 4 + [True]
    assert [await metadata.read(traces.last_deleted, 1, b"k%d" % fid) for fid in range(1, 6)] == [
        *[None] * 4,
        Deleted(5, now - traces.DELETED_KEPT),
    ]
