"""Queued work, and the leases by which workers claim it.

The tables are `file_to_replicate`, `file_to_delete2`, and `file_to_queue` for checks and moves. A claim sets a row's
`nexttry` to the end of the lease: if the worker dies, the row becomes due again. A row is finished or postponed only
while its lease is held, so that work which was queued again in the meantime is not lost. docs/mogilefs.md 15. Each
function is one transaction; times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tawara.metadata import deferrals, traces
from tawara.metadata.contract import Transaction
from tawara.metadata.deferrals import NO_DEVICES, BlockedOn
from tawara.model.explanation import Failure, PendingWork
from tawara.model.files import Deletion, QueuedTask, Replication, TaskType
from tawara.model.limits import END_OF_TIME, FAILCOUNT

LEASE = 1000
"""Seconds for which a claimed row belongs to its worker, the same as MogileFS's."""


# --- replication ------------------------------------------------------------------------------------------------------


async def enqueue_replication(tx: Transaction, fid: int, *, nexttry: int = 0, from_devid: int | None = None) -> None:
    """Queue `fid` for a check of its replicas, at once or at `nexttry`."""
    upsert = tx.dialect.upsert("file_to_replicate", ("fid",), ("nexttry", "fromdevid", "failcount", "flags"))
    await tx.run(upsert, fid, nexttry, from_devid, 0, 0)


async def urgency(tx: Transaction, fid: int, *, now: int) -> int:
    """Return the `nexttry` of a fid that is due now: before all others as long as it has no second replica."""
    row = await tx.row("SELECT COUNT(*) FROM file_on WHERE fid = ?", fid)
    return now if row and row[0] > 1 else 0


async def ensure_replication(tx: Transaction, fid: int, *, now: int) -> None:
    """Queue `fid` for a check of its replicas, unless it is claimed or due within a lease."""
    insert = tx.dialect.insert_or_ignore("file_to_replicate", ("fid", "nexttry", "failcount", "flags"))
    if await tx.run(insert, fid, await urgency(tx, fid, now=now), 0, 0) == 0:
        far = now + LEASE
        await tx.run("UPDATE file_to_replicate SET nexttry = ? WHERE fid = ? AND nexttry > ?", now, fid, far)


async def claim_replications(tx: Transaction, *, limit: int, now: int, lease: int = LEASE) -> list[Replication]:
    """Claim up to `limit` due rows until `now + lease`, longest due first. Their `nexttry` is the end of the lease."""
    rows = await tx.rows(
        "SELECT fid, fromdevid, failcount, flags FROM file_to_replicate WHERE nexttry <= ?"
        f" ORDER BY nexttry LIMIT ?{tx.dialect.skip_locked}",
        now,
        limit,
    )
    await tx.run_many("UPDATE file_to_replicate SET nexttry = ? WHERE fid = ?", [(now + lease, row[0]) for row in rows])
    return [Replication(row[0], now + lease, row[1], row[2], row[3]) for row in rows]


async def hold_replication(tx: Transaction, claim: Replication) -> None:
    """Insert the claimed row again if another worker with a claim of the fid has finished it in the meantime."""
    insert = tx.dialect.insert_or_ignore("file_to_replicate", ("fid", "nexttry", "fromdevid", "failcount", "flags"))
    await tx.run(insert, claim.fid, claim.nexttry, claim.from_devid, claim.failcount, claim.flags)


async def finish_replication(tx: Transaction, claim: Replication) -> None:
    """Remove a claimed row."""
    await tx.run("DELETE FROM file_to_replicate WHERE fid = ? AND nexttry = ?", claim.fid, claim.nexttry)


async def postpone_replication(
    tx: Transaction,
    claim: Replication,
    *,
    nexttry: int,
    failcount: int,
    failure: Failure | None = None,
    blocked_on: BlockedOn = NO_DEVICES,
) -> None:
    """Retry the fid at `nexttry`. `failure`: the reason to store; `blocked_on`: the devices that caused it."""
    await _postpone(tx, PendingWork.REPLICATE, claim, nexttry, failcount, failure, blocked_on)


async def next_replication(tx: Transaction) -> int | None:
    """Return when the next row is due; None if the queue is empty."""
    return await _next(tx, PendingWork.REPLICATE)


async def replicate_now(tx: Transaction, *, now: int) -> int:
    """Make all postponed rows due; return how many (docs/mogilefs.md 4, replicate_now)."""
    return await tx.run("UPDATE file_to_replicate SET nexttry = ? WHERE nexttry > ?", now, now)


# --- deletion ---------------------------------------------------------------------------------------------------------


async def enqueue_deletion(tx: Transaction, fid: int, nexttry: int) -> None:
    """Queue the deletion of the data of `fid` from all devices. No key may refer to it any more."""
    upsert = tx.dialect.upsert("file_to_delete2", ("fid",), ("nexttry", "failcount"))
    await tx.run(upsert, fid, nexttry, 0)


async def enqueue_deletions(tx: Transaction, fids: Sequence[int], nexttry: int) -> None:
    """The same for several fids."""
    upsert = tx.dialect.upsert("file_to_delete2", ("fid",), ("nexttry", "failcount"))
    await tx.run_many(upsert, [(fid, nexttry, 0) for fid in fids])


async def claim_deletions(tx: Transaction, *, limit: int, now: int, lease: int = LEASE) -> list[Deletion]:
    """Claim up to `limit` due rows until `now + lease`, longest due first."""
    rows = await tx.rows(
        "SELECT fid, failcount FROM file_to_delete2 WHERE nexttry <= ?"
        f" ORDER BY nexttry LIMIT ?{tx.dialect.skip_locked}",
        now,
        limit,
    )
    await tx.run_many("UPDATE file_to_delete2 SET nexttry = ? WHERE fid = ?", [(now + lease, row[0]) for row in rows])
    return [Deletion(row[0], now + lease, row[1]) for row in rows]


async def finish_deletion(tx: Transaction, claim: Deletion) -> bool:
    """Remove the fid if no replica and no reserved copy is left; return whether it was removed."""
    for table in ("file_on", "tawara_copy"):
        if await tx.row(f"SELECT 1 FROM {table} WHERE fid = ?", claim.fid) is not None:
            return False
    if await tx.run("DELETE FROM file_to_delete2 WHERE fid = ? AND nexttry = ?", claim.fid, claim.nexttry) == 0:
        return False
    for table in ("checksum", "tawara_file", "tawara_mtime", "tawara_part", "tempfile", "file_to_replicate"):
        await tx.run(f"DELETE FROM {table} WHERE fid = ?", claim.fid)
    return True


async def retry_all_deferred(tx: Transaction, *, now: int, failures: int = FAILCOUNT) -> int:
    """Make work due that was deferred after a failure, in all queues; return how many rows.

    Work that needs manual intervention stays deferred. So does a replication or deletion that has failed more often
    than `failures`.
    """
    alone = "(SELECT COUNT(*) FROM file_on o WHERE o.fid = file_to_replicate.fid) <= 1"  # see urgency
    rescheduled = 0
    for table, due in (("file_to_replicate", f"CASE WHEN {alone} THEN 0 ELSE ? END"), ("file_to_delete2", "?")):
        deferred = "nexttry > ? AND nexttry < ? AND failcount > 0 AND failcount <= ?"
        rescheduled += await tx.run(
            f"UPDATE {table} SET nexttry = {due} WHERE {deferred}", now, now, END_OF_TIME, failures
        )
    task_queue = "UPDATE file_to_queue SET nexttry = ? WHERE nexttry > ? AND nexttry < ? AND failcount > 0"
    return rescheduled + await tx.run(task_queue, now, now, END_OF_TIME)


async def retry_deletion(tx: Transaction, fid: int, nexttry: int) -> None:
    """If the fid is queued for deletion, retry it at `nexttry` at the latest."""
    await tx.run("UPDATE file_to_delete2 SET nexttry = ? WHERE fid = ? AND nexttry > ?", nexttry, fid, nexttry)


async def forget_deletion(tx: Transaction, claim: Deletion) -> None:
    """Remove only the fid's row from the queue."""
    await tx.run("DELETE FROM file_to_delete2 WHERE fid = ? AND nexttry = ?", claim.fid, claim.nexttry)


async def postpone_deletion(
    tx: Transaction,
    claim: Deletion,
    *,
    nexttry: int,
    failcount: int,
    failure: Failure | None = None,
    blocked_on: BlockedOn = NO_DEVICES,
) -> None:
    """Retry the fid at `nexttry`. `failure`: the reason to store; `blocked_on`: the devices that caused it."""
    await _postpone(tx, PendingWork.DELETE, claim, nexttry, failcount, failure, blocked_on)


async def next_deletion(tx: Transaction) -> int | None:
    """Return when the next row is due; None if the queue is empty."""
    return await _next(tx, PendingWork.DELETE)


# --- common to replication and deletion -------------------------------------------------------------------------------

_TABLES = {PendingWork.REPLICATE: "file_to_replicate", PendingWork.DELETE: "file_to_delete2"}


async def _postpone(
    tx: Transaction,
    work: PendingWork,
    claim: Replication | Deletion,
    nexttry: int,
    failcount: int,
    failure: Failure | None,
    blocked_on: BlockedOn,
) -> None:
    postponed = await tx.run(
        f"UPDATE {_TABLES[work]} SET nexttry = ?, failcount = ? WHERE fid = ? AND nexttry = ?",
        nexttry,
        min(failcount, FAILCOUNT),
        claim.fid,
        claim.nexttry,
    )
    if postponed and failure:
        await traces.note_failure(tx, claim.fid, work, failure)
        await deferrals.note(tx, blocked_on, now=failure.at)


async def _next(tx: Transaction, work: PendingWork) -> int | None:
    row = await tx.row(f"SELECT MIN(nexttry) FROM {_TABLES[work]}")
    return row[0] if row else None


# --- checks and moves -------------------------------------------------------------------------------------------------


async def enqueue_tasks(
    tx: Transaction, task_type: TaskType, items: Iterable[tuple[int, int | None, str]], *, now: int
) -> None:
    """Queue (fid, devid, arg) as due tasks. A fid that is queued for the same type already is left as it is."""
    columns = ("fid", "devid", "type", "nexttry", "failcount", "flags", "arg")
    insert = tx.dialect.insert_or_ignore("file_to_queue", columns)
    await tx.run_many(insert, [(fid, devid, int(task_type), now, 0, 0, arg or None) for fid, devid, arg in items])


async def claim_tasks(
    tx: Transaction, task_type: TaskType, *, limit: int, now: int, lease: int = LEASE
) -> list[QueuedTask]:
    """Claim up to `limit` due rows until `now + lease`, longest due first."""
    rows = await tx.rows(
        "SELECT fid, failcount, devid, arg FROM file_to_queue WHERE type = ? AND nexttry <= ?"
        f" ORDER BY nexttry, fid LIMIT ?{tx.dialect.skip_locked}",
        int(task_type),
        now,
        limit,
    )
    await tx.run_many(
        "UPDATE file_to_queue SET nexttry = ? WHERE fid = ? AND type = ?",
        [(now + lease, row[0], int(task_type)) for row in rows],
    )
    return [QueuedTask(row[0], task_type, now + lease, row[1], row[2], row[3] or "") for row in rows]


async def finish_tasks(tx: Transaction, claims: Sequence[QueuedTask]) -> None:
    """Remove claimed tasks."""
    await tx.run_many(
        "DELETE FROM file_to_queue WHERE fid = ? AND type = ? AND nexttry = ?",
        [(claim.fid, int(claim.task_type), claim.nexttry) for claim in claims],
    )


async def postpone_task(
    tx: Transaction,
    claim: QueuedTask,
    *,
    nexttry: int,
    failcount: int,
    failure: Failure | None = None,
    blocked_on: BlockedOn = NO_DEVICES,
) -> None:
    """Retry the task at `nexttry`. `failure`: the reason to store; `blocked_on`: the devices that caused it."""
    postponed = await tx.run(
        "UPDATE file_to_queue SET nexttry = ?, failcount = ? WHERE fid = ? AND type = ? AND nexttry = ?",
        nexttry,
        min(failcount, FAILCOUNT),
        claim.fid,
        int(claim.task_type),
        claim.nexttry,
    )
    if postponed and failure:
        work = PendingWork.CHECK if claim.task_type in (TaskType.CHECK, TaskType.SCRUB) else PendingWork.MOVE
        await traces.note_failure(tx, claim.fid, work, failure)
        await deferrals.note(tx, blocked_on, now=failure.at)


async def cancel_tasks(tx: Transaction, task_type: TaskType, *, now: int) -> list[tuple[int, int]]:
    """Remove due, unclaimed tasks; return their (fid, bytes) in order of fid, 0 bytes if no file has the fid."""
    rows = await tx.rows(
        "SELECT q.fid, f.length FROM file_to_queue q LEFT JOIN file f ON f.fid = q.fid"
        " WHERE q.type = ? AND q.nexttry <= ? AND q.failcount = 0 ORDER BY q.fid",
        int(task_type),
        now,
    )
    await tx.run("DELETE FROM file_to_queue WHERE type = ? AND nexttry <= ? AND failcount = 0", int(task_type), now)
    return [(row[0], row[1] or 0) for row in rows]


async def next_task_due(tx: Transaction, task_type: TaskType) -> int | None:
    """Return when the next row is due; None if no task of the type is queued."""
    row = await tx.row("SELECT MIN(nexttry) FROM file_to_queue WHERE type = ?", int(task_type))
    return row[0] if row else None


async def count_tasks(tx: Transaction, task_type: TaskType, *, failed: bool = True) -> int:
    """Count the tasks of a type, including claimed ones; without those that failed before unless `failed`."""
    condition = "" if failed else " AND failcount = 0"
    row = await tx.row(f"SELECT COUNT(*) FROM file_to_queue WHERE type = ?{condition}", int(task_type))
    return row[0] if row else 0


async def next_urgent(tx: Transaction) -> tuple[int | None, int | None]:
    """Return when the next replication and the next deletion are due; None for an empty queue."""
    row = await tx.row(
        "SELECT (SELECT MIN(nexttry) FROM file_to_replicate), (SELECT MIN(nexttry) FROM file_to_delete2)"
    )
    assert row
    return row[0], row[1]


async def backlog(tx: Transaction) -> dict[str, int]:
    """Return the number of rows in each queue."""
    counts = {}
    for name, table in (("replicate", "file_to_replicate"), ("delete", "file_to_delete2"), ("uploads", "tempfile")):
        row = await tx.row(f"SELECT COUNT(*) FROM {table}")
        counts[name] = row[0] if row else 0
    return counts
