"""Emptying devices: which are to be, how far that has got, and the turns in which moves are queued.

Each stands in a setting of its own (see `model.drain`), so that any number are emptied at once, beside checks and
rebalances, and whatever worker dies. It ends when a person says so, or gives the device another state. Each function is
one transaction; times are unix seconds.
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
"""Most moves queued for a device in one turn."""
QUEUE = 10_000
"""Most moves that wait."""


async def _state(tx: Transaction, devid: int) -> DeviceState:
    row = await tx.row(f"SELECT status FROM device WHERE devid = ?{tx.dialect.for_update}", devid)
    if row is None:
        raise NoDevice(f"There is no device dev{devid}")
    return DeviceState(row[0])


async def start(tx: Transaction, devid: int, *, now: int) -> None:
    """Have the device get no new files, and those it has moved away. Raises NoDevice, StateTooHigh when it is dead."""
    found = await runs.hold(tx, PREFIX)
    state = await _state(tx, devid)
    if state is DeviceState.DEAD:
        raise StateTooHigh("A dead device cannot be emptied; its files are copied again from elsewhere")
    if f"{PREFIX}{devid}" in found and state is DeviceState.DRAIN:
        return
    was_alive = await rebalance.hand_over(tx, devid) or state is DeviceState.ALIVE
    await tx.run("UPDATE device SET status = ? WHERE devid = ?", DeviceState.DRAIN, devid)
    at = DrainRun(began=now, files=await _count(tx, devid), was_alive=int(was_alive), due=now)
    await runs.set_all(tx, {f"{PREFIX}{devid}": str(at)})


async def undo(tx: Transaction, devid: int, *, now: int) -> None:
    """Move nothing more, and let the device have new files again if it had before. Raises NoDevice."""
    found = await runs.hold(tx, PREFIX)
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
    """Queue the next moves of every device whose turn it is; when the next turn is due, None for never."""
    found = await runs.hold(tx, PREFIX)
    dues = []
    for name, text in sorted(found.items()):
        devid, at = int(name.removeprefix(PREFIX)), DrainRun.parse(text)
        row = await tx.row("SELECT status FROM device WHERE devid = ?", devid)
        if row is None or row[0] != DeviceState.DRAIN:
            await _forget(tx, devid, now=now)  # somebody decided otherwise
            continue
        if now >= at.due:
            at = await _turn(tx, devid, at, now=now)
            await runs.set_all(tx, {name: str(at)})
        dues.append(at.due)
    return min(dues, default=None)


async def _turn(tx: Transaction, devid: int, at: DrainRun, *, now: int) -> DrainRun:
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


# --- looking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DrainStatusRow:
    """How the emptying of a device stands."""

    devid: int
    at: DrainRun
    left: int
    """Replicas that are still on it, those of deleted files, too."""
    waiting: int
    """Of these, those whose move waits or is under way."""
    failed: int
    """Of these, those whose move failed, and is tried again."""
    uploads: int
    """Uploads under way that may still go there."""
    newest_upload: int
    """When the newest of these began, unix seconds; 0 if there is none."""
    copies: int
    """Bytes without a row that are still to be deleted from it."""


async def standing(tx: Transaction) -> list[DrainStatusRow]:
    """Of every device that is being emptied, by number."""
    found = await runs.settings(tx, PREFIX)
    devids = sorted(int(name.removeprefix(PREFIX)) for name in found)
    return [await _standing(tx, devid, DrainRun.parse(found[f"{PREFIX}{devid}"])) for devid in devids]


async def _standing(tx: Transaction, devid: int, at: DrainRun) -> DrainStatusRow:
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
