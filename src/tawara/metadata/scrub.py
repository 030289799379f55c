"""The continuous scrub: its position, the scheduling of files, and its log.

The position is stored in a setting; findings are in `tawara_scrub_log`, separate from those of fsck. Each function is
one transaction; times are unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from tawara.metadata import queues, runs
from tawara.metadata.contract import Row, Transaction
from tawara.metadata.visibility import visible
from tawara.model import amounts, scrub
from tawara.model.files import TaskType
from tawara.model.fsck import Code, needs_operator
from tawara.model.scrub import ScrubRound

QUEUE = 2 * scrub.MOST
"""Queue limit: no more files are queued while this many wait to be scrubbed."""
LOG_PAGE = 100
"""Most lines in one result of `log_after`."""
RETENTION = 400 * 86400
"""Retention of log lines, in seconds."""
DAMAGE_SEEN = 10_000
"""Most log lines examined to count damage."""
_DAMAGE = (Code.MISSING.value, Code.BAD_LENGTH.value, Code.BAD_CHECKSUM.value)
PERIOD = "tawara_scrub_period"
"""Setting: the scrub period, with the suffix s, m, h or d; 0 disables the scrub."""
_ROUND = "tawara_scrub_round"


def period_of(setting: str) -> int:
    """Return the period in seconds; 0 if the scrub is disabled."""
    said = amounts.duration(setting)
    return scrub.PERIOD if said is None else said


async def inject(tx: Transaction, *, now: int) -> float | None:
    """Queue the next files if a tick is due; return when the next tick is due, None if the scrub is disabled."""
    found = await runs.lock(tx, "tawara_scrub_")
    period = period_of(found.get(PERIOD, ""))
    at = ScrubRound.parse(found.get(_ROUND, ""))
    if not period:
        return None
    if now < scrub.due(at, period):
        return scrub.due(at, period)
    first, last = await tx.row("SELECT MIN(fid), MAX(fid) FROM file") or (None, None)
    if last is None:
        return now + max(scrub.TICK, period / scrub.CHECKS_PER_PERIOD)
    if scrub.is_over(at, period, now):
        at = scrub.begin(at, first=first, last=last, now=now)
        await tx.run("DELETE FROM tawara_scrub_log WHERE utime < ?", now - RETENTION)
    at = await _queue(tx, at, period, last=last, now=now)
    await runs.set_all(tx, {_ROUND: str(at)})
    return scrub.due(at, period)


async def _queue(tx: Transaction, at: ScrubRound, period: int, *, last: int, now: int) -> ScrubRound:
    if await queues.count_tasks(tx, TaskType.SCRUB, failed=False) >= QUEUE:
        return scrub.wait(at, now=now)
    at, number = scrub.take(at, period, last=last, now=now)
    if not number:
        return at
    condition, values = visible(tx.dialect, "dkey")
    rows = await tx.rows(
        f"SELECT fid FROM file WHERE fid > ? AND fid <= ? AND {condition} ORDER BY fid LIMIT ?",
        *(at.position, at.end, *values, number),
    )
    fids = [row[0] for row in rows]
    await queues.enqueue_tasks(tx, TaskType.SCRUB, [(fid, None, "") for fid in fids], now=now)
    return scrub.taken(at, fids, number)


# --- progress ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScrubDamage:
    """Recent findings of the scrub. Files deleted since then do not count."""

    replicas: int = 0
    """Damaged replicas: missing, too short, or with different bytes."""
    files: int = 0
    """Files with such replicas."""
    waiting: int = 0
    """Damaged files that still wait for good copies."""
    unrepairable: int = 0
    """Damaged files that need manual intervention."""
    repaired: int = 0
    """Damaged files that have been repaired."""


@dataclass(frozen=True, slots=True)
class ScrubProgress:
    """The progress of the scrub."""

    period: int
    """Seconds; 0 if the scrub is disabled."""
    at: ScrubRound
    queued: int
    """Fids waiting to be scrubbed, or being read."""
    stalled: int
    """Fids deferred because a device does not respond."""
    counts: dict[str, int]
    """Log lines, by code."""
    last_logid: int
    damage: ScrubDamage
    """Damage found within the last period."""


async def _damage(tx: Transaction, *, since: int) -> ScrubDamage:
    rows = await tx.rows(
        "SELECT l.fid, l.evcode, l.devid, q.fid FROM tawara_scrub_log l JOIN file f ON f.fid = l.fid"
        " LEFT JOIN file_to_replicate q ON q.fid = l.fid"
        f" WHERE l.utime > ? ORDER BY l.utime DESC LIMIT {DAMAGE_SEEN}",
        since,
    )
    said: dict[int, list[tuple[str, int | None]]] = {}
    for fid, code, devid, _ in rows:
        said.setdefault(fid, []).append((code, devid))
    bad = {(fid, devid) for fid, code, devid, _ in rows if code in _DAMAGE and devid is not None}
    unrepairable = {fid for fid, each in said.items() if needs_operator(each)}
    waiting = {fid for fid, _, _, queued in rows if queued is not None} - unrepairable
    files = {fid for fid, _ in bad}
    return ScrubDamage(
        len(bad), len(files), len(files & waiting), len(unrepairable), len(files - waiting - unrepairable)
    )


async def progress(tx: Transaction, *, now: int) -> ScrubProgress:
    """Return the progress of the scrub."""
    found = await runs.settings(tx, "tawara_scrub_")
    queued = await queues.count_tasks(tx, TaskType.SCRUB, failed=False)
    last = await tx.row("SELECT MAX(logid) FROM tawara_scrub_log")
    period = period_of(found.get(PERIOD, ""))
    return ScrubProgress(
        period=period,
        at=ScrubRound.parse(found.get(_ROUND, "")),
        queued=queued,
        stalled=await queues.count_tasks(tx, TaskType.SCRUB) - queued,
        counts=dict(await tx.rows("SELECT evcode, COUNT(*) FROM tawara_scrub_log GROUP BY evcode ORDER BY evcode")),
        last_logid=(last[0] if last else None) or 0,
        damage=await _damage(tx, since=now - (period or scrub.PERIOD)),
    )


async def log_after(tx: Transaction, logid: int) -> list[Row]:
    """Return the next log lines: (logid, utime, fid, evcode, devid); devid may be None."""
    return await tx.rows(
        "SELECT logid, utime, fid, evcode, devid FROM tawara_scrub_log"
        f" WHERE logid > ? ORDER BY logid LIMIT {LOG_PAGE}",
        logid,
    )
