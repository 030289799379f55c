"""Which devices have a replica of which fid (`file_on`), and copies under way (`tawara_copy`).

A copy is announced before its first byte is written and recorded in the transaction that ends the announcement. A
worker that dies in between leaves the announcement, by which another finds the bytes that no row names.
Each function is one transaction; times are unix seconds.
"""

from __future__ import annotations

from tawara.metadata import queues
from tawara.metadata.contract import Transaction

COPY_LEASE = 6 * 3600
"""Seconds after which a copy that was neither recorded nor given up is swept."""


async def devices_of(tx: Transaction, fid: int) -> tuple[int, ...]:
    """The devices that have a replica of `fid`."""
    return tuple(row[0] for row in await tx.rows("SELECT devid FROM file_on WHERE fid = ? ORDER BY devid", fid))


async def announce_copy(tx: Transaction, fid: int, devid: int, *, now: int) -> bool:
    """Say that bytes of `fid` will be written to `devid`; False if someone else is at it, or it is there already."""
    if await tx.row("SELECT 1 FROM file_on WHERE fid = ? AND devid = ?", fid, devid) is not None:
        return False
    insert = tx.dialect.insert_or_ignore("tawara_copy", ("fid", "devid", "lease"))
    return await tx.run(insert, fid, devid, now + COPY_LEASE) == 1


async def record_copy(tx: Transaction, fid: int, devid: int, *, now: int) -> bool:
    """The announced copy is whole and fsynced: from now on it is a replica.

    False if no key names the fid any more; the copy is then recorded as well, and queued for deletion with the rest.
    """
    await tx.run("DELETE FROM tawara_copy WHERE fid = ? AND devid = ?", fid, devid)
    await tx.run(tx.dialect.insert_or_ignore("file_on", ("fid", "devid")), fid, devid)
    if await tx.row(f"SELECT 1 FROM file WHERE fid = ?{tx.dialect.for_update}", fid) is None:
        await queues.enqueue_deletion(tx, fid, now)
        return False
    await update_devcount(tx, fid)
    return True


async def retract_copy(tx: Transaction, fid: int, devid: int) -> None:
    """The announced copy was given up and none of its bytes are left on the device."""
    await tx.run("DELETE FROM tawara_copy WHERE fid = ? AND devid = ?", fid, devid)


async def claim_abandoned_copies(tx: Transaction, *, now: int, limit: int = 50) -> list[tuple[int, int]]:
    """Take over up to `limit` copies whose lease ran out, as (fid, devid); delete their bytes, then retract them.

    Those that are replicas by now are only forgotten.
    """
    rows = await tx.rows("SELECT fid, devid FROM tawara_copy WHERE lease <= ? ORDER BY lease LIMIT ?", now, limit)
    abandoned: list[tuple[int, int]] = []
    for fid, devid in rows:
        if await tx.row("SELECT 1 FROM file_on WHERE fid = ? AND devid = ?", fid, devid) is not None:
            await retract_copy(tx, fid, devid)
        else:
            abandoned.append((fid, devid))
    await tx.run_many(
        "UPDATE tawara_copy SET lease = ? WHERE fid = ? AND devid = ?",
        [(now + queues.LEASE, fid, devid) for fid, devid in abandoned],
    )
    return abandoned


async def drop_replica(tx: Transaction, fid: int, devid: int) -> None:
    """The device has no replica of `fid` any more (its bytes are gone, or the device is)."""
    await tx.run("DELETE FROM file_on WHERE fid = ? AND devid = ?", fid, devid)
    await update_devcount(tx, fid)


async def update_devcount(tx: Transaction, fid: int) -> None:
    """Bring `file.devcount` up to the replicas that there are."""
    await tx.run("UPDATE file SET devcount = (SELECT COUNT(*) FROM file_on WHERE fid = ?) WHERE fid = ?", fid, fid)
