"""Workers beside a mogilefsd: what it is at work on is left alone, and what it has done is not undone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tawara.metadata import files, queues, replicas
from tawara.metadata.bell import Bells
from tawara.metadata.fid_locks import name_of, open_locks
from tawara.model.files import Errand
from tawara.workers.beside_mogilefsd import PAUSE, BesideMogilefsd
from tawara.workers.delete import Delete
from tawara.workers.rebalance import Rebalance
from tawara.workers.replicate import Replicate
from tawara.workers.runner import Worker
from tawara.workers.sweep import Sweep
from tests.mogilefsd.double import Mogilefsd, mogilefsd
from tests.unit.workers.house import House, house

CONTENT = b"content"


@asynccontextmanager
async def beside(directory: Path) -> AsyncIterator[tuple[House, Mogilefsd]]:
    async with house(directory, {"h1": [1], "h2": [2]}) as home, mogilefsd(f"sqlite://{directory}/tawara.db") as other:
        yield home, other


def worker_of(home: House, kind: str) -> Worker[Any]:
    match kind:
        case "replicate":
            made: Worker[Any] = Replicate(home.metadata, home.view, home.nodes, delete_bell=home.bells.delete)
        case "delete":
            made = Delete(home.metadata, home.view, home.nodes)
        case "rebalance":
            made = Rebalance(home.metadata, home.view, home.nodes, delete_bell=home.bells.delete)
        case _:
            made = Sweep(home.metadata, home.view, home.nodes, bells=Bells(), upload_open=3600)
    return BesideMogilefsd(made, open_locks(home.metadata, ["other"]), home.metadata)


async def due(home: House, kind: str) -> int:
    """A fid with something to do for this worker."""
    fid = await home.store(b"key", CONTENT, 1)
    for claim in await home.metadata.write(queues.claim_replications, limit=9, now=int(time.time())):
        await home.metadata.write(queues.finish_replication, claim)
    match kind:
        case "replicate":
            await home.metadata.write(queues.enqueue_replication, fid)
        case "delete":
            await home.metadata.write(files.delete, home.dmid, b"key", now=1)
        case "rebalance":
            await home.metadata.write(queues.enqueue_errands, Errand.MOVE, [(fid, 1, "2")], now=1)
        case _:
            await home.metadata.write(replicas.announce_copy, fid, 2, now=1, lease=1)
            await home.nodes.put(home.url(2, fid), CONTENT, length=len(CONTENT))
    return fid


@pytest.mark.parametrize("kind", ["replicate", "delete", "rebalance", "sweep"])
async def test_a_locked_fid_is_left_alone(tmp_path: Path, kind: str) -> None:
    """While mogilefsd has the lock, nothing is done and nothing counted as failed; afterwards it is done."""
    async with beside(tmp_path) as (home, other):
        fid = await due(home, kind)
        worker = worker_of(home, kind)
        before = home.on_disk()
        assert await other.get_lock(name_of(fid))
        (item,) = await worker.take(9)
        until = await worker.work(item)
        assert until is not None
        assert time.time() - 1 < until <= time.time() + PAUSE
        assert home.on_disk() == before
        for table in ("file_to_replicate", "file_to_delete2", "file_to_queue"):
            assert await other.ask(f"SELECT fid FROM {table} WHERE failcount > 0 OR nexttry > ?", int(until)) == []
        await other.release_lock(name_of(fid))
        for table in ("file_to_replicate", "file_to_delete2", "file_to_queue"):
            await other.ask(f"UPDATE {table} SET nexttry = 1")
        await other.ask("UPDATE tawara_copy SET lease = 1")
        (item,) = await worker.take(9)
        await worker.work(item)
        assert home.on_disk() != before
        assert await other.get_lock(name_of(fid))


async def test_a_copy_of_mogilefsds_is_not_swept(tmp_path: Path) -> None:
    """A place that we gave up, and where mogilefsd has put a replica since it was claimed, keeps that replica."""
    async with beside(tmp_path) as (home, other):
        fid = await due(home, "sweep")
        worker = worker_of(home, "sweep")
        (item,) = await worker.take(9)
        await other.ask("INSERT INTO file_on (fid, devid) VALUES (?, 2)", fid)
        await worker.work(item)
        assert home.on_disk() == {fid: {1, 2}}
        assert await other.ask("SELECT fid FROM tawara_copy") == []
