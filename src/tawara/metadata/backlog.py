"""The length and the age of each work queue, for status and metrics; the cost is bounded for any queue length.

Each function is one transaction; times are unix seconds.
"""

from __future__ import annotations

from tawara.metadata.contract import Transaction
from tawara.model.backlog import MOST, Queue
from tawara.model.files import TaskType
from tawara.model.limits import END_OF_TIME

_QUEUES = {
    "replicate": ("file_to_replicate", "nexttry", ""),
    "delete": ("file_to_delete2", "nexttry", ""),
    "check": ("file_to_queue", "nexttry", f"type = {TaskType.CHECK:d} AND "),
    "move": ("file_to_queue", "nexttry", f"type = {TaskType.MOVE:d} AND "),
    "scrub": ("file_to_queue", "nexttry", f"type = {TaskType.SCRUB:d} AND "),
    "drain": ("file_to_queue", "nexttry", f"type = {TaskType.DRAIN:d} AND "),
    "upload": ("tempfile", "createtime", ""),
    "copy": ("tawara_copy", "lease", "lease > 0 AND "),
}
"""Name -> table, the column that orders it in time, and which of its rows. The last two entries are open, not due."""


async def queues(tx: Transaction, *, now: int) -> list[Queue]:
    """Return the state of each queue. Counts are capped at `MOST`, which bounds the cost for long queues."""
    return [await _queue(tx, name, *where, now=now) for name, where in _QUEUES.items()]


async def _queue(tx: Transaction, name: str, table: str, column: str, only: str, *, now: int) -> Queue:
    async def count(condition: str, *values: object) -> int:
        row = await tx.row(
            f"SELECT COUNT(*) FROM (SELECT 1 FROM {table} WHERE {only}{condition} LIMIT {MOST}) s", *values
        )
        return row[0] if row else 0

    if column != "nexttry":
        return Queue(name, due=await count(f"{column} > ?", 0))
    return Queue(
        name,
        due=await count("nexttry <= ?", now),
        later=await count("nexttry > ? AND nexttry < ?", now, END_OF_TIME),
        stuck=await count("nexttry >= ?", END_OF_TIME),
        since=await _since(tx, table, only, now),
    )


async def _since(tx: Transaction, table: str, only: str, now: int) -> int | None:
    """Return when the first row in the queue became due; for a row due from the start, its creation time."""
    row = await tx.row(f"SELECT fid, nexttry FROM {table} WHERE {only}nexttry <= ? ORDER BY nexttry LIMIT 1", now)
    if row is None or row[1]:
        return row[1] if row else None
    stored = await tx.row("SELECT stored_at FROM tawara_file WHERE fid = ?", row[0])
    return stored[0] if stored else None
