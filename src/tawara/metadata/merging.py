"""Merges metadata found on devices into a database that lacks it. Each function is one idempotent transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tawara.metadata import access_keys, buckets, cluster, files, journal_outbox, queues, rebuilding, replicas
from tawara.metadata.contract import Transaction
from tawara.metadata.dialect import marks, rounded
from tawara.model.files import StoredFile
from tawara.model.journal_records import NamedFile

_BATCH = 500
_PER_FID = ("tempfile", "file_to_delete2", "file_on", "tawara_file", "checksum", "tawara_copy")
"""Tables with possible leftovers of uploads and deletions that ended after the database's last known state."""
_IDS = {"domain": ("dmid",), "class": ("dmid", "classid"), "host": ("hostid",), "device": ("devid",)}
_NAMES = {"domain": ("namespace",), "class": (), "host": ("hostname", "hostip"), "device": ()}


async def known(tx: Transaction, fids: Sequence[int]) -> dict[int, StoredFile]:
    """Return those of the fids that have a key in this database."""
    found: dict[int, StoredFile] = {}
    for start in range(0, len(fids), _BATCH):
        found |= {file.fid: file for file in await files.find_fids(tx, fids[start : start + _BATCH])}
    return found


async def restore(tx: Transaction, lost: Sequence[NamedFile], *, short: Collection[int]) -> list[NamedFile]:
    """Insert files missing from the database; return those skipped because another file has their key."""
    free = [each for each in lost if await _owner(tx, each) is None]
    values = rounded([each.fid for each in free]) if free else []
    for table in _PER_FID if free else ():
        await tx.run(f"DELETE FROM {table} WHERE fid IN ({marks(values)})", *values)
    await rebuilding.add_files(tx, free, short=[each.fid for each in free if each.fid in short])
    return [each for each in lost if each not in free]


async def rename(tx: Transaction, changed: Sequence[NamedFile]) -> list[NamedFile]:
    """Set the newer key and class of files; return those skipped because another file has their key."""
    left: list[NamedFile] = []
    for each in changed:
        if await _owner(tx, each) not in (None, each.fid):
            left.append(each)
            continue
        await tx.run(
            f"UPDATE file SET dmid = ?, dkey = {tx.dialect.key_value}, classid = ? WHERE fid = ?",
            *(each.facts.dmid, each.facts.key, each.facts.classid, each.fid),
        )
        await queues.enqueue_replication(tx, each.fid)
    return left


async def _owner(tx: Transaction, named: NamedFile) -> int | None:
    """Return the fid that has the key now."""
    select = f"SELECT fid FROM file WHERE dmid = ? AND dkey = {tx.dialect.key_value}"
    row = await tx.row(select, named.facts.dmid, named.facts.key)
    return row[0] if row else None


async def add_replicas(tx: Transaction, places: Sequence[tuple[int, int]]) -> None:
    """Record replicas (fid, devid) of files in the database."""
    for place in places:
        await tx.run(tx.dialect.insert_or_ignore("file_on", ("fid", "devid")), *place)
        await tx.run("DELETE FROM tawara_copy WHERE fid = ? AND devid = ?", *place)
        await replicas.update_devcount(tx, place[0])


async def forget(tx: Transaction, fids: Sequence[int], *, now: int) -> None:
    """Delete files that were deleted or replaced later than the database records."""
    for fid in fids:
        await tx.run("DELETE FROM file WHERE fid = ?", fid)
        await journal_outbox.of_files(tx, [fid])
        await queues.enqueue_deletion(tx, fid, now)


async def add_manifest(tx: Transaction, manifest: Mapping[str, Any]) -> list[str]:
    """Insert domains, classes, hosts, devices and access keys missing here; return descriptions of those inserted.

    Entries whose name or address is already in use are skipped.
    """
    await cluster.serialise(tx)
    added: list[str] = []
    for table, ids in _IDS.items():
        for row in manifest.get(table, ()):
            taken = [" AND ".join(f"{each} = ?" for each in ids), *(f"{each} = ?" for each in _NAMES[table])]
            values = [row[each] for each in (*ids, *_NAMES[table])]
            if await tx.row(f'SELECT 1 FROM "{table}" WHERE {" OR ".join(f"({each})" for each in taken)}', *values):
                continue
            await tx.run(f'INSERT INTO "{table}" ({", ".join(row)}) VALUES ({marks(list(row))})', *row.values())
            added.append(f"{table} {', '.join(str(row[each]) for each in (*ids, *_NAMES[table]))}")
    await buckets.take_in(tx, manifest)
    return added + await access_keys.take_in(tx, manifest)
