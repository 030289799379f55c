"""One database with a running mogilefsd: claims and locks that both respect, on every engine."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tawara.metadata import leases, queues, replicas
from tawara.metadata.contract import Metadata
from tawara.metadata.fid_locks import FidLocks, name_of, open_locks
from tests.contract.mogilefs_database import LATIN1_OPTION, adopted, original_at
from tests.contract.servers import Server
from tests.mogilefsd.double import Mogilefsd, mogilefsd

TIMEOUT = 60.0
"""Seconds for which those wait who share a SQLite file, on a disk that is busy with something else."""


async def test_leases_are_respected_on_both_sides(old_url: str) -> None:
    """What one side has claimed the other does not claim, in either queue, in any order."""
    now = int(time.time())
    async with original_at(old_url) as original, adopted(old_url) as ours:
        fids = [await original.store(1, b"%d" % number) for number in range(4)]
        theirs = await original.claim("file_to_replicate", limit=2)
        claims = await ours.write(queues.claim_replications, limit=9, now=now, lease=60)
        assert set(theirs) | {claim.fid for claim in claims} == set(fids)
        assert len(theirs) == len(claims) == 2
        assert await original.claim("file_to_replicate") == []
        # Renewed, ours stays ours; finished by us, it is gone; what they have is theirs to finish.
        claims = await ours.write(leases.renew, claims, until=now + 120)
        for claim in claims:
            await ours.write(queues.finish_replication, claim)
        await original.finish("file_to_replicate", theirs[0])
        assert await original.ask("SELECT fid FROM file_to_replicate") == [(theirs[1],)]
        # Left by a dead process, it becomes due for the other.
        await original.ask("UPDATE file_to_replicate SET nexttry = 1")
        (again,) = await ours.write(queues.claim_replications, limit=9, now=now, lease=60)
        assert again.fid == theirs[1]
        await ours.write(leases.renew, [again], until=now - 1)
        assert await original.claim("file_to_replicate") == [theirs[1]]
        await ours.write(queues.finish_replication, again)
        assert len(await original.ask("SELECT fid FROM file_to_replicate")) == 1


async def test_concurrent_claims(old_url: str) -> None:
    """In any order of concurrent claims, each row is claimed by one side."""
    now = int(time.time())
    async with original_at(old_url) as original, adopted(old_url) as ours:
        fids = [await original.store(1, b"%d" % number) for number in range(40)]
        got: list[int] = []

        async def we() -> None:
            for _ in range(10):
                claims = await ours.write(queues.claim_replications, limit=3, now=now, lease=60)
                got.extend(claim.fid for claim in claims)

        async def they() -> None:
            for _ in range(10):
                got.extend(await original.claim("file_to_replicate", limit=3))
                await asyncio.sleep(0)

        await asyncio.gather(we(), they())
        assert sorted(got) == sorted(fids)


async def test_a_copy_that_ends_while_mogilefsd_deletes(old_url: str) -> None:
    """Between mogilefsd's two commits of a delete no row of ours appears where it inserts without checking."""
    async with original_at(old_url) as original, adopted(old_url) as ours:
        fid = await original.store(1, b"key")
        now = int(time.time())
        await ours.write(replicas.reserve_copy, fid, 2, now=now)
        await original.delete_name(fid)
        assert await ours.write(replicas.record_copy, fid, 2, now=now) is False
        await original.queue_deletion(fid)
        assert await original.ask("SELECT devid FROM file_on WHERE fid = ?", fid) == [(1,)]


async def test_failure_counts_fit_its_columns(old_url: str) -> None:
    """Work that failed a thousand times is deferred as usual, with one-byte columns."""
    async with adopted(old_url) as ours:
        await ours.write(queues.enqueue_replication, 1)
        await ours.write(queues.enqueue_deletion, 1, 0)
        (claim,) = await ours.write(queues.claim_replications, limit=1, now=1)
        await ours.write(queues.postpone_replication, claim, nexttry=7, failcount=1000)
        (deletion,) = await ours.write(queues.claim_deletions, limit=1, now=1)
        await ours.write(queues.postpone_deletion, deletion, nexttry=7, failcount=1000)
        (claim,) = await ours.write(queues.claim_replications, limit=1, now=7)
        assert claim.failcount == 255


@asynccontextmanager
async def locks_of(metadata: Metadata, *hosts: str) -> AsyncIterator[FidLocks]:
    locks = open_locks(metadata, hosts)
    try:
        yield locks
    finally:
        await locks.close()


async def test_a_lock_excludes_the_other_side(old_url: str) -> None:
    """While one side has the lock of a fid the other cannot get it; other fids are free."""
    url = old_url.removesuffix(LATIN1_OPTION)
    async with mogilefsd(url) as original, adopted(old_url) as ours, locks_of(ours) as locks:
        assert await original.get_lock(name_of(5))
        async with locks.hold(5) as held:
            assert not held
        async with locks.hold(6) as held, locks.hold(6) as again, locks.hold(7) as other:
            assert (held, again, other) == (True, False, True)
            async with mogilefsd(url) as second:
                assert not await second.get_lock(name_of(6))
                assert await second.get_lock(name_of(8))
        assert await original.get_lock(name_of(6)) or original.engine == "mysql"
        await original.release_lock(name_of(5))
        async with locks.hold(5) as held:
            assert held


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_locks_of_several_hosts_on_postgresql(old_url: str) -> None:
    """A lock is respected under any host's name, and taken under each configured host's."""
    async with (
        mogilefsd(old_url, hostname="far") as far,
        mogilefsd(old_url, hostname="unknown") as unknown,
        adopted(old_url) as ours,
        locks_of(ours, "far") as locks,
    ):
        for each in (far, unknown):
            assert await each.get_lock(name_of(5))
            async with locks.hold(5) as held:
                assert not held
            await each.release_lock(name_of(5))
        async with locks.hold(5) as held:
            assert held
            assert not await far.get_lock(name_of(5))


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_stale_locks_on_sqlite(old_url: str) -> None:
    """A lock whose process is gone, or that is an hour old, is taken over, on either side."""
    child = subprocess.Popen(["true"])
    child.wait()
    async with mogilefsd(old_url, pid=child.pid) as dead, mogilefsd(old_url) as alive, adopted(old_url) as ours:
        assert await dead.get_lock(name_of(5))
        async with locks_of(ours) as locks, locks.hold(5) as held:
            assert held
            assert not await alive.get_lock(name_of(5))
        assert await alive.get_lock(name_of(6))
        await alive.ask("UPDATE lock SET acquiredat = acquiredat - 3601, pid = ?", os.getpid())
        async with locks_of(ours) as locks, locks.hold(6) as held:
            assert held


@pytest.mark.parametrize("engine", ["postgresql", "mysql"], indirect=True)
async def test_locks_after_a_lost_connection(old_url: str, engine: str, servers: Callable[[str], Server]) -> None:
    """After a restart of the database, fids are locked as before, and former locks are released without an error."""
    async with adopted(old_url) as ours, locks_of(ours) as locks:
        async with locks.hold(5) as held:
            assert held
            servers(engine).kill()
            servers(engine).start()
        async with locks.hold(5) as held:
            assert held
            async with original_at(old_url) as original:
                assert not await original.get_lock(name_of(5))


async def test_a_cancelled_lock_is_free(old_url: str) -> None:
    """A task that is cancelled while taking a lock leaves it free."""
    async with adopted(old_url) as ours, locks_of(ours) as locks:

        async def hold() -> None:
            async with locks.hold(5):
                await asyncio.sleep(3600)

        for pause in (0.0, 0.0, 0.005):
            task = asyncio.create_task(hold())
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with locks.hold(5) as held:
                assert held


@pytest.mark.slow
async def test_mutual_exclusion(old_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two mogilefsds and two processes of Tawara, only one works on a fid at a time."""
    monkeypatch.setattr("tawara.metadata.sqlite.BUSY_SECONDS", TIMEOUT)
    url = old_url.removesuffix(LATIN1_OPTION)
    inside: dict[int, str] = {}
    done: dict[str, int] = {"ours": 0, "theirs": 0}

    async def work(fid: int, who: str) -> None:
        assert fid not in inside, f"{who} while {inside[fid]}"
        inside[fid] = who
        await asyncio.sleep(0.001)
        del inside[fid]
        done[who] += 1

    async def we(locks: FidLocks, fid: int) -> None:
        while min(done.values()) < 20:
            async with locks.hold(fid) as held:
                if held:
                    await work(fid, "ours")
            await asyncio.sleep(0.002)

    async def they(original: Mogilefsd) -> None:
        while min(done.values()) < 20:
            for fid in (1, 2):
                if await original.get_lock(name_of(fid)):
                    await work(fid, "theirs")
                    await original.release_lock(name_of(fid))
                await asyncio.sleep(0.002)

    async with (
        adopted(old_url) as ours,
        adopted(old_url) as ours_too,
        locks_of(ours) as locks,
        locks_of(ours_too) as more_locks,
        mogilefsd(url, timeout=TIMEOUT) as one,
        mogilefsd(url, pid=1, timeout=TIMEOUT) as another,
    ):
        # Two lock sets of one SQLite process are one to mogilefsd, as to us: one stands for both there.
        sets = (locks,) if one.engine == "sqlite" else (locks, more_locks)
        await asyncio.gather(they(one), they(another), *(we(each, fid) for each in sets for fid in (1, 2)))
