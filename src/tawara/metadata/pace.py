"""Records what each worker process has done, and how fast (`tawara_pace`).

A process writes only its own rows, so that processes do not wait for each other. Each function is one transaction;
times are unix seconds."""

from __future__ import annotations

from collections.abc import Iterable

from tawara.metadata.contract import Transaction
from tawara.model.pace import STOPPED_AFTER, WorkPace

_COLUMNS = ("recorded_at", "done", "failed", "rate", "pace")
REMOVED_AFTER = 7 * 86400
"""Seconds after which the rows of an ended process are removed."""


async def record(tx: Transaction, process: str, paces: Iterable[WorkPace], *, now: int) -> None:
    """Record what a process has done so far, and remove rows older than REMOVED_AFTER."""
    upsert = tx.dialect.upsert("tawara_pace", ("process", "work"), _COLUMNS)
    await tx.run_many(
        upsert,
        [
            (process, each.work, now, each.done, each.failed, round(each.rate * 1000), round(each.pace * 1000))
            for each in paces
        ],
    )
    await tx.run("DELETE FROM tawara_pace WHERE recorded_at < ?", now - REMOVED_AFTER)


async def record_end(tx: Transaction, process: str, *, now: int) -> None:
    """Mark a process as ended, and keep its measured pace."""
    gone = now - STOPPED_AFTER
    await tx.run("UPDATE tawara_pace SET recorded_at = ?, rate = 0 WHERE process = ?", gone, process)


async def load(tx: Transaction) -> list[WorkPace]:
    """Return the rows of all processes."""
    rows = await tx.rows("SELECT process, work, recorded_at, done, failed, rate, pace FROM tawara_pace")
    return [WorkPace(row[1], row[3], row[4], row[5] / 1000, row[6] / 1000, row[0], row[2]) for row in rows]
