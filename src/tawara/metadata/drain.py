"""Draining devices: which ones, their progress, and the scheduling of moves.

Each drain has a setting of its own (see `model.drain`). Several devices can be drained at once, along with a check or a
rebalance, and a drain survives the death of any worker. A drain ends when the operator ends it or gives the device
another state. Each function is one transaction; times are unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from tawara.metadata import queues, rebalance, runs
from tawara.metadata.contract import Transaction
from tawara.model import drain
from tawara.model.cluster import DeviceState
from tawara.model.drain import PREFIX, DrainRun
from tawara.model.errors import NoDevice, StateTooHigh
from tawara.model.files import TaskType

RATE = 2000
"""Most moves queued for a device in one tick."""
QUEUE = 10_000
"""Most moves waiting."""


async def _state(tx: Transaction, devid: int) -> DeviceState:
    row = await tx.row(f"SELECT status FROM device WHERE devid = ?{tx.dialect.for_update}", devid)
    if row is None:
        raise NoDevice(f"There is no device dev{devid}")
    return DeviceState(row[0])


async def start(tx: Transaction, devid: int, *, now: int) -> None:
    """Drain a device: no new files, and its files are moved away. Raises NoDevice, StateTooHigh if it is dead."""
    found = await runs.lock(tx, PREFIX)
    state = await _state(tx, devid)
    if state is DeviceState.DEAD:
        raise StateTooHigh("A dead device cannot be emptied; its files are copied again from elsewhere")
    if f"{PREFIX}{devid}" in found and state is DeviceState.DRAIN:
        return
    was_alive = await rebalance.release_drained(tx, devid) or state is DeviceState.ALIVE
    await tx.run("UPDATE device SET status = ? WHERE devid = ?", DeviceState.DRAIN, devid)
    at = DrainRun(began=now, files=await _count(tx, devid), was_alive=int(was_alive), due=now)
    await runs.set_all(tx, {f"{PREFIX}{devid}": str(at)})


async def undo(tx: Transaction, devid: int, *, now: int) -> None:
    """Stop moving files, and accept new files on the device again if it did before. Raises NoDevice."""
    found = await runs.lock(tx, PREFIX)
    state = await _state(tx, devid)
    await _forget(tx, devid, now=now)
    at = DrainRun.parse(found.get(f"{PREFIX}{devid}", ""))
    if state is DeviceState.DRAIN and at.was_alive:
        await tx.run("UPDATE device SET status = ? WHERE devid = ?", DeviceState.ALIVE, devid)


async def _forget(tx: Transaction, devid: int, *, now: int) -> None:
    kind = int(TaskType.DRAIN)
    await tx.run(
        "DELETE FROM file_to_queue WHERE type = ? AND devid = ? AND (nexttry <= ? OR failcount > 0)", kind, devid, now
    )
    await runs.set_all(tx, {f"{PREFIX}{devid}": None})


async def _count(tx: Transaction, devid: int) -> int:
    row = await tx.row("SELECT COUNT(*) FROM file_on WHERE devid = ?", devid)
    return row[0] if row else 0


async def inject(tx: Transaction, *, now: int) -> int | None:
    """Queue the next moves of every device that is due; return when the next tick is due, None for never."""
    found = await runs.lock(tx, PREFIX)
    dues = []
    for name, text in sorted(found.items()):
        devid, at = int(name.removeprefix(PREFIX)), DrainRun.parse(text)
        row = await tx.row("SELECT status FROM device WHERE devid = ?", devid)
        if row is None or row[0] != DeviceState.DRAIN:
            await _forget(tx, devid, now=now)  # the device was given another state
            continue
        if now >= at.due:
            at = await _queue_next(tx, devid, at, now=now)
            await runs.set_all(tx, {name: str(at)})
        dues.append(at.due)
    return min(dues, default=None)


async def _queue_next(tx: Transaction, devid: int, at: DrainRun, *, now: int) -> DrainRun:
    limit = min(RATE, QUEUE - await queues.count_tasks(tx, TaskType.DRAIN, failed=False))
    if limit <= 0:
        return at
    rows = await tx.rows(
        "SELECT o.fid FROM file_on o JOIN file f ON f.fid = o.fid WHERE o.devid = ? AND o.fid > ?"
        " ORDER BY o.fid LIMIT ?",
        devid,
        at.position,
        limit,
    )
    fids = [row[0] for row in rows]
    await queues.enqueue_tasks(tx, TaskType.DRAIN, [(fid, devid, "") for fid in fids], now=now)
    left = await _count(tx, devid) if len(fids) < limit else 0
    return drain.queued(at, fids, limit, left=left, now=now)


# --- progress ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DrainStatusRow:
    """The progress of the drain of a device."""

    devid: int
    at: DrainRun
    left: int
    """Replicas still on the device, including those of deleted files."""
    waiting: int
    """Replicas whose move is queued or in progress."""
    failed: int
    """Replicas whose move failed and will be retried."""
    uploads: int
    """Open uploads that may still be written to the device."""
    newest_upload: int
    """Start of the newest of these uploads, in unix seconds; 0 if there is none."""
    copies: int
    """Unrecorded copies still to be deleted from the device."""


async def read_status(tx: Transaction) -> list[DrainStatusRow]:
    """Return the progress of every drain, by devid."""
    found = await runs.settings(tx, PREFIX)
    devids = sorted(int(name.removeprefix(PREFIX)) for name in found)
    return [await _read_status(tx, devid, DrainRun.parse(found[f"{PREFIX}{devid}"])) for devid in devids]


async def _read_status(tx: Transaction, devid: int, at: DrainRun) -> DrainStatusRow:
    async def count(sql: str, *values: object) -> int:
        row = await tx.row(f"SELECT COUNT(*) FROM {sql}", *values)
        return row[0] if row else 0

    moves = "file_to_queue WHERE type = ? AND devid = ? AND failcount"
    among = (f"{devid}", f"{devid},%", f"%,{devid}", f"%,{devid},%")
    uploads = await tx.row(
        "SELECT COUNT(*), MAX(createtime) FROM tempfile"
        " WHERE devids = ? OR devids LIKE ? OR devids LIKE ? OR devids LIKE ?",
        *among,
    )
    return DrainStatusRow(
        devid,
        at,
        left=await _count(tx, devid),
        waiting=await count(f"{moves} = 0", int(TaskType.DRAIN), devid),
        failed=await count(f"{moves} > 0", int(TaskType.DRAIN), devid),
        uploads=uploads[0] if uploads else 0,
        newest_upload=(uploads[1] if uploads else None) or 0,
        copies=await count("tawara_copy WHERE devid = ?", devid),
    )
