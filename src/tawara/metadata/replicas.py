"""Which devices have a replica of which fid (`file_on`), and copies under way (`tawara_copy`).

A copy is announced before its first byte is written and recorded in the transaction that ends the announcement. A
worker that dies in between leaves the announcement, by which another finds the bytes that no row names.
Each function is one transaction; times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from tawara.metadata import journal_outbox, queues, runs
from tawara.metadata.contract import Transaction
from tawara.model.errors import LeaseLost
from tawara.model.files import CopyReservation

COPY_LEASE = 6 * 3600
"""Seconds after which a copy that was neither recorded nor given up is swept."""
LATE = 60
"""Seconds for which the bytes of a write that was given up may still come: the node had them, and hung."""


async def devices_of(tx: Transaction, fid: int) -> tuple[int, ...]:
    """The devices that have a replica of `fid`."""
    return tuple(row[0] for row in await tx.rows("SELECT devid FROM file_on WHERE fid = ? ORDER BY devid", fid))


async def counts(tx: Transaction, fids: Sequence[int]) -> dict[int, int]:
    """How many replicas these fids have; those that have none are left out."""
    if not fids:
        return {}
    marks = ", ".join("?" * len(fids))
    return dict(await tx.rows(f"SELECT fid, COUNT(*) FROM file_on WHERE fid IN ({marks}) GROUP BY fid", *fids))


async def reserve_copy(tx: Transaction, fid: int, devid: int, *, now: int, lease: int = COPY_LEASE) -> bool:
    """Say that bytes of `fid` will be written to `devid`; False if someone else is at it, or it is there already."""
    if await tx.row("SELECT 1 FROM file_on WHERE fid = ? AND devid = ?", fid, devid) is not None:
        return False
    insert = tx.dialect.insert_or_ignore("tawara_copy", ("fid", "devid", "lease"))
    return await tx.run(insert, fid, devid, now + lease) == 1


async def record_orphan(tx: Transaction, fid: int, devid: int, *, now: int, late: int = 0) -> None:
    """Say that a write of `fid` to `devid` failed and may have left bytes there, to be swept in `late` seconds."""
    insert = tx.dialect.insert_or_ignore("tawara_copy", ("fid", "devid", "lease"))
    await tx.run(insert, fid, devid, now + late)


async def record_copy(tx: Transaction, fid: int, devid: int, *, now: int) -> bool:
    """Make the announced copy, which is whole and fsynced, a replica.

    False if no key names the fid any more: the place stays announced, and its bytes are the caller's to delete. No row
    is then written that a mogilefsd may be about to write, too: it deletes a file's row in one commit and queues the
    fid in another, and where it finds the fid queued already, its overwrite fails halfway (not on MySQL).
    Raises LeaseLost if the announcement was swept meanwhile, and perhaps the bytes with it.
    """
    place = "WHERE fid = ? AND devid = ?"
    if await tx.row(f"SELECT 1 FROM file WHERE fid = ?{tx.dialect.for_update}", fid) is None:
        if await tx.row(f"SELECT 1 FROM tawara_copy {place} AND lease > 0", fid, devid) is None:
            raise LeaseLost
        return False
    announced = await tx.run(f"DELETE FROM tawara_copy {place} AND lease > 0", fid, devid)
    if not announced and await tx.row(f"SELECT 1 FROM file_on {place}", fid, devid) is None:
        raise LeaseLost
    await tx.run(tx.dialect.insert_or_ignore("file_on", ("fid", "devid")), fid, devid)
    await journal_outbox.of_places(tx, [(fid, devid)])
    await update_devcount(tx, fid)
    return True


async def cancel_copy(tx: Transaction, fid: int, devid: int) -> None:
    """The announced copy was given up and none of its bytes are left on the device."""
    await tx.run("DELETE FROM tawara_copy WHERE fid = ? AND devid = ?", fid, devid)


async def end_reservation(tx: Transaction, held: CopyReservation) -> bool:
    """None of the bytes are left at the place that was held; False, and nothing is changed, if it is not held now."""
    return bool(await tx.run("DELETE FROM tawara_copy WHERE fid = ? AND devid = ? AND lease = ?", *held))


async def claim_abandoned_copies(
    tx: Transaction, *, now: int, limit: int = 50, lease: int = queues.LEASE
) -> list[CopyReservation]:
    """Take over up to `limit` copies whose lease ran out, for another; delete their bytes, then end the announcements.

    Those that are replicas by now are only forgotten. The lease of one that is being swept is kept as a negative
    number, so that a worker that had stalled, and goes on, does not record what is being deleted.
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
    """The device has no replica of `fid` any more (its bytes are gone, or the device is)."""
    await tx.run("DELETE FROM file_on WHERE fid = ? AND devid = ?", fid, devid)
    await update_devcount(tx, fid)
    await journal_outbox.of_places(tx, [(fid, devid)])


async def was_found_bad(tx: Transaction, fid: int, devid: int) -> bool:
    """Whether a check has found what the device holds under this fid to be of a wrong length, or of wrong bytes.

    Slow, for the logs are not sorted by fid.
    """
    for log in ("fsck_log", "tawara_scrub_log"):
        found = f"SELECT 1 FROM {log} WHERE fid = ? AND devid = ? AND evcode IN ('BLEN', 'BSUM') LIMIT 1"
        if await tx.row(found, fid, devid) is not None:
            return True
    return False


async def remove_surplus_replica(
    tx: Transaction, fid: int, devid: int, *, among: frozenset[int], now: int, lease: int = COPY_LEASE
) -> bool:
    """Do without one of the replicas `among`: from now on it is none, and its bytes are to be deleted, then retracted.

    False, and nothing is changed, if the fid does not have exactly those replicas any more, so that two workers never
    trim each other's remaining one.
    """
    rows = await tx.rows(f"SELECT devid FROM file_on WHERE fid = ?{tx.dialect.for_update}", fid)
    if devid not in among or among != {row[0] for row in rows}:
        return False
    await drop_replica(tx, fid, devid)
    await tx.run(tx.dialect.upsert("tawara_copy", ("fid", "devid"), ("lease",)), fid, devid, now + lease)
    return True


async def empty_dead_device(tx: Transaction, devid: int, *, limit: int, now: int) -> int | None:
    """Forget up to `limit` replicas on a device that is dead, and queue their fids for replication; how many
    (docs/mogilefs.md 11.3).

    The settings queue_rate_for_reaper and queue_size_for_reaper lower that; None when the queue is full enough.
    A deletion that waited for the device waits no longer.
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
    """Bring `file.devcount` up to the replicas that there are."""
    # Counted only when the row is ours, so that the last of several at once sees what all others did.
    if tx.dialect.for_update and await tx.row(f"SELECT 1 FROM file WHERE fid = ?{tx.dialect.for_update}", fid) is None:
        return
    if tx.dialect.locks_are_local:
        # The row is changed even if the count stays as it is: of two that change a file's replicas, one is refused.
        await tx.run("UPDATE file SET devcount = CASE devcount WHEN 0 THEN 1 ELSE 0 END WHERE fid = ?", fid)
    await tx.run("UPDATE file SET devcount = (SELECT COUNT(*) FROM file_on WHERE fid = ?) WHERE fid = ?", fid, fid)
