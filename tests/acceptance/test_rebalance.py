"""Rebalancing with real nodes, workers and a tracker: devices are emptied, limits kept, and no file is ever lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from tawara.client import AsyncClient
from tawara.metadata import cluster as rows
from tawara.metadata import files
from tawara.metadata.contract import Transaction
from tawara.model.cluster import DeviceState
from tawara.model.rebalance import RebalanceState
from tests.acceptance.cluster import DOMAIN, Cluster, cluster


def content(number: int) -> bytes:
    """The content of the file of that number."""
    return b"content %d" % number * 10


async def fill(client: AsyncClient, count: int, storage_class: str = "") -> None:
    """Store files k0, k1, …"""
    for number in range(count):
        await client.put(DOMAIN, f"k{number}", content(number), storage_class=storage_class)


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 30.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def on_device(made: Cluster, devid: int) -> int:
    """The number of replicas on a device according to the database."""

    async def count(tx: Transaction) -> int:
        row = await tx.row("SELECT COUNT(*) FROM file_on WHERE devid = ?", devid)
        return row[0] if row else 0

    return await made.metadata.read(count)


async def nothing_to_replicate(made: Cluster) -> bool:
    """Whether all files have their copies."""

    async def empty(tx: Transaction) -> bool:
        return await tx.row("SELECT 1 FROM file_to_replicate") is None

    return await made.metadata.read(empty)


async def at_rest(made: Cluster) -> bool:
    """Whether no move is queued and no copy reserved."""

    async def empty(tx: Transaction) -> bool:
        return not await tx.row("SELECT 1 FROM file_to_queue") and not await tx.row("SELECT 1 FROM tawara_copy")

    return await made.metadata.read(empty)


async def state_of(client: AsyncClient) -> RebalanceState:
    """The state of the run as the tracker reports it."""
    return RebalanceState.parse((await client._trackers.ask("rebalance_status"))["state"].decode())


async def finish(client: AsyncClient) -> RebalanceState:
    """Wait until the run has ended. Returns its state."""

    async def ended() -> bool:
        return bool((await state_of(client)).time_finished)

    await until(ended)
    return await state_of(client)


async def rebalance(client: AsyncClient, policy: str) -> RebalanceState:
    """Run a rebalance to its end."""
    await client._trackers.ask("rebalance_set_policy", {"policy": policy})
    await client._trackers.ask("rebalance_start")
    return await finish(client)


async def assert_nothing_lost(made: Cluster, client: AsyncClient, count: int, copies: int = 2) -> None:
    """Every file is complete, has its copies where the database says, and no others are on the disks."""
    for number in range(count):
        assert await client.get(DOMAIN, f"k{number}") == content(number)
        fid = (await client.info(DOMAIN, f"k{number}")).fid
        stored = await made.metadata.read(files.find_fid, fid)
        assert stored is not None
        assert len(stored.devids) == stored.devcount == copies
        assert sorted(map(str, made.replicas(fid))) == sorted(str(made.path(devid, fid)) for devid in stored.devids)


async def test_a_device_is_emptied(tmp_path: Path) -> None:
    """from_devices empties its device, which gets no files meanwhile and its state back; all files stay readable."""
    count = 40
    async with cluster(tmp_path, hosts=3, workers=True) as made, made.client() as client:
        await fill(client, count)
        await until(lambda: nothing_to_replicate(made))
        had = await on_device(made, 1)
        assert had
        lost: list[str] = []
        reading = asyncio.create_task(_read_always(client, count, lost))
        state = await rebalance(client, "from_devices=1")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert lost == []
        assert await on_device(made, 1) == 0
        await until(lambda: at_rest(made))
        await assert_nothing_lost(made, client, count)
        assert (state.completed_devs, state.source_devs, state.sdev_current) == ((1,), (), 0)
        assert state.fids_queued == had
        assert state.bytes_queued > 0
        assert 0 < state.time_started <= state.time_latest_run <= state.time_finished
        assert made.view.current.devices[1].state is DeviceState.ALIVE


async def _read_always(client: AsyncClient, count: int, lost: list[str]) -> None:
    while True:
        for number in range(count):
            if await client.get(DOMAIN, f"k{number}") != content(number):
                lost.append(f"k{number}")


async def test_a_host_is_emptied_into_another(tmp_path: Path) -> None:
    """Files go only to the targets of the policy, and the sources stay drained if the policy requires it."""
    async with cluster(tmp_path, hosts=3, workers=True) as made, made.client() as client:
        await fill(client, 20, "one")
        await until(lambda: nothing_to_replicate(made))
        before = [await on_device(made, devid) for devid in range(1, 7)]
        state = await rebalance(client, "from_hosts=1 to_devices=5 leave_in_drain_mode=1")
        assert sorted(state.completed_devs) == [1, 2]
        after = [await on_device(made, devid) for devid in range(1, 7)]
        assert after == [0, 0, before[2], before[3], before[4] + before[0] + before[1], before[5]]
        await made.view.refresh()
        assert {made.view.current.devices[devid].state for devid in (1, 2)} == {DeviceState.DRAIN}
        await until(lambda: at_rest(made))
        await assert_nothing_lost(made, client, 20, copies=1)


async def test_limits_are_kept(tmp_path: Path) -> None:
    """A limit for the run ends it after that number of files; a limit per device applies to each."""
    async with cluster(tmp_path, hosts=2, workers=True) as made, made.client() as client:
        await fill(client, 40, "one")
        await until(lambda: nothing_to_replicate(made))
        had = {devid: await on_device(made, devid) for devid in (1, 2)}
        assert min(had.values()) >= 3
        state = await rebalance(client, "from_hosts=1 to_hosts=2 limit_type=global limit_by=count limit=2")
        assert (state.fids_queued, state.limit) == (2, 0)
        assert sum(had.values()) - await on_device(made, 1) - await on_device(made, 2) == 2
        left = {devid: await on_device(made, devid) for devid in (1, 2)}
        state = await rebalance(client, "from_hosts=1 to_hosts=2 limit_by=count limit=1 fid_age=new")
        assert state.fids_queued == 2
        assert {devid: left[devid] - await on_device(made, devid) for devid in (1, 2)} == {1: 1, 2: 1}
        await until(lambda: at_rest(made))
        await assert_nothing_lost(made, client, 40, copies=1)


async def test_a_file_that_would_be_less_safe_stays(tmp_path: Path) -> None:
    """A replica is not moved if the targets would put all copies on one host."""
    async with cluster(tmp_path, hosts=2, workers=True) as made, made.client() as client:
        await fill(client, 6)
        await until(lambda: nothing_to_replicate(made))
        had = await on_device(made, 1)
        state = await rebalance(client, "from_devices=1 to_hosts=2")
        assert state.fids_queued == had == await on_device(made, 1)
        await assert_nothing_lost(made, client, 6)


async def test_a_device_that_an_operator_drained_stays_drained(tmp_path: Path) -> None:
    """A source that was in drain before the run is in drain afterwards."""
    async with cluster(tmp_path, hosts=2, workers=True) as made, made.client() as client:
        await fill(client, 6, "one")
        await made.metadata.write(rows.set_device_state, "h1", 1, DeviceState.DRAIN)
        await made.view.renew()
        await rebalance(client, "from_devices=1")
        assert await on_device(made, 1) == 0
        await made.view.refresh()
        assert made.view.current.devices[1].state is DeviceState.DRAIN


async def test_a_stopped_run_continues(tmp_path: Path) -> None:
    """rebalance_stop releases the device; rebalance_start continues the same run and misses no file."""
    async with cluster(tmp_path, hosts=2, workers=True) as made, made.client() as client:
        await fill(client, 30, "one")
        await until(lambda: nothing_to_replicate(made))
        had = await on_device(made, 1)
        assert had > 2
        ask = client._trackers.ask
        await client.set_setting("queue_rate_for_rebal", "2")
        await ask("rebalance_set_policy", {"policy": "from_devices=1"})
        await ask("rebalance_start")

        async def begun() -> bool:
            return await on_device(made, 1) < had

        await until(begun)
        await ask("rebalance_stop")

        async def stopped() -> bool:
            return bool((await state_of(client)).time_stopped)

        await until(stopped)
        await made.view.refresh()
        assert made.view.current.devices[1].state is DeviceState.ALIVE
        assert (await state_of(client)).sdev_current == 1
        await client.set_setting("queue_rate_for_rebal", "100")
        await ask("rebalance_start")
        await finish(client)
        assert await on_device(made, 1) == 0
        await until(lambda: at_rest(made))
        await assert_nothing_lost(made, client, 30, copies=1)
