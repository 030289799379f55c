"""Thread pools of devices, and batches that run on them."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from tawara.disks.devices import Devices
from tawara.disks.pools import DevicePools, PoolBatcher, _Job
from tawara.model.node_errors import DeviceHangs


@pytest.fixture
def pools(tmp_path: Path) -> Iterator[DevicePools]:
    pools = DevicePools(Devices(tmp_path))
    yield pools
    pools.close()


async def test_items_that_arrive_during_a_batch_form_the_next(pools: DevicePools) -> None:
    """The first item runs at once, later ones form the next batch, and each gets its own result."""
    batches: list[list[int]] = []
    begun, go_on = threading.Event(), threading.Event()

    def work(numbers: Sequence[int]) -> list[int | Exception]:
        batches.append(list(numbers))
        begun.set()
        assert go_on.wait(20)
        return [ValueError("no") if number == 3 else number * 10 for number in numbers]

    batched = PoolBatcher(pools, work, width=1, most=3)
    first = asyncio.create_task(batched.run("dev1", 1))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    others = [asyncio.create_task(batched.run("dev1", number)) for number in (2, 3, 4, 5)]
    await asyncio.sleep(0)
    go_on.set()
    answers = await asyncio.gather(first, *others, return_exceptions=True)
    assert [str(each) for each in answers] == ["10", "20", "no", "40", "50"]
    assert batches == [[1], [2, 3, 4], [5]]


async def test_a_hanging_pool_delays_no_other(pools: DevicePools) -> None:
    """Work for another disk runs while one does not respond."""
    go_on = threading.Event()

    def work(names: Sequence[str]) -> list[str]:
        assert names != ["stuck"] or go_on.wait(20)
        return list(names)

    batched = PoolBatcher(pools, work, width=1, most=8)
    stuck = asyncio.create_task(batched.run("dev1", "stuck"))
    assert await asyncio.wait_for(batched.run("dev2", "free"), 10) == "free"
    assert not stuck.done()
    go_on.set()
    assert await stuck == "stuck"


async def test_an_exception_of_the_work_fails_the_whole_batch(pools: DevicePools) -> None:
    """Each item of the batch gets the exception, the pool continues, and a cancelled caller has no effect."""
    fail = True

    def work(numbers: Sequence[int]) -> list[int]:
        if fail:
            raise RuntimeError("broken")
        return list(numbers)

    batched = PoolBatcher(pools, work, width=1, most=8)
    both = await asyncio.gather(batched.run("dev1", 1), batched.run("dev1", 2), return_exceptions=True)
    assert [str(each) for each in both] == ["broken", "broken"]
    fail = False
    cancelled = asyncio.create_task(batched.run("dev1", 3))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await batched.run("dev1", 4) == 4


async def test_closed_pools_refuse_work(pools: DevicePools) -> None:
    """Work for closed pools fails at once with RuntimeError."""
    batched: PoolBatcher[int, int] = PoolBatcher(pools, list, width=1, most=1)
    await batched.run("dev1", 1)
    pools.close()
    answers = await asyncio.wait_for(
        asyncio.gather(*(batched.run("dev1", number) for number in range(3)), return_exceptions=True), 10
    )
    assert [type(each) for each in answers] == [RuntimeError] * 3


async def hang(pools: DevicePools, pool_name: str, go_on: threading.Event) -> list[asyncio.Task[bool]]:
    """Block all threads of a pool until it counts as hanging."""
    pool = pools._pool(pool_name)
    timeout, pool._timeout = pool._timeout, 1000.0  # none of them is refused, however slowly they start
    stuck = [asyncio.create_task(pools.run(pool_name, go_on.wait, 60)) for _ in range(8)]
    while len(pool._begun) < 8:
        await asyncio.sleep(0.01)
    pool._timeout = timeout
    while not pools.hangs(pool_name):
        await asyncio.sleep(0.01)
    return stuck


async def test_a_hanging_pool_refuses_work_until_it_recovers(tmp_path: Path) -> None:
    """Waiting and new work is refused instead of accumulating; running work is finished."""
    pools = DevicePools(Devices(tmp_path), timeout=0.2)
    batched: PoolBatcher[int, int] = PoolBatcher(pools, list, width=2, most=4)
    go_on = threading.Event()
    stuck = await hang(pools, "dev1", go_on)
    pools._pool("dev1")._timeout = 1000.0
    waiting = [asyncio.create_task(pools.run("dev1", int)) for _ in range(5)]
    batch = [asyncio.create_task(batched.run("dev1", number)) for number in range(20)]
    await asyncio.sleep(0)
    pools._pool("dev1")._timeout = 0.2
    with pytest.raises(DeviceHangs):
        await pools.run("dev1", int)
    batch.append(asyncio.create_task(batched.run("dev1", 20)))
    refused = await asyncio.wait_for(asyncio.gather(*waiting, *batch, return_exceptions=True), 20)
    assert {type(each) for each in refused} == {DeviceHangs}
    assert await pools.run("dev2", int) == 0
    go_on.set()
    assert await asyncio.gather(*stuck) == [True] * 8
    assert await pools.run("dev1", int) == 0
    assert await batched.run("dev1", 7) == 7
    pools.close()


async def test_cleanup_waits_for_a_hanging_pool(tmp_path: Path) -> None:
    """A file is closed once its disk recovers; the caller does not wait for that."""
    pools = DevicePools(Devices(tmp_path), timeout=0.1)
    go_on, closed = threading.Event(), threading.Event()
    stuck = await hang(pools, "dev1", go_on)
    await asyncio.wait_for(pools.clean_up("dev1", closed.set), 20)
    with pytest.raises(DeviceHangs):
        await pools.run("dev1", int)
    assert not closed.is_set()
    go_on.set()
    await asyncio.gather(*stuck)
    assert await asyncio.to_thread(closed.wait, 20)
    pools.close()


async def test_slow_work_among_fast_is_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that finishes some work does not hang, however long one call takes."""
    now = 1000.0
    monkeypatch.setattr("tawara.disks.pools.time", SimpleNamespace(monotonic=lambda: now))
    pools = DevicePools(Devices(tmp_path), timeout=10.0)
    begun, go_on = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return go_on.wait(60)

    slow = asyncio.create_task(pools.run("dev1", work))
    await asyncio.to_thread(begun.wait, 60)
    for _ in range(5):
        now += 9.0
        assert await pools.run("dev1", int) == 0
    now += 10.0
    assert pools.hangs("dev1") and not pools.hangs("dev2")
    go_on.set()
    assert await slow
    assert not pools.hangs("dev1")
    pools.close()


async def test_work_whose_caller_was_cancelled_is_refused_silently() -> None:
    """Refusing work whose caller was cancelled sets no error; other callers get it."""
    waiting, cancelled = _Job(lambda: 1, always=False), _Job(lambda: 1, always=False)
    cancelled.future.cancel()
    for each in (waiting, cancelled):
        each.refuse(DeviceHangs("dev1 hangs"))
    assert isinstance(waiting.future.exception(), DeviceHangs)
    assert cancelled.future.cancelled()
