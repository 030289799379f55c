"""The check of all files (fsck): its progress, its log, and the recording of results (docs/mogilefs.md 12).

The rows are MogileFS's, so that MogileFS trackers on the same database can show, stop and resume a check. Each function
is one transaction; times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tawara.metadata import cluster, files, journal_outbox, queues, replicas, runs
from tawara.metadata.contract import Row, Transaction
from tawara.metadata.deferrals import BlockedOn
from tawara.metadata.dialect import marks
from tawara.metadata.runs import number
from tawara.metadata.visibility import visible
from tawara.model.explanation import Failure
from tawara.model.files import QueuedTask, StoredFile, TaskType
from tawara.model.focus import Focus
from tawara.model.fsck import Code, Event, FsckVerdict

RATE = 10_000
"""Most fids queued in one tick; the setting queue_rate_for_fsck overrides it."""
QUEUE = 20_000
"""Most fids waiting to be checked; the setting queue_size_for_fsck overrides it."""
LOG_PAGE = 100
"""Most lines in one result of `log_after`."""
SETTLED = 60
"""Age in seconds after which no line with a lower logid can appear any more."""
UNREACHABLE_PAUSE = 1000
"""Initial delay in seconds before a file is rechecked after a device did not respond; doubles each time."""
LONGEST_PAUSE = 86400

WINDOW = 100_000
"""Most files that one tick of a restricted check searches for matching ones."""

_FOCUS = "tawara_fsck_focus"
_SUM = "fsck_sum_evcount_"


# --- starting and stopping --------------------------------------------------------------------------------------------


async def start(tx: Transaction, *, host: str, now: int) -> None:
    """Start a check, or resume a stopped one. Raises FsckRunning, RebalRunning."""
    found = await runs.lock(tx, "fsck_")
    await runs.refuse_others(tx, starting="fsck")
    position, end = number(found.get("fsck_highest_fid_checked")), number(found.get("fsck_fid_at_end"))
    if position >= end:
        position = 0
        await _reset(tx, position, Focus())
    await runs.set_all(
        tx,
        {
            "fsck_start_time": now,
            "fsck_stop_time": None,
            "fsck_fids_checked": 0,
            "fsck_start_fid": position,
            "fsck_host": host,
        },
    )


async def stop(tx: Transaction, *, now: int) -> None:
    """Stop the check: clear its queue and set the position back accordingly, so that `start` resumes there."""
    await runs.lock(tx, "fsck_")
    withdrawn = await queues.cancel_tasks(tx, TaskType.CHECK, now=now)
    if withdrawn:
        await runs.set_all(tx, {"fsck_highest_fid_checked": withdrawn[0][0] - 1})
    await runs.set_all(tx, {"fsck_host": None, "fsck_stop_time": now})


async def reset(tx: Transaction, *, policy_only: bool, position: int, focus: Focus = Focus()) -> None:  # noqa: B008
    """Make the next check start after the fid `position`, restrict it to `focus`, and reset its counters."""
    await runs.lock(tx, "fsck_")
    await runs.set_all(tx, {"fsck_opt_policy_only": 1 if policy_only else None})
    await _reset(tx, position, focus)


async def _reset(tx: Transaction, position: int, focus: Focus) -> None:
    last = await tx.row("SELECT MAX(fid) FROM file")
    logid = await _last_logid(tx)
    counts = dict.fromkeys(field for field in await runs.settings(tx, _SUM))
    await runs.set_all(
        tx,
        {
            **counts,
            _FOCUS: str(focus) or None,
            "fsck_highest_fid_checked": position,
            "fsck_fid_at_end": (last[0] if last else None) or 0,
            "fsck_start_time": None,
            "fsck_stop_time": None,
            "fsck_fids_checked": 0,
            "fsck_start_maxlogid": logid,
            "fsck_logid_processed": logid,
        },
    )


async def inject(tx: Transaction, *, now: int) -> bool:
    """Queue the next fids if a check is running and a tick is due; return False if none is running any more."""
    found = await runs.lock(tx, "")
    if not found.get("fsck_host"):
        return False
    if not await runs.take_tick(tx, "fsck", now=now):
        return True
    space = number(found.get("queue_size_for_fsck")) or QUEUE
    space -= await queues.count_tasks(tx, TaskType.CHECK, failed=False)
    limit = min(space, number(found.get("queue_rate_for_fsck")) or RATE)
    if limit <= 0:
        return True
    position, end = number(found.get("fsck_highest_fid_checked")), number(found.get("fsck_fid_at_end"))
    fids, looked_at = await next_fids(tx, Focus.parse(found.get(_FOCUS, "")), position, end, limit)
    if fids:
        await queues.enqueue_tasks(tx, TaskType.CHECK, [(fid, None, "") for fid in fids], now=now)
    checked = number(found.get("fsck_fids_checked")) + len(fids)
    await runs.set_all(tx, {"fsck_highest_fid_checked": looked_at, "fsck_fids_checked": checked})
    if looked_at >= end:
        await runs.set_all(
            tx, {"fsck_host": None, "fsck_stop_time": now, "fsck_highest_fid_checked": max(position, end)}
        )
        return False
    return True


async def next_fids(tx: Transaction, focus: Focus, after: int, end: int, limit: int) -> tuple[list[int], int]:
    """Return the next fids in `focus`, at most `limit`, and the fid up to which the search was complete.

    Parts of uploads are left out.
    """
    select = "SELECT f.fid FROM file f WHERE f.fid > ? AND f.fid <= ?"
    condition, values = visible(tx.dialect, "f.dkey")
    upto, conditions = end, [condition]
    if focus.confines:
        # Bounds the work of one tick, however few of the files match.
        row = await tx.row(f"{select} ORDER BY f.fid LIMIT 1 OFFSET {WINDOW - 1}", after, end)
        upto = row[0] if row else end
        confining, more = _confine(tx, focus)
        conditions, values = [*conditions, *confining], [*values, *more]
    where = "".join(f" AND {condition}" for condition in conditions)
    rows = await tx.rows(f"{select}{where} ORDER BY f.fid LIMIT ?", after, upto, *values, limit)
    fids = [row[0] for row in rows]
    return fids, fids[-1] if len(fids) == limit else max(after, upto)


def _confine(tx: Transaction, focus: Focus) -> tuple[list[str], list[object]]:
    conditions, values = tx.dialect.key_range("f.dkey", focus.prefix, None)
    for column, value in (("dmid", focus.dmid), ("classid", focus.classid)):
        if value is not None:
            # `+ 0` prevents the use of an index on this column: the range of fids is more selective.
            conditions.append(f"f.{column} + 0 = ?")
            values.append(value)
    if focus.devids:
        on = "SELECT 1 FROM file_on o WHERE o.fid = f.fid"
        conditions.append(f"EXISTS ({on} AND o.devid IN ({marks(list(focus.devids))}))")
        values += sorted(focus.devids)
    return conditions, values


# --- one file ---------------------------------------------------------------------------------------------------------


async def record_result(
    tx: Transaction, claim: QueuedTask, file: StoredFile, verdict: FsckVerdict, *, now: int
) -> bool:
    """Record the result of a check of `file`, and remove it from the queue.

    Returns False, having changed nothing, if the file's replicas have changed since they were checked.
    """
    if not await _unchanged(tx, file, verdict):
        return False
    insert = tx.dialect.insert_or_ignore("file_on", ("fid", "devid"))
    await tx.run_many(insert, [(file.fid, devid) for devid in sorted(verdict.add)])
    for devid in sorted(verdict.drop):
        await tx.run("DELETE FROM file_on WHERE fid = ? AND devid = ?", file.fid, devid)
    await journal_outbox.of_places(tx, [(file.fid, devid) for devid in sorted(verdict.add | verdict.drop)])
    for devid in sorted(verdict.sweep):
        await replicas.record_orphan(tx, file.fid, devid, now=now)
    if verdict.recount:
        await replicas.update_devcount(tx, file.fid)
    if verdict.checksum is not None:
        await files.store_checksum(tx, file.fid, verdict.checksum)
    if verdict.replicate:
        await queues.ensure_replication(tx, file.fid, now=now)
    if claim.task_type is TaskType.CHECK:
        await log(tx, file.fid, verdict.logged, now=now)
    if kept := _kept(claim.task_type, verdict):
        await log(tx, file.fid, kept, now=now, table="tawara_scrub_log")
    if verdict.again:
        await defer_check(tx, claim, now=now, silent=verdict.silent)
    else:
        await queues.finish_tasks(tx, [claim])
    return True


def _kept(task_type: TaskType, verdict: FsckVerdict) -> Sequence[Event]:
    """Select the events for Tawara's own log: all findings of the scrub, and the corrupt replicas found by fsck."""
    if task_type is TaskType.SCRUB:
        return verdict.events
    return [event for event in verdict.events if event.code is Code.BAD_CHECKSUM and event.devid is not None]


async def _unchanged(tx: Transaction, file: StoredFile, verdict: FsckVerdict) -> bool:
    row = await tx.row(f"SELECT length FROM file WHERE fid = ?{tx.dialect.for_update}", file.fid)
    if row is None or row[0] != file.length:
        return False
    rows = await tx.rows(f"SELECT devid FROM file_on WHERE fid = ?{tx.dialect.for_update}", file.fid)
    if {row[0] for row in rows} != set(file.devids):
        return False
    for devid in verdict.lost:
        if await tx.row("SELECT 1 FROM device WHERE devid = ? AND status <> 'dead'", devid) is not None:
            return False  # created, or set back to alive, a moment ago
    for devid in verdict.add:
        if await tx.row("SELECT 1 FROM tawara_copy WHERE fid = ? AND devid = ?", file.fid, devid) is not None:
            return False  # the file on the device is being written or cleaned up
    return True


async def defer_check(tx: Transaction, claim: QueuedTask, *, now: int, silent: Collection[int] = ()) -> None:
    """Defer the check of the file with a growing delay, or until the `silent` devices respond."""
    pause = min(UNREACHABLE_PAUSE << min(claim.failcount, 10), LONGEST_PAUSE)
    names = ", ".join(f"dev{devid}" for devid in sorted(silent))
    failure = Failure(now, f"no answer from {names}" if names else "the file's copies change all the time")
    await queues.postpone_task(
        tx,
        claim,
        nexttry=now + pause,
        failcount=claim.failcount + 1,
        failure=failure,
        blocked_on=BlockedOn(suspects=frozenset(silent)),
    )


# --- the log ----------------------------------------------------------------------------------------------------------


async def log(tx: Transaction, fid: int, events: Sequence[Event], *, now: int, table: str = "fsck_log") -> None:
    """Write log lines about a fid."""
    await tx.run_many(
        f"INSERT INTO {table} (utime, fid, evcode, devid) VALUES (?, ?, ?, ?)",
        [(now, fid, event.code.value, event.devid) for event in events],
    )


async def log_after(tx: Transaction, logid: int) -> list[Row]:
    """Return the next log lines: (logid, utime, fid, evcode, devid); fid and devid may be None."""
    return await tx.rows(
        f"SELECT logid, utime, fid, evcode, devid FROM fsck_log WHERE logid > ? ORDER BY logid LIMIT {LOG_PAGE}", logid
    )


async def clear_log(tx: Transaction) -> None:
    """Delete all log lines; their counts are kept."""
    found = await runs.lock(tx, "fsck_")
    await _update_totals(tx, found, await _last_logid(tx))
    await tx.run("DELETE FROM fsck_log")


async def summarize(tx: Transaction, *, now: int) -> None:
    """Add settled log lines to the stored totals, so that they need not be counted again."""
    found = await runs.lock(tx, "fsck_")
    row = await tx.row("SELECT MAX(logid) FROM fsck_log WHERE utime < ?", now - SETTLED)
    await _update_totals(tx, found, (row[0] if row else None) or 0)


async def _update_totals(tx: Transaction, found: dict[str, str], last: int) -> None:
    processed = number(found.get("fsck_logid_processed"))
    if last <= processed:
        return
    for code, count in await _counts(tx, processed, last):
        await runs.set_all(tx, {_SUM + code: number(found.get(_SUM + code)) + count})
    await runs.set_all(tx, {"fsck_logid_processed": last})


async def _counts(tx: Transaction, after: int, last: int) -> list[Row]:
    return await tx.rows(
        "SELECT evcode, COUNT(*) FROM fsck_log WHERE logid > ? AND logid <= ? GROUP BY evcode", after, last
    )


async def _last_logid(tx: Transaction) -> int:
    row = await tx.row("SELECT MAX(logid) FROM fsck_log")
    return (row[0] if row else None) or 0


# --- progress ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FsckProgress:
    """The progress of a check."""

    host: str
    """Host on which the check was started; empty if none is running."""
    position: int
    """Highest fid that was queued."""
    end: int
    """Highest fid to be checked."""
    policy_only: bool
    focus: Focus
    start_fid: int
    """Fid after which the check started or resumed."""
    checked: int
    """Files queued since the check started or resumed."""
    start_logid: int
    """Last log line before those of this check."""
    start_time: int
    stop_time: int
    last_logid: int
    queued: int
    """Fids waiting to be checked, or being checked."""
    stalled: int
    """Fids deferred because a device does not respond."""
    counts: dict[str, int]
    """Log lines of this check, by code."""
    unsummed: int
    """Number of these lines that are not yet in the stored totals."""


async def progress(tx: Transaction) -> FsckProgress:
    """Return the progress of the running check, or of the last one."""
    found = await runs.settings(tx, "fsck_")
    counts = {field.removeprefix(_SUM): number(value) for field, value in found.items() if field.startswith(_SUM)}
    last = await _last_logid(tx)
    queued = await queues.count_tasks(tx, TaskType.CHECK, failed=False)
    fresh = await _counts(tx, number(found.get("fsck_logid_processed")), last)
    for code, count in fresh:
        counts[code] = counts.get(code, 0) + count
    return FsckProgress(
        host=found.get("fsck_host", ""),
        position=number(found.get("fsck_highest_fid_checked")),
        end=number(found.get("fsck_fid_at_end")),
        policy_only=found.get("fsck_opt_policy_only", "0") != "0",
        focus=Focus.parse((await cluster.get_setting(tx, _FOCUS)) or ""),
        start_fid=number(found.get("fsck_start_fid")),
        checked=number(found.get("fsck_fids_checked")),
        start_logid=number(found.get("fsck_start_maxlogid")),
        start_time=number(found.get("fsck_start_time")),
        stop_time=number(found.get("fsck_stop_time")),
        last_logid=last,
        queued=queued,
        stalled=await queues.count_tasks(tx, TaskType.CHECK) - queued,
        counts=counts,
        unsummed=sum(count for _, count in fresh),
    )
