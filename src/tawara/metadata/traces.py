"""Keeps, for diagnosis only, why work was last deferred and which keys were deleted recently.

No decision depends on these rows (`tawara_reason`, `tawara_deleted`). They are written on failures and deletions only,
and removed after a while. Each function is one transaction; times are unix seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from tawara.metadata.contract import Transaction
from tawara.model.explanation import Deleted, Failure, PendingWork

REASONS_RETENTION = 2 * 86400
"""Seconds: longer than any pause between two attempts."""
DELETED_KEPT = 3600
"""Seconds for which the fid of a deleted key is kept."""
_REASON = 255
"""Most characters of a reason that are kept."""


def _hash(key: bytes) -> str:
    return hashlib.sha1(key, usedforsecurity=False).hexdigest()


async def note_failure(tx: Transaction, fid: int, work: PendingWork, failure: Failure) -> None:
    """Store why work for a fid was deferred, replacing an earlier reason."""
    upsert = tx.dialect.upsert("tawara_reason", ("fid", "work"), ("noted_at", "reason"))
    await tx.run(upsert, fid, work.value, failure.at, failure.reason[:_REASON])


async def failures_of(tx: Transaction, fid: int) -> Mapping[PendingWork, Failure]:
    """Return the last reasons for which work for a fid was deferred."""
    rows = await tx.rows("SELECT work, noted_at, reason FROM tawara_reason WHERE fid = ?", fid)
    return {PendingWork(work): Failure(noted_at, reason) for work, noted_at, reason in rows}


async def note_deletion(tx: Transaction, fid: int, dmid: int, key: bytes, *, now: int) -> None:
    """Store the key of a fid that is being deleted."""
    upsert = tx.dialect.upsert("tawara_deleted", ("fid",), ("dmid", "keyhash", "deleted_at"))
    await tx.run(upsert, fid, dmid, _hash(key), now)


async def last_deleted(tx: Transaction, dmid: int, key: bytes) -> Deleted | None:
    """Return the fid to which a key referred when it was last deleted, if that is still stored."""
    row = await tx.row(
        "SELECT fid, deleted_at FROM tawara_deleted WHERE keyhash = ? AND dmid = ? ORDER BY fid DESC LIMIT 1",
        _hash(key),
        dmid,
    )
    return Deleted(row[0], row[1]) if row else None


async def deletion_of(tx: Transaction, fid: int) -> Deleted | None:
    """Return when the key of a fid was deleted, if that is still stored."""
    row = await tx.row("SELECT fid, deleted_at FROM tawara_deleted WHERE fid = ?", fid)
    return Deleted(row[0], row[1]) if row else None


async def forget(tx: Transaction, *, now: int, limit: int = 1000) -> bool:
    """Remove expired rows, up to `limit` of each kind; return whether there may be more."""
    more = False
    for table, column, key, kept in _KINDS:
        rows = await tx.rows(
            f"SELECT {', '.join(key)} FROM {table} WHERE {column} < ?"
            f" ORDER BY {column} LIMIT ?{tx.dialect.skip_locked}",
            now - kept,
            limit,
        )
        await tx.run_many(f"DELETE FROM {table} WHERE {' AND '.join(f'{each} = ?' for each in key)}", rows)
        more = more or len(rows) == limit
    return more


_KINDS = (
    ("tawara_reason", "noted_at", ("fid", "work"), REASONS_RETENTION),
    ("tawara_deleted", "deleted_at", ("fid",), DELETED_KEPT),
)
