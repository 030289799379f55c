"""The promises of draining devices, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from tawara.metadata import cluster, drain, files, queues, rebalance, replicas, runs
from tawara.metadata.contract import Metadata
from tawara.model import rebalance as model
from tawara.model.cluster import Cluster, DeviceState
from tawara.model.errors import NoDevice, StateTooHigh
from tawara.model.files import NewFile, TaskType

Opener = Callable[[], Awaitable[Metadata]]
NOW = 1000


async def set_up(metadata: Metadata, count: int) -> list[int]:
    """Devices 1 to 3, and so many files on 1 and 2; returns their fids."""
    hostid = await metadata.write(cluster.create_host, "h", ip="127.0.0.1", http_port=7500)
    for devid in (1, 2, 3):
        await metadata.write(cluster.create_device, devid, hostid)
    fids = []
    for number in range(count):
        key = b"k%d" % number
        fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=(1, 2), now=1)
        await metadata.write(
            files.close_upload,
            NewFile(fid=fid, dmid=1, key=key, classid=0, length=9, devids=(1, 2)),
            now=1,
            replicate=False,
        )
        fids.append(fid)
    return fids


async def state(metadata: Metadata, devid: int) -> DeviceState:
    return (await metadata.read(cluster.load)).devices[devid].state


async def test_every_file_is_queued_once_a_pass(
    metadata: Metadata, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order of ticks, each file of the device is queued once a pass, and remaining ones in a later one."""
    monkeypatch.setattr(drain, "RATE", 4)
    workers = [metadata, await opener()]
    fids = await set_up(metadata, 10)
    for _ in range(2):
        await metadata.write(drain.start, 1, now=NOW)
    assert await state(metadata, 1) is DeviceState.DRAIN
    queued: list[int] = []
    for now in range(NOW, NOW + 10):
        await asyncio.gather(*(workers[n % 2].write(drain.inject, now=now) for n in range(4)))
        claims = await metadata.write(queues.claim_tasks, TaskType.DRAIN, limit=100, now=now)
        assert {(claim.devid, claim.arg) for claim in claims} <= {(1, "")}
        await metadata.write(queues.finish_tasks, claims)
        queued += [claim.fid for claim in claims]
        for claim in claims[1:]:
            await metadata.write(replicas.drop_replica, claim.fid, 1)
    assert queued == fids
    (stands,) = await metadata.read(drain.read_status)
    assert (stands.at.files, stands.left) == (10, 3)
    due = await metadata.write(drain.inject, now=NOW + 10)
    assert due
    await metadata.write(drain.inject, now=due)
    assert {each.fid for each in await metadata.write(queues.claim_tasks, TaskType.DRAIN, limit=9, now=due)} == {
        fids[0], fids[4], fids[8],
    }  # fmt: skip


async def test_what_makes_removal_unsafe(metadata: Metadata) -> None:
    """Replicas, uploads to the device, and data to be deleted are counted; those of others are not."""
    (fid,) = await set_up(metadata, 1)
    await metadata.write(drain.start, 1, now=NOW)
    for devids in ((1,), (1, 2), (2, 1), (3, 1, 2), (11, 2), (21,), (2, 31)):
        await metadata.write(files.open_upload, dmid=1, key=b"u", classid=0, devids=devids, now=1)
    await metadata.write(replicas.record_orphan, fid, 1, now=1)
    await metadata.write(replicas.record_orphan, fid, 3, now=1)
    (stands,) = await metadata.read(drain.read_status)
    assert (stands.left, stands.uploads, stands.copies, stands.waiting, stands.failed) == (1, 4, 1, 0, 0)
    assert stands.newest_upload == 1


async def test_a_drain_can_be_cancelled(metadata: Metadata) -> None:
    """Waiting moves are cancelled, and the device has its former state: alive, or drain as set by an operator."""
    await set_up(metadata, 3)
    await metadata.write(cluster.set_device_state, "h", 2, DeviceState.DRAIN)
    for devid in (1, 2):
        await metadata.write(drain.start, devid, now=NOW)
    await metadata.write(drain.inject, now=NOW)
    assert await metadata.read(queues.count_tasks, TaskType.DRAIN) == 3
    for devid in (1, 2):
        await metadata.write(drain.undo, devid, now=NOW)
    assert await metadata.read(queues.count_tasks, TaskType.DRAIN) == 0
    assert await metadata.read(drain.read_status) == []
    assert (await state(metadata, 1), await state(metadata, 2)) == (DeviceState.ALIVE, DeviceState.DRAIN)
    with pytest.raises(NoDevice):
        await metadata.write(drain.undo, 77, now=NOW)


async def test_another_state_ends_it(metadata: Metadata) -> None:
    """A device that an operator sets to another state is not drained any more; a dead one cannot be."""
    await set_up(metadata, 3)
    await metadata.write(drain.start, 1, now=NOW)
    await metadata.write(drain.inject, now=NOW)
    await metadata.write(cluster.set_device_state, "h", 1, DeviceState.ALIVE)
    assert await metadata.write(drain.inject, now=NOW + 1) is None
    assert await metadata.read(queues.count_tasks, TaskType.DRAIN) == 0
    assert await state(metadata, 1) is DeviceState.ALIVE
    await metadata.write(cluster.set_device_state, "h", 1, DeviceState.DEAD)
    with pytest.raises(StateTooHigh):
        await metadata.write(drain.start, 1, now=NOW)
    with pytest.raises(NoDevice):
        await metadata.write(drain.start, 77, now=NOW)


async def test_a_rebalance_does_not_end_it(metadata: Metadata) -> None:
    """A source of a rebalance that is drained stays in drain when the rebalance has finished with it."""
    await set_up(metadata, 1)
    await metadata.write(rebalance.set_policy, "from_devices=1")
    await metadata.write(rebalance.start, Cluster(), host="here", now=NOW)
    at = model.RebalanceState(sdev_current=1)
    await metadata.write(runs.set_all, {"rebal_state": str(at), "tawara_rebal_drained": 1})
    await metadata.write(cluster.set_device_state, "h", 1, DeviceState.DRAIN)
    await metadata.write(drain.start, 1, now=NOW)
    await metadata.write(rebalance.stop)
    assert not await metadata.write(rebalance.inject, Cluster(), Random(1), now=NOW)
    assert await state(metadata, 1) is DeviceState.DRAIN
    await metadata.write(drain.undo, 1, now=NOW)
    assert await state(metadata, 1) is DeviceState.ALIVE
