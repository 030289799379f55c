"""Applies changes of a class's copies or policy to its files: queues them for replication, in ticks.

The progress is stored in a setting for each class, so that it survives the death of any process. Each function is one
transaction; times are unix seconds.
"""

from __future__ import annotations

from typing import Any

from tawara.metadata import cluster, fsck, runs
from tawara.metadata.contract import Transaction
from tawara.metadata.runs import number
from tawara.model.focus import Focus

PREFIX = "tawara_class_changed_"
"""Prefix of the settings `PREFIXdmid_classid`: the fid after which files are still to be queued, and the last one."""
TICK = 1000
"""Files queued in one transaction."""
WAITING = 20_000
"""Queue limit: no more files are queued while this many wait for replication."""


async def update_class(tx: Transaction, domain: str, name: str, /, **changes: Any) -> int:
    """Update a class as cluster.update_class does; if it needs more copies or another policy, schedule its files."""
    before = await _wanted(tx, domain, name)
    classid = await cluster.update_class(tx, domain, name, **changes)
    after = await _wanted(tx, domain, name)
    assert after is not None
    if before is None or after[1] > before[1] or after[2] != before[2]:
        last = await tx.row("SELECT MAX(fid) FROM file")
        await cluster.set_setting(tx, f"{PREFIX}{after[0]}_{classid}", f"0 {(last and last[0]) or 0}")
    return classid


async def _wanted(tx: Transaction, domain: str, name: str) -> tuple[int, int, str] | None:
    """Return the class's dmid, copies and policy; None if it has no row."""
    row = await tx.row(
        "SELECT c.dmid, c.mindevcount, c.replpolicy FROM class c JOIN domain d ON d.dmid = c.dmid"
        " WHERE d.namespace = ? AND c.classname = ?",
        domain,
        name,
    )
    return row and (row[0], row[1], row[2] or "")


async def queue_files(tx: Transaction, field: str, *, now: int) -> int | None:
    """Queue the next files of the class of the setting `field`; return how many.

    Returns None if all files are queued, or if the replication queue is full.
    """
    found = await runs.lock(tx, PREFIX)
    if field not in found:
        return None
    waiting = await tx.row("SELECT COUNT(*) FROM (SELECT fid FROM file_to_replicate LIMIT ?) waiting", WAITING)
    if waiting is not None and waiting[0] >= WAITING:
        return None
    dmid, classid = (number(part) for part in field.removeprefix(PREFIX).partition("_")[::2])
    after, last = (number(part) for part in found[field].partition(" ")[::2])
    fids, upto = await fsck.next_fids(tx, Focus(dmid=dmid, classid=classid), after, last, TICK)
    upsert = tx.dialect.upsert("file_to_replicate", ("fid",), ("nexttry", "fromdevid", "failcount", "flags"))
    await tx.run_many(upsert, [(fid, now, None, 0, 0) for fid in fids])
    await cluster.set_setting(tx, field, f"{upto} {last}" if upto < last else None)
    return len(fids)
