"""Queued work, and the leases by which workers claim it (`file_to_replicate`, `file_to_delete2`).

A claim moves a row's `nexttry` to the end of the lease: if the worker dies, the row falls due by itself. Whoever
finishes or postpones a row does so only while it still holds that lease, so that work which was queued again meanwhile
is not forgotten. Reference: section 15. Each function is one transaction; times are unix seconds.
"""

from __future__ import annotations

from tawara.metadata.contract import Transaction
from tawara.model.files import Deletion, Replication
from tawara.model.limits import END_OF_TIME

LEASE = 1000
"""Seconds for which a claimed row belongs to its worker, the same as MogileFS's."""


# --- replication ------------------------------------------------------------------------------------------------------


async def enqueue_replication(tx: Transaction, fid: int, *, nexttry: int = 0, from_devid: int | None = None) -> None:
    """Have a worker look at the replicas of `fid`, at once or at `nexttry`."""
    upsert = tx.dialect.upsert("file_to_replicate", ("fid",), ("nexttry", "fromdevid", "failcount", "flags"))
    await tx.run(upsert, fid, nexttry, from_devid, 0, 0)


async def claim_replications(tx: Transaction, *, limit: int, now: int, lease: int = LEASE) -> list[Replication]:
    """Take up to `limit` due rows until `now + lease`, longest due first. Their `nexttry` is the end of the lease."""
    rows = await tx.rows(
        "SELECT fid, fromdevid, failcount, flags FROM file_to_replicate WHERE nexttry <= ?"
        f" ORDER BY nexttry LIMIT ?{tx.dialect.skip_locked}",
        now,
        limit,
    )
    await tx.run_many("UPDATE file_to_replicate SET nexttry = ? WHERE fid = ?", [(now + lease, row[0]) for row in rows])
    return [Replication(row[0], now + lease, row[1], row[2], row[3]) for row in rows]


async def finish_replication(tx: Transaction, claim: Replication) -> None:
    """Nothing is left to do for the fid."""
    await tx.run("DELETE FROM file_to_replicate WHERE fid = ? AND nexttry = ?", claim.fid, claim.nexttry)


async def postpone_replication(tx: Transaction, claim: Replication, *, nexttry: int, failcount: int) -> None:
    """Look at the fid again at `nexttry`."""
    await tx.run(
        "UPDATE file_to_replicate SET nexttry = ?, failcount = ? WHERE fid = ? AND nexttry = ?",
        nexttry,
        failcount,
        claim.fid,
        claim.nexttry,
    )


async def next_replication(tx: Transaction) -> int | None:
    """When the next row falls due; None if the queue is empty."""
    row = await tx.row("SELECT MIN(nexttry) FROM file_to_replicate")
    return row[0] if row else None


async def replicate_now(tx: Transaction, *, now: int) -> int:
    """Make all postponed rows due; how many (reference: replicate_now)."""
    return await tx.run("UPDATE file_to_replicate SET nexttry = ? WHERE nexttry > ?", now, now)


# --- deletion ---------------------------------------------------------------------------------------------------------


async def enqueue_deletion(tx: Transaction, fid: int, nexttry: int) -> None:
    """Have a worker delete the bytes of `fid` wherever they lie. No key may name it any more."""
    upsert = tx.dialect.upsert("file_to_delete2", ("fid",), ("nexttry", "failcount"))
    await tx.run(upsert, fid, nexttry, 0)


async def claim_deletions(tx: Transaction, *, limit: int, now: int, lease: int = LEASE) -> list[Deletion]:
    """Take up to `limit` due rows until `now + lease`, longest due first."""
    rows = await tx.rows(
        "SELECT fid, failcount FROM file_to_delete2 WHERE nexttry <= ?"
        f" ORDER BY nexttry LIMIT ?{tx.dialect.skip_locked}",
        now,
        limit,
    )
    await tx.run_many("UPDATE file_to_delete2 SET nexttry = ? WHERE fid = ?", [(now + lease, row[0]) for row in rows])
    return [Deletion(row[0], now + lease, row[1]) for row in rows]


async def finish_deletion(tx: Transaction, claim: Deletion) -> bool:
    """Forget the fid, if no replica and no copy under way is left; whether that was so."""
    for table in ("file_on", "tawara_copy"):
        if await tx.row(f"SELECT 1 FROM {table} WHERE fid = ?", claim.fid) is not None:
            return False
    if await tx.run("DELETE FROM file_to_delete2 WHERE fid = ? AND nexttry = ?", claim.fid, claim.nexttry) == 0:
        return False
    for table in ("checksum", "tawara_file", "tempfile", "file_to_replicate"):
        await tx.run(f"DELETE FROM {table} WHERE fid = ?", claim.fid)
    return True


async def hasten_all(tx: Transaction, *, now: int) -> int:
    """Make due what was put off because it failed, in both queues, but for what waits for a person; how many."""
    hastened = 0
    for table in ("file_to_replicate", "file_to_delete2"):
        hastened += await tx.run(
            f"UPDATE {table} SET nexttry = ? WHERE nexttry > ? AND nexttry < ? AND failcount > 0", now, now, END_OF_TIME
        )
    return hastened


async def hasten_deletion(tx: Transaction, fid: int, nexttry: int) -> None:
    """If the fid is queued for deletion, try it at `nexttry` at the latest."""
    await tx.run("UPDATE file_to_delete2 SET nexttry = ? WHERE fid = ? AND nexttry > ?", nexttry, fid, nexttry)


async def forget_deletion(tx: Transaction, claim: Deletion) -> None:
    """Take the fid out of the queue, and leave everything else of it as it is."""
    await tx.run("DELETE FROM file_to_delete2 WHERE fid = ? AND nexttry = ?", claim.fid, claim.nexttry)


async def postpone_deletion(tx: Transaction, claim: Deletion, *, nexttry: int, failcount: int) -> None:
    """Try the fid again at `nexttry`."""
    await tx.run(
        "UPDATE file_to_delete2 SET nexttry = ?, failcount = ? WHERE fid = ? AND nexttry = ?",
        nexttry,
        failcount,
        claim.fid,
        claim.nexttry,
    )


async def next_deletion(tx: Transaction) -> int | None:
    """When the next row falls due; None if the queue is empty."""
    row = await tx.row("SELECT MIN(nexttry) FROM file_to_delete2")
    return row[0] if row else None


async def backlog(tx: Transaction) -> dict[str, int]:
    """How many rows wait in each queue."""
    counts = {}
    for name, table in (("replicate", "file_to_replicate"), ("delete", "file_to_delete2"), ("uploads", "tempfile")):
        row = await tx.row(f"SELECT COUNT(*) FROM {table}")
        counts[name] = row[0] if row else 0
    return counts
