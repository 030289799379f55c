"""The continuous scrub: where its round stands, the turns in which it queues files, and its own log.

The round stands in a setting, what it found in `tawara_scrub_log`, apart from what checks (fsck) find. Each function is
one transaction; times are unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from tawara.metadata import queues, runs
from tawara.metadata.contract import Row, Transaction
from tawara.model import amounts, scrub
from tawara.model.files import Errand
from tawara.model.scrub import Round

QUEUE = 2 * scrub.MOST
"""Most files that wait to be scrubbed; while more do, none are queued."""
LOG_PAGE = 100
"""Most lines in one answer of `log_after`."""
REMEMBERED = 400 * 86400
"""Seconds for which lines of the log are kept."""
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
    at = Round.parse(found.get(_ROUND, ""))
    if not period:
        return None
    if now < scrub.due(at, period):
        return scrub.due(at, period)
    first, last = await tx.row("SELECT MIN(fid), MAX(fid) FROM file") or (None, None)
    if last is None:
        return now + max(scrub.TURN, period / scrub.LOOKS)
    if scrub.is_over(at, period, now):
        at = scrub.begin(at, first=first, last=last, now=now)
        await tx.run("DELETE FROM tawara_scrub_log WHERE utime < ?", now - REMEMBERED)
    at = await _queue(tx, at, period, last=last, now=now)
    await runs.set_all(tx, {_ROUND: str(at)})
    return scrub.due(at, period)


async def _queue(tx: Transaction, at: Round, period: int, *, last: int, now: int) -> Round:
    if await queues.count_errands(tx, Errand.SCRUB, failed=False) >= QUEUE:
        return scrub.wait(at, now=now)
    at, number = scrub.take(at, period, last=last, now=now)
    if not number:
        return at
    rows = await tx.rows(
        "SELECT fid FROM file WHERE fid > ? AND fid <= ? ORDER BY fid LIMIT ?", at.position, at.end, number
    )
    fids = [row[0] for row in rows]
    await queues.enqueue_errands(tx, Errand.SCRUB, [(fid, None, "") for fid in fids], now=now)
    return scrub.taken(at, fids, number)


# --- looking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """How the scrub stands."""

    period: int
    """Seconds; 0 when it is off."""
    at: Round
    queued: int
    """Fids that wait, or are being read."""
    stalled: int
    """Fids that were put off, for a device does not answer."""
    counts: dict[str, int]
    """Lines of the log, by code."""
    last_logid: int


async def progress(tx: Transaction) -> Progress:
    """How the scrub stands."""
    found = await runs.settings(tx, "tawara_scrub_")
    queued = await queues.count_errands(tx, Errand.SCRUB, failed=False)
    last = await tx.row("SELECT MAX(logid) FROM tawara_scrub_log")
    return Progress(
        period=period_of(found.get(PERIOD, "")),
        at=Round.parse(found.get(_ROUND, "")),
        queued=queued,
        stalled=await queues.count_errands(tx, Errand.SCRUB) - queued,
        counts=dict(await tx.rows("SELECT evcode, COUNT(*) FROM tawara_scrub_log GROUP BY evcode ORDER BY evcode")),
        last_logid=(last[0] if last else None) or 0,
    )


async def log_after(tx: Transaction, logid: int) -> list[Row]:
    """The next lines of the log: (logid, utime, fid, evcode, devid), devid perhaps None."""
    return await tx.rows(
        "SELECT logid, utime, fid, evcode, devid FROM tawara_scrub_log"
        f" WHERE logid > ? ORDER BY logid LIMIT {LOG_PAGE}",
        logid,
    )
