"""Renews and releases the leases of claimed rows (`queues`) and reserved copies (`replicas`).

A worker takes short leases and renews them while it works, so that its claims are taken over soon after it dies,
however long a large copy takes. Each function is one transaction; times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from tawara.metadata.contract import Transaction
from tawara.metadata.queues import LEASE
from tawara.model.files import CopyReservation, Deletion, QueuedTask, Replication
from tawara.model.limits import END_OF_TIME

Claim = TypeVar("Claim", Replication, Deletion, QueuedTask)


def _move(claim: Replication | Deletion | QueuedTask) -> str:
    """Return the UPDATE that gives a claimed row another `nexttry` if it is still claimed."""
    match claim:
        case Replication():
            table, kind = "file_to_replicate", ""
        case Deletion():
            table, kind = "file_to_delete2", ""
        case QueuedTask():
            table, kind = "file_to_queue", f"type = {claim.task_type:d} AND "
    return f"UPDATE {table} SET nexttry = ? WHERE {kind}fid = ? AND nexttry = ?"


async def renew(tx: Transaction, claims: Iterable[Claim], *, until: int) -> list[Claim]:
    """Extend these claims to `until`, or release them if that is now; return the claims with their new leases.

    Claims lost in the meantime are left unchanged.
    """
    renewed: list[Claim] = []
    for claim in claims:
        held = await tx.run(_move(claim), until, claim.fid, claim.nexttry)
        renewed.append(replace(claim, nexttry=until) if held else claim)
    return renewed


async def renew_copies(tx: Transaction, held: Iterable[CopyReservation], *, until: int) -> list[CopyReservation]:
    """Extend these reservations to `until`, or release them for cleanup if that is now; return them with new leases.

    Reservations lost in the meantime are left unchanged.
    """
    renewed: list[CopyReservation] = []
    for each in held:
        lease = -until if each.lease < 0 else until
        still = await tx.run("UPDATE tawara_copy SET lease = ? WHERE fid = ? AND devid = ? AND lease = ?", lease, *each)
        renewed.append(each._replace(lease=lease) if still else each)
    return renewed


async def release_all(tx: Transaction, *, now: int) -> None:
    """Make everything that is leased due at once, for a worker that is known to be the only one.

    Work that was deferred for less than a lease becomes due as well, which is harmless. If another worker exists after
    all, its running copies are cleaned up, and it gets LeaseLost when it records them.
    """
    for table in ("file_to_replicate", "file_to_delete2", "file_to_queue"):
        await tx.run(f"UPDATE {table} SET nexttry = ? WHERE nexttry > ? AND nexttry <= ?", now, now, now + LEASE)
    await tx.run("UPDATE tawara_copy SET lease = ? WHERE lease > ? OR lease < 0", now, now)
    await tx.run("UPDATE tawara_journal SET nexttry = ? WHERE nexttry > ? AND nexttry <= ?", now, now, now + LEASE)


async def make_due(tx: Transaction, *, now: int, lease: int) -> int:
    """Make rows due now that are due further ahead than the longest lease, after the database's clock was set back.

    Such rows were dated by the wrong clock, or deferred. Retrying deferred work early is harmless. Returns how many
    rows of the queues were changed.
    """
    late = now + lease
    count = 0
    for table in ("file_to_replicate", "file_to_delete2", "file_to_queue"):
        change = f"UPDATE {table} SET nexttry = ? WHERE nexttry > ? AND nexttry < ?"
        count += await tx.run(change, now, late, END_OF_TIME)
    # A copy's initial lease is twice as long.
    await tx.run("UPDATE tawara_copy SET lease = ? WHERE lease > ? OR lease < ?", now, late + lease, -late - lease)
    await tx.run("UPDATE tawara_journal SET nexttry = ? WHERE nexttry > ?", now, late)
    await tx.run("UPDATE tempfile SET createtime = ? WHERE createtime > ?", now, now)
    await tx.run("UPDATE tawara_pace SET recorded_at = ? WHERE recorded_at > ?", now, now)
    return count


async def latest_sign_of_life(tx: Transaction) -> int:
    """Return when a worker last recorded its pace, 0 if none did; in the future if the clock was set back."""
    row = await tx.row("SELECT MAX(recorded_at) FROM tawara_pace")
    return (row and row[0]) or 0
