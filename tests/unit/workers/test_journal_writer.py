"""The journal writer: journals agree with the rows, in few files, whatever was on the device before."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from tawara.metadata import access_keys, files, identities, journals, queues, replicas
from tawara.metadata import cluster as rows
from tawara.metadata.contract import Transaction
from tawara.metadata.view import ClusterView
from tawara.model.access.creation import new_key
from tawara.model.epoch import Epoch
from tawara.model.errors import StaleDatabase
from tawara.model.journal_records import JournalEvidence
from tawara.model.manifest import manifest_of
from tawara.nodes import journals as reading
from tawara.wire import epoch
from tawara.workers.journal_writer import JournalWriter
from tests.journal_evidence import gathered
from tests.unit.workers.workers_fixture import DOMAIN, WorkersFixture, workers_fixture


async def write(fixture: WorkersFixture, journal_writer: JournalWriter) -> None:
    """Run the journal writer until it has no more work, without pauses."""
    await fixture.view.refresh()
    while True:
        await fixture.metadata.write(_due)
        items = await journal_writer.take(10)
        if not items:
            return
        for item in items:
            await journal_writer.work(item)


async def _due(tx: Transaction) -> None:
    await tx.run("UPDATE tawara_journal SET nexttry = 0")


def device(fixture: WorkersFixture, devid: int) -> Path:
    return fixture.directory / fixture.devices[devid] / f"dev{devid}"


async def merged(fixture: WorkersFixture, *devids: int) -> JournalEvidence:
    evidence, gathering = await gathered((device(fixture, devid), devid) for devid in devids)
    assert not gathering.damaged
    assert not gathering.incomplete
    return evidence


async def live(fixture: WorkersFixture) -> dict[int, object]:
    every = await fixture.metadata.read(files.list_fids, 0, 10_000)
    return {file.fid: (journals.facts_of(file), tuple(sorted(file.devids))) for file in every}


async def written(fixture: WorkersFixture, *devids: int) -> dict[int, object]:
    found = await merged(fixture, *devids)
    assert not found.rivals
    return {file.fid: (file.facts, file.devids) for file in found.files}


async def test_every_change_is_journaled(tmp_path: Path) -> None:
    """Files stored, replaced, renamed, deleted, copied and trimmed are journaled, and so is the manifest."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        journal_writer = JournalWriter(fixture.metadata, fixture.view, fixture.nodes)
        dmid, metadata, now = fixture.dmid, fixture.metadata, int(time.time())
        fids = [await fixture.store(b"k%d" % number, b"x" * number, 1, 2) for number in range(1, 21)]
        await write(fixture, journal_writer)
        assert await written(fixture, 1, 2) == await live(fixture)
        assert len(await live(fixture)) == 20
        await fixture.store(b"k1", b"other", 1)
        await metadata.write(files.rename, dmid, b"k2", b"caf\xe9 \0")
        await metadata.write(files.delete, dmid, b"k3", now=now)
        await metadata.write(replicas.remove_surplus_replica, fids[4], 1, among=frozenset({1, 2}), now=now)
        await metadata.write(rows.create_class, DOMAIN, "more", mindevcount=3)
        key = new_key("app", key_id="TW1", account_id="1", sealed="K:1", now=now)
        await metadata.write(access_keys.create, key, own_account=True)
        await fixture.view.refresh()
        await write(fixture, journal_writer)
        assert await written(fixture, 1, 2) == await live(fixture)
        evidence = await merged(fixture, 1, 2)
        assert set(evidence.gone) == {fids[0], fids[2]}
        for devid in (1, 2):
            manifest = await reading.read_manifest(reading.from_directory(device(fixture, devid)))
            assert manifest is not None
            assert manifest[1] == manifest_of(fixture.view.current, await metadata.read(access_keys.dump))
            assert [row["name"] for row in manifest[1]["tawara_access_key"]] == ["app"]
        assert not (await metadata.read(journals.read_due)).noted


async def test_an_idle_store_is_not_written(tmp_path: Path) -> None:
    """When nothing changes nothing is claimed and no file is touched."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        journal_writer = JournalWriter(fixture.metadata, fixture.view, fixture.nodes)
        await fixture.store(b"k", b"x", 1)
        await write(fixture, journal_writer)
        names = device(fixture, 1) / "names"
        before = {path: path.stat().st_mtime_ns for path in names.rglob("*")}
        await write(fixture, journal_writer)
        assert {path: path.stat().st_mtime_ns for path in names.rglob("*")} == before


@pytest.mark.slow
async def test_it_needs_few_files(tmp_path: Path) -> None:
    """Many changes make segments, compactions replace them, and the journal is complete at any time."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        journal_writer = JournalWriter(fixture.metadata, fixture.view, fixture.nodes, segment=1000, spare=100)
        for number in range(200):
            await fixture.store(b"k%d" % (number % 50), b"x" * (number + 1), 1)
            if number % 10 == 9:
                await write(fixture, journal_writer)
            if number % 50 == 49:
                assert await written(fixture, 1) == await live(fixture)
        segments = list(device(fixture, 1).glob("names/[ab]/*"))
        assert 0 < len(segments) < 30
        round_ = (await fixture.metadata.read(journals.read_due)).journals[1].round
        assert round_ > 1


async def test_files_waiting_for_deletion_stay_known(tmp_path: Path) -> None:
    """A compaction records deleted files whose data still exists, so that this data is not taken for unnamed files. A
    fid that mogilefsd is about to close, or to expire, is not recorded as gone, since that would be final."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        journal_writer = JournalWriter(fixture.metadata, fixture.view, fixture.nodes, segment=1500, spare=0)
        fids = {await fixture.store(b"k%d" % (number % 10), b"x", 1) for number in range(30)}
        closing = await fixture.store(b"closing", b"x", 1)
        await write(fixture, journal_writer)
        await fixture.metadata.write(_take_name, closing)
        before = (await fixture.metadata.read(journals.read_due)).journals[1].round
        for number in range(200):
            await fixture.store(b"k%d" % (number % 10), b"x", 1)
            await write(fixture, journal_writer)
            if (await fixture.metadata.read(journals.read_due)).journals[1].round > before + 1:
                break
        found = await merged(fixture, 1)
        named = {file.fid for file in found.files}
        assert len(named) == 10
        assert set(found.gone) >= fids - named
        assert closing not in found.gone


async def _take_name(tx: Transaction, fid: int) -> None:
    """Set a fid as mogilefsd has one that is closed while it expires: on a device, to be deleted, not yet a file."""
    for table in ("file", "tawara_file"):
        await tx.run(f"DELETE FROM {table} WHERE fid = ?", fid)
    await queues.enqueue_deletion(tx, fid, 0)


async def test_another_worker_continues(tmp_path: Path) -> None:
    """A worker without the active segment reads it; one whose claim was taken over damages nothing."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        first, second = (JournalWriter(fixture.metadata, fixture.view, fixture.nodes, segment=1500) for _ in range(2))
        await fixture.store(b"k0", b"x", 1)
        await write(fixture, first)
        await fixture.store(b"k1", b"x", 1)
        await fixture.metadata.write(_due)
        (stalled,) = await first.take(10)
        for number in range(2, 40):
            await fixture.store(b"k%d" % number, b"x", 1)
            await write(fixture, second)
        claim = stalled.claim
        await first.work(stalled)  # wakes up after its claim was taken over, and writes what it had in mind
        assert await written(fixture, 1) == await live(fixture)
        now = (await fixture.metadata.read(journals.read_due)).journals[1]
        assert now.epoch > claim.epoch
        assert not now.held


async def test_a_restored_database_writes_nothing(tmp_path: Path) -> None:
    """When journals are newer than the database, neither journals nor data are written."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        await fixture.store(b"kept", b"x", 1, 2)
        journal_writer = JournalWriter(fixture.metadata, fixture.view, fixture.nodes)
        await write(fixture, journal_writer)
        saved = await fixture.metadata.read(_rows)
        await fixture.store(b"late", b"x", 1, 2)
        await fixture.metadata.write(files.delete, fixture.dmid, b"kept", now=1)
        await write(fixture, JournalWriter(fixture.metadata, fixture.view, fixture.nodes))
        names = contents(fixture, 1, 2)
        await fixture.metadata.write(_put_back, saved)
        assert not fixture.view.current.stale
        await fixture.store(b"new", b"x", 1)
        for each in (journal_writer, JournalWriter(fixture.metadata, fixture.view, fixture.nodes)):
            with pytest.raises(StaleDatabase):
                for _ in range(2):
                    await write(fixture, each)
        await fixture.view.refresh()
        assert "dev1 carries epoch" in fixture.view.current.stale
        assert contents(fixture, 1, 2) == names


async def test_a_restored_database_with_unmarked_devices(tmp_path: Path) -> None:
    """Journals written by an earlier version, without marks, are enough to detect an older database."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        journal_writer = JournalWriter(fixture.metadata, fixture.view, fixture.nodes)
        await fixture.store(b"kept", b"x", 1)
        await write(fixture, journal_writer)
        saved = await fixture.metadata.read(_rows)
        for name in (b"one", b"two", b"three"):
            await fixture.store(name, b"x", 1)
            await write(fixture, journal_writer)
        await fixture.metadata.write(_put_back, saved)
        (device(fixture, 1) / "names/epoch").unlink()
        await look_once(fixture, JournalWriter(fixture.metadata, fixture.view, fixture.nodes))
        assert "newer than this database" in fixture.view.current.stale


async def test_unknown_journals_are_not_overwritten(tmp_path: Path) -> None:
    """A database that was recreated empty does not write to the devices."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        await fixture.store(b"kept", b"x", 1)
        await write(fixture, JournalWriter(fixture.metadata, fixture.view, fixture.nodes))
        (device(fixture, 1) / "names/epoch").unlink()
        names = contents(fixture, 1)
        await fixture.metadata.write(_forget_names)
        await look_once(fixture, JournalWriter(fixture.metadata, fixture.view, fixture.nodes))
        assert "does not know" in fixture.view.current.stale
        assert contents(fixture, 1) == names


async def test_a_disk_of_this_store_under_another_devid(tmp_path: Path) -> None:
    """A disk that returns under another devid gets its own journal, and no error is logged."""
    async with workers_fixture(tmp_path, {"h1": [1, 2]}) as fixture:
        journal_writer = JournalWriter(fixture.metadata, fixture.view, fixture.nodes)
        await fixture.store(b"kept", b"x", 1, 2)
        await write(fixture, journal_writer)
        shutil.rmtree(device(fixture, 2) / "names")
        shutil.copytree(device(fixture, 1) / "names", device(fixture, 2) / "names")
        await fixture.metadata.write(_forget_journal, 2)
        await write(fixture, JournalWriter(fixture.metadata, fixture.view, fixture.nodes))
        assert not fixture.view.current.stale
        assert await written(fixture, 1, 2) == await live(fixture)


async def test_an_accepted_device_is_written_again(tmp_path: Path) -> None:
    """A device of another store is not written before it is accepted, and has this store's journal afterwards."""
    async with workers_fixture(tmp_path, {"h1": [1, 2]}) as fixture:
        journal_writer = JournalWriter(fixture.metadata, fixture.view, fixture.nodes)
        await fixture.store(b"kept", b"x", 1, 2)
        await write(fixture, journal_writer)
        mark = device(fixture, 2) / "names/epoch"
        mark.write_bytes(epoch.render(Epoch("0123456789abcdef", 9_000_000, "abcd")))
        await fixture.view.renew()
        assert "another store" in (fixture.view.current.observed[2].trouble or "")
        assert not fixture.view.current.stale
        await fixture.metadata.write(identities.accept, 2)
        await fixture.view.renew()
        await write(fixture, journal_writer)
        await fixture.view.renew()
        assert fixture.view.current.is_writeable(2)
        assert await written(fixture, 1, 2) == await live(fixture)
        assert not fixture.view.current.stale


def contents(fixture: WorkersFixture, *devids: int) -> dict[str, bytes]:
    """All files on these devices except those that storage nodes write."""
    every = (path for devid in devids for path in device(fixture, devid).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in every if path.suffix == ".fid" or "names" in path.parts}


async def look_once(fixture: WorkersFixture, journal_writer: JournalWriter) -> None:
    """The same for one attempt, while the files may be changed concurrently."""
    await fixture.view.refresh()
    await fixture.metadata.write(_due)
    for item in await journal_writer.take(10):
        await journal_writer.work(item)
    await fixture.view.refresh()


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


async def test_a_damaged_active_segment_is_written_again(tmp_path: Path) -> None:
    """A missing segment is noticed by the next worker, and the journal written again."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        await fixture.store(b"k", b"x", 1)
        journal_writer = JournalWriter(fixture.metadata, fixture.view, fixture.nodes)
        await write(fixture, journal_writer)
        await fixture.store(b"l", b"x", 1)
        await write(fixture, journal_writer)
        for active_segment in device(fixture, 1).glob("names/tail-*"):
            active_segment.write_bytes(active_segment.read_bytes()[:-9])
        _, gathering = await gathered([(device(fixture, 1), 1)])
        assert list(gathering.damaged) == [1]
        await fixture.store(b"m", b"x", 1)
        await write(fixture, JournalWriter(fixture.metadata, fixture.view, fixture.nodes))
        for active_segment in device(fixture, 1).glob("names/tail-*"):
            active_segment.unlink()
        assert await written(fixture, 1) == await live(fixture)


async def test_an_absent_device(tmp_path: Path) -> None:
    """Its changes wait; meanwhile other journals record its deletions, also in a compaction."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        journal_writer = JournalWriter(
            fixture.metadata, fixture.view, fixture.nodes, spare=-100
        )  # a new round at every opportunity
        fid = await fixture.store(b"k", b"x", 1, 2)
        await write_once(fixture, journal_writer)
        await fixture.storage["h2"].stop()
        await fixture.view.renew()
        await fixture.metadata.write(files.delete, fixture.dmid, b"k", now=1)
        await fixture.metadata.write(replicas.drop_replica, fid, 1)
        for _ in range(8):
            await write_once(fixture, journal_writer)
        assert fid in (await merged(fixture, 1, 2)).gone
        assert (await fixture.metadata.read(journals.read_due)).noted == {2}
        await fixture.metadata.write(_die, 2)
        await write_once(fixture, journal_writer)
        assert not (await fixture.metadata.read(journals.read_due)).noted


async def _die(tx: Transaction, devid: int) -> None:
    await tx.run("UPDATE device SET status = 'dead' WHERE devid = ?", devid)


async def write_once(fixture: WorkersFixture, journal_writer: JournalWriter) -> None:
    await fixture.view.refresh()
    await fixture.metadata.write(_due)
    await asyncio.gather(*(journal_writer.work(item) for item in await journal_writer.take(10)))


async def test_alternating_workers(tmp_path: Path) -> None:
    """A cached active segment is not used once another worker has written; a deleted file does not reappear."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        first, second = (
            JournalWriter(fixture.metadata, fixture.view, fixture.nodes, segment=segment) for segment in (10**6, 1)
        )
        await fixture.store(b"old", b"x", 1)
        await write(fixture, first)
        await fixture.store(b"k", b"x", 1)
        await write(fixture, first)  # in its tail
        await fixture.metadata.write(files.delete, fixture.dmid, b"k", now=1)
        await write(fixture, second)  # in a segment
        await fixture.metadata.write(_begin_round)
        await write(fixture, second)  # which a new round makes superfluous
        await fixture.store(b"new", b"x", 1)
        await write(fixture, first)
        assert await written(fixture, 1) == await live(fixture)


async def _begin_round(tx: Transaction) -> None:
    await tx.run("UPDATE tawara_journal SET written = 1000000")
    await tx.run("INSERT INTO tawara_note (devid, fid) SELECT devid, fid FROM file_on WHERE devid = 1")


async def test_changes_for_an_unknown_device_are_kept(tmp_path: Path) -> None:
    """Changes for a device that another process has just added are not dropped."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        await fixture.store(b"key", b"content", 1, 2)
        view = ClusterView(fixture.metadata)
        await JournalWriter(fixture.metadata, view, fixture.nodes).take(10)
        assert {1, 2} <= set((await fixture.metadata.read(journals.read_due)).noted)
