"""Changes of a class's copies or policy, which its files follow: they are queued for replication, in turns.

How far that has got stands in a setting for each class, so that it goes on whatever process dies. Each function is one
transaction; times are unix seconds.
"""

from __future__ import annotations

from typing import Any

from tawara.metadata import cluster, fsck, runs
from tawara.metadata.contract import Transaction
from tawara.metadata.runs import number
from tawara.model.focus import Focus

PREFIX = "tawara_class_changed_"
"""Of the settings, `PREFIXdmid_classid`: the fid behind which files are yet to be queued, and the last one."""
TICK = 1000
"""Files queued in one transaction."""
WAITING = 20_000
"""Files that may wait for replication before more are queued."""


async def update_class(tx: Transaction, domain: str, name: str, /, **changes: Any) -> int:
    """As cluster.update_class; if more copies are wanted, or by another policy, have the class's files looked at."""
    before = await _wanted(tx, domain, name)
    classid = await cluster.update_class(tx, domain, name, **changes)
    after = await _wanted(tx, domain, name)
    assert after is not None
    if before is None or after[1] > before[1] or after[2] != before[2]:
        last = await tx.row("SELECT MAX(fid) FROM file")
        await cluster.set_setting(tx, f"{PREFIX}{after[0]}_{classid}", f"0 {(last and last[0]) or 0}")
    return classid


async def _wanted(tx: Transaction, domain: str, name: str) -> tuple[int, int, str] | None:
    """The class's domain, copies and policy; None if it has no row."""
    row = await tx.row(
        "SELECT c.dmid, c.mindevcount, c.replpolicy FROM class c JOIN domain d ON d.dmid = c.dmid"
        " WHERE d.namespace = ? AND c.classname = ?",
        domain,
        name,
    )
    return row and (row[0], row[1], row[2] or "")


async def queue_files(tx: Transaction, field: str, *, now: int) -> int | None:
    """Queue the next files of the class that the setting `field` is about; how many.

    None when all are, or when so many wait for replication that these can, too.
    """
    found = await runs.hold(tx, PREFIX)
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
