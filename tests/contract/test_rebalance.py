"""The promises of rebalancing, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from tawara.metadata import cluster as rows
from tawara.metadata import queues, rebalance
from tawara.metadata.contract import Metadata
from tawara.model.cluster import Cluster, DeviceState, Observation, Observed
from tawara.model.errors import NoRebalPolicy, NoRebalState, NoSetRebal, RebalNotStarted, RebalRunning
from tawara.model.files import TaskType
from tawara.model.rebalance import RebalanceState
from tests.contract.test_fsck import store

Opener = Callable[[], Awaitable[Metadata]]
NOW = 1000


async def four_devices(metadata: Metadata) -> Cluster:
    """Two hosts of two devices, all writeable."""
    for number in (1, 2):
        hostid = await metadata.write(rows.create_host, f"h{number}", ip=f"127.0.0.{number}", state="alive")
        for devid in (2 * number - 1, 2 * number):
            await metadata.write(rows.create_device, devid, hostid)
    return await now_known(metadata)


async def now_known(metadata: Metadata) -> Cluster:
    """The cluster in its current state."""
    loaded = await metadata.read(rows.load)
    return loaded.with_observations(dict.fromkeys(loaded.devices, Observation(Observed.WRITEABLE)))


async def begin(metadata: Metadata, policy: str) -> Cluster:
    """Start a run."""
    made = await four_devices(metadata)
    await metadata.write(rebalance.set_policy, policy)
    await metadata.write(rebalance.start, made, host="here", now=NOW)
    return made


async def state_of(metadata: Metadata, devid: int) -> DeviceState:
    return (await metadata.read(rows.load)).devices[devid].state


async def test_every_file_is_moved_once(metadata: Metadata, opener: Opener) -> None:
    """With any number of workers, each of the source's files is queued once; then the device's state is restored."""
    workers = [metadata, await opener()]
    fids = await store(metadata, 20)
    await metadata.write(rows.set_setting, "queue_rate_for_rebal", "6")
    made = await begin(metadata, "from_devices=1 to_hosts=2")
    moved: list[int] = []
    for now in range(NOW, NOW + 20):
        going_on = await asyncio.gather(
            *(workers[n % 2].write(rebalance.inject, made, Random(n), now=now) for n in range(6))
        )
        if not any(going_on):
            break
        claims = await metadata.write(queues.claim_tasks, TaskType.MOVE, limit=100, now=now)
        assert len(claims) <= 6
        assert all(claim.devid == 1 and set(claim.arg.split(",")) == {"3", "4"} for claim in claims)
        moved += [claim.fid for claim in claims]
        await metadata.write(queues.finish_tasks, claims)
    assert moved == fids
    assert await state_of(metadata, 1) is DeviceState.ALIVE
    state = RebalanceState.parse(await metadata.read(rebalance.state))
    assert (state.completed_devs, state.fids_queued, state.bytes_queued) == ((1,), 20, 180)
    assert state.time_finished == now
    assert not await metadata.write(rebalance.inject, made, Random(1), now=now + 5)


async def test_a_source_is_drained_only_with_a_target(metadata: Metadata) -> None:
    """While no device can take its files, the source keeps its state; it is drained when one can."""
    await store(metadata, 3)
    made = await begin(metadata, "from_devices=1 to_devices=2")
    full = made.with_observations(dict.fromkeys(made.devices, Observation(Observed.READABLE)))
    assert await metadata.write(rebalance.inject, full, Random(1), now=NOW)
    assert await state_of(metadata, 1) is DeviceState.ALIVE
    assert await metadata.write(rebalance.inject, made, Random(1), now=NOW + 5)
    assert await state_of(metadata, 1) is DeviceState.DRAIN


async def test_a_source_is_released_after_its_moves(metadata: Metadata) -> None:
    """As long as a move is queued or running, the source stays in drain and the run continues."""
    await store(metadata, 3)
    made = await begin(metadata, "from_devices=1")
    for now in range(NOW, NOW + 5):
        assert await metadata.write(rebalance.inject, made, Random(1), now=now)
        assert await state_of(metadata, 1) is DeviceState.DRAIN
    claims = await metadata.write(queues.claim_tasks, TaskType.MOVE, limit=9, now=NOW + 5)
    await metadata.write(queues.finish_tasks, claims)
    assert await metadata.write(rebalance.inject, made, Random(1), now=NOW + 6)
    assert await state_of(metadata, 1) is DeviceState.ALIVE
    assert not await metadata.write(rebalance.inject, made, Random(1), now=NOW + 7)


async def test_newest_first(metadata: Metadata) -> None:
    """fid_age=new begins with the greatest fid."""
    fids = await store(metadata, 5)
    await metadata.write(rows.set_setting, "queue_rate_for_rebal", "2")
    made = await begin(metadata, "from_devices=1 fid_age=new")
    for now in (NOW, NOW + 1):
        await metadata.write(rebalance.inject, made, Random(1), now=now)
    claims = await metadata.write(queues.claim_tasks, TaskType.MOVE, limit=9, now=NOW + 1)
    assert sorted(claim.fid for claim in claims) == fids[1:]


async def test_a_run_is_stopped_and_continued(metadata: Metadata) -> None:
    """Stopping cancels what had not begun and restores the device's state; continuing queues it again."""
    fids = await store(metadata, 6)
    made = await begin(metadata, "from_devices=1 limit_by=count limit=5")
    await metadata.write(rebalance.inject, made, Random(1), now=NOW)
    begun = await metadata.write(queues.claim_tasks, TaskType.MOVE, limit=2, now=NOW)
    await metadata.write(rebalance.stop)
    assert not await metadata.write(rebalance.inject, made, Random(1), now=NOW)
    assert await state_of(metadata, 1) is DeviceState.ALIVE
    state = RebalanceState.parse(await metadata.read(rebalance.state))
    assert (state.sdev_current, state.sdev_lastfid, state.fids_queued) == (1, fids[1], 2)
    assert (state.sdev_limit, state.time_stopped) == (3, NOW)
    with pytest.raises(RebalNotStarted):
        await metadata.write(rebalance.stop)
    await metadata.write(queues.finish_tasks, begun)
    await metadata.write(rebalance.start, made, host="here", now=NOW + 2)
    await metadata.write(rebalance.inject, made, Random(1), now=NOW + 2)
    assert await state_of(metadata, 1) is DeviceState.DRAIN
    again = await metadata.write(queues.claim_tasks, TaskType.MOVE, limit=9, now=NOW + 2)
    assert [claim.fid for claim in again] == fids[2:5]


async def test_sources_out_of_service_are_skipped(metadata: Metadata) -> None:
    """A source that does not allow deletions any more keeps the state set by an operator."""
    await store(metadata, 3)
    await begin(metadata, "from_devices=1,2")
    await metadata.write(rows.set_device_state, "h1", 1, DeviceState.DOWN)
    for now in (NOW, NOW + 1):
        await metadata.write(rebalance.inject, await now_known(metadata), Random(1), now=now)
    state = RebalanceState.parse(await metadata.read(rebalance.state))
    assert (state.completed_devs, state.sdev_current, state.fids_queued) == ((1,), 2, 3)
    assert await state_of(metadata, 1) is DeviceState.DOWN


async def test_refusals(metadata: Metadata) -> None:
    """During a run its policy and state cannot be changed; without a policy there is no run."""
    made = await four_devices(metadata)
    with pytest.raises(NoRebalPolicy):
        await metadata.write(rebalance.start, made, host="here", now=NOW)
    with pytest.raises(NoRebalState):
        await metadata.read(rebalance.state)
    await metadata.write(rebalance.set_policy, "from_devices=1")
    outcomes = await asyncio.gather(
        *(metadata.write(rebalance.start, made, host="here", now=NOW) for _ in range(4)), return_exceptions=True
    )
    assert sum(isinstance(each, RebalRunning) for each in outcomes) == 3
    with pytest.raises(NoSetRebal):
        await metadata.write(rebalance.set_policy, "from_devices=2")
    with pytest.raises(RebalRunning):
        await metadata.write(rebalance.reset)
