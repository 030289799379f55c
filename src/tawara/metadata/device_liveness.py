"""Unreachable devices (`tawara_absent`): reports of all processes, and the queueing of such a device's files.

Time is the database's, because the clocks of the processes may differ. It is measured in steps, because the database's
clock may jump. `model.liveness` decides what follows from a report. Each function is one transaction.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from tawara.metadata import clock
from tawara.metadata import cluster as rows
from tawara.metadata.contract import Transaction
from tawara.model import errors, liveness
from tawara.model.cluster import Cluster, DeviceAbsence, Liveness
from tawara.model.liveness import LivenessRules

PASS = 1000
"""Files of a device examined in one transaction."""
WAITING = 20_000
"""Queue limit: no more files are queued while this many wait for replication."""
_FEW, _REST = 0, 1
"""Passes over a device's files: first those with at most one copy left, then the others."""
_URGENT = 10
"""`nexttry` of a file without a valid copy: a time in 1970, before everything in the queue but new files."""
_MOST_URGENCIES = 20


async def report(tx: Transaction, seen: Cluster, rules: LivenessRules) -> list[int]:
    """Record one process's observations, and presume devices dead that are due; return the devices that changed."""
    await rows.serialise(tx)
    now = int(await clock.now(tx))
    counted = {
        row[0]: (row[1], DeviceAbsence(Liveness(row[2]), row[3], row[4] is not None, row[5]))
        for row in await tx.rows(
            "SELECT devid, counted_at, standing, seconds, queue_pass, since FROM tawara_absent"
            f" ORDER BY devid{tx.dialect.for_update}"
        )
    }
    fresh = replace(seen, absences={devid: absent for devid, (_, absent) in counted.items()})
    elapsed = {devid: now - counted_at for devid, (counted_at, _) in counted.items()}
    changes = liveness.judge(fresh, elapsed, rules)
    for devid, absent in changes.items():
        await _put(tx, devid, fresh.absences.get(devid), absent, now)
    # The clock went back or stood still: start the next step here.
    stale = [devid for devid in elapsed if elapsed[devid] and devid not in changes]
    await tx.run_many("UPDATE tawara_absent SET counted_at = ? WHERE devid = ?", [(now, devid) for devid in stale])
    return sorted(changes)


async def _put(tx: Transaction, devid: int, was: DeviceAbsence | None, now_is: DeviceAbsence | None, now: int) -> None:
    if now_is is None:
        await tx.run("DELETE FROM tawara_absent WHERE devid = ?", devid)
    elif was is not None and was.liveness is now_is.liveness:
        sql = "UPDATE tawara_absent SET seconds = ?, counted_at = ? WHERE devid = ?"
        await tx.run(sql, now_is.seconds, now, devid)
    else:
        first = (_FEW if now_is.liveness is Liveness.PRESUMED_DEAD else _REST) if now_is.to_queue else None
        columns = ("standing", "since", "seconds", "counted_at", "queue_pass", "queue_fid")
        upsert = tx.dialect.upsert("tawara_absent", ("devid",), columns)
        since = was.since if was is not None else now
        await tx.run(upsert, devid, now_is.liveness.value, since, now_is.seconds, now, first, 0)


async def presumed_dead(tx: Transaction) -> frozenset[int]:
    """Return the devices that are presumed dead."""
    found = await tx.rows("SELECT devid FROM tawara_absent WHERE standing = ?", Liveness.PRESUMED_DEAD.value)
    return frozenset(row[0] for row in found)


async def trust(tx: Transaction, devids: Collection[int]) -> list[int]:
    """Count the copies on these devices as valid, and presume none dead until it is seen again.

    Returns those of the devices that are absent. Raises DeviceNotAbsent if none of them is.
    """
    await rows.serialise(tx)
    absent = {row[0] for row in await tx.rows("SELECT devid FROM tawara_absent WHERE standing <> 'returned'")}
    trusted = sorted(absent.intersection(devids))
    if not trusted:
        raise errors.DeviceNotAbsent
    await tx.run_many(
        "UPDATE tawara_absent SET standing = ?, queue_pass = NULL WHERE devid = ?",
        [(Liveness.TRUSTED.value, devid) for devid in trusted],
    )
    return trusted


async def queue_files(tx: Transaction, devid: int, *, limit: int = PASS, waiting: int = WAITING) -> int | None:
    """Queue the next files of a device that is presumed dead or has returned; return the number examined.

    Returns None if all files have been examined, or if the replication queue is full. The fewer copies of a file are
    left, the earlier it is scheduled.
    """
    row = await tx.row(
        f"SELECT standing, queue_pass, queue_fid FROM tawara_absent WHERE devid = ?{tx.dialect.for_update}", devid
    )
    if row is None or row[1] is None:
        return None
    liveness, pass_, after = Liveness(row[0]), row[1], row[2]
    if await _full(tx, waiting):
        return None
    others = await presumed_dead(tx)
    marks = ", ".join("?" * len(others)) or "NULL"
    found = await tx.rows(
        "SELECT o.fid, (SELECT COUNT(*) FROM file_on c WHERE c.fid = o.fid"
        + (f" AND c.devid NOT IN ({marks})" if others else "")
        + ") FROM file_on o WHERE o.devid = ? AND o.fid > ? ORDER BY o.fid LIMIT ?",
        *sorted(others),
        devid,
        after,
        limit,
    )
    columns = ("nexttry", "fromdevid", "failcount", "flags")
    await tx.run_many(
        tx.dialect.upsert("file_to_replicate", ("fid",), columns),
        [(fid, urgency, None, 0, 0) for fid, left in found if (urgency := _urgency(liveness, pass_, left)) is not None],
    )
    await _advance(tx, devid, liveness, pass_, found[-1][0] if len(found) == limit else None)
    return len(found)


def _urgency(liveness: Liveness, pass_: int, left: int) -> int | None:
    """Return the `nexttry` of a file with `left` valid copies; None if it is not queued in this pass."""
    if liveness is Liveness.RETURNED:
        return _URGENT + _MOST_URGENCIES if left > 1 else None
    return _URGENT + min(left, _MOST_URGENCIES - 1) if (left <= 1) == (pass_ == _FEW) else None


async def _advance(tx: Transaction, devid: int, liveness: Liveness, pass_: int, after: int | None) -> None:
    """Record the progress of a pass; `after` None: the pass is complete."""
    if after is not None:
        await tx.run("UPDATE tawara_absent SET queue_fid = ? WHERE devid = ?", after, devid)
    elif pass_ == _FEW:
        await tx.run("UPDATE tawara_absent SET queue_pass = ?, queue_fid = 0 WHERE devid = ?", _REST, devid)
    elif liveness is Liveness.RETURNED:
        await tx.run("DELETE FROM tawara_absent WHERE devid = ?", devid)
    else:
        await tx.run("UPDATE tawara_absent SET queue_pass = NULL WHERE devid = ?", devid)


async def _full(tx: Transaction, most: int) -> bool:
    row = await tx.row("SELECT COUNT(*) FROM (SELECT fid FROM file_to_replicate LIMIT ?) waiting", most)
    return row is not None and row[0] >= most
