"""Opening and closing uploads, many in one transaction and with few statements; one is many, too.

`files` has the use cases; this is how they are done so that uploads that come together cost little more than one.
Rows are always locked and inserted in the order of fids and keys, so that two such transactions do not deadlock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tawara.metadata import file_rows, journal_outbox, replicas
from tawara.metadata.contract import Transaction
from tawara.metadata.dialect import marks, rounded
from tawara.model.errors import BadParams, FidExists, FidInUse, NoTempFile, PreconditionFailed, TawaraError
from tawara.model.fid import COUNTED, STEP
from tawara.model.files import NewFile


@dataclass(frozen=True, slots=True)
class Opening:
    """What an upload is opened with; see files.open_upload."""

    dmid: int
    key: bytes
    classid: int
    devids: Sequence[int]
    now: int
    fid: int = 0

    @property
    def row(self) -> tuple[object, ...]:
        """The values of _COLUMNS."""
        return (self.now, self.dmid, self.key, self.classid, ",".join(map(str, self.devids)))


@dataclass(frozen=True, slots=True)
class Closing:
    """The arguments of one call of files.close_upload."""

    file: NewFile
    now: int
    replicate: bool = True
    expected_fid: int | None = None
    orphans: Sequence[int] = ()


_COLUMNS = "createtime, dmid, dkey, classid, devids"


def _insert(tx: Transaction, fid: bool = False) -> str:
    fid_column, fid_mark = ("fid, ", "?, ") if fid else ("", "")
    return f"INSERT INTO tempfile ({fid_column}{_COLUMNS}) VALUES ({fid_mark}?, ?, {tx.dialect.key_value}, ?, ?)"


# --- opening ----------------------------------------------------------------------------------------------------------


async def open_many(tx: Transaction, openings: Sequence[Opening]) -> list[int]:
    """A new fid for each, never used before (17.1).

    A fid that is smaller than a stored one is no sign of a counter that is behind: whoever opened later may have closed
    sooner. One that is stored itself is.
    """
    rows = [opening.row for opening in openings]
    fids = await tx.insert_many(_insert(tx), "fid", rows)
    values = rounded(sorted(fids))
    if not await tx.rows(f"SELECT fid FROM file WHERE fid IN ({marks(values)})", *values):
        return fids
    await tx.run_many("DELETE FROM tempfile WHERE fid = ?", [(fid,) for fid in fids])
    await count_beyond_files(tx)
    return await tx.insert_many(_insert(tx), "fid", rows)


async def count_beyond_files(tx: Transaction) -> None:
    """Have the counter of fids go on beyond every stored one, where it is behind them, as after a restore (17.1).

    To be done before the first upload is opened, lest the fid of a deleted file be given out again.
    """
    greatest = await _greatest(tx, _NAMED)
    if greatest:
        await count_beyond(tx, greatest)


async def count_beyond(tx: Transaction, fid: int) -> None:
    """Have the counter of fids go on beyond `fid`, if it is not there yet."""
    place = tx.dialect.insert_or_ignore("tempfile", ("fid", "createtime", "dmid", "classid"))
    if await tx.run(place, fid, 0, 0, 0):
        await tx.run("DELETE FROM tempfile WHERE fid = ?", fid)
    await tx.advance("tempfile", "fid", fid)


async def count_beyond_all(tx: Transaction, told: int, *, margin: int) -> None:
    """Have the counter of fids go on `margin` beyond those that are stored, and beyond what a backup has `told`."""
    greatest = max(told if told <= COUNTED else 0, await highest_fid(tx))
    if greatest + margin:
        await count_beyond(tx, greatest + margin)


_NAMED = ("file", "file_to_delete2")
"""Tables of fids that have, or had and are still being deleted, a name."""


async def highest_fid(tx: Transaction) -> int:
    """The greatest fid up to COUNTED that is known to have been given out."""
    return await _greatest(tx, (*_NAMED, "tempfile"))


async def _greatest(tx: Transaction, tables: Sequence[str]) -> int:
    rows = [await tx.row(f"SELECT MAX(fid) FROM {table} WHERE fid <= ?", COUNTED) for table in tables]
    return max((row[0] if row else None) or 0 for row in rows)


async def open_chosen(tx: Transaction, opening: Opening, fid: int) -> int:
    """The fid that was asked for, beyond which counting goes on. Raises FidInUse, BadParams when it is too great."""
    most = await highest_fid(tx) + STEP
    if fid > most:
        raise BadParams(f"The fid is out of range: it may be at most {most} now")
    if fid <= await _greatest(tx, _NAMED) or await tx.row("SELECT 1 FROM tempfile WHERE fid = ?", fid):
        raise FidInUse
    await tx.run(_insert(tx, fid=True), fid, *opening.row)
    await tx.advance("tempfile", "fid", fid)
    return fid


# --- closing ----------------------------------------------------------------------------------------------------------


async def close_many(tx: Transaction, closings: Sequence[Closing]) -> list[int | TawaraError | None]:
    """For each the fid that it replaced or None, or the error for which nothing of it was done."""
    answers: dict[int, int | TawaraError | None] = {}
    waiting = list(enumerate(closings))
    while waiting:
        # Those of one key or one fid are closed one after another; where keys are not compared as bytes, all are.
        seen: set[object] = set()
        now: list[tuple[int, Closing]] = []
        later: list[tuple[int, Closing]] = []
        for place, closing in waiting:
            names = {closing.file.fid, (closing.file.dmid, closing.file.key)}
            (later if seen & names or (seen and not tx.dialect.exact_keys) else now).append((place, closing))
            seen |= names
        now.sort(key=lambda each: (each[1].file.dmid, each[1].file.key))
        answers.update(zip((place for place, _ in now), await _close(tx, [each for _, each in now]), strict=True))
        waiting = later
    return [answers[place] for place in range(len(closings))]


async def _close(tx: Transaction, closings: Sequence[Closing]) -> list[int | TawaraError | None]:
    """The same for closings of different keys and fids, in the order of their keys."""
    # For each that is open, its fid, and once more if it is stored already. FOR UPDATE locks nothing of `file` here.
    values = rounded(sorted(closing.file.fid for closing in closings))
    stored_as = "(SELECT f.fid FROM file f WHERE f.fid = t.fid)"
    rows = await tx.rows(
        f"SELECT t.fid, {stored_as} FROM tempfile t WHERE t.fid IN ({marks(values)}){tx.dialect.for_update}",
        *values,
    )
    opened: dict[int, int | None] = dict(rows)
    named = await _named(tx, closings)
    answers: list[int | TawaraError | None] = []
    good: list[Closing] = []
    replaced: list[int] = []
    for closing in closings:
        old = named.get((closing.file.dmid, closing.file.key))
        if closing.file.fid not in opened:
            answers.append(NoTempFile())
        elif closing.expected_fid is not None and (old or 0) != closing.expected_fid:
            answers.append(PreconditionFailed())
        elif opened[closing.file.fid] is not None:
            answers.append(FidExists())
        else:
            answers.append(old)
            good.append(closing)
            if old is not None:
                replaced.append(old)
    await _replace(tx, good, sorted(replaced))
    return answers


async def _named(tx: Transaction, closings: Sequence[Closing]) -> dict[tuple[int, bytes], int]:
    """The fids that the closings' keys name now, locked."""
    dialect = tx.dialect
    names = [(closing.file.dmid, closing.file.key) for closing in closings]
    condition, values = dialect.one_of(names)
    rows = await tx.rows(
        f"SELECT f.dmid, {dialect.key_column('f.dkey')}, f.fid FROM file f WHERE {condition}{dialect.for_update}",
        *values,
    )
    # Where keys are not compared as bytes there is one closing, whose key may be spelt otherwise.
    return {(dmid, bytes(key)) if dialect.exact_keys else names[0]: fid for dmid, key, fid in rows}


async def _replace(tx: Transaction, closings: Sequence[Closing], replaced: Sequence[int]) -> None:
    """Name the new contents, and queue what is to be done for them and for those that they replace."""
    if not closings:
        return
    dialect = tx.dialect
    values = rounded([closing.file.fid for closing in closings])
    await tx.run(f"DELETE FROM tempfile WHERE fid IN ({marks(values)})", *values)
    if replaced:
        await journal_outbox.of_files(tx, replaced)
        values = rounded(replaced)
        await tx.run(f"DELETE FROM file WHERE fid IN ({marks(values)})", *values)
        deletion = dialect.upsert("file_to_delete2", ("fid",), ("nexttry", "failcount"))
        await tx.run_many(deletion, [(fid, closings[0].now, 0) for fid in replaced])
    await file_rows.insert(tx, [(each.file, each.now) for each in closings])
    await journal_outbox.of_places(tx, [(each.file.fid, devid) for each in closings for devid in each.file.devids])
    replication = dialect.upsert("file_to_replicate", ("fid",), ("nexttry", "fromdevid", "failcount", "flags"))
    await tx.run_many(replication, [(each.file.fid, 0, None, 0, 0) for each in closings if each.replicate])
    for each in closings:
        for devid in each.orphans:
            await replicas.record_orphan(tx, each.file.fid, devid, now=each.now, late=replicas.LATE)
