"""Maps the rows of a stored file to `StoredFile`, and a `NewFile` to the rows that store it.

The tables are `file`, `file_on`, `checksum`, `tawara_file` and `tawara_mtime`. No other module names their columns to
build or store a whole file.

To add a property of files, here called `colour`, as a column of `tawara_file`:

1. `metadata/schema.py`: add the column to `tawara_file`.
2. `metadata/history/`: add a step with the `ALTER TABLE` of each dialect; add 1 to `schema_version.TAWARA`.
3. `model/files.py`: add the field `colour`, with a default, to `NewFile` and to `StoredFile`.
4. Here: add `"colour"` to `OWN_COLUMNS`.

A writer that knows the value then passes `NewFile(..., colour=...)`; nothing between it and the database changes. A
property that must survive the loss of the database also needs a field in `model.journal_records.FileMetadata`, in
`journals.facts_of` and `rebuilding.add_files`, and in `wire.journal`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

from tawara.metadata.contract import Dialect, Row, Transaction
from tawara.metadata.dialect import marks
from tawara.model.cluster import Checksum, HashType
from tawara.model.files import NewFile, StoredFile

OWN_COLUMNS: Final = ("content_type", "etag", "attributes")
"""Columns of `tawara_file` that are fields of the same name in `NewFile` and `StoredFile`."""


_COLUMNS: Final = {
    "fid": "f.fid",
    "dmid": "f.dmid",
    "key": "{key}",
    "length": "f.length",
    "classid": "f.classid",
    "devcount": "f.devcount",
    "stored_at": "t.stored_at",
    **{name: f"t.{name}" for name in OWN_COLUMNS},
}
"""Field of StoredFile -> its SQL."""
_FIELDS: Final = tuple(_COLUMNS)
_OTHERS: Final = ("c.hashtype", "{digest}", "o.devid")
"""What follows these in a row."""
_SELECT: Final = (
    f"SELECT {', '.join((*_COLUMNS.values(), *_OTHERS))} FROM file f LEFT JOIN file_on o ON o.fid = f.fid"
    " LEFT JOIN tawara_file t ON t.fid = f.fid LEFT JOIN checksum c ON c.fid = f.fid"
)


def select(dialect: Dialect) -> str:
    """Return a SELECT of files without its WHERE: a row for each replica, one row for a file without replicas."""
    return _select(dialect.key_column("f.dkey"), dialect.bytes_column("c.checksum"))


@cache
def _select(key: str, digest: str) -> str:
    return _SELECT.format(key=key, digest=digest)


def files_of(rows: Sequence[Row]) -> list[StoredFile]:
    """Build one StoredFile from all rows of the same fid, in the order of the fids in the result of `select`."""
    firsts: dict[int, Row] = {}
    devids: dict[int, list[int]] = {}
    for row in rows:
        fid = row[0]
        if fid not in firsts:
            firsts[fid], devids[fid] = row, []
        if row[-1] is not None:
            devids[fid].append(row[-1])
    return [_file_of(row, devids[fid]) for fid, row in firsts.items()]


def _file_of(row: Row, devids: list[int]) -> StoredFile:
    values = dict(zip(_FIELDS, row, strict=False))
    values["key"] = bytes(values["key"])
    hashtype, digest, _ = row[len(_FIELDS) :]
    checksum = None if hashtype is None else Checksum(HashType(hashtype), bytes(digest))
    return StoredFile(**values, devids=tuple(devids), checksum=checksum)


async def insert(tx: Transaction, stored: Sequence[tuple[NewFile, int | None]]) -> None:
    """Insert the rows of new files, each with the time when it was stored (unix seconds; None: not known).

    Raises Dup if a fid or key is in use.
    """
    dialect = tx.dialect
    files = [file for file, _ in stored]
    await tx.run_many(
        f"INSERT INTO file (fid, dmid, dkey, length, classid, devcount) VALUES (?, ?, {dialect.key_value}, ?, ?, ?)",
        [(each.fid, each.dmid, each.key, each.length, each.classid, len(each.devids)) for each in files],
    )
    columns = ("fid", "stored_at", *OWN_COLUMNS)
    await tx.run_many(
        f"INSERT INTO tawara_file ({', '.join(columns)}) VALUES ({marks(columns)})",
        [
            (file.fid, stored_at, *(getattr(file, name) for name in OWN_COLUMNS))
            for file, stored_at in stored
            if stored_at is not None
        ],
    )
    if times := [(each.fid, each.mtime_ns) for each in files if each.mtime_ns is not None]:
        await tx.run_many("INSERT INTO tawara_mtime (fid, mtime_ns) VALUES (?, ?)", times)
    await tx.run_many(
        dialect.insert_or_ignore("file_on", ("fid", "devid")),
        [(each.fid, devid) for each in files for devid in each.devids],
    )
    await tx.run_many(
        dialect.upsert("checksum", ("fid",), ("hashtype", "checksum")),
        [(each.fid, int(each.checksum.hashtype), each.checksum.digest) for each in files if each.checksum],
    )
