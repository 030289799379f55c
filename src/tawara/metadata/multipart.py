"""Uploads in parts (`tawara_multipart`), their parts, and the parts of objects that were made of them (`tawara_part`).

A part is a file under a reserved key (model.reserved_keys) that names upload and number: replication, checks, drains
and journals treat it like any file, and uploading a part again replaces it like any key. The row of an upload only says
what the object will be. Each function is one transaction; see `contract`. Times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from tawara.metadata import file_rows, journal_outbox, queues
from tawara.metadata.contract import Row, Transaction
from tawara.metadata.dialect import marks, rounded, successor
from tawara.metadata.visibility import keeps_reserved
from tawara.model.errors import NoReservedKeys, NoSuchUpload, UnregDomain
from tawara.model.files import StoredFile
from tawara.model.listing_page import common_prefix, is_whole_prefix
from tawara.model.multipart import MultipartCompletion, MultipartUpload, ObjectPart, UploadState
from tawara.model.object_checksums import ChecksumAlgorithm, ChecksumType
from tawara.model.reserved_keys import PARTS, parts_prefix, upload_of

_COLUMNS: Final = (
    "upload_id, dmid, object_key, classid, devids, account, initiated_at, content_type, attributes, algorithm,"
    " checksum_type, state, result"
)
_VISIBLE: Final = "state IN ('open', 'joining')"
_END: Final = b"\xff" * 8
"""After every key of UTF-8."""
_AT_ONCE: Final = 500
"""Parts removed, and rows inserted, by one statement."""


@dataclass(frozen=True, slots=True)
class UploadPage:
    """Part of a listing of uploads."""

    uploads: tuple[MultipartUpload, ...]
    prefixes: tuple[bytes, ...]
    truncated: bool
    accounts: Mapping[str, str] = field(default_factory=dict)
    """Id of each account of the uploads -> its name."""

    @property
    def last(self) -> tuple[bytes, str]:
        """The marker with which the next page begins."""
        last_upload = (self.uploads[-1].key, self.uploads[-1].upload_id) if self.uploads else (b"", "")
        return max(last_upload, (self.prefixes[-1], "") if self.prefixes else (b"", ""))


# --- uploads ----------------------------------------------------------------------------------------------------------


async def add(tx: Transaction, upload: MultipartUpload) -> None:
    """Insert an upload. Raises UnregDomain, NoReservedKeys if the database cannot keep parts."""
    if not keeps_reserved(tx.dialect):
        raise NoReservedKeys(NoReservedKeys.message)
    # The row's lock excludes the removal of the domain, which removes its uploads.
    if await tx.row(f"SELECT 1 FROM domain WHERE dmid = ?{tx.dialect.for_update}", upload.dmid) is None:
        raise UnregDomain
    algorithm, checksum_type = upload.checksum or (None, None)
    await tx.run(
        f"INSERT INTO tawara_multipart (due, {_COLUMNS}) VALUES (0, {marks(_COLUMNS.split(','))})",
        *(upload.upload_id, upload.dmid, upload.key, upload.classid, ",".join(map(str, upload.devids))),
        *(upload.account, upload.initiated_at, upload.content_type, upload.attributes),
        *(algorithm and algorithm.value, checksum_type and checksum_type.value, upload.state.value, upload.result),
    )


async def find(tx: Transaction, upload_id: str) -> MultipartUpload | None:
    """Return an upload in any state; None if there is none (any more)."""
    row = await tx.row(f"SELECT {_COLUMNS} FROM tawara_multipart WHERE upload_id = ?", upload_id)
    return None if row is None else _upload(row)


async def page(
    tx: Transaction,
    dmid: int,
    prefix: bytes,
    delimiter: bytes,
    marker: tuple[bytes, str],
    limit: int,
) -> UploadPage:
    """Return the next uploads under way and common prefixes of their keys, in order of key and age.

    The names of the accounts come with them. `marker`: the key and upload id after which the page begins. Without an id
    it begins after all uploads of that key, or after all keys that begin with it if it is a common prefix; an empty key
    is before all others.
    """
    found = await _page(tx, dmid, prefix, delimiter, marker, limit)
    if not found.uploads:
        return found
    ids = rounded(sorted({each.account for each in found.uploads}))
    rows = await tx.rows(f"SELECT id, name FROM tawara_account WHERE id IN ({marks(ids)})", *ids)
    return replace(found, accounts=dict(rows))


async def _page(
    tx: Transaction, dmid: int, prefix: bytes, delimiter: bytes, marker: tuple[bytes, str], limit: int
) -> UploadPage:
    uploads: list[MultipartUpload] = []
    prefixes: list[bytes] = []
    least, after_id = (marker[0], marker[1]) if marker[0] >= prefix else (prefix, "")
    if marker[0] and not marker[1]:
        passed = is_whole_prefix(marker[0], prefix, delimiter)
        least = max(prefix, (successor(marker[0]) or _END) if passed else marker[0] + b"\0")
    while limit > 0:
        rows = await _read_page(tx, dmid, prefix, least, after_id, limit + 1)
        for each in rows:
            if len(uploads) + len(prefixes) == limit:
                return UploadPage(tuple(uploads), tuple(prefixes), truncated=True)
            common = common_prefix(each.key, prefix, delimiter)
            if common is not None:
                prefixes.append(common)
                least, after_id = successor(common) or _END, ""
                break
            uploads.append(each)
            least, after_id = each.key, each.upload_id
        else:
            if len(rows) <= limit:
                break
    return UploadPage(tuple(uploads), tuple(prefixes), truncated=False)


async def _read_page(
    tx: Transaction, dmid: int, prefix: bytes, least: bytes, after_id: str, count: int
) -> list[MultipartUpload]:
    """Return uploads with a key from `least` on; of that key only those with an id after `after_id`."""
    end = successor(prefix) or _END
    rows = await tx.rows(
        f"SELECT {_COLUMNS} FROM tawara_multipart WHERE dmid = ? AND {_VISIBLE} AND object_key >= ? AND object_key < ?"
        " AND (object_key > ? OR upload_id > ?) ORDER BY object_key, upload_id LIMIT ?",
        *(dmid, least, end, least, after_id, count),
    )
    return [_upload(row) for row in rows]


async def claim(tx: Transaction, upload_id: str, holder: str, *, now: int, lease: int) -> bool:
    """Hold an upload until `now + lease`, to make its object; False if another process holds it, or it has ended."""
    return bool(
        await tx.run(
            "UPDATE tawara_multipart SET state = ?, holder = ?, due = ? WHERE upload_id = ?"
            " AND (state = ? OR (state = ? AND due < ?))",
            *(UploadState.JOINING.value, holder, now + lease, upload_id),
            *(UploadState.OPEN.value, UploadState.JOINING.value, now),
        )
    )


async def renew(tx: Transaction, upload_id: str, holder: str, *, until: int) -> None:
    """Hold an upload longer; without an effect if it is held no more."""
    await tx.run(
        "UPDATE tawara_multipart SET due = ? WHERE upload_id = ? AND state = ? AND holder = ?",
        *(until, upload_id, UploadState.JOINING.value, holder),
    )


async def release(tx: Transaction, upload_id: str, holder: str) -> None:
    """Let an upload that is held be completed again; without an effect if it is held no more."""
    await tx.run(
        "UPDATE tawara_multipart SET state = ?, due = 0 WHERE upload_id = ? AND state = ? AND holder = ?",
        *(UploadState.OPEN.value, upload_id, UploadState.JOINING.value, holder),
    )


async def complete(tx: Transaction, completion: MultipartCompletion, fid: int) -> bool:
    """End an upload whose object is `fid`, and store the object's parts; False if the holder has lost it."""
    ended = await tx.run(
        "UPDATE tawara_multipart SET state = ?, due = 0, result = ? WHERE upload_id = ? AND state = ? AND holder = ?",
        *(UploadState.DONE.value, completion.result, completion.upload_id),
        *(UploadState.JOINING.value, completion.holder),
    )
    if not ended:
        return False
    await tx.run_many(
        "INSERT INTO tawara_part (fid, number, length, checksum) VALUES (?, ?, ?, ?)",
        [(fid, each.number, each.length, each.checksum) for each in completion.parts],
    )
    return True


async def abort(tx: Transaction, upload_id: str) -> None:
    """Abort an upload, also one that is being completed; its parts are still to be removed. Raises NoSuchUpload."""
    if not await tx.run(
        f"UPDATE tawara_multipart SET state = ?, due = 0 WHERE upload_id = ? AND {_VISIBLE}",
        *(UploadState.ABORTED.value, upload_id),
    ):
        raise NoSuchUpload


# --- parts ------------------------------------------------------------------------------------------------------------


async def list_parts(tx: Transaction, dmid: int, upload_id: str, after: bytes | None, limit: int) -> list[StoredFile]:
    """Return the next parts of an upload after a key, by number."""
    where, values = _parts(tx, dmid, upload_id, after)
    rows = await tx.rows(
        f"{file_rows.select(tx.dialect)} WHERE f.fid IN (SELECT s.fid FROM (SELECT f.fid FROM file f"
        f" WHERE {where} ORDER BY f.dkey LIMIT ?) s) ORDER BY f.dkey",
        *values,
        limit,
    )
    return file_rows.files_of(rows)


async def remove_parts(tx: Transaction, dmid: int, upload_id: str, *, now: int, limit: int = _AT_ONCE) -> int:
    """Remove up to `limit` parts of an upload, and queue their data for deletion; return how many."""
    where, values = _parts(tx, dmid, upload_id, None)
    rows = await tx.rows(
        f"SELECT f.fid FROM file f WHERE {where} ORDER BY f.dkey LIMIT ?{tx.dialect.for_update}", *values, limit
    )
    fids = sorted(row[0] for row in rows)
    if fids:
        padded = rounded(fids)
        await tx.run(f"DELETE FROM file WHERE fid IN ({marks(padded)})", *padded)
        await journal_outbox.of_files(tx, fids)
        await queues.enqueue_deletions(tx, fids, now)
    return len(fids)


async def object_parts(tx: Transaction, fid: int) -> list[ObjectPart]:
    """Return the parts of which an object was made, in order; none for one that was stored whole."""
    rows = await tx.rows("SELECT number, length, checksum FROM tawara_part WHERE fid = ? ORDER BY number", fid)
    return [ObjectPart(*row) for row in rows]


def _parts(tx: Transaction, dmid: int, upload_id: str, after: bytes | None) -> tuple[str, list[object]]:
    conditions, values = tx.dialect.key_range("f.dkey", parts_prefix(upload_id), after)
    return " AND ".join(("f.dmid = ?", *conditions)), [dmid, *values]


# --- maintenance ------------------------------------------------------------------------------------------------------


async def lapse(tx: Transaction, *, before: int, limit: int = 50) -> list[str]:
    """Abort uploads that got no part since `before`; return their ids. Uploads being completed are left alone."""
    rows = await tx.rows(
        "SELECT upload_id, dmid FROM tawara_multipart WHERE state = ? AND initiated_at < ? ORDER BY initiated_at",
        *(UploadState.OPEN.value, before),
    )
    lapsed: list[str] = []
    for upload_id, dmid in rows:
        where, values = _parts(tx, dmid, upload_id, None)
        newest = await tx.row(
            f"SELECT MAX(t.stored_at) FROM file f JOIN tawara_file t ON t.fid = f.fid WHERE {where}", *values
        )
        if newest is not None and newest[0] is not None and newest[0] >= before:
            continue
        lapsed.append(upload_id)
        if len(lapsed) == limit:
            break
    for upload_id in lapsed:
        await tx.run(
            "UPDATE tawara_multipart SET state = ?, due = 0 WHERE upload_id = ? AND state = ?",
            *(UploadState.ABORTED.value, upload_id, UploadState.OPEN.value),
        )
    return lapsed


async def ended(tx: Transaction, *, limit: int) -> list[MultipartUpload]:
    """Return uploads whose parts are to be removed."""
    rows = await tx.rows(
        f"SELECT {_COLUMNS} FROM tawara_multipart WHERE state IN (?, ?) ORDER BY upload_id LIMIT ?",
        *(UploadState.DONE.value, UploadState.ABORTED.value, limit),
    )
    return [_upload(row) for row in rows]


async def finish(tx: Transaction, upload_id: str, *, until: int) -> None:
    """Record that the parts of an ended upload are removed. The result of a completion is kept until `until`."""
    await tx.run(
        "UPDATE tawara_multipart SET state = ?, due = ? WHERE upload_id = ? AND state = ?",
        *(UploadState.FINISHED.value, until, upload_id, UploadState.DONE.value),
    )
    await tx.run("DELETE FROM tawara_multipart WHERE upload_id = ? AND state = ?", upload_id, UploadState.ABORTED.value)


async def forget(tx: Transaction, *, now: int) -> int:
    """Delete the results that are kept no longer; return how many."""
    return await tx.run("DELETE FROM tawara_multipart WHERE state = ? AND due < ?", UploadState.FINISHED.value, now)


async def find_orphans(tx: Transaction, dmid: int) -> list[str]:
    """Return the uploads of which a domain has parts, but no row.

    A part that arrived while its upload was aborted leaves such, as does the database when it is restored or rebuilt.
    """
    if not keeps_reserved(tx.dialect):
        return []  # and keys have another order
    key = tx.dialect.key_column("f.dkey")
    orphans: list[str] = []
    least, end = PARTS, successor(PARTS)
    while True:
        row = await tx.row(
            f"SELECT {key} FROM file f{tx.dialect.by_key} WHERE f.dmid = ? AND f.dkey >= {tx.dialect.key_value}"
            f" AND f.dkey < {tx.dialect.key_value} ORDER BY f.dkey LIMIT 1",
            *(dmid, least, end),
        )
        if row is None:
            return orphans
        found = bytes(row[0])
        upload_id = upload_of(found)
        known = "SELECT 1 FROM tawara_multipart WHERE upload_id = ?"
        if upload_id.isascii() and upload_id.isalnum() and await tx.row(known, upload_id) is None:
            orphans.append(upload_id)
        # Passes over the upload's parts: "0" is the next character after "/".
        least = max(parts_prefix(upload_id)[:-1] + b"0", found + b"\0")


async def remove_domain(tx: Transaction, dmid: int) -> None:
    """Remove all uploads of a domain, with their parts."""
    await tx.run("DELETE FROM tawara_multipart WHERE dmid = ?", dmid)
    for upload_id in await find_orphans(tx, dmid):
        while await remove_parts(tx, dmid, upload_id, now=0):
            pass


def _upload(row: Row) -> MultipartUpload:
    upload_id, dmid, key, classid, devids, account, initiated_at, content_type, attributes, algorithm, kind = row[:11]
    return MultipartUpload(
        upload_id,
        dmid,
        bytes(key),
        classid,
        tuple(int(each) for each in devids.split(",") if each),
        account,
        initiated_at,
        content_type,
        None if attributes is None else bytes(attributes),
        (ChecksumAlgorithm(algorithm), ChecksumType(kind)) if algorithm else None,
        UploadState(row[11]),
        row[12],
    )
