"""Workers next to a mogilefsd: fids that it has locked are skipped, and its changes are kept."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tawara.metadata import files, queues, replicas
from tawara.metadata.fid_locks import name_of, open_locks
from tawara.metadata.wakeups import Wakeups
from tawara.model.files import TaskType
from tawara.workers.cleanup_orphans import CleanupOrphans
from tawara.workers.delete_files import DeleteFiles
from tawara.workers.lock_fids import PAUSE, LockFids
from tawara.workers.rebalance_files import RebalanceFiles
from tawara.workers.replicate_files import ReplicateFiles
from tawara.workers.runner import Worker
from tests.mogilefsd.double import Mogilefsd, mogilefsd
from tests.unit.workers.workers_fixture import WorkersFixture, workers_fixture

CONTENT = b"content"


@asynccontextmanager
async def beside(directory: Path) -> AsyncIterator[tuple[WorkersFixture, Mogilefsd]]:
    async with (
        workers_fixture(directory, {"h1": [1], "h2": [2]}) as fixture,
        mogilefsd(f"sqlite://{directory}/tawara.db") as other,
    ):
        yield fixture, other


def worker_of(fixture: WorkersFixture, kind: str) -> Worker[Any]:
    match kind:
        case "replicate":
            made: Worker[Any] = ReplicateFiles(
                fixture.metadata, fixture.view, fixture.nodes, delete_wakeup=fixture.wakeups.delete
            )
        case "delete":
            made = DeleteFiles(fixture.metadata, fixture.view, fixture.nodes)
        case "rebalance":
            made = RebalanceFiles(fixture.metadata, fixture.view, fixture.nodes, delete_wakeup=fixture.wakeups.delete)
        case _:
            made = CleanupOrphans(fixture.metadata, fixture.view, fixture.nodes, wakeups=Wakeups(), upload_open=3600)
    return LockFids(made, open_locks(fixture.metadata, ["other"]), fixture.metadata)


async def due(fixture: WorkersFixture, kind: str) -> int:
    """A fid with due work for this worker."""
    fid = await fixture.store(b"key", CONTENT, 1)
    for claim in await fixture.metadata.write(queues.claim_replications, limit=9, now=int(time.time())):
        await fixture.metadata.write(queues.finish_replication, claim)
    match kind:
        case "replicate":
            await fixture.metadata.write(queues.enqueue_replication, fid)
        case "delete":
            await fixture.metadata.write(files.delete, fixture.dmid, b"key", now=1)
        case "rebalance":
            await fixture.metadata.write(queues.enqueue_tasks, TaskType.MOVE, [(fid, 1, "2")], now=1)
        case _:
            await fixture.metadata.write(replicas.reserve_copy, fid, 2, now=1, lease=1)
            await fixture.nodes.put(fixture.url(2, fid), CONTENT, length=len(CONTENT))
    return fid


@pytest.mark.parametrize("kind", ["replicate", "delete", "rebalance", "sweep"])
async def test_a_locked_fid_is_skipped(tmp_path: Path, kind: str) -> None:
    """While mogilefsd has the lock nothing is done and no failure counted; afterwards the work is done."""
    async with beside(tmp_path) as (fixture, other):
        fid = await due(fixture, kind)
        worker = worker_of(fixture, kind)
        before = fixture.on_disk()
        assert await other.get_lock(name_of(fid))
        (item,) = await worker.take(9)
        until = await worker.work(item)
        assert until is not None
        assert time.time() - 1 < until <= time.time() + PAUSE
        assert fixture.on_disk() == before
        for table in ("file_to_replicate", "file_to_delete2", "file_to_queue"):
            assert await other.ask(f"SELECT fid FROM {table} WHERE failcount > 0 OR nexttry > ?", int(until)) == []
        await other.release_lock(name_of(fid))
        for table in ("file_to_replicate", "file_to_delete2", "file_to_queue"):
            await other.ask(f"UPDATE {table} SET nexttry = 1")
        await other.ask("UPDATE tawara_copy SET lease = 1")
        (item,) = await worker.take(9)
        await worker.work(item)
        assert fixture.on_disk() != before
        assert await other.get_lock(name_of(fid))


async def test_a_replica_made_by_mogilefsd_is_kept(tmp_path: Path) -> None:
    """A replica that mogilefsd made after the expired reservation was claimed is kept."""
    async with beside(tmp_path) as (fixture, other):
        fid = await due(fixture, "sweep")
        worker = worker_of(fixture, "sweep")
        (item,) = await worker.take(9)
        await other.ask("INSERT INTO file_on (fid, devid) VALUES (?, 2)", fid)
        await worker.work(item)
        assert fixture.on_disk() == {fid: {1, 2}}
        assert await other.ask("SELECT fid FROM tawara_copy") == []
