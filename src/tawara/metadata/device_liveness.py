"""Devices that nobody sees (`tawara_absent`): what all processes report, and the queueing of such a device's files.

Time is the database's, for the clocks of the processes may differ; and it is counted in steps, so that the database's
may jump. What follows from a report is decided in `model.absence`. Each function is one transaction.
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
"""Files of a device looked at in one transaction."""
WAITING = 20_000
"""Files that may wait for replication before more are queued."""
_FEW, _REST = 0, 1
"""The passes over a device's files: those with one copy left, or none; then the others."""
_URGENT = 10
"""`nexttry` of a file without a copy that counts, in the unix seconds of 1970: before all else but what is new."""
_MOST_URGENCIES = 20


async def report(tx: Transaction, seen: Cluster, rules: LivenessRules) -> list[int]:
    """Take down what one process has observed, and presume dead what is due; the devices of which anything changed."""
    await rows.alone(tx)
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
    # A clock that went back, or stood still: the next step begins here.
    stale = [devid for devid in elapsed if elapsed[devid] and devid not in changes]
    await tx.run_many("UPDATE tawara_absent SET counted_at = ? WHERE devid = ?", [(now, devid) for devid in stale])
    return sorted(changes)


async def _put(tx: Transaction, devid: int, was: DeviceAbsence | None, now_is: DeviceAbsence | None, now: int) -> None:
    if now_is is None:
        await tx.run("DELETE FROM tawara_absent WHERE devid = ?", devid)
    elif was is not None and was.standing is now_is.standing:
        sql = "UPDATE tawara_absent SET seconds = ?, counted_at = ? WHERE devid = ?"
        await tx.run(sql, now_is.seconds, now, devid)
    else:
        first = (_FEW if now_is.standing is Liveness.PRESUMED_DEAD else _REST) if now_is.to_queue else None
        columns = ("standing", "since", "seconds", "counted_at", "queue_pass", "queue_fid")
        upsert = tx.dialect.upsert("tawara_absent", ("devid",), columns)
        since = was.since if was is not None else now
        await tx.run(upsert, devid, now_is.standing.value, since, now_is.seconds, now, first, 0)


async def presumed_dead(tx: Transaction) -> frozenset[int]:
    """The devices that are presumed dead."""
    found = await tx.rows("SELECT devid FROM tawara_absent WHERE standing = ?", Liveness.PRESUMED_DEAD.value)
    return frozenset(row[0] for row in found)


async def trust(tx: Transaction, devids: Collection[int]) -> list[int]:
    """Have the copies on these devices count again, and presume nothing until they are seen; those that are absent.

    Raises DeviceNotAbsent if none of them is.
    """
    await rows.alone(tx)
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
    """Queue the next files of a device that is presumed dead, or that has returned; how many were looked at.

    None when all are, or when so many wait for replication that these can, too. The fewer copies are left of a file,
    the sooner it is its turn.
    """
    row = await tx.row(
        f"SELECT standing, queue_pass, queue_fid FROM tawara_absent WHERE devid = ?{tx.dialect.for_update}", devid
    )
    if row is None or row[1] is None:
        return None
    standing, pass_, after = Liveness(row[0]), row[1], row[2]
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
        [(fid, urgency, None, 0, 0) for fid, left in found if (urgency := _urgency(standing, pass_, left)) is not None],
    )
    await _advance(tx, devid, standing, pass_, found[-1][0] if len(found) == limit else None)
    return len(found)


def _urgency(standing: Liveness, pass_: int, left: int) -> int | None:
    """The `nexttry` of a file with so many copies that count; None if it is not queued in this pass."""
    if standing is Liveness.RETURNED:
        return _URGENT + _MOST_URGENCIES if left > 1 else None
    return _URGENT + min(left, _MOST_URGENCIES - 1) if (left <= 1) == (pass_ == _FEW) else None


async def _advance(tx: Transaction, devid: int, standing: Liveness, pass_: int, after: int | None) -> None:
    """Note how far a pass has come; `after` None: to its end."""
    if after is not None:
        await tx.run("UPDATE tawara_absent SET queue_fid = ? WHERE devid = ?", after, devid)
    elif pass_ == _FEW:
        await tx.run("UPDATE tawara_absent SET queue_pass = ?, queue_fid = 0 WHERE devid = ?", _REST, devid)
    elif standing is Liveness.RETURNED:
        await tx.run("DELETE FROM tawara_absent WHERE devid = ?", devid)
    else:
        await tx.run("UPDATE tawara_absent SET queue_pass = NULL WHERE devid = ?", devid)


async def _full(tx: Transaction, most: int) -> bool:
    row = await tx.row("SELECT COUNT(*) FROM (SELECT fid FROM file_to_replicate LIMIT ?) waiting", most)
    return row is not None and row[0] >= most
