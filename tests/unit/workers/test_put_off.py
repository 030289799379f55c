"""Work in every queue that was put off for the sake of a device is done when that answers again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tawara.metadata import fsck, missed, queues
from tawara.metadata.contract import Transaction
from tawara.model.cluster import DeviceState
from tawara.model.files import Errand
from tawara.node.server import StorageNode
from tawara.workers.drain import Drain
from tawara.workers.fsck import Fsck
from tawara.workers.hasten import Hasten
from tawara.workers.rebalance import Rebalance
from tawara.workers.scrub import Scrub
from tests.unit.workers.house import House, house, set_state

CONTENT = b"a bale of rice"
KINDS = {Errand.CHECK: Fsck, Errand.SCRUB: Scrub, Errand.MOVE: Rebalance, Errand.DRAIN: Drain}


def worker_of(home: House, errand: Errand) -> Any:
    if errand in (Errand.CHECK, Errand.SCRUB):
        return KINDS[errand](home.metadata, home.view, home.nodes, bells=home.bells)
    return KINDS[errand](home.metadata, home.view, home.nodes, delete_bell=home.bells.delete)


async def do_due(worker: Any) -> int:
    """Do what is due; how many units that were."""
    items = await worker.take(9)
    for item in items:
        await worker.work(item)
    return len(items)


async def put_off(home: House) -> list[tuple[int, int]]:
    """How often what waits has failed, and when it is due."""

    async def read(tx: Transaction) -> list[tuple[int, int]]:
        return await tx.rows("SELECT failcount, nexttry FROM file_to_queue")

    return await home.metadata.read(read)


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("noticed", [False, True])
@pytest.mark.parametrize("errand", list(KINDS))
async def test_work_that_met_a_silent_device_is_done_when_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errand: Errand, noticed: bool, readonly: bool
) -> None:
    """Whatever was to be done, however often it failed, and whether or not the silence was noticed by the monitor."""
    if (readonly or noticed) and errand in (Errand.MOVE, Errand.DRAIN):
        pytest.skip("a move whose targets are not there is not put off, but left")
    monkeypatch.setattr("tawara.workers.hasten.SETTLED", 0)
    async with house(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as home:
        if readonly:
            await set_state(home, 2, DeviceState.READONLY)
        moves = errand in (Errand.MOVE, Errand.DRAIN)
        fid = await home.store(b"key", CONTENT, *((1, 3) if moves else (1, 2)))
        port = home.storage["h2"].http_address[1]
        await home.storage["h2"].stop()
        if noticed:
            await home.view.renew()
        await home.metadata.write(
            queues.enqueue_errands, errand, [(fid, 3 if moves else None, "2" if moves else "")], now=1
        )
        worker = worker_of(home, errand)
        for _ in range(1 if moves else 5):
            assert await do_due(worker) == 1
            await home.metadata.write(_make_due)
        await do_due(worker)
        ((failures, due),) = await put_off(home)
        assert failures == (2 if moves else 6)
        assert due > time.time() + 5
        home.storage["h2"] = StorageNode(tmp_path / "h2", http=("127.0.0.2", port), side_channel=None)
        await home.storage["h2"].start()
        try:
            await home.view.renew()
            hasten = Hasten(home.metadata, home.view, home.bells)
            for item in await hasten.take(1):
                await hasten.work(item)
            assert await do_due(worker) == 1
            assert await put_off(home) == []
            assert home.on_disk() == {fid: {1, 2}}
        finally:
            await home.storage["h2"].stop()


async def _make_due(tx: Transaction) -> None:
    await tx.run("UPDATE file_to_queue SET nexttry = 1")


async def test_why_a_check_was_put_off(tmp_path: Path) -> None:
    """It is said which devices did not answer."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        fid = await home.store(b"key", CONTENT, 1, 2)
        await home.metadata.write(queues.enqueue_errands, Errand.CHECK, [(fid, None, "")], now=1)
        (claim,) = await home.metadata.write(queues.claim_errands, Errand.CHECK, limit=1, now=2)
        await home.metadata.write(fsck.put_off, claim, now=2, silent={2})

        async def reason(tx: Transaction) -> list[tuple[str]]:
            return await tx.rows("SELECT reason FROM tawara_reason WHERE fid = ?", fid)

        assert await home.metadata.read(reason) == [("no answer from dev2",)]
        assert [each.devid for each in missed.notes((await home.view.refresh()).settings)] == [2]
