"""The census: how many files of which class lie on which set of devices (table `tawara_census`).

Counted slice by slice, so that nobody waits for it, and kept, so that questions about millions of files are answered
from some hundred rows. What it means is said by `model.safety` and `model.simulation`. Each function is one
transaction; times are unix seconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from tawara.metadata import cluster
from tawara.metadata.contract import Transaction
from tawara.model.census import Census, Group

SLICE = 2000
"""Files counted in one transaction: some milliseconds."""
_STAMP = "tawara_census"
"""Setting: when the census was taken, how long that took, and the sign by which a change is seen, as JSON."""
_TURN = "tawara_census_turn"
"""Setting: until when a process is counting."""
_DEVIDS = 255
"""Characters of a set of devices that are kept; a file on more devices is in no danger."""


async def count_slice(tx: Transaction, after: int, limit: int = SLICE) -> tuple[list[Group], int | None]:
    """Count the next `limit` files with a fid greater than `after`; the last fid counted, None if there was none."""
    row = await tx.row(
        "SELECT MAX(s.fid) FROM (SELECT fid FROM file WHERE fid > ? ORDER BY fid LIMIT ?) s", after, limit
    )
    last: int | None = row[0] if row else None
    if last is None:
        return [], None
    rows = await tx.rows(
        "SELECT s.dmid, s.classid, s.devids, COUNT(*), SUM(s.length) FROM ("
        f"SELECT f.fid, f.dmid, f.classid, f.length, {tx.dialect.joined('o.devid')} AS devids"
        " FROM file f LEFT JOIN file_on o ON o.fid = f.fid WHERE f.fid > ? AND f.fid <= ?"
        " GROUP BY f.fid, f.dmid, f.classid, f.length) s GROUP BY s.dmid, s.classid, s.devids",
        after,
        last,
    )
    groups = [Group(row[0], row[1], _read(row[2]), row[3], int(row[4] or 0)) for row in rows]
    return groups, last


def _read(devids: str | bytes | None) -> tuple[int, ...]:
    text = devids.decode() if isinstance(devids, bytes) else devids or ""
    return tuple(sorted(int(each) for each in text.split(",") if each))


def _written(devids: Sequence[int]) -> str:
    text = ",".join(map(str, devids))
    return text if len(text) <= _DEVIDS else text[:_DEVIDS].rpartition(",")[0]


async def change_mark(tx: Transaction) -> str:
    """A text that is another one when files may have been stored, deleted, copied or moved since."""
    marks: list[object] = []
    for sql in (
        "SELECT MAX(fid) FROM file",
        "SELECT MAX(fid) FROM file_to_delete2",
        "SELECT SUM(done), SUM(failed) FROM tawara_pace WHERE work <> 'census'",
    ):
        marks += await tx.row(sql) or ()
    return ",".join(str(each or 0) for each in marks)


async def begin(tx: Transaction, *, now: int, lease: int) -> bool:
    """Whether the caller may count now, and nobody else until `now + lease`."""
    if tx.dialect.for_update:
        await tx.row(f"SELECT value FROM server_settings WHERE field = 'schema_version'{tx.dialect.for_update}")
    until = int(await cluster.get_setting(tx, _TURN) or 0)
    if now < until <= now + lease:  # one that is farther off was taken by a clock that is wrong
        return False
    await cluster.set_setting(tx, _TURN, str(now + lease))
    return True


async def keep_turn(tx: Transaction, *, now: int, lease: int) -> None:
    """Go on counting until `now + lease`."""
    await cluster.set_setting(tx, _TURN, str(now + lease))


async def store(tx: Transaction, census: Census) -> None:
    """Put a new census in the place of the one before, and end the turn."""
    await tx.run("DELETE FROM tawara_census")
    totals: dict[tuple[int, int, str], tuple[int, int]] = {}
    for each in census.groups:
        place = each.dmid, each.classid, _written(each.devids)
        files, size = totals.get(place, (0, 0))
        totals[place] = files + each.files, size + each.bytes
    await tx.run_many(
        "INSERT INTO tawara_census (dmid, classid, devids, files, bytes) VALUES (?, ?, ?, ?, ?)",
        [(*place, *total) for place, total in totals.items()],
    )
    stamp = {"at": census.at, "took": census.took, "mark": census.mark}
    await cluster.set_setting(tx, _STAMP, json.dumps(stamp))
    await cluster.set_setting(tx, _TURN, None)


async def touch(tx: Transaction, *, now: int) -> None:
    """Say that nothing has changed since the census was taken: it is as good as one of now."""
    text = await cluster.get_setting(tx, _STAMP)
    if text is not None:
        await cluster.set_setting(tx, _STAMP, json.dumps(json.loads(text) | {"at": now}))


async def stamp(tx: Transaction) -> Census | None:
    """The last census without its groups; None if there has been none."""
    text = await cluster.get_setting(tx, _STAMP)
    if text is None:
        return None
    found = json.loads(text)
    return Census(found["at"], found["took"], found["mark"], ())


async def load(tx: Transaction) -> Census | None:
    """The last census; None if there has been none."""
    found = await stamp(tx)
    if found is None:
        return None
    rows = await tx.rows("SELECT dmid, classid, devids, files, bytes FROM tawara_census ORDER BY dmid, classid, devids")
    return Census(found.at, found.took, found.mark, tuple(Group(r[0], r[1], _read(r[2]), r[3], r[4]) for r in rows))
