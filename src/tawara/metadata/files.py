"""Files: uploads, keys, and the files to which keys refer (tables `tempfile`, `file`, `tawara_file`, `checksum`).

Each function is one transaction; see `contract`. Times (`now`) are unix seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from tawara.metadata import file_rows, journal_outbox, queues, replicas, traces, uploads
from tawara.metadata.contract import QueryCall, Result, Transaction, batched, one_statement
from tawara.metadata.dialect import marks, rounded
from tawara.metadata.visibility import visible
from tawara.model.cluster import Checksum
from tawara.model.errors import (
    Dup,
    InvalidKey,
    KeyExists,
    NoDevices,
    NoTempFile,
    PreconditionFailed,
    TawaraError,
    UnknownKey,
)
from tawara.model.fid import COUNTED
from tawara.model.files import NewFile, StoredFile, Upload
from tawara.model.limits import FIDS_SKIPPED
from tawara.model.multipart import MultipartCompletion

# --- look-ups ---------------------------------------------------------------------------------------------------------


def _asked(dmid: int, key: bytes) -> tuple[int, bytes]:
    return dmid, key


def _asked_fid(fid: int) -> int:
    return fid


async def _find_batched(tx: Transaction, calls: Sequence[QueryCall]) -> list[Result]:
    asked = [_asked(*call.args, **call.kwargs) for call in calls]
    if not tx.dialect.exact_keys:
        return [await find(tx, *each) for each in asked]
    condition, values = tx.dialect.one_of(asked)
    rows = await tx.rows(f"{file_rows.select(tx.dialect)} WHERE {condition}", *values)
    found = {(each.dmid, each.key): each for each in file_rows.files_of(rows)}
    return [found.get(each) for each in asked]


@one_statement
@batched(_find_batched)
async def find(tx: Transaction, dmid: int, key: bytes) -> StoredFile | None:
    """Return the file to which `key` refers, with its replicas; None if there is none."""
    rows = await tx.rows(
        f"{file_rows.select(tx.dialect)} WHERE f.dmid = ? AND f.dkey = {tx.dialect.key_value}", dmid, key
    )
    return file_rows.files_of(rows)[0] if rows else None


async def find_fid(tx: Transaction, fid: int) -> StoredFile | None:
    """Return the file whose content is `fid`; None if no key refers to it (any more)."""
    rows = await tx.rows(f"{file_rows.select(tx.dialect)} WHERE f.fid = ?", fid)
    return file_rows.files_of(rows)[0] if rows else None


async def source_time(tx: Transaction, fid: int) -> int | None:
    """Return the source's modification time of the content `fid` in nanoseconds; None if the client gave none."""
    row = await tx.row("SELECT mtime_ns FROM tawara_mtime WHERE fid = ?", fid)
    return row[0] if row else None


async def find_fids(tx: Transaction, fids: Sequence[int]) -> list[StoredFile]:
    """Return the files with these fids; fids without a file are left out."""
    if not fids:
        return []
    values = rounded(fids)
    rows = await tx.rows(f"{file_rows.select(tx.dialect)} WHERE f.fid IN ({marks(values)})", *values)
    return file_rows.files_of(rows)


async def _find_uploads_batched(tx: Transaction, calls: Sequence[QueryCall]) -> list[Result]:
    asked = [_asked_fid(*call.args, **call.kwargs) for call in calls]
    found = {upload.fid: upload for upload in await _find_uploads(tx, asked)}
    return [found.get(fid) for fid in asked]


async def _find_uploads(tx: Transaction, fids: Sequence[int]) -> list[Upload]:
    values = rounded(fids)
    rows = await tx.rows(
        f"SELECT fid, dmid, {tx.dialect.key_column('dkey')}, classid, devids, createtime"
        f" FROM tempfile WHERE fid IN ({marks(values)})",
        *values,
    )
    return [
        Upload(
            fid=row[0],
            dmid=row[1],
            key=bytes(row[2] or b""),
            classid=row[3],
            devids=parse_devids(row[4]),
            created_at=row[5],
        )
        for row in rows
    ]


@batched(_find_uploads_batched)
async def find_upload(tx: Transaction, fid: int) -> Upload | None:
    """Return the open upload of `fid`, None if it was closed or discarded."""
    found = await _find_uploads(tx, [fid])
    return found[0] if found else None


async def find_upload_of(tx: Transaction, dmid: int, key: bytes) -> Upload | None:
    """Return the newest upload of a key. Searches the newest thousand uploads, because their keys have no index."""
    newest = await tx.rows(
        f"SELECT fid, dmid, {tx.dialect.key_column('dkey')} FROM tempfile"
        " WHERE fid > (SELECT MAX(fid) FROM tempfile) - 1000 ORDER BY fid DESC"
    )
    fid = next((row[0] for row in newest if (row[1], bytes(row[2] or b"")) == (dmid, key)), None)
    return None if fid is None else await find_upload(tx, fid)


def parse_devids(text: str | None) -> tuple[int, ...]:
    """Parse the device ids of a `tempfile.devids` column."""
    return tuple(int(each) for each in (text or "").split(",") if each)


def _key_range(tx: Transaction, dmid: int, prefix: bytes, after: bytes | None) -> tuple[str, list[object]]:
    conditions, values = tx.dialect.key_range("f.dkey", prefix, after)
    hidden, bounds = visible(tx.dialect, "f.dkey")
    return " AND ".join(("f.dmid = ?", *conditions, hidden)), [dmid, *values, *bounds]


async def list_keys(tx: Transaction, dmid: int, prefix: bytes, after: bytes | None, limit: int) -> list[bytes]:
    """Return at most `limit` keys that begin with `prefix` and are greater than `after`, in byte order.

    Reserved keys are left out.
    """
    where, values = _key_range(tx, dmid, prefix, after)
    column = tx.dialect.key_column("f.dkey")
    rows = await tx.rows(
        f"SELECT {column} FROM file f{tx.dialect.by_key} WHERE {where} ORDER BY f.dkey LIMIT ?", *values, limit
    )
    return [bytes(row[0]) for row in rows]


async def list_files(tx: Transaction, dmid: int, prefix: bytes, after: bytes | None, limit: int) -> list[StoredFile]:
    """Return the files of the keys that list_keys returns."""
    where, values = _key_range(tx, dmid, prefix, after)
    rows = await tx.rows(
        f"{file_rows.select(tx.dialect)} WHERE f.fid IN (SELECT s.fid FROM"
        f" (SELECT f.fid FROM file f{tx.dialect.by_key} WHERE {where}"
        " ORDER BY f.dkey LIMIT ?) s) ORDER BY f.dkey",
        *values,
        limit,
    )
    return file_rows.files_of(rows)


async def list_fids(tx: Transaction, after: int, count: int) -> list[StoredFile]:
    """Return the next `count` files with a fid greater than `after`, in order of fid, without parts of uploads."""
    condition, values = visible(tx.dialect, "dkey")
    rows = await tx.rows(
        f"{file_rows.select(tx.dialect)} WHERE f.fid IN (SELECT s.fid FROM (SELECT fid FROM file WHERE fid > ?"
        f" AND {condition} ORDER BY fid LIMIT ?) s) ORDER BY f.fid",
        *(after, *values, count),
    )
    return file_rows.files_of(rows)


# --- uploads ----------------------------------------------------------------------------------------------------------


async def _open_batched(tx: Transaction, calls: Sequence[QueryCall]) -> list[Result]:
    openings = [uploads.OpenRequest(**call.kwargs) for call in calls]
    counted = [each for each in openings if not each.fid]
    fids = iter(await uploads.open_many(tx, counted) if counted else ())
    return [await uploads.open_chosen(tx, each, each.fid) if each.fid else next(fids) for each in openings]


@batched(_open_batched)
async def open_upload(
    tx: Transaction, *, dmid: int, key: bytes, classid: int, devids: Sequence[int], now: int, fid: int = 0
) -> int:
    """Open an upload to `devids`; return its fid: a new one, never used before (17.1), or `fid` if given.

    Raises FidInUse if the given fid is, or may have been, in use.
    """
    opening = uploads.OpenRequest(dmid, key, classid, devids, now, fid)
    return await uploads.open_chosen(tx, opening, fid) if fid else (await uploads.open_many(tx, [opening]))[0]


async def _close_batched(tx: Transaction, calls: Sequence[QueryCall]) -> list[Result]:
    return await uploads.close_many(tx, [uploads.CloseRequest(*call.args, **call.kwargs) for call in calls])


@batched(_close_batched)
async def close_upload(
    tx: Transaction,
    file: NewFile,
    *,
    now: int,
    replicate: bool = True,
    expected_fid: int | None = None,
    orphans: Sequence[int] = (),
    multipart: MultipartCompletion | None = None,
) -> int | None:
    """Store a file whose upload was opened under its fid; return the fid that it replaces under its key, or None.

    The replaced fid is queued for deletion. The new one is queued for replication unless `replicate` is False, for a
    caller that has found the policy satisfied. `orphans` are devices on which a write of the fid failed or appeared to
    fail; any data there is deleted later. `multipart`: the upload in parts that ends with it.

    Raises NoTempFile if the upload is not open (any more), FidExists if the fid is stored already, PreconditionFailed
    if the key does not refer to `expected_fid` (0: if it refers to any), and NoSuchUpload if `multipart` was aborted or
    is held by another process.
    """
    request = uploads.CloseRequest(file, now, replicate, expected_fid, orphans, multipart)
    (answer,) = await uploads.close_many(tx, [request])
    if isinstance(answer, TawaraError):
        raise answer
    return answer


async def skip_fid(tx: Transaction, fid: int) -> None:
    """Discard an upload because a device holds other content under its fid.

    That content is left alone, and later fids are allocated far beyond it.
    """
    await tx.run("DELETE FROM tempfile WHERE fid = ?", fid)
    await uploads.count_beyond(tx, min(fid, COUNTED) + FIDS_SKIPPED)


async def discard_upload(tx: Transaction, fid: int, *, now: int, late: int = replicas.LATE) -> None:
    """Discard an upload: data on the devices offered for it will be deleted. Raises NoTempFile.

    Writes in progress may still arrive there within `late` seconds.
    """
    upload = await find_upload(tx, fid)
    if upload is None:
        raise NoTempFile
    if await tx.run("DELETE FROM tempfile WHERE fid = ?", fid) == 0:
        raise NoTempFile  # closed at the same moment
    if await tx.row("SELECT 1 FROM file WHERE fid = ?", fid) is not None:
        return  # the content belongs to a stored file: MogileFS closed the upload and left the row (11.2)
    insert = tx.dialect.insert_or_ignore("file_on", ("fid", "devid"))
    await tx.run_many(insert, [(fid, devid) for devid in upload.devids])
    await queues.enqueue_deletion(tx, fid, now)
    if late:
        for devid in upload.devids:
            await replicas.record_orphan(tx, fid, devid, now=now, late=late)


async def renew_upload(tx: Transaction, fid: int, *, now: int) -> None:
    """Record that a long upload is still in progress, so that it does not expire. Raises NoTempFile."""
    if await tx.run("UPDATE tempfile SET createtime = ? WHERE fid = ?", now, fid) == 0:
        raise NoTempFile


async def expire_uploads(tx: Transaction, *, before: int, now: int, limit: int = 50) -> int:
    """Discard uploads opened before `before`, at most `limit`; return how many (docs/mogilefs.md 11.2)."""
    rows = await tx.rows(
        f"SELECT fid FROM tempfile WHERE createtime < ? ORDER BY createtime LIMIT ?{tx.dialect.skip_locked}",
        before,
        limit,
    )
    for (fid,) in rows:
        await discard_upload(tx, fid, now=now, late=0)
    return len(rows)


async def store_checksum(tx: Transaction, fid: int, checksum: Checksum) -> None:
    """Store the checksum of a fid's bytes, replacing an earlier one."""
    upsert = tx.dialect.upsert("checksum", ("fid",), ("hashtype", "checksum"))
    await tx.run(upsert, fid, int(checksum.hashtype), checksum.digest)
    await journal_outbox.of_files(tx, [fid])


# --- changes ----------------------------------------------------------------------------------------------------------


async def delete(tx: Transaction, dmid: int, key: bytes, *, now: int, expected_fid: int | None = None) -> int:
    """Remove a key, and queue its file's data for deletion; return its fid.

    Raises UnknownKey, and PreconditionFailed if the key refers to another fid than `expected_fid`.
    """
    fid = await _locked_fid(tx, dmid, key)
    if fid is None:
        raise UnknownKey
    if expected_fid is not None and fid != expected_fid:
        raise PreconditionFailed
    await tx.run("DELETE FROM file WHERE fid = ?", fid)
    await journal_outbox.of_files(tx, [fid])
    await queues.enqueue_deletion(tx, fid, now)
    await traces.note_deletion(tx, fid, dmid, key, now=now)
    return fid


async def _locked_fid(tx: Transaction, dmid: int, key: bytes) -> int | None:
    """Return the fid to which a key refers, with its row locked; None if the key does not exist."""
    dialect = tx.dialect
    select = f"SELECT fid FROM file WHERE dmid = ? AND dkey = {dialect.key_value}"
    while True:
        row = await tx.row(f"{select}{dialect.for_update}", dmid, key)
        if row is not None:
            fid: int = row[0]
            return fid
        # A locking read that waited for a row which was then replaced returns nothing, although the key existed
        # throughout.
        if not dialect.for_update or await tx.row(select, dmid, key) is None:
            return None


async def rename(tx: Transaction, dmid: int, from_key: bytes, to_key: bytes) -> None:
    """Rename a file. Raises UnknownKey, and KeyExists if `to_key` refers to a file already."""
    # Locked in a fixed order, so that two opposite renames cannot deadlock.
    fids = {key: await _locked_fid(tx, dmid, key) for key in sorted((from_key, to_key))}
    if fids[from_key] is None:
        raise UnknownKey
    if fids[to_key] is not None:
        raise KeyExists
    try:
        await tx.run(f"UPDATE file SET dkey = {tx.dialect.key_value} WHERE fid = ?", to_key, fids[from_key])
    except Dup:
        raise KeyExists from None
    await journal_outbox.of_files(tx, [each for each in fids.values() if each is not None])


async def set_class(tx: Transaction, dmid: int, key: bytes, classid: int) -> bool:
    """Move a file to another class and queue it for replication; return False if it was in that class already.

    Raises InvalidKey if the key does not exist, NoDevices if the file has no replica (docs/mogilefs.md 3, updateclass).
    """
    fid = await _locked_fid(tx, dmid, key)
    if fid is None:
        raise InvalidKey
    if await tx.row("SELECT 1 FROM file_on WHERE fid = ?", fid) is None:
        raise NoDevices
    if await tx.run("UPDATE file SET classid = ? WHERE fid = ? AND classid <> ?", classid, fid, classid) == 0:
        return False
    await journal_outbox.of_files(tx, [fid])
    await queues.enqueue_replication(tx, fid)
    return True
