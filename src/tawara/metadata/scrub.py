"""The continuous scrub: where its round stands, the turns in which it queues files, and its own log.

The round stands in a setting, what it found in `tawara_scrub_log`, apart from what checks (fsck) find. Each function is
one transaction; times are unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from tawara.metadata import queues, runs
from tawara.metadata.contract import Row, Transaction
from tawara.model import amounts, scrub
from tawara.model.files import TaskType
from tawara.model.fsck import Code, needs_a_person
from tawara.model.scrub import ScrubRound

QUEUE = 2 * scrub.MOST
"""Most files that wait to be scrubbed; while more do, none are queued."""
LOG_PAGE = 100
"""Most lines in one answer of `log_after`."""
REMEMBERED = 400 * 86400
"""Seconds for which lines of the log are kept."""
DAMAGE_SEEN = 10_000
"""Most lines of the log by which damage is counted."""
_DAMAGE = (Code.MISSING.value, Code.BAD_LENGTH.value, Code.BAD_CHECKSUM.value)
PERIOD = "tawara_scrub_period"
"""Setting: the period, with s, m, h or d behind; 0 is never."""
_ROUND = "tawara_scrub_round"


def period_of(setting: str) -> int:
    """The seconds that the setting says; 0 for never."""
    said = amounts.duration(setting)
    return scrub.PERIOD if said is None else said


async def inject(tx: Transaction, *, now: int) -> float | None:
    """If a turn is due, queue the next files; when the next turn is due, None for never."""
    found = await runs.hold(tx, "tawara_scrub_")
    period = period_of(found.get(PERIOD, ""))
    at = ScrubRound.parse(found.get(_ROUND, ""))
    if not period:
        return None
    if now < scrub.due(at, period):
        return scrub.due(at, period)
    first, last = await tx.row("SELECT MIN(fid), MAX(fid) FROM file") or (None, None)
    if last is None:
        return now + max(scrub.TICK, period / scrub.LOOKS)
    if scrub.is_over(at, period, now):
        at = scrub.begin(at, first=first, last=last, now=now)
        await tx.run("DELETE FROM tawara_scrub_log WHERE utime < ?", now - REMEMBERED)
    at = await _queue(tx, at, period, last=last, now=now)
    await runs.set_all(tx, {_ROUND: str(at)})
    return scrub.due(at, period)


async def _queue(tx: Transaction, at: ScrubRound, period: int, *, last: int, now: int) -> ScrubRound:
    if await queues.count_tasks(tx, TaskType.SCRUB, failed=False) >= QUEUE:
        return scrub.wait(at, now=now)
    at, number = scrub.take(at, period, last=last, now=now)
    if not number:
        return at
    rows = await tx.rows(
        "SELECT fid FROM file WHERE fid > ? AND fid <= ? ORDER BY fid LIMIT ?", at.position, at.end, number
    )
    fids = [row[0] for row in rows]
    await queues.enqueue_tasks(tx, TaskType.SCRUB, [(fid, None, "") for fid in fids], now=now)
    return scrub.taken(at, fids, number)


# --- looking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScrubDamage:
    """What the scrub has found of late. Files that were deleted since do not count."""

    replicas: int = 0
    """That were missing, too short, or had other bytes."""
    files: int = 0
    """To which these belong."""
    waiting: int = 0
    """Of those, files that still wait for good copies."""
    hopeless: int = 0
    """Files that need a person."""
    mended: int = 0
    """Of the files those whose damage is undone."""


@dataclass(frozen=True, slots=True)
class ScrubProgress:
    """How the scrub stands."""

    period: int
    """Seconds; 0 when it is off."""
    at: ScrubRound
    queued: int
    """Fids that wait, or are being read."""
    stalled: int
    """Fids that were put off, for a device does not answer."""
    counts: dict[str, int]
    """Lines of the log, by code."""
    last_logid: int
    damage: ScrubDamage
    """What was found within the last period."""


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
    hopeless = {fid for fid, each in said.items() if needs_a_person(each)}
    waiting = {fid for fid, _, _, queued in rows if queued is not None} - hopeless
    files = {fid for fid, _ in bad}
    return ScrubDamage(len(bad), len(files), len(files & waiting), len(hopeless), len(files - waiting - hopeless))


async def progress(tx: Transaction, *, now: int) -> ScrubProgress:
    """How the scrub stands."""
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
    """The next lines of the log: (logid, utime, fid, evcode, devid), devid perhaps None."""
    return await tx.rows(
        "SELECT logid, utime, fid, evcode, devid FROM tawara_scrub_log"
        f" WHERE logid > ? ORDER BY logid LIMIT {LOG_PAGE}",
        logid,
    )
