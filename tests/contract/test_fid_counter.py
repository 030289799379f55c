"""No number from outside exhausts the counter of fids, and an exhausted counter can be reset."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from tawara.cli.database import Database
from tawara.cli.fids import fids
from tawara.metadata import cluster, fid_counter, files, uploads
from tawara.metadata.backup import Chunk, dump, load
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.open import open_metadata
from tawara.model.errors import BadParams, CorruptError, FidsExhausted
from tawara.model.fid import COUNTED, HIGHEST, HIGHEST_ID, STEP

NOW = 1_700_000_000


async def opened(metadata: Metadata, fid: int = 0) -> int:
    """The fid of a new upload."""
    return await metadata.write(files.open_upload, dmid=1, key=b"k", classid=0, devids=(1,), now=NOW, fid=fid)


async def _exhaust(tx: Transaction, fid: int) -> None:
    """Do what an earlier version did for `create_open fid=`."""
    await tx.run("INSERT INTO tempfile (fid, createtime, dmid, classid, devids) VALUES (?, ?, 1, 0, '1')", fid, NOW)
    await tx.advance("tempfile", "fid", fid)


async def _store(tx: Transaction, fid: int) -> None:
    await tx.run(
        f"INSERT INTO file (fid, dmid, dkey, length, classid, devcount) VALUES (?, 1, {tx.dialect.key_value}, 1, 0, 1)",
        fid,
        b"%d" % fid,
    )


@pytest.mark.parametrize("fid", [HIGHEST - 1, HIGHEST, COUNTED + 1, STEP + 1])
async def test_a_distant_fid_is_refused(metadata: Metadata, fid: int) -> None:
    """A client may request a fid that is at most STEP beyond the highest, and uploads continue after a greater one."""
    first = await opened(metadata)
    with pytest.raises(BadParams, match="at most"):
        await opened(metadata, first + fid)
    assert await opened(metadata, first + STEP) == first + STEP
    assert await opened(metadata) == first + STEP + 1


@pytest.mark.parametrize("fid", [HIGHEST - 1, HIGHEST])
async def test_an_exhausted_counter_is_reported_and_reset(metadata: Metadata, url: str, fid: int) -> None:
    """A store with an exhausted counter starts, reports it when a file is stored, and is corrected by `tawara fids
    --reset`."""
    await metadata.write(_store, 17)
    await metadata.write(_store, fid)
    await metadata.write(_exhaust, fid)
    again = await open_metadata(url)
    await again.write(uploads.count_beyond_files)  # what every start does
    with pytest.raises(FidsExhausted):
        for _ in range(2):
            await opened(again)
    assert await asyncio.to_thread(fids, database=Database(url=url)) == 1
    assert await asyncio.to_thread(fids, reset=True, database=Database(url=url)) == 0
    assert await opened(again) == 17 + STEP + 1
    assert await opened(metadata) == 17 + STEP + 2
    assert await again.read(files.find_fid, fid) is not None
    await again.write(uploads.count_beyond_files)
    assert await opened(again) == 17 + STEP + 3
    await again.close()


async def test_the_counter_can_be_set_to_free_fids(
    metadata: Metadata, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--to` sets a counter that is not exhausted, unless files have those fids."""
    await metadata.write(_store, 17)
    await opened(metadata, 900_000)
    database = Database(url=url)
    with pytest.raises(Exception, match="17 is in use"):
        await asyncio.to_thread(fids, reset=True, to=3, database=database)
    assert await asyncio.to_thread(fids, reset=True, to=20, json=True, database=database) == 0
    assert json.loads(capsys.readouterr().out)["counter"] == 20
    assert await opened(metadata) == 21


async def test_a_file_with_the_greatest_fid_can_be_backed_up(metadata: Metadata) -> None:
    """A backup has the rows of every fid, up to the last that a database can hold."""
    for fid in (1, COUNTED + 1, HIGHEST):
        await metadata.write(_store, fid)
    chunks: list[Chunk] = []
    assert await metadata.read(dump, chunks.append) == 1
    assert [row[0] for chunk in chunks if chunk.table == "file" for row in chunk.rows] == [1, COUNTED + 1, HIGHEST]


async def test_a_restored_backup_does_not_exhaust_a_counter(metadata: Metadata) -> None:
    """Restored rows with the greatest numbers leave the counters below them; a number that fits in no column is refused
    by name."""
    for table, rows in {
        "tempfile": [[HIGHEST, NOW, 0, 1, "k", "1"]],
        "fsck_log": [[HIGHEST, NOW, 1, "MISS", 1]],
        "tawara_scrub_log": [[7, NOW, 1, "MISS", 1], [HIGHEST, NOW, 1, "MISS", 1]],
    }.items():
        columns = {
            "tempfile": ("fid", "createtime", "classid", "dmid", "dkey", "devids"),
            "fsck_log": ("logid", "utime", "fid", "evcode", "devid"),
            "tawara_scrub_log": ("logid", "utime", "fid", "evcode", "devid"),
        }[table]
        await metadata.write(load, Chunk(table, 0, columns, rows))
    with pytest.raises(CorruptError, match="devid 2147483648"):
        await metadata.write(load, Chunk("file_on", 0, ("fid", "devid"), [[1, HIGHEST_ID + 1]]))
    await metadata.write(_finish, HIGHEST)
    assert STEP <= await opened(metadata) < 2 * STEP
    assert await metadata.write(_log, "tawara_scrub_log") == 8
    assert 0 < await metadata.write(_log, "fsck_log") < STEP


async def _finish(tx: Transaction, highest_fid: int) -> None:
    from tawara.metadata import backup

    await backup.finish(tx, {}, highest_fid=highest_fid)


async def _log(tx: Transaction, table: str) -> int:
    return await tx.insert(f"INSERT INTO {table} (utime, fid, evcode, devid) VALUES (1, 1, 'MISS', 1)", "logid")


async def test_the_greatest_id_of_a_domain_leaves_others(
    metadata: Metadata, opener: Callable[[], Awaitable[Metadata]]
) -> None:
    """Domains and hosts can be created after a rebuild or a restore with the greatest possible id."""

    async def greatest(tx: Transaction) -> None:
        await tx.run("INSERT INTO domain (dmid, namespace) VALUES (?, 'old')", HIGHEST_ID)
        await tx.run("INSERT INTO host (hostid, hostname, status) VALUES (?, 'old', 'alive')", HIGHEST_ID)

    await metadata.write(greatest)
    assert await metadata.write(cluster.create_domain, "new") == 1
    assert await metadata.write(cluster.create_domain, "newer") == 2
    assert await metadata.write(cluster.create_host, "new") == 1


async def test_reading_the_counter_changes_nothing(metadata: Metadata) -> None:
    """Reading the counter assigns no number."""
    first = await opened(metadata)
    for _ in range(3):
        assert (await metadata.read(fid_counter.read_counter)).counter == first
    assert await opened(metadata) == first + 1
