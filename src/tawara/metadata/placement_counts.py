"""Placement counts: how many files of each class are on each set of devices (table `tawara_placement`).

The table has a row for each range of fids, with about `RANGE` files. Ranges are counted one at a time, so that a count
can stop anywhere and be resumed by another process. A change of a file leaves a mark (`tawara_placement_change`), and
its range is counted again. Marks are derived from rows of the journal outbox, in bulk, when these rows are removed,
so that a write of a file costs nothing more. Each function is one transaction; times are unix seconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import TypeAlias, cast

from tawara.metadata import cluster
from tawara.metadata.contract import Transaction
from tawara.metadata.dialect import marks, rounded
from tawara.metadata.visibility import visible
from tawara.model.placement_counts import CountedRange, JudgedView, PlacementCounts, dumped, loaded
from tawara.model.placement_groups import PlacementGroup
from tawara.model.safety import Safety

SLICE = 2000
"""Files counted in one transaction, which takes a few milliseconds."""
RANGE = 20_000
"""Files in a range."""
MARKS = 200_000
"""Most marks read at once."""
_CHUNK = 1024
"""Number of consecutive fids that a mark covers."""
_STAMP = "tawara_placement_counts"
"""Setting: when the counts were last known to be current, and the format of a range's figures, as JSON."""
_FIGURES = ",".join(each.name for each in fields(Safety))
_TICK = "tawara_placement_turn"
"""Setting: the time until which a process holds the lease for counting."""
_TOUCHED = 200_000
"""Most files that are examined individually for a set of devices."""


# --- counting ---------------------------------------------------------------------------------------------------------


Placed: TypeAlias = tuple[int, int, int, "str | bytes | None", "int | None"]
"""A file: fid, dmid, classid, its devids separated by commas in no order, bytes."""


async def files_from(tx: Transaction, after: int, up_to: int | None = None, limit: int = SLICE) -> list[Placed]:
    """Return the next `limit` files with a fid greater than `after`, up to `up_to` inclusive unless that is None.

    Parts of uploads are left out.
    """
    bound, values = ("", ()) if up_to is None else (" AND f.fid <= ?", (up_to,))
    on = f"(SELECT {tx.dialect.joined('o.devid')} FROM file_on o WHERE o.fid = f.fid)"
    condition, hidden = visible(tx.dialect, "f.dkey")
    rows = await tx.rows(
        f"SELECT f.fid, f.dmid, f.classid, {on}, f.length FROM file f WHERE f.fid > ?{bound} AND {condition}"
        " ORDER BY f.fid LIMIT ?",
        *(after, *values, *hidden, limit),
    )
    return cast("list[Placed]", rows)


class Totals:
    """Running totals of files and bytes by class and set of devices."""

    def __init__(self) -> None:
        self.files = 0
        self._totals: dict[tuple[int, int, str | bytes | None], list[int]] = {}

    def add(self, placed: Sequence[Placed]) -> None:
        """Add files to the totals."""
        totals = self._totals
        for _, dmid, classid, devids, length in placed:
            place = dmid, classid, devids
            if (known := totals.get(place)) is None:
                totals[place] = [1, int(length or 0)]
            else:
                known[0] += 1
                known[1] += int(length or 0)
        self.files += len(placed)

    def groups(self) -> list[PlacementGroup]:
        """Return the totals, in no order; a set of devices may occur twice."""
        return [
            PlacementGroup(dmid, classid, _devids(devids), files, size)
            for (dmid, classid, devids), (files, size) in self._totals.items()
        ]


def _devids(text: str | bytes | None) -> tuple[int, ...]:
    text = text.decode() if isinstance(text, bytes) else text or ""
    return tuple(sorted(map(int, text.split(",")))) if text else ()


async def touched(
    tx: Transaction, devids: Sequence[int], *, limit: int = _TOUCHED
) -> list[tuple[int, PlacementGroup]] | None:
    """Return (fid, group) of each file with a replica on one of these devices; None if there are more than `limit`.

    The result has no order.
    """
    if not devids:
        return []
    values = rounded(sorted(devids))
    on = f"FROM file_on WHERE devid IN ({marks(values)})"
    row = await tx.row(f"SELECT COUNT(*) FROM (SELECT fid {on} LIMIT ?) s", *values, limit + 1)
    if row is not None and row[0] > limit:
        return None
    condition, hidden = visible(tx.dialect, "f.dkey")
    rows = await tx.rows(
        f"SELECT f.fid, f.dmid, f.classid, f.length,"
        f" (SELECT {tx.dialect.joined('o.devid')} FROM file_on o WHERE o.fid = f.fid)"
        f" FROM (SELECT DISTINCT fid {on}) s JOIN file f ON f.fid = s.fid WHERE {condition}",
        *(*values, *hidden),
    )
    return [(row[0], PlacementGroup(row[1], row[2], _devids(row[4]), 1, int(row[3] or 0))) for row in rows]


# --- marks ------------------------------------------------------------------------------------------------------------


async def mark(tx: Transaction, note_numbers: Sequence[int]) -> None:
    """Mark the files of these rows of the journal outbox (`tawara_note`) as changed."""
    values = rounded(note_numbers)
    rows = await tx.rows(f"SELECT fid FROM tawara_note WHERE seq IN ({marks(values)})", *values)
    chunks = sorted({fid // _CHUNK for (fid,) in rows if fid > 0})
    await tx.run_many("INSERT INTO tawara_placement_change (chunk) VALUES (?)", [(each,) for each in chunks])


async def marked(tx: Transaction, *, limit: int = MARKS) -> list[tuple[int, int]]:
    """Return the oldest marks, as (number, first fid covered)."""
    rows = await tx.rows("SELECT seq, chunk FROM tawara_placement_change ORDER BY seq LIMIT ?", limit)
    return [(seq, chunk * _CHUNK) for seq, chunk in rows]


def fids_of(first: int) -> tuple[int, int]:
    """Return the first and the last fid that a mark covers."""
    return first, first + _CHUNK - 1


async def unmark(tx: Transaction, numbers: Sequence[int]) -> None:
    """Remove marks whose files have been counted since the marks were read."""
    await tx.run_many("DELETE FROM tawara_placement_change WHERE seq = ?", [(each,) for each in sorted(numbers)])


async def greatest_fid(tx: Transaction) -> int:
    """Return the greatest fid of all files; 0 if there are none."""
    row = await tx.row("SELECT MAX(fid) FROM file")
    return (row[0] if row else None) or 0


# --- ranges -----------------------------------------------------------------------------------------------------------


async def begin(tx: Transaction, *, now: int, lease: int) -> bool:
    """Take the lease for counting until `now + lease`; return False if another process holds it."""
    await cluster.serialise(tx)
    until = int(await cluster.get_setting(tx, _TICK) or 0)
    if now < until <= now + lease:  # a later time was written by a wrong clock
        return False
    await cluster.set_setting(tx, _TICK, str(now + lease))
    return True


async def keep_tick(tx: Transaction, *, now: int, lease: int) -> None:
    """Renew the lease for counting until `now + lease`."""
    await cluster.set_setting(tx, _TICK, str(now + lease))


async def store(tx: Transaction, counted: CountedRange, done: Sequence[int] = ()) -> bool:
    """Replace the ranges covered by a range that was just counted.

    Returns False, having changed nothing, if the ranges were divided differently in the meantime, so that storing it
    would leave a gap before it. If it would leave a gap after it, the ranges after it are removed and counted again.

    `done`: marks read before the count, which are removed.
    """
    await cluster.serialise(tx)
    if counted.after and await tx.row("SELECT 1 FROM tawara_placement WHERE up_to = ?", counted.after) is None:
        return False
    cut = "SELECT 1 FROM tawara_placement WHERE after_fid < ? AND up_to > ?"
    if await tx.row(cut, counted.up_to, counted.up_to) is None:
        await tx.run("DELETE FROM tawara_placement WHERE up_to > ? AND up_to <= ?", counted.after, counted.up_to)
    else:
        await tx.run("DELETE FROM tawara_placement WHERE up_to > ?", counted.after)
    await _insert(tx, counted)
    await unmark(tx, done)
    return True


async def _insert(tx: Transaction, counted: CountedRange) -> None:
    await tx.run(
        "INSERT INTO tawara_placement (up_to, after_fid, counted_at, took, files, counts) VALUES (?, ?, ?, ?, ?, ?)",
        *(counted.up_to, counted.after, counted.counted_at, round(counted.took * 1000), counted.files),
        _written(counted),
    )


async def finish(tx: Transaction, *, at: int) -> None:
    """Record that all ranges are current as of `at`, and release the lease."""
    await cluster.set_setting(tx, _STAMP, json.dumps({"at": at, "figures": _FIGURES}))
    await cluster.set_setting(tx, _TICK, None)


async def replace_all(tx: Transaction, counts: PlacementCounts) -> None:
    """Replace all counts."""
    await cluster.serialise(tx)
    await tx.run("DELETE FROM tawara_placement")
    for each in counts.ranges:
        await _insert(tx, each)
    await finish(tx, at=counts.at)


async def counted_at(tx: Transaction) -> int | None:
    """Return when the counts were last known to be current; None if they are incomplete or of another version."""
    found = json.loads(await cluster.get_setting(tx, _STAMP) or "{}")
    at: int | None = found.get("at")
    return at if found.get("figures") == _FIGURES else None


async def release(tx: Transaction) -> None:
    """Release the lease before all ranges are counted."""
    await cluster.set_setting(tx, _TICK, None)


async def outline(tx: Transaction) -> list[CountedRange]:
    """Return all ranges in order, without their counts."""
    rows = await tx.rows("SELECT after_fid, up_to, counted_at, took, files FROM tawara_placement ORDER BY up_to")
    return [CountedRange(row[0], row[1], row[2], row[3] / 1000, row[4], ()) for row in rows]


async def load(tx: Transaction, up_to: Sequence[int]) -> list[CountedRange]:
    """Return the ranges that end at these fids, in order."""
    if not up_to:
        return []
    values = rounded(up_to)
    rows = await tx.rows(
        "SELECT after_fid, up_to, counted_at, took, files, counts FROM tawara_placement"
        f" WHERE up_to IN ({marks(values)}) ORDER BY up_to",
        *values,
    )
    return [_read(*row) for row in rows]


def _written(counted: CountedRange) -> str:
    if counted.groups is None:
        assert counted.safety is not None
        view = [sorted(counted.view.unreadable), sorted(counted.view.lost)]
        return json.dumps({"judged": dumped(counted.safety), "view": view}, separators=(",", ":"))
    groups = [[each.dmid, each.classid, each.devids, each.files, each.bytes] for each in counted.groups]
    return json.dumps({"groups": groups}, separators=(",", ":"))


def _read(after: int, up_to: int, at: int, took: int, files: int, text: str) -> CountedRange:
    found = json.loads(text)
    if "groups" in found:
        groups = tuple(
            PlacementGroup(dmid, classid, tuple(ids), n, size) for dmid, classid, ids, n, size in found["groups"]
        )
        return CountedRange(after, up_to, at, took / 1000, files, groups)
    view = JudgedView(*map(frozenset, found["view"]))
    return CountedRange(after, up_to, at, took / 1000, files, None, loaded(found["judged"]), view)
