"""The namespace: uploads, keys, and the files that they name (tables `tempfile`, `file`, `tawara_file`, `checksum`).

Each function is one transaction; see `contract`. Times (`now`) are unix seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from tawara.metadata import queues
from tawara.metadata.contract import Row, Transaction
from tawara.model.cluster import Checksum, HashType
from tawara.model.errors import Dup, FidExists, FidInUse, InvalidKey, KeyExists, NoDevices, NoTempFile, UnknownKey
from tawara.model.files import StoredFile, Upload


def _file_columns(tx: Transaction) -> str:
    return (
        f"SELECT f.fid, f.dmid, {tx.dialect.key_column('f.dkey')}, f.length, f.classid, f.devcount,"
        " t.stored_at, t.content_type, c.hashtype, c.checksum, o.devid"
        " FROM file f LEFT JOIN file_on o ON o.fid = f.fid"
        " LEFT JOIN tawara_file t ON t.fid = f.fid LEFT JOIN checksum c ON c.fid = f.fid"
    )


def _gather(rows: Sequence[Row]) -> list[StoredFile]:
    """Make one StoredFile of each run of rows with one fid (a row for each replica), keeping the order."""
    devids: dict[int, list[int]] = {}
    firsts: dict[int, Row] = {}
    for row in rows:
        firsts.setdefault(row[0], row)
        if row[10] is not None:
            devids.setdefault(row[0], []).append(row[10])
    return [
        StoredFile(
            fid=fid,
            dmid=row[1],
            key=bytes(row[2]),
            length=row[3],
            classid=row[4],
            devcount=row[5],
            devids=tuple(devids.get(fid, ())),
            stored_at=row[6],
            content_type=row[7],
            checksum=None if row[8] is None else Checksum(HashType(row[8]), bytes(row[9])),
        )
        for fid, row in firsts.items()
    ]


# --- looking ----------------------------------------------------------------------------------------------------------


async def find(tx: Transaction, dmid: int, key: bytes) -> StoredFile | None:
    """The file that `key` names, with its replicas; None if there is none."""
    rows = await tx.rows(f"{_file_columns(tx)} WHERE f.dmid = ? AND f.dkey = {tx.dialect.key_value}", dmid, key)
    return _gather(rows)[0] if rows else None


async def find_fid(tx: Transaction, fid: int) -> StoredFile | None:
    """The file whose content is `fid`; None if no key names it (any more)."""
    rows = await tx.rows(f"{_file_columns(tx)} WHERE f.fid = ?", fid)
    return _gather(rows)[0] if rows else None


async def find_upload(tx: Transaction, fid: int) -> Upload | None:
    """The upload that was opened for `fid` and neither closed nor given up."""
    row = await tx.row(
        f"SELECT fid, dmid, {tx.dialect.key_column('dkey')}, classid, devids, createtime FROM tempfile WHERE fid = ?",
        fid,
    )
    if row is None:
        return None
    return Upload(
        fid=row[0],
        dmid=row[1],
        key=bytes(row[2] or b""),
        classid=row[3],
        devids=parse_devids(row[4]),
        created_at=row[5],
    )


def parse_devids(text: str | None) -> tuple[int, ...]:
    """The device ids of a `tempfile.devids` column."""
    return tuple(int(each) for each in (text or "").split(",") if each)


def successor(prefix: bytes) -> bytes | None:
    """The least byte string that is greater than everything with `prefix`; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


def _key_range(tx: Transaction, dmid: int, prefix: bytes, after: bytes | None) -> tuple[str, list[object]]:
    value = tx.dialect.key_value
    where, values = "f.dmid = ?", [dmid]
    conditions: list[object] = list(values)
    if prefix:
        where += f" AND f.dkey >= {value}"
        conditions.append(prefix)
        if (end := successor(prefix)) is not None:
            where += f" AND f.dkey < {value}"
            conditions.append(end)
    if after is not None:
        where += f" AND f.dkey > {value}"
        conditions.append(after)
    return where, conditions


async def list_keys(tx: Transaction, dmid: int, prefix: bytes, after: bytes | None, limit: int) -> list[bytes]:
    """At most `limit` keys that begin with `prefix` and are greater than `after`, in byte order."""
    where, values = _key_range(tx, dmid, prefix, after)
    column = tx.dialect.key_column("f.dkey")
    rows = await tx.rows(f"SELECT {column} FROM file f WHERE {where} ORDER BY f.dkey LIMIT ?", *values, limit)
    return [bytes(row[0]) for row in rows]


async def list_files(tx: Transaction, dmid: int, prefix: bytes, after: bytes | None, limit: int) -> list[StoredFile]:
    """The same as list_keys, with all that is known of each file."""
    where, values = _key_range(tx, dmid, prefix, after)
    rows = await tx.rows(
        f"{_file_columns(tx)} WHERE f.fid IN (SELECT s.fid FROM (SELECT f.fid FROM file f WHERE {where}"
        " ORDER BY f.dkey LIMIT ?) s) ORDER BY f.dkey",
        *values,
        limit,
    )
    return _gather(rows)


async def list_fids(tx: Transaction, after: int, count: int) -> list[StoredFile]:
    """The next `count` files with a fid greater than `after`, in order of fid."""
    rows = await tx.rows(
        f"{_file_columns(tx)} WHERE f.fid IN (SELECT s.fid FROM (SELECT fid FROM file WHERE fid > ?"
        " ORDER BY fid LIMIT ?) s) ORDER BY f.fid",
        after,
        count,
    )
    return _gather(rows)


# --- uploads ----------------------------------------------------------------------------------------------------------


async def open_upload(
    tx: Transaction, *, dmid: int, key: bytes, classid: int, devids: Sequence[int], now: int, fid: int = 0
) -> int:
    """Begin an upload to `devids`; the new fid, never used before (17.1), or `fid` if one was asked for.

    Raises FidInUse when the fid asked for is, or may have been, in use.
    """
    columns = "createtime, dmid, dkey, classid, devids"
    values = (now, dmid, key, classid, ",".join(map(str, devids)))
    if fid:
        row = await tx.row("SELECT MAX(fid) FROM file")
        if fid <= ((row and row[0]) or 0) or await tx.row("SELECT 1 FROM tempfile WHERE fid = ?", fid):
            raise FidInUse
        await tx.run(
            f"INSERT INTO tempfile (fid, {columns}) VALUES (?, ?, ?, {tx.dialect.key_value}, ?, ?)", fid, *values
        )
        return fid
    insert = f"INSERT INTO tempfile ({columns}) VALUES (?, ?, {tx.dialect.key_value}, ?, ?)"
    new = await tx.insert(insert, "fid", *values)
    if await tx.row("SELECT 1 FROM file WHERE fid = ?", new) is None:
        return new
    # The counter is behind the files, as after a restore: push it past them, and count again.
    await tx.run("DELETE FROM tempfile WHERE fid = ?", new)
    row = await tx.row("SELECT MAX(fid) FROM file")
    pushed = (row[0] if row else 0) + 1
    await tx.run(
        f"INSERT INTO tempfile (fid, {columns}) VALUES (?, ?, ?, {tx.dialect.key_value}, ?, ?)", pushed, *values
    )
    return pushed


async def close_upload(
    tx: Transaction,
    fid: int,
    *,
    dmid: int,
    key: bytes,
    classid: int,
    length: int,
    devids: Sequence[int],
    now: int,
    checksum: Checksum | None = None,
    content_type: str | None = None,
    replicate: bool = True,
) -> int | None:
    """Give `key` the content `fid`, which lies whole and fsynced on `devids`; the fid that it replaced, if any.

    The replaced fid is queued for deletion; `fid` for replication, unless the caller has seen its policy satisfied.
    Raises NoTempFile when the upload is not open (any more), FidExists when `fid` is stored already.
    """
    if await tx.run("DELETE FROM tempfile WHERE fid = ?", fid) == 0:
        raise NoTempFile
    key_value = tx.dialect.key_value
    old = await tx.row(f"SELECT fid FROM file WHERE dmid = ? AND dkey = {key_value}{tx.dialect.for_update}", dmid, key)
    if old is not None:
        if old[0] == fid:
            raise FidExists
        await tx.run("DELETE FROM file WHERE fid = ?", old[0])
        await queues.enqueue_deletion(tx, old[0], now)
    await tx.run(
        f"INSERT INTO file (fid, dmid, dkey, length, classid, devcount) VALUES (?, ?, {key_value}, ?, ?, ?)",
        fid,
        dmid,
        key,
        length,
        classid,
        len(devids),
    )
    await tx.run("INSERT INTO tawara_file (fid, stored_at, content_type) VALUES (?, ?, ?)", fid, now, content_type)
    await tx.run_many(tx.dialect.insert_or_ignore("file_on", ("fid", "devid")), [(fid, devid) for devid in devids])
    if checksum is not None:
        await store_checksum(tx, fid, checksum)
    if replicate:
        await queues.enqueue_replication(tx, fid)
    return old[0] if old is not None else None


async def discard_upload(tx: Transaction, fid: int, *, now: int) -> None:
    """Give up an upload: whatever lies on the devices it was offered will be deleted. Raises NoTempFile."""
    upload = await find_upload(tx, fid)
    if upload is None:
        raise NoTempFile
    await tx.run("DELETE FROM tempfile WHERE fid = ?", fid)
    if await tx.row("SELECT 1 FROM file WHERE fid = ?", fid) is not None:
        return  # the content is a file's after all: MogileFS closed it and left the row (11.2)
    insert = tx.dialect.insert_or_ignore("file_on", ("fid", "devid"))
    await tx.run_many(insert, [(fid, devid) for devid in upload.devids])
    await queues.enqueue_deletion(tx, fid, now)


async def expire_uploads(tx: Transaction, *, before: int, now: int, limit: int = 50) -> int:
    """Give up the uploads that were opened before `before`, at most `limit`; how many (11.2)."""
    rows = await tx.rows("SELECT fid FROM tempfile WHERE createtime < ? ORDER BY createtime LIMIT ?", before, limit)
    for (fid,) in rows:
        await discard_upload(tx, fid, now=now)
    return len(rows)


async def store_checksum(tx: Transaction, fid: int, checksum: Checksum) -> None:
    """Remember the checksum of a fid's bytes, in place of an earlier one."""
    upsert = tx.dialect.upsert("checksum", ("fid",), ("hashtype", "checksum"))
    await tx.run(upsert, fid, int(checksum.hashtype), checksum.digest)


# --- changes ----------------------------------------------------------------------------------------------------------


async def delete(tx: Transaction, dmid: int, key: bytes, *, now: int) -> int:
    """Remove a key, queue its bytes for deletion; the fid that it named. Raises UnknownKey."""
    fid = await _locked_fid(tx, dmid, key)
    if fid is None:
        raise UnknownKey
    await tx.run("DELETE FROM file WHERE fid = ?", fid)
    await queues.enqueue_deletion(tx, fid, now)
    return fid


async def _locked_fid(tx: Transaction, dmid: int, key: bytes) -> int | None:
    dialect = tx.dialect
    row = await tx.row(
        f"SELECT fid FROM file WHERE dmid = ? AND dkey = {dialect.key_value}{dialect.for_update}", dmid, key
    )
    return None if row is None else row[0]


async def rename(tx: Transaction, dmid: int, from_key: bytes, to_key: bytes) -> None:
    """Give a file another key. Raises UnknownKey, and KeyExists when `to_key` names a file already."""
    fid = await _locked_fid(tx, dmid, from_key)
    if fid is None:
        raise UnknownKey
    if await _locked_fid(tx, dmid, to_key) is not None:
        raise KeyExists
    try:
        await tx.run(f"UPDATE file SET dkey = {tx.dialect.key_value} WHERE fid = ?", to_key, fid)
    except Dup:
        raise KeyExists from None


async def set_class(tx: Transaction, dmid: int, key: bytes, classid: int) -> bool:
    """Move a file to another class and queue it for replication; False if it was there already.

    Raises InvalidKey when there is no such key, NoDevices when it has no replica (reference: updateclass).
    """
    fid = await _locked_fid(tx, dmid, key)
    if fid is None:
        raise InvalidKey
    if await tx.row("SELECT 1 FROM file_on WHERE fid = ?", fid) is None:
        raise NoDevices
    if await tx.run("UPDATE file SET classid = ? WHERE fid = ? AND classid <> ?", classid, fid, classid) == 0:
        return False
    await queues.enqueue_replication(tx, fid)
    return True
