"""Fills an empty database with the metadata found on devices; trackers see nothing until it is complete.

The tables that make the database a Tawara store (domains, hosts, devices) are filled last, in one transaction. An
unfinished attempt is started again from the beginning. Each function is one transaction; times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tawara.metadata import access_keys, buckets, cluster, file_rows, uploads
from tawara.metadata.contract import Transaction
from tawara.model.errors import InUse
from tawara.model.files import NewFile
from tawara.model.journal_records import NamedFile

_BEGUN = "tawara_founding_anew"
"""Setting: the database is being filled."""
_LAST = ("domain", "class", "host", "device")
"""Tables filled in the last transaction: a database with rows in them counts as a complete store."""


async def refuse_unless_empty(tx: Transaction) -> None:
    """Raise InUse unless the database is empty or has only rows of an earlier attempt."""
    begun = await cluster.get_setting(tx, _BEGUN) is not None
    for table in _LAST if begun else (*_LAST, "file", "file_on", "tempfile", "file_to_delete2"):
        if await tx.row(f"SELECT 1 FROM {table} LIMIT 1") is not None:
            raise InUse(
                f"The database is not empty: it has rows in {table}",
                hint="Give a new one; what is in this one is not touched.",
            )


async def begin(tx: Transaction) -> None:
    """Clear the database of an earlier attempt, and record that it is being filled. Raises InUse."""
    await refuse_unless_empty(tx)
    if await cluster.get_setting(tx, _BEGUN) is not None:
        from tawara.metadata.schema import tables

        for table in tables.tables:
            if table != "server_settings":
                await tx.run(f'DELETE FROM "{table}"')
    await cluster.set_setting(tx, _BEGUN, "1")


async def add_files(tx: Transaction, named: Sequence[NamedFile], *, short: Sequence[int]) -> None:
    """Insert files with their replicas; queue those `short` of replicas for replication."""
    await file_rows.insert(tx, [(_new_file(each), each.facts.stored_at) for each in named])
    await tx.run_many(
        tx.dialect.insert_or_ignore("file_to_replicate", ("fid", "nexttry", "failcount", "flags")),
        [(fid, 0, 0, 0) for fid in short],
    )


def _new_file(named: NamedFile) -> NewFile:
    facts = named.facts
    return NewFile(
        fid=named.fid,
        dmid=facts.dmid,
        key=facts.key,
        length=facts.length,
        classid=facts.classid,
        devids=named.devids,
        checksum=facts.checksum,
        content_type=facts.content_type,
        etag=facts.etag,
        attributes=facts.attributes,
    )


async def add_deleted(tx: Transaction, places: Sequence[tuple[int, Sequence[int]]], *, now: int) -> None:
    """Queue the deletion of the data of unnamed fids from these devices."""
    await tx.run_many(
        tx.dialect.insert_or_ignore("file_on", ("fid", "devid")),
        [(fid, devid) for fid, devids in places for devid in devids],
    )
    deletion = tx.dialect.insert_or_ignore("file_to_delete2", ("fid", "nexttry", "failcount"))
    await tx.run_many(deletion, [(fid, now, 0) for fid, _ in places])


async def finish(tx: Transaction, manifest: Mapping[str, Any], *, highest_fid: int) -> None:
    """Insert the cluster's configuration, and advance the fid counter beyond the highest fid ever allocated."""
    for table in (*_LAST, "server_settings"):
        for row in manifest.get(table, ()):
            columns = list(row)
            if table == "server_settings":
                await cluster.set_setting(tx, row["field"], row["value"])
            else:
                marks = ", ".join("?" * len(columns))
                await tx.run(f'INSERT INTO "{table}" ({", ".join(columns)}) VALUES ({marks})', *row.values())
    await access_keys.take_in(tx, manifest)
    await buckets.take_in(tx, manifest)
    await uploads.count_beyond_all(tx, highest_fid, margin=0)
    await end(tx)


async def end(tx: Transaction) -> None:
    """Mark the database as complete."""
    await cluster.set_setting(tx, _BEGUN, None)
