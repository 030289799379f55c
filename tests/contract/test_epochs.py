"""The epoch of a database, and merging the devices' journals, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tawara.metadata import cluster, epochs, files, journals, merging, queues, replicas, uploads
from tawara.metadata.contract import Metadata, Transaction
from tawara.model.epoch import AHEAD, Epoch, Relation
from tawara.model.errors import StaleDatabase
from tawara.model.files import NewFile
from tawara.model.journal_records import FileMetadata, NamedFile

Opener = Callable[[], Awaitable[Metadata]]
STORE = "0123456789abcdef"


async def stale(metadata: Metadata) -> str:
    return (await metadata.read(cluster.load)).stale


async def stored(metadata: Metadata, key: bytes) -> int:
    """A file with copies on dev1 and dev2; returns its fid."""
    fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=(1, 2), now=1000)
    file = NewFile(fid=fid, dmid=1, key=key, length=3, classid=0, devids=(1, 2))
    await metadata.write(files.close_upload, file, now=1000)
    return fid


async def test_concurrent_first_epochs_agree(metadata: Metadata, opener: Opener) -> None:
    """Concurrent processes begin the same first epoch; each further epoch is new."""
    others = [await opener() for _ in range(3)]
    assert await metadata.write(epochs.advance, "aaaa") is None
    founded = await asyncio.gather(*(each.write(epochs.found, STORE, f"{n:04x}") for n, each in enumerate(others)))
    assert len(set(founded)) == 1
    advanced = await asyncio.gather(*(each.write(epochs.advance, f"{n:04x}") for n, each in enumerate(others)))
    assert sorted(each.current.number for each in advanced if each) == [2, 3, 4]
    assert await metadata.read(epochs.lineage) == max(filter(None, advanced), key=lambda each: each.current.number)


async def test_an_older_database_begins_no_epoch(metadata: Metadata) -> None:
    """Once a device was found to be ahead no epoch is begun any more, and the first reason is kept."""
    await metadata.write(epochs.found, STORE, "aaaa")
    assert await metadata.write(epochs.examine, 1, Epoch(STORE, 1, "aaaa")) is Relation.KNOWN
    assert await metadata.write(epochs.examine, 1, Epoch("f" * 16, 9, "aaaa")) is Relation.OTHER_STORE
    assert await metadata.write(epochs.advance, "bbbb") is not None
    assert not await stale(metadata)
    assert await metadata.write(epochs.examine, 1, Epoch(STORE, 3, "cccc")) is Relation.LATER
    assert await metadata.write(epochs.examine, 2, Epoch(STORE, 2, "xxxx")) is Relation.DIVERGED
    assert "dev1 carries epoch 3" in await stale(metadata)
    with pytest.raises(StaleDatabase, match="tawara rebuild --merge"):
        await metadata.write(epochs.advance, "dddd")


async def test_a_database_without_an_epoch(metadata: Metadata) -> None:
    """A database without an epoch is older than devices that have one."""
    assert await metadata.write(epochs.examine, 1, Epoch(STORE, 3, "cccc")) is Relation.LATER
    assert await stale(metadata)


async def test_a_journal_taken_over_does_not_make_the_database_stale(metadata: Metadata) -> None:
    """A worker that stalled, and whose device another has written meanwhile, does not declare the database stale."""
    (claim,) = await metadata.write(journals.claim, [1], now=100, lease=10)
    (taken,) = await metadata.write(journals.claim, [1], now=200, lease=10)
    assert not await metadata.write(epochs.examine_names, claim, "too late")
    assert not await stale(metadata)
    assert await metadata.write(epochs.examine_names, taken, "indeed")
    assert await stale(metadata) == "indeed"


async def test_a_merge_puts_the_database_ahead(metadata: Metadata) -> None:
    """A merged database is ahead of the devices, has a new generation, and is not stale."""
    await metadata.write(epochs.found, STORE, "aaaa")
    generation = await metadata.write(journals.begin_generation, at_least=1000)
    await metadata.write(epochs.declare_stale, "old")
    await metadata.write(epochs.record_merge, STORE, "bbbb", beyond=77, names=5000, at_least=2000)
    known = await metadata.read(epochs.lineage)
    assert known is not None
    assert known.current.number == 77 + AHEAD + 1
    assert (await metadata.read(journals.read_due)).generation == 5001 > generation
    assert await metadata.read(epochs.known_names) == 5000
    assert not await stale(metadata)


async def test_lost_files_are_restored(metadata: Metadata) -> None:
    """A lost file is restored with its copies, whatever an upload or a deletion of its fid has left; others are
    unchanged."""
    kept = await stored(metadata, b"kept")
    upload = await metadata.write(files.open_upload, dmid=1, key=b"x", classid=0, devids=(1,), now=1)
    await metadata.write(replicas.record_orphan, upload, 2, now=1)
    await metadata.write(queues.enqueue_deletion, upload + 1, 1)
    lost = [NamedFile(upload + n, FileMetadata(1, b"lost%d" % n, 0, 3, 1500, "text/plain"), (1, 2)) for n in range(3)]
    taken = NamedFile(upload + 9, FileMetadata(1, b"kept", 0, 3, 1500), (1, 2))
    assert await metadata.write(merging.restore, [*lost, taken], short=[upload]) == [taken]
    assert await metadata.write(merging.restore, [], short=[]) == []
    found = await metadata.read(merging.known, [kept, *(each.fid for each in [*lost, taken])])
    assert {fid: (file.key, sorted(file.devids)) for fid, file in found.items()} == {
        kept: (b"kept", [1, 2]),
        **{each.fid: (each.facts.key, [1, 2]) for each in lost},
    }
    assert await metadata.read(_rows_of, upload) == 0
    assert await metadata.read(queues.next_deletion) is None


async def _rows_of(tx: Transaction, fid: int) -> int:
    counts = [await tx.row(f"SELECT COUNT(*) FROM {table} WHERE fid = ?", fid) for table in ("tempfile", "tawara_copy")]
    return sum(each[0] for each in counts if each)


async def test_lost_changes_are_made_again(metadata: Metadata) -> None:
    """Renames, copies and deletions that the database has lost are made again; a key in use is kept."""
    one, two, three = [await stored(metadata, key) for key in (b"one", b"two", b"three")]
    renamed = NamedFile(one, FileMetadata(1, b"uno", 2, 3), (1,))
    occupied = NamedFile(two, FileMetadata(1, b"three", 0, 3), (1,))
    assert await metadata.write(merging.rename, [renamed, occupied]) == [occupied]
    await metadata.write(merging.forget, [three], now=1)
    assert await metadata.write(merging.rename, [occupied]) == []
    await metadata.write(merging.add_replicas, [(one, 3), (one, 1)])
    found = await metadata.read(merging.known, [one, two, three])
    assert {fid: (file.key, file.classid, file.devcount) for fid, file in found.items()} == {
        one: (b"uno", 2, 3),
        two: (b"three", 0, 2),
    }
    assert await metadata.read(queues.next_deletion) == 1


async def test_the_manifest_is_restored(metadata: Metadata) -> None:
    """Lost domains, classes, hosts and devices are restored; existing ones, also of the same name, are unchanged."""
    dmid = await metadata.write(cluster.create_domain, "d")
    await metadata.write(cluster.create_host, "h1", ip="10.0.0.1")
    before = await metadata.read(cluster.load)
    host = {"status": "alive", "http_port": 7500, "http_get_port": None, "altip": None, "altmask": None}
    manifest = {
        "domain": [{"dmid": dmid, "namespace": "other"}, {"dmid": 9, "namespace": "new"}],
        "class": [{"dmid": 9, "classid": 1, "classname": "c", "mindevcount": 2, "hashtype": None, "replpolicy": None}],
        "host": [
            {"hostid": 7, "hostname": "h7", "hostip": "10.0.0.7", **host},
            {"hostid": 8, "hostname": "h8", "hostip": "10.0.0.1", **host},
        ],
        "device": [{"devid": 5, "hostid": 7, "status": "alive", "weight": 100}],
    }
    assert len(await metadata.write(merging.add_manifest, manifest)) == 4
    assert await metadata.write(merging.add_manifest, manifest) == []
    now = await metadata.read(cluster.load)
    assert {domain.name: domain.dmid for domain in now.domains.values()} == {"d": dmid, "new": 9}
    assert set(now.hosts) == {*before.hosts, 7}
    assert set(now.devices) == {5}


async def test_a_fid_in_use_on_a_device(metadata: Metadata) -> None:
    """After a fid whose content a device holds, much greater fids are assigned, and nothing is queued for deletion."""
    fid = await stored(metadata, b"k")
    upload = await metadata.write(files.open_upload, dmid=1, key=b"x", classid=0, devids=(1,), now=1)
    assert upload == fid + 1
    await metadata.write(files.skip_fid, upload)
    assert await metadata.read(_rows_of, upload) == 0
    assert await metadata.read(queues.next_deletion) is None
    following = await metadata.write(files.open_upload, dmid=1, key=b"x", classid=0, devids=(1,), now=1)
    assert following > upload + 1000
    await metadata.write(uploads.count_beyond, upload)
    assert await metadata.write(files.open_upload, dmid=1, key=b"x", classid=0, devids=(1,), now=1) > following
