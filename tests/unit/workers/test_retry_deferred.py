"""Work of every queue that was deferred because of a device is done when that answers again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tawara.metadata import deferrals, fsck, queues
from tawara.metadata.contract import Transaction
from tawara.model.cluster import DeviceState
from tawara.model.files import TaskType
from tawara.node.server import StorageNode
from tawara.workers.check_files import CheckFiles
from tawara.workers.drain_devices import DrainDevices
from tawara.workers.rebalance_files import RebalanceFiles
from tawara.workers.retry_deferred import RetryDeferred
from tawara.workers.scrub_files import ScrubFiles
from tests.unit.workers.workers_fixture import WorkersFixture, set_state, workers_fixture

CONTENT = b"a bale of rice"
KINDS = {
    TaskType.CHECK: CheckFiles,
    TaskType.SCRUB: ScrubFiles,
    TaskType.MOVE: RebalanceFiles,
    TaskType.DRAIN: DrainDevices,
}


def worker_of(fixture: WorkersFixture, task_type: TaskType) -> Any:
    if task_type in (TaskType.CHECK, TaskType.SCRUB):
        return KINDS[task_type](fixture.metadata, fixture.view, fixture.nodes, wakeups=fixture.wakeups)
    return KINDS[task_type](fixture.metadata, fixture.view, fixture.nodes, delete_wakeup=fixture.wakeups.delete)


async def do_due(worker: Any) -> int:
    """Do the due work. Returns the number of units."""
    items = await worker.take(9)
    for item in items:
        await worker.work(item)
    return len(items)


async def defer_check(fixture: WorkersFixture) -> list[tuple[int, int]]:
    """The failures and due times of the queued tasks."""

    async def read(tx: Transaction) -> list[tuple[int, int]]:
        return await tx.rows("SELECT failcount, nexttry FROM file_to_queue")

    return await fixture.metadata.read(read)


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("noticed", [False, True])
@pytest.mark.parametrize("task_type", list(KINDS))
async def test_work_deferred_by_a_silent_device_is_done_when_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task_type: TaskType, noticed: bool, readonly: bool
) -> None:
    """For each type of task, after any number of failures, whether or not the monitor noticed the silence."""
    if (readonly or noticed) and task_type in (TaskType.MOVE, TaskType.DRAIN):
        pytest.skip("a move whose targets are not there is not put off, but left")
    monkeypatch.setattr("tawara.workers.retry_deferred.SETTLED", 0)
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as fixture:
        if readonly:
            await set_state(fixture, 2, DeviceState.READONLY)
        moves = task_type in (TaskType.MOVE, TaskType.DRAIN)
        fid = await fixture.store(b"key", CONTENT, *((1, 3) if moves else (1, 2)))
        port = fixture.storage["h2"].http_address[1]
        await fixture.storage["h2"].stop()
        if noticed:
            await fixture.view.renew()
        await fixture.metadata.write(
            queues.enqueue_tasks, task_type, [(fid, 3 if moves else None, "2" if moves else "")], now=1
        )
        worker = worker_of(fixture, task_type)
        for _ in range(1 if moves else 5):
            assert await do_due(worker) == 1
            await fixture.metadata.write(_make_due)
        await do_due(worker)
        ((failures, due),) = await defer_check(fixture)
        assert failures == (2 if moves else 6)
        assert due > time.time() + 5
        fixture.storage["h2"] = StorageNode(tmp_path / "h2", http=("127.0.0.2", port), side_channel=None)
        await fixture.storage["h2"].start()
        try:
            await fixture.view.renew()
            retry = RetryDeferred(fixture.metadata, fixture.view, fixture.wakeups)
            for item in await retry.take(1):
                await retry.work(item)
            assert await do_due(worker) == 1
            assert await defer_check(fixture) == []
            assert fixture.on_disk() == {fid: {1, 2}}
        finally:
            await fixture.storage["h2"].stop()


async def _make_due(tx: Transaction) -> None:
    await tx.run("UPDATE file_to_queue SET nexttry = 1")


async def test_the_reason_of_a_deferred_check(tmp_path: Path) -> None:
    """The stored reason names the devices that did not respond."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", CONTENT, 1, 2)
        await fixture.metadata.write(queues.enqueue_tasks, TaskType.CHECK, [(fid, None, "")], now=1)
        (claim,) = await fixture.metadata.write(queues.claim_tasks, TaskType.CHECK, limit=1, now=2)
        await fixture.metadata.write(fsck.defer_check, claim, now=2, silent={2})

        async def reason(tx: Transaction) -> list[tuple[str]]:
            return await tx.rows("SELECT reason FROM tawara_reason WHERE fid = ?", fid)

        assert await fixture.metadata.read(reason) == [("no answer from dev2",)]
        assert [each.devid for each in deferrals.notes((await fixture.view.refresh()).settings)] == [2]
