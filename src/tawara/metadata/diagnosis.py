"""All database rows about one fid, for troubleshooting (docs/mogilefs.md 3, file_debug).

Each function is one transaction; see `contract`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tawara.metadata import files, traces
from tawara.metadata.contract import Transaction
from tawara.model.cluster import Checksum, HashType
from tawara.model.explanation import ExplainedFile
from tawara.model.files import Deletion, QueuedTask, Replication, TaskType

_TABLES = {
    "fid": ("file", ("fid", "dmid", "dkey", "length", "classid", "devcount"), ""),
    "tempfile": ("tempfile", ("classid", "dmid", "dkey", "devids"), ""),
    "replqueue": ("file_to_replicate", ("fid", "nexttry", "fromdevid", "failcount", "flags"), ""),
    "delqueue": ("file_to_delete2", ("fid", "nexttry", "failcount"), ""),
    "fsckqueue": ("file_to_queue", ("fid", "devid", "type", "nexttry", "failcount", "flags", "arg"), " AND type = 1"),
    "rebqueue": ("file_to_queue", ("fid", "devid", "type", "nexttry", "failcount", "flags", "arg"), " AND type = 2"),
}
"""Prefix in the reply -> table, its columns, and the condition that selects its rows."""


@dataclass(frozen=True, slots=True)
class FileRows:
    """The rows about one fid."""

    fid: int
    devids: tuple[int, ...]
    checksum: Checksum | None
    rows: Mapping[str, Mapping[str, bytes | str | int | None]]
    """By the prefix of file_debug: `fid`, `tempfile`, `replqueue`, `delqueue`, `fsckqueue`, `rebqueue`."""


async def facts_of(tx: Transaction, fid: int) -> FileRows:
    """Return all rows about `fid`, whether or not a key refers to it."""
    rows: dict[str, Mapping[str, bytes | str | int | None]] = {}
    for prefix, (table, columns, condition) in _TABLES.items():
        selected = ", ".join(tx.dialect.key_column(each) if each == "dkey" else each for each in columns)
        row = await tx.row(f"SELECT {selected} FROM {table} WHERE fid = ?{condition}", fid)
        if row is not None:
            rows[prefix] = dict(zip(columns, row, strict=True))
    column = tx.dialect.bytes_column("checksum")
    checksum = await tx.row(f"SELECT hashtype, {column} FROM checksum WHERE fid = ?", fid)
    devids = await tx.rows("SELECT devid FROM file_on WHERE fid = ? ORDER BY devid", fid)
    return FileRows(
        fid=fid,
        devids=tuple(row[0] for row in devids),
        checksum=Checksum(HashType(checksum[0]), bytes(checksum[1])) if checksum else None,
        rows=rows,
    )


async def case_of_key(tx: Transaction, dmid: int, key: bytes, *, name: str, now: int) -> ExplainedFile:
    """Explain a key: its current file, an upload in progress for it, or the file to which it last referred."""
    file = await files.find(tx, dmid, key)
    if file is not None:
        return await case_of_fid(tx, file.fid, name=name, now=now)
    deleted = await traces.last_deleted(tx, dmid, key)
    upload = await files.find_upload_of(tx, dmid, key)
    if upload is not None and (deleted is None or upload.fid > deleted.fid):
        return await case_of_fid(tx, upload.fid, name=name, now=now)
    if deleted is not None:
        return await case_of_fid(tx, deleted.fid, name=name, now=now)
    return ExplainedFile(None, now, name)


async def case_of_fid(tx: Transaction, fid: int, *, name: str, now: int) -> ExplainedFile:
    """Explain a fid, whether or not a key refers to it."""
    replication = await tx.row("SELECT nexttry, fromdevid, failcount, flags FROM file_to_replicate WHERE fid = ?", fid)
    deletion = await tx.row("SELECT nexttry, failcount FROM file_to_delete2 WHERE fid = ?", fid)
    task_queue = {
        row[0]: QueuedTask(fid, TaskType(row[0]), row[1], row[2], row[3], row[4] or "")
        for row in await tx.rows(
            "SELECT type, nexttry, failcount, devid, arg FROM file_to_queue WHERE fid = ? AND type IN (?, ?, ?)",
            fid,
            int(TaskType.CHECK),
            int(TaskType.MOVE),
            int(TaskType.DRAIN),
        )
    }
    return ExplainedFile(
        fid=fid,
        now=now,
        name=name,
        file=await files.find_fid(tx, fid),
        upload=await files.find_upload(tx, fid),
        deleted=await traces.deletion_of(tx, fid),
        replicas=tuple(row[0] for row in await tx.rows("SELECT devid FROM file_on WHERE fid = ? ORDER BY devid", fid)),
        announced=dict(await tx.rows("SELECT devid, lease FROM tawara_copy WHERE fid = ?", fid)),
        replication=Replication(fid, *replication) if replication else None,
        deletion=Deletion(fid, *deletion) if deletion else None,
        check=task_queue.get(TaskType.CHECK),
        move=task_queue.get(TaskType.MOVE) or task_queue.get(TaskType.DRAIN),
        failures=await traces.failures_of(tx, fid),
    )
