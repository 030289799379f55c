"""Replicas by device (`file_on`), and reserved copies (`tawara_copy`).

A copy is reserved before its first byte is written, and recorded in the transaction that ends the reservation. If the
worker dies in between, another one finds the unrecorded bytes by the reservation and deletes them.
Each function is one transaction; times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from tawara.metadata import journal_outbox, queues, runs
from tawara.metadata.contract import Transaction
from tawara.model.errors import LeaseLost
from tawara.model.files import CopyReservation

COPY_LEASE = 6 * 3600
"""Seconds after which a copy that was neither recorded nor cancelled is cleaned up."""
LATE = 60
"""Seconds for which bytes of a cancelled write may still be stored, by a node that hung."""


async def devices_of(tx: Transaction, fid: int) -> tuple[int, ...]:
    """Return the devices that have a replica of `fid`."""
    return tuple(row[0] for row in await tx.rows("SELECT devid FROM file_on WHERE fid = ? ORDER BY devid", fid))


async def counts(tx: Transaction, fids: Sequence[int]) -> dict[int, int]:
    """Return the number of replicas of these fids; fids without replicas are left out."""
    if not fids:
        return {}
    marks = ", ".join("?" * len(fids))
    return dict(await tx.rows(f"SELECT fid, COUNT(*) FROM file_on WHERE fid IN ({marks}) GROUP BY fid", *fids))


async def reserve_copy(tx: Transaction, fid: int, devid: int, *, now: int, lease: int = COPY_LEASE) -> bool:
    """Reserve the copy of `fid` to `devid`; return False if it is reserved already, or the device has a replica."""
    if await tx.row("SELECT 1 FROM file_on WHERE fid = ? AND devid = ?", fid, devid) is not None:
        return False
    insert = tx.dialect.insert_or_ignore("tawara_copy", ("fid", "devid", "lease"))
    return await tx.run(insert, fid, devid, now + lease) == 1


async def record_orphan(tx: Transaction, fid: int, devid: int, *, now: int, late: int = 0) -> None:
    """Record that a failed write of `fid` may have left bytes on `devid`, to be cleaned up in `late` seconds."""
    insert = tx.dialect.insert_or_ignore("tawara_copy", ("fid", "devid", "lease"))
    await tx.run(insert, fid, devid, now + late)


async def record_copy(tx: Transaction, fid: int, devid: int, *, now: int) -> bool:
    """Turn a reserved copy, which is complete and fsynced, into a replica.

    Returns False if no key refers to the fid any more: the copy stays reserved, and the caller deletes its data. In
    that case no row is written that a mogilefsd may be about to write, too: it deletes a file's row in one commit and
    queues the fid in another, and where it finds the fid queued already, its overwrite fails halfway (not on MySQL).
    Raises LeaseLost if the reservation was cleaned up in the meantime, perhaps with the data.
    """
    place = "WHERE fid = ? AND devid = ?"
    if await tx.row(f"SELECT 1 FROM file WHERE fid = ?{tx.dialect.for_update}", fid) is None:
        if await tx.row(f"SELECT 1 FROM tawara_copy {place} AND lease > 0", fid, devid) is None:
            raise LeaseLost
        return False
    reserved = await tx.run(f"DELETE FROM tawara_copy {place} AND lease > 0", fid, devid)
    if not reserved and await tx.row(f"SELECT 1 FROM file_on {place}", fid, devid) is None:
        raise LeaseLost
    await tx.run(tx.dialect.insert_or_ignore("file_on", ("fid", "devid")), fid, devid)
    await journal_outbox.of_places(tx, [(fid, devid)])
    await update_devcount(tx, fid)
    return True


async def cancel_copy(tx: Transaction, fid: int, devid: int) -> None:
    """Remove the reservation of a cancelled copy that left no data on the device."""
    await tx.run("DELETE FROM tawara_copy WHERE fid = ? AND devid = ?", fid, devid)


async def end_reservation(tx: Transaction, held: CopyReservation) -> bool:
    """Remove a held reservation that left no data; return False, having changed nothing, if its lease was lost."""
    return bool(await tx.run("DELETE FROM tawara_copy WHERE fid = ? AND devid = ? AND lease = ?", *held))


async def claim_abandoned_copies(
    tx: Transaction, *, now: int, limit: int = 50, lease: int = queues.LEASE
) -> list[CopyReservation]:
    """Claim up to `limit` reservations whose lease ran out; the caller deletes the data and ends the reservations.

    Reservations of copies that are replicas by now are only removed. During cleanup the lease is negative, so that a
    worker that stalled and resumes does not record a copy that is being deleted.
    """
    rows = await tx.rows(
        "SELECT fid, devid FROM tawara_copy WHERE lease BETWEEN 1 AND ? OR lease BETWEEN ? AND -1"
        f" ORDER BY lease LIMIT ?{tx.dialect.skip_locked}",
        now,
        -now,
        limit,
    )
    abandoned: list[CopyReservation] = []
    for fid, devid in rows:
        if await tx.row("SELECT 1 FROM file_on WHERE fid = ? AND devid = ?", fid, devid) is not None:
            await cancel_copy(tx, fid, devid)
        else:
            abandoned.append(CopyReservation(fid, devid, -now - lease))
    await tx.run_many(
        "UPDATE tawara_copy SET lease = ? WHERE fid = ? AND devid = ?",
        [(each.lease, each.fid, each.devid) for each in abandoned],
    )
    return abandoned


async def drop_replica(tx: Transaction, fid: int, devid: int) -> None:
    """Remove a replica whose data or device is gone."""
    await tx.run("DELETE FROM file_on WHERE fid = ? AND devid = ?", fid, devid)
    await update_devcount(tx, fid)
    await journal_outbox.of_places(tx, [(fid, devid)])


async def was_found_bad(tx: Transaction, fid: int, devid: int) -> bool:
    """Whether fsck or scrub logged a wrong length or checksum for this replica.

    Slow: the logs have no index by fid.
    """
    for log in ("fsck_log", "tawara_scrub_log"):
        found = f"SELECT 1 FROM {log} WHERE fid = ? AND devid = ? AND evcode IN ('BLEN', 'BSUM') LIMIT 1"
        if await tx.row(found, fid, devid) is not None:
            return True
    return False


async def remove_surplus_replica(
    tx: Transaction, fid: int, devid: int, *, among: frozenset[int], now: int, lease: int = COPY_LEASE
) -> bool:
    """Remove one of the replicas `among`, and reserve its place; the caller deletes the data, then cancels it.

    Returns False, having changed nothing, if the fid does not have exactly those replicas any more, so that two workers
    never remove the last two replicas at once.
    """
    rows = await tx.rows(f"SELECT devid FROM file_on WHERE fid = ?{tx.dialect.for_update}", fid)
    if devid not in among or among != {row[0] for row in rows}:
        return False
    await drop_replica(tx, fid, devid)
    await tx.run(tx.dialect.upsert("tawara_copy", ("fid", "devid"), ("lease",)), fid, devid, now + lease)
    return True


async def empty_dead_device(tx: Transaction, devid: int, *, limit: int, now: int) -> int | None:
    """Remove up to `limit` replicas on a dead device, and queue their fids for replication; return how many.

    The settings queue_rate_for_reaper and queue_size_for_reaper lower the limit; returns None if the queue is full.
    Deletions that were deferred because of the device become due. docs/mogilefs.md 11.3.
    """
    found = await runs.settings(tx, "queue_")
    limit = min(limit, runs.number(found.get("queue_rate_for_reaper")) or limit)
    if most := runs.number(found.get("queue_size_for_reaper")):
        waiting = await tx.row("SELECT COUNT(*) FROM file_to_replicate")
        limit = min(limit, most - (waiting[0] if waiting else 0))
        if limit <= 0:
            return None
    if await tx.row(f"SELECT 1 FROM device WHERE devid = ? AND status = 'dead'{tx.dialect.for_update}", devid) is None:
        return 0
    fids = [row[0] for row in await tx.rows("SELECT fid FROM file_on WHERE devid = ? LIMIT ?", devid, limit)]
    for fid in fids:
        await drop_replica(tx, fid, devid)
        await queues.enqueue_replication(tx, fid, nexttry=await queues.urgency(tx, fid, now=now))
        await queues.retry_deletion(tx, fid, now)
    return len(fids)


async def update_devcount(tx: Transaction, fid: int) -> None:
    """Set `file.devcount` to the number of replicas."""
    # Counted with the row locked, so that the last of several concurrent changes sees all of them.
    if tx.dialect.for_update and await tx.row(f"SELECT 1 FROM file WHERE fid = ?{tx.dialect.for_update}", fid) is None:
        return
    if tx.dialect.locks_are_local:
        # Changing the row in any case makes Galera refuse one of two concurrent changes of a file's replicas.
        await tx.run("UPDATE file SET devcount = CASE devcount WHEN 0 THEN 1 ELSE 0 END WHERE fid = ?", fid)
    await tx.run("UPDATE file SET devcount = (SELECT COUNT(*) FROM file_on WHERE fid = ?) WHERE fid = ?", fid, fid)
