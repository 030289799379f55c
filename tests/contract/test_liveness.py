"""Unreachable devices as reported by several processes, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from tawara.metadata import cluster, device_liveness, queues
from tawara.metadata.contract import Metadata, Transaction
from tawara.model import errors
from tawara.model.cluster import Cluster, HostState, Liveness, Observation, Observed
from tawara.model.liveness import LivenessRules

Opener = Callable[[], Awaitable[Metadata]]
RULES = LivenessRules(after=20, hosts=0.34, bytes=0.5)
HOSTS = 4
THERE, GONE = Observation(Observed.WRITEABLE), Observation(Observed.UNREACHABLE)


@pytest.fixture(autouse=True)
async def set_up(metadata: Metadata) -> None:
    """Four hosts with a device each, equally full."""
    for number in range(1, HOSTS + 1):
        hostid = await metadata.write(cluster.create_host, f"h{number}", ip=f"10.0.0.{number}", state=HostState.ALIVE)
        await metadata.write(cluster.create_device, number, hostid)
    await metadata.write(cluster.record_usage, dict.fromkeys(range(1, HOSTS + 1), (100, 50)), now=1)


async def _run(tx: Transaction, sql: str) -> None:
    await tx.run(sql)


async def _rows(tx: Transaction, sql: str) -> list[tuple[int, ...]]:
    return await tx.rows(sql)


async def look(metadata: Metadata, *missing: int) -> Cluster:
    """The view of a process that does not reach these devices."""
    rows = await metadata.read(cluster.load)
    return rows.with_observations({devid: GONE if devid in missing else THERE for devid in rows.devices})


async def report(metadata: Metadata, *missing: int, later: int = 0, rules: LivenessRules = RULES) -> list[int]:
    """Report that view, so many seconds after the last report."""
    await metadata.write(_run, f"UPDATE tawara_absent SET counted_at = counted_at - {later}")
    return await metadata.write(device_liveness.report, await look(metadata, *missing), rules)


async def liveness(metadata: Metadata) -> dict[int, Liveness]:
    """The liveness of each absent device."""
    return {devid: absent.liveness for devid, absent in (await metadata.read(cluster.load)).absences.items()}


async def store(metadata: Metadata, placed: Mapping[int, tuple[int, ...]]) -> None:
    """Insert rows of replicas: fid -> devids."""
    for fid, devids in placed.items():
        for devid in devids:
            await metadata.write(_run, f"INSERT INTO file_on (fid, devid) VALUES ({fid}, {devid})")


async def queue(metadata: Metadata, devid: int, limit: int = 1000) -> None:
    """Queue all files of a device."""
    while await metadata.write(device_liveness.queue_files, devid, limit=limit) is not None:
        pass


async def test_suspect_presumed_dead_and_returned(metadata: Metadata) -> None:
    """A device is suspect, then presumed dead, and removed when it is seen again and its files were examined."""
    assert await report(metadata, 1) == [1]
    assert await liveness(metadata) == {1: Liveness.SUSPECT}
    assert (await metadata.read(cluster.load)).absences[1].since > 1_600_000_000
    for _ in range(2):
        assert await metadata.read(device_liveness.presumed_dead) == frozenset()
        await report(metadata, 1, later=10)
    assert await metadata.read(device_liveness.presumed_dead) == {1}
    assert await report(metadata, 1, later=10) == []
    assert await report(metadata) == [1]
    assert await liveness(metadata) == {1: Liveness.RETURNED}
    await queue(metadata, 1)
    assert await liveness(metadata) == {}


async def test_a_clock_jump_counts_little(metadata: Metadata) -> None:
    """The database's clock may jump by an hour in either direction: that counts ten seconds, or none."""
    await report(metadata, 1)
    await report(metadata, 1, later=3600)
    assert 10 <= (await metadata.read(cluster.load)).absences[1].seconds < 15
    await report(metadata, 1, later=-3600)
    assert (await metadata.read(cluster.load)).absences[1].seconds < 15
    await report(metadata, 1, later=0)
    assert await liveness(metadata) == {1: Liveness.SUSPECT}


async def test_concurrent_reports_count_once(metadata: Metadata, opener: Opener) -> None:
    """The seconds of an absence are those that passed, however many processes report it at the same time."""
    await report(metadata, 1)
    others = [await opener() for _ in range(4)]
    seen = await look(metadata, 1)
    await metadata.write(_run, "UPDATE tawara_absent SET counted_at = counted_at - 5")
    await asyncio.gather(*(each.write(device_liveness.report, seen, RULES) for each in [metadata, *others]))
    assert 5 <= (await metadata.read(cluster.load)).absences[1].seconds < 10


async def test_one_observer_prevents_the_presumption(metadata: Metadata) -> None:
    """If one of two processes does not reach a device, it is never presumed dead while the other does."""
    for _ in range(6):
        await report(metadata, 1, later=10)
        await report(metadata)
    assert await liveness(metadata) == {}


async def test_safety_limits(metadata: Metadata) -> None:
    """Two of four hosts at once exceed the limit, and three are a majority: nothing is presumed dead."""
    for _ in range(5):
        await report(metadata, 1, 2, later=10)
    assert set((await liveness(metadata)).values()) == {Liveness.SUSPECT}
    before = (await metadata.read(cluster.load)).absences
    await report(metadata, 1, 2, 3, later=10)
    assert (await metadata.read(cluster.load)).absences == before


async def test_trust(metadata: Metadata) -> None:
    """An operator ends the presumption; it does not return by itself, and the trust ends when the device is seen."""
    for _ in range(4):
        await report(metadata, 1, later=10)
    with pytest.raises(errors.DeviceNotAbsent):
        await metadata.write(device_liveness.trust, [2, 3])
    assert await metadata.write(device_liveness.trust, [1, 2]) == [1]
    for _ in range(4):
        await report(metadata, 1, later=10)
    assert await liveness(metadata) == {1: Liveness.TRUSTED}
    assert await metadata.write(device_liveness.queue_files, 1) is None
    await report(metadata)
    assert await liveness(metadata) == {1: Liveness.RETURNED}


async def test_files_with_the_fewest_copies_are_queued_first(metadata: Metadata) -> None:
    """All files of the device are queued once, in bounded passes, and claimed in the order of risk."""
    await store(metadata, {1: (1, 2, 3), 2: (1, 2), 3: (1,), 4: (2, 3), 5: (1, 3), 6: (1, 2, 3, 4), 7: (1, 4)})
    for _ in range(4):
        await report(metadata, 1, later=10)
    await queue(metadata, 1, limit=2)
    assert not (await metadata.read(cluster.load)).absences[1].to_queue
    claims = [await metadata.write(queues.claim_replications, limit=1, now=10**9) for _ in range(6)]
    order = [claim.fid for (claim,) in claims]
    assert (order[0], set(order[1:4]), order[4:]) == (3, {2, 5, 7}, [1, 6])
    assert await metadata.write(queues.claim_replications, limit=1, now=10**9) == []
    await report(metadata)
    await metadata.write(_run, "DELETE FROM file_to_replicate")
    await queue(metadata, 1, limit=2)
    waiting = await metadata.read(_rows, "SELECT fid FROM file_to_replicate ORDER BY fid")
    assert [fid for (fid,) in waiting] == [1, 2, 5, 6, 7]


async def test_the_queue_is_limited(metadata: Metadata) -> None:
    """While enough files wait for replication no more are queued, and the position is kept."""
    await store(metadata, dict.fromkeys(range(1, 8), (1, 2)))
    for _ in range(4):
        await report(metadata, 1, later=10)
    while await metadata.write(device_liveness.queue_files, 1, limit=2, waiting=4) is not None:
        pass
    assert len(await metadata.read(_rows, "SELECT fid FROM file_to_replicate")) == 4
    assert (await metadata.read(cluster.load)).absences[1].to_queue
    await metadata.write(_run, "DELETE FROM file_to_replicate")
    await queue(metadata, 1)
    assert sorted(await metadata.read(_rows, "SELECT fid FROM file_to_replicate")) == [(5,), (6,), (7,)]


async def test_two_workers_queue_one_device(metadata: Metadata, opener: Opener) -> None:
    """Several workers on one device leave out no file."""
    await store(metadata, dict.fromkeys(range(1, 40), (1, 2)))
    for _ in range(4):
        await report(metadata, 1, later=10)
    other = await opener()
    await asyncio.gather(*(queue(each, 1, limit=3) for each in (metadata, other, metadata)))
    assert len(await metadata.read(_rows, "SELECT fid FROM file_to_replicate")) == 39
    assert not (await metadata.read(cluster.load)).absences[1].to_queue
