"""Rows have the time of the database's clock, whatever happens to the machine's clock, on every engine."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tawara.metadata import clock, cluster, epochs, files, journals, leases, pace, queues, replicas
from tawara.metadata.contract import Metadata, Row, Transaction
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.cluster import Observation, Observed
from tawara.model.files import CopyReservation, TaskType
from tawara.model.limits import END_OF_TIME
from tawara.model.pace import WorkPace
from tawara.nodes.client import NodeClient
from tawara.tracker import uploads
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.workers.check_files import CheckFiles
from tawara.workers.cleanup_orphans import CleanupOrphans
from tawara.workers.delete_files import DeleteFiles
from tawara.workers.drain_devices import DrainDevices
from tawara.workers.journal_writer import JournalWriter
from tawara.workers.rebalance_files import RebalanceFiles
from tawara.workers.replicate_files import ReplicateFiles
from tawara.workers.retry_deferred import RetryDeferred
from tawara.workers.runner import LEASE, Worker
from tawara.workers.scrub_files import ScrubFiles
from tests.contract.test_queues import Opener, store


async def _rows(tx: Transaction, sql: str, *values: object) -> list[Row]:
    return await tx.rows(sql, *values)


@pytest.fixture
async def view(metadata: Metadata) -> ClusterView:
    """A host with two healthy devices, and the first epoch, which the monitor begins."""
    await metadata.write(cluster.create_domain, "d")
    hostid = await metadata.write(cluster.create_host, "h", ip="127.0.0.1", http_port=1, state="alive")
    for devid in (1, 2):
        await metadata.write(cluster.create_device, devid, hostid)
    await metadata.write(epochs.found, "0123456789abcdef", "aaaa")
    view = ClusterView(metadata)
    await view.refresh()
    view.observe({devid: Observation(Observed.WRITEABLE) for devid in (1, 2)})
    return view


@pytest.fixture
async def nodes() -> AsyncIterator[NodeClient]:
    """A client for storage nodes, none of which exist."""
    async with NodeClient() as client:
        yield client


@pytest.fixture(params=[3600.0, -3600.0])
async def jump(request: pytest.FixtureRequest, metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> float:
    """Set this machine's clock by so many seconds; return the real time."""
    await metadata.clock.now()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + request.param)
    assert abs(clock.wall() - await metadata.clock.now()) > 3500
    return real()


async def test_the_databases_time(metadata: Metadata) -> None:
    """The time has fractions of a second, and advances within a transaction."""

    async def twice(tx: Transaction) -> tuple[float, float]:
        first = await clock.now(tx)
        time.sleep(0.05)
        return first, await clock.now(tx)

    before = time.time()
    first, second = await metadata.write(twice)
    assert before - 0.01 <= first <= second - 0.04 <= time.time() + 0.01
    database_clock = clock.Clock(metadata)
    before = time.time()
    told = await database_clock.now()
    after = time.time()
    took = after - before
    assert before - took - 0.01 <= told <= after + took + 0.01


async def test_claims_after_a_jump(metadata: Metadata, view: ClusterView, nodes: NodeClient, jump: float) -> None:
    """Claims, renewals and releases have the right time: other workers take over when the worker dies, and not
    before."""
    now = int(jump)
    for fid in (1, 2):
        await metadata.write(queues.enqueue_replication, fid, nexttry=now)
        await metadata.write(queues.enqueue_deletion, fid, now)
        await metadata.write(replicas.reserve_copy, fid, 2, now=now - 2, lease=1)
        for task_type in (TaskType.CHECK, TaskType.SCRUB, TaskType.MOVE, TaskType.DRAIN):
            await metadata.write(queues.enqueue_tasks, task_type, [(fid, 1, "")], now=now)
    wakeups = Wakeups()
    workers: list[Worker[Any]] = [
        ReplicateFiles(metadata, view, nodes, delete_wakeup=wakeups.delete),
        DeleteFiles(metadata, view, nodes),
        CheckFiles(metadata, view, nodes, wakeups=wakeups),
        ScrubFiles(metadata, view, nodes, wakeups=wakeups),
        RebalanceFiles(metadata, view, nodes, delete_wakeup=wakeups.delete),
        DrainDevices(metadata, view, nodes, delete_wakeup=wakeups.delete),
        CleanupOrphans(metadata, view, nodes, wakeups=wakeups, upload_open=600),
    ]
    dates = (
        "SELECT nexttry FROM file_to_replicate UNION ALL SELECT nexttry FROM file_to_delete2"
        " UNION ALL SELECT nexttry FROM file_to_queue UNION ALL SELECT ABS(lease) FROM tawara_copy"
    )
    held = [await worker.take(2) for worker in workers]
    assert [len(each) for each in held] == [2, 2, 1, 2, 2, 2, 2]  # checks go in batches
    assert all(now + LEASE <= row[0] <= now + LEASE + 5 for row in await metadata.read(_rows, dates))
    for worker, items in zip(workers, held, strict=True):
        await worker.renew(items)
    assert all(now + LEASE <= row[0] <= now + LEASE + 5 for row in await metadata.read(_rows, dates))
    for worker, items in zip(workers, held, strict=True):
        await worker.release(items)
    assert all(now <= row[0] <= now + 5 for row in await metadata.read(_rows, dates))


async def test_deferred_work_after_a_jump(
    metadata: Metadata, view: ClusterView, nodes: NodeClient, jump: float
) -> None:
    """Failed work is retried after its pause, and journals are written when they are due."""
    fid = await store(metadata, b"k", (1,))
    await metadata.write(files.delete, 1, b"k", now=int(jump))
    copier = ReplicateFiles(metadata, view, nodes, delete_wakeup=Wakeups().delete)
    await metadata.write(queues.enqueue_replication, await store(metadata, b"other", (1,)), nexttry=1)
    for worker in (DeleteFiles(metadata, view, nodes), copier, JournalWriter(metadata, view, nodes)):
        items = await worker.take(1)
        assert len(items) == 1
        until = await worker.work(items[0])  # type: ignore[arg-type] # its own
        assert until is not None
        assert jump < until < jump + 100
    assert await metadata.read(_rows, "SELECT fid FROM file_to_delete2") == [(fid,)]


async def test_uploads_after_a_jump(metadata: Metadata, view: ClusterView, nodes: NodeClient, jump: float) -> None:
    """A recently opened upload does not expire, an old one does."""
    await metadata.write(cluster.set_setting, "skip_mkcol", "1")
    await view.refresh()
    tracker = TrackerContext(metadata, view, nodes, Wakeups())
    await uploads.create_open(tracker, TrackerRequest({"domain": b"d", "key": b"k"}))
    old = await metadata.write(files.open_upload, dmid=1, key=b"o", classid=0, devids=(1,), now=int(jump) - 700)
    ((created,),) = await metadata.read(_rows, "SELECT createtime FROM tempfile WHERE fid <> ?", old)
    assert int(jump) <= created <= jump + 5
    await CleanupOrphans(metadata, view, nodes, wakeups=Wakeups(), upload_open=600).take(1)
    assert len(await metadata.read(_rows, "SELECT fid FROM tempfile")) == 1
    assert await metadata.read(_rows, "SELECT fid FROM tempfile WHERE fid = ?", old) == []


async def test_two_machines_with_different_clocks(
    metadata: Metadata, opener: Opener, view: ClusterView, nodes: NodeClient
) -> None:
    """If two clocks differ by some seconds, neither worker takes over a recent claim of the other."""
    other = await opener()
    metadata.clock = clock.Clock(metadata, wall=lambda: time.time() + 15)
    other.clock = clock.Clock(other, wall=lambda: time.time() - 15)
    assert abs(await metadata.clock.now() - await other.clock.now()) < 10
    wakeup = Wakeups().delete
    workers = [ReplicateFiles(each, view, nodes, delete_wakeup=wakeup, lease=6) for each in (metadata, other)]
    for first, second in (workers, reversed(workers)):
        await metadata.write(queues.enqueue_replication, 1, nexttry=0)
        held = await first.take(1)
        assert len(held) == 1
        assert not await second.take(1)
        await first.renew(held)
        assert not await second.take(1)
        await first.release(held)
        assert len(await second.take(1)) == 1


async def test_a_database_clock_set_back(metadata: Metadata, view: ClusterView) -> None:
    """When the database's clock is set back by an hour, neither leases nor new rows wait for an hour."""
    now = await metadata.clock.seconds()
    later = now + 3600
    await metadata.write(pace.record, "p", [WorkPace("replicate", 1, 0, 1.0, 1.0)], now=later)
    for fid, due in ((1, later), (2, now + 10), (3, END_OF_TIME)):
        await metadata.write(queues.enqueue_replication, fid, nexttry=due)
        await metadata.write(queues.enqueue_deletion, fid, due)
    await metadata.write(queues.enqueue_tasks, TaskType.CHECK, [(1, 1, "")], now=later)
    await metadata.write(replicas.reserve_copy, 1, 2, now=later, lease=60)
    await metadata.write(replicas.reserve_copy, 2, 2, now=now, lease=120)
    await metadata.write(journals.begin_generation, at_least=1)
    await metadata.write(journals.claim, [1], now=later, lease=60)
    retry = RetryDeferred(metadata, view, Wakeups())
    await retry.take(1)
    assert sorted(each.fid for each in await metadata.write(queues.claim_replications, limit=9, now=now + 5)) == [1]
    assert sorted(
        each.fid for each in await metadata.write(queues.claim_deletions, limit=9, now=now + 5, lease=60)
    ) == [1]
    assert len(await metadata.write(queues.claim_tasks, TaskType.CHECK, limit=9, now=now + 5)) == 1
    (swept,) = await metadata.write(replicas.claim_abandoned_copies, now=now + 5)
    assert isinstance(swept, CopyReservation)
    assert swept.fid == 1
    assert len(await metadata.write(journals.claim, [1], now=now + 5, lease=60)) == 1
    assert await metadata.read(leases.latest_sign_of_life) <= now + 5
    await metadata.write(queues.enqueue_deletion, 4, later)  # by a process that has yet to notice
    await retry.take(1)
    assert [each.fid for each in await metadata.write(queues.claim_deletions, limit=9, now=now + 5, lease=60)] == [4]
