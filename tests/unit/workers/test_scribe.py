"""The scribe: names on devices say what the rows say, in few files, whatever was there before."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from tawara.client import journals as reading
from tawara.metadata import cluster as rows
from tawara.metadata import files, identities, journals, queues, replicas
from tawara.metadata.contract import Transaction
from tawara.metadata.view import ClusterView
from tawara.model.charter import charter_of
from tawara.model.epoch import Epoch
from tawara.model.errors import StaleDatabase
from tawara.model.names import Evidence
from tawara.wire import epoch
from tawara.workers.scribe import Scribe
from tests.gathered import gathered
from tests.unit.workers.house import DOMAIN, House, house


async def write(home: House, scribe: Scribe) -> None:
    """Have the scribe work until it has nothing to do, without waiting for any time."""
    await home.view.refresh()
    while True:
        await home.metadata.write(_due)
        items = await scribe.take(10)
        if not items:
            return
        for item in items:
            await scribe.work(item)


async def _due(tx: Transaction) -> None:
    await tx.run("UPDATE tawara_journal SET nexttry = 0")


def device(home: House, devid: int) -> Path:
    return home.directory / home.devices[devid] / f"dev{devid}"


async def merged(home: House, *devids: int) -> Evidence:
    evidence, gathering = await gathered((device(home, devid), devid) for devid in devids)
    assert not gathering.damaged
    assert not gathering.incomplete
    return evidence


async def live(home: House) -> dict[int, object]:
    every = await home.metadata.read(files.list_fids, 0, 10_000)
    return {file.fid: (journals.facts_of(file), tuple(sorted(file.devids))) for file in every}


async def written(home: House, *devids: int) -> dict[int, object]:
    found = await merged(home, *devids)
    assert not found.rivals
    return {file.fid: (file.facts, file.devids) for file in found.files}


async def test_every_change_is_written(tmp_path: Path) -> None:
    """Stored, replaced, renamed, deleted, copied, trimmed: the devices tell it, and so does the charter."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        scribe = Scribe(home.metadata, home.view, home.nodes)
        dmid, metadata, now = home.dmid, home.metadata, int(time.time())
        fids = [await home.store(b"k%d" % number, b"x" * number, 1, 2) for number in range(1, 21)]
        await write(home, scribe)
        assert await written(home, 1, 2) == await live(home)
        assert len(await live(home)) == 20
        await home.store(b"k1", b"other", 1)
        await metadata.write(files.rename, dmid, b"k2", b"caf\xe9 \0")
        await metadata.write(files.delete, dmid, b"k3", now=now)
        await metadata.write(replicas.retire_replica, fids[4], 1, among=frozenset({1, 2}), now=now)
        await metadata.write(rows.create_class, DOMAIN, "more", mindevcount=3)
        await home.view.refresh()
        await write(home, scribe)
        assert await written(home, 1, 2) == await live(home)
        evidence = await merged(home, 1, 2)
        assert set(evidence.gone) == {fids[0], fids[2]}
        for devid in (1, 2):
            charter = await reading.read_charter(reading.from_directory(device(home, devid)))
            assert charter is not None
            assert charter[1] == charter_of(home.view.current)
        assert not (await metadata.read(journals.look)).noted


async def test_an_idle_store_is_not_written(tmp_path: Path) -> None:
    """When nothing changes nothing is claimed and no file is touched."""
    async with house(tmp_path, {"h1": [1]}) as home:
        scribe = Scribe(home.metadata, home.view, home.nodes)
        await home.store(b"k", b"x", 1)
        await write(home, scribe)
        names = device(home, 1) / "names"
        before = {path: path.stat().st_mtime_ns for path in names.rglob("*")}
        await write(home, scribe)
        assert {path: path.stat().st_mtime_ns for path in names.rglob("*")} == before


async def test_it_takes_few_files(tmp_path: Path) -> None:
    """Many changes make segments, rounds write them anew and delete the old ones, and all is told all the time."""
    async with house(tmp_path, {"h1": [1]}) as home:
        scribe = Scribe(home.metadata, home.view, home.nodes, segment=2000, spare=200)
        for number in range(400):
            await home.store(b"k%d" % (number % 50), b"x" * (number + 1), 1)
            if number % 10 == 9:
                await write(home, scribe)
            if number % 100 == 99:
                assert await written(home, 1) == await live(home)
        segments = list(device(home, 1).glob("names/[ab]/*"))
        assert 0 < len(segments) < 30
        round_ = (await home.metadata.read(journals.look)).journals[1].round
        assert round_ > 1


async def test_what_waits_to_be_deleted_stays_known(tmp_path: Path) -> None:
    """A new round, too, tells of deleted files whose bytes are still there, so that they are not bytes without a name.

    What mogilefsd is about to name, even if it is about to give it up, is not told as gone: that would be for ever.
    """
    async with house(tmp_path, {"h1": [1]}) as home:
        scribe = Scribe(home.metadata, home.view, home.nodes, segment=1500, spare=0)
        fids = {await home.store(b"k%d" % (number % 10), b"x", 1) for number in range(30)}
        closing = await home.store(b"closing", b"x", 1)
        await write(home, scribe)
        await home.metadata.write(_take_name, closing)
        before = (await home.metadata.read(journals.look)).journals[1].round
        for number in range(200):
            await home.store(b"k%d" % (number % 10), b"x", 1)
            await write(home, scribe)
            if (await home.metadata.read(journals.look)).journals[1].round > before + 1:
                break
        found = await merged(home, 1)
        named = {file.fid for file in found.files}
        assert len(named) == 10
        assert set(found.gone) >= fids - named
        assert closing not in found.gone


async def _take_name(tx: Transaction, fid: int) -> None:
    """Have a fid as mogilefsd has one that is closed while it expires: on a device, to be deleted, not yet a file."""
    for table in ("file", "tawara_file"):
        await tx.run(f"DELETE FROM {table} WHERE fid = ?", fid)
    await queues.enqueue_deletion(tx, fid, 0)


async def test_another_worker_goes_on(tmp_path: Path) -> None:
    """A worker that knows nothing of the tail reads it; one that was taken over from spoils nothing."""
    async with house(tmp_path, {"h1": [1]}) as home:
        first, second = (Scribe(home.metadata, home.view, home.nodes, segment=1500) for _ in range(2))
        await home.store(b"k0", b"x", 1)
        await write(home, first)
        await home.store(b"k1", b"x", 1)
        await home.metadata.write(_due)
        (stalled,) = await first.take(10)
        for number in range(2, 40):
            await home.store(b"k%d" % number, b"x", 1)
            await write(home, second)
        claim = stalled.claim
        await first.work(stalled)  # wakes up after its claim was taken over, and writes what it had in mind
        assert await written(home, 1) == await live(home)
        now = (await home.metadata.read(journals.look)).journals[1]
        assert now.epoch > claim.epoch
        assert not now.held


async def test_a_database_that_was_put_back(tmp_path: Path) -> None:
    """When the devices know of what the database does not, nothing is written any more, neither names nor bytes."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        await home.store(b"kept", b"x", 1, 2)
        scribe = Scribe(home.metadata, home.view, home.nodes)
        await write(home, scribe)
        saved = await home.metadata.read(_rows)
        await home.store(b"late", b"x", 1, 2)
        await home.metadata.write(files.delete, home.dmid, b"kept", now=1)
        await write(home, Scribe(home.metadata, home.view, home.nodes))
        names = contents(home, 1, 2)
        await home.metadata.write(_put_back, saved)
        assert not home.view.current.stale
        await home.store(b"new", b"x", 1)
        for each in (scribe, Scribe(home.metadata, home.view, home.nodes)):
            with pytest.raises(StaleDatabase):
                for _ in range(2):
                    await write(home, each)
        await home.view.refresh()
        assert "dev1 carries epoch" in home.view.current.stale
        assert contents(home, 1, 2) == names


async def test_a_database_that_was_put_back_where_devices_have_no_mark(tmp_path: Path) -> None:
    """Devices that an earlier version has written tell of a later state by their names alone."""
    async with house(tmp_path, {"h1": [1]}) as home:
        scribe = Scribe(home.metadata, home.view, home.nodes)
        await home.store(b"kept", b"x", 1)
        await write(home, scribe)
        saved = await home.metadata.read(_rows)
        for name in (b"one", b"two", b"three"):
            await home.store(name, b"x", 1)
            await write(home, scribe)
        await home.metadata.write(_put_back, saved)
        (device(home, 1) / "names/epoch").unlink()
        await look_once(home, Scribe(home.metadata, home.view, home.nodes))
        assert "later than this database" in home.view.current.stale


async def test_names_that_the_database_does_not_know_are_left_alone(tmp_path: Path) -> None:
    """A database that was made empty again does not take the devices for its own."""
    async with house(tmp_path, {"h1": [1]}) as home:
        await home.store(b"kept", b"x", 1)
        await write(home, Scribe(home.metadata, home.view, home.nodes))
        (device(home, 1) / "names/epoch").unlink()
        names = contents(home, 1)
        await home.metadata.write(_forget_names)
        await look_once(home, Scribe(home.metadata, home.view, home.nodes))
        assert "does not know" in home.view.current.stale
        assert contents(home, 1) == names


async def test_a_disk_of_this_store_under_another_number(tmp_path: Path) -> None:
    """A disk that comes back under another number gets names of its own, and no alarm is raised."""
    async with house(tmp_path, {"h1": [1, 2]}) as home:
        scribe = Scribe(home.metadata, home.view, home.nodes)
        await home.store(b"kept", b"x", 1, 2)
        await write(home, scribe)
        shutil.rmtree(device(home, 2) / "names")
        shutil.copytree(device(home, 1) / "names", device(home, 2) / "names")
        await home.metadata.write(_forget_journal, 2)
        await write(home, Scribe(home.metadata, home.view, home.nodes))
        assert not home.view.current.stale
        assert await written(home, 1, 2) == await live(home)


async def test_a_device_that_is_accepted_is_written_anew(tmp_path: Path) -> None:
    """A device of another store is not written before it is accepted, and has this store's names afterwards."""
    async with house(tmp_path, {"h1": [1, 2]}) as home:
        scribe = Scribe(home.metadata, home.view, home.nodes)
        await home.store(b"kept", b"x", 1, 2)
        await write(home, scribe)
        mark = device(home, 2) / "names/epoch"
        mark.write_bytes(epoch.render(Epoch("0123456789abcdef", 9_000_000, "abcd")))
        await home.view.renew()
        assert "another store" in (home.view.current.observed[2].trouble or "")
        assert not home.view.current.stale
        await home.metadata.write(identities.accept, 2)
        await home.view.renew()
        await write(home, scribe)
        await home.view.renew()
        assert home.view.current.is_writeable(2)
        assert await written(home, 1, 2) == await live(home)
        assert not home.view.current.stale


def contents(home: House, *devids: int) -> dict[str, bytes]:
    """All that is on these devices but what their storage nodes write by themselves."""
    every = (path for devid in devids for path in device(home, devid).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in every if path.suffix == ".fid" or "names" in path.parts}


async def look_once(home: House, scribe: Scribe) -> None:
    """The same for one look, where what is looked at may not be written."""
    await home.view.refresh()
    await home.metadata.write(_due)
    for item in await scribe.take(10):
        await scribe.work(item)
    await home.view.refresh()


async def _forget_names(tx: Transaction) -> None:
    await tx.run("DELETE FROM tawara_journal")
    await tx.run("DELETE FROM server_settings WHERE field LIKE 'tawara_names_%' OR field = 'tawara_epoch'")
    await tx.run("INSERT INTO server_settings VALUES ('tawara_epoch', '0123456789abcdef 1:abcd')")


async def _forget_journal(tx: Transaction, devid: int) -> None:
    await tx.run("DELETE FROM tawara_journal WHERE devid = ?", devid)


TABLES = (
    *("file", "file_on", "tempfile", "tawara_file", "tawara_note", "tawara_journal", "server_settings"),
    "sqlite_sequence",
)


async def _rows(tx: Transaction) -> dict[str, list[tuple[object, ...]]]:
    return {table: await tx.rows(f"SELECT * FROM {table}") for table in TABLES}


async def _put_back(tx: Transaction, saved: dict[str, list[tuple[object, ...]]]) -> None:
    for table, kept in saved.items():
        await tx.run(f"DELETE FROM {table}")
        for row in kept:
            await tx.run(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", *row)


async def test_a_damaged_tail_is_written_anew(tmp_path: Path) -> None:
    """Names that are missing on a device are noticed by whoever goes on, and written again."""
    async with house(tmp_path, {"h1": [1]}) as home:
        await home.store(b"k", b"x", 1)
        scribe = Scribe(home.metadata, home.view, home.nodes)
        await write(home, scribe)
        await home.store(b"l", b"x", 1)
        await write(home, scribe)
        for tail in device(home, 1).glob("names/tail-*"):
            tail.write_bytes(tail.read_bytes()[:-9])
        _, gathering = await gathered([(device(home, 1), 1)])
        assert list(gathering.damaged) == [1]
        await home.store(b"m", b"x", 1)
        await write(home, Scribe(home.metadata, home.view, home.nodes))
        for tail in device(home, 1).glob("names/tail-*"):
            tail.unlink()
        assert await written(home, 1) == await live(home)


async def test_a_device_that_is_away(tmp_path: Path) -> None:
    """What it was not told waits for it; meanwhile the others tell of deletions on its behalf, also in a new round."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        scribe = Scribe(home.metadata, home.view, home.nodes, spare=-100)  # a new round at every opportunity
        fid = await home.store(b"k", b"x", 1, 2)
        await write_once(home, scribe)
        await home.storage["h2"].stop()
        await home.view.renew()
        await home.metadata.write(files.delete, home.dmid, b"k", now=1)
        await home.metadata.write(replicas.drop_replica, fid, 1)
        for _ in range(8):
            await write_once(home, scribe)
        assert fid in (await merged(home, 1, 2)).gone
        assert (await home.metadata.read(journals.look)).noted == {2}
        await home.metadata.write(_die, 2)
        await write_once(home, scribe)
        assert not (await home.metadata.read(journals.look)).noted


async def _die(tx: Transaction, devid: int) -> None:
    await tx.run("UPDATE device SET status = 'dead' WHERE devid = ?", devid)


async def write_once(home: House, scribe: Scribe) -> None:
    await home.view.refresh()
    await home.metadata.write(_due)
    await asyncio.gather(*(scribe.work(item) for item in await scribe.take(10)))


async def test_workers_that_take_turns(tmp_path: Path) -> None:
    """What one remembers of the tail is worth nothing once another has written; a deleted file does not come back."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        first, second = (Scribe(home.metadata, home.view, home.nodes, segment=segment) for segment in (10**6, 1))
        await home.store(b"old", b"x", 1)
        await write(home, first)
        await home.store(b"k", b"x", 1)
        await write(home, first)  # in its tail
        await home.metadata.write(files.delete, home.dmid, b"k", now=1)
        await write(home, second)  # in a segment
        await home.metadata.write(_begin_round)
        await write(home, second)  # which a new round makes superfluous
        await home.store(b"new", b"x", 1)
        await write(home, first)
        assert await written(home, 1) == await live(home)


async def _begin_round(tx: Transaction) -> None:
    await tx.run("UPDATE tawara_journal SET written = 1000000")
    await tx.run("INSERT INTO tawara_note (devid, fid) SELECT devid, fid FROM file_on WHERE devid = 1")


async def test_names_for_a_device_that_is_not_known_yet_are_kept(tmp_path: Path) -> None:
    """What is to be written on a device that was added a moment ago, by someone else, is not for nobody."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        await home.store(b"key", b"content", 1, 2)
        view = ClusterView(home.metadata)
        await Scribe(home.metadata, view, home.nodes).take(10)
        assert {1, 2} <= set((await home.metadata.read(journals.look)).noted)
