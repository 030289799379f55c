"""Opens and closes batches of uploads in one transaction, with few statements; a single one is a batch of one.

`files` has the use cases; batching makes concurrent uploads cost little more than one. Rows are always locked and
inserted in the order of fids and keys, so that two such transactions do not deadlock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tawara.metadata import file_rows, journal_outbox, multipart, replicas
from tawara.metadata.contract import Transaction
from tawara.metadata.dialect import marks, rounded
from tawara.model.errors import (
    BadParams,
    FidExists,
    FidInUse,
    NoSuchUpload,
    NoTempFile,
    PreconditionFailed,
    TawaraError,
)
from tawara.model.fid import COUNTED, STEP
from tawara.model.files import NewFile
from tawara.model.multipart import MultipartCompletion


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """The arguments of one call of files.open_upload."""

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
class CloseRequest:
    """The arguments of one call of files.close_upload."""

    file: NewFile
    now: int
    replicate: bool = True
    expected_fid: int | None = None
    orphans: Sequence[int] = ()
    multipart: MultipartCompletion | None = None


_COLUMNS = "createtime, dmid, dkey, classid, devids"


def _insert(tx: Transaction, fid: bool = False) -> str:
    fid_column, fid_mark = ("fid, ", "?, ") if fid else ("", "")
    return f"INSERT INTO tempfile ({fid_column}{_COLUMNS}) VALUES ({fid_mark}?, ?, {tx.dialect.key_value}, ?, ?)"


# --- opening ----------------------------------------------------------------------------------------------------------


async def open_many(tx: Transaction, openings: Sequence[OpenRequest]) -> list[int]:
    """Return a new fid for each upload, never used before (17.1).

    A fid lower than a stored one does not mean that the counter is behind: later uploads may have been closed earlier.
    A fid that is itself stored does.
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
    """Advance the fid counter beyond every stored fid if it is behind, as after a restore (17.1).

    Must run before the first upload is opened, so that the fid of a deleted file is never allocated again.
    """
    greatest = await _greatest(tx, _NAMED)
    if greatest:
        await count_beyond(tx, greatest)


async def count_beyond(tx: Transaction, fid: int) -> None:
    """Advance the fid counter beyond `fid` if it is behind."""
    place = tx.dialect.insert_or_ignore("tempfile", ("fid", "createtime", "dmid", "classid"))
    if await tx.run(place, fid, 0, 0, 0):
        await tx.run("DELETE FROM tempfile WHERE fid = ?", fid)
    await tx.advance("tempfile", "fid", fid)


async def count_beyond_all(tx: Transaction, told: int, *, margin: int) -> None:
    """Advance the fid counter `margin` beyond all stored fids, and beyond `told`, the highest fid of a backup."""
    greatest = max(told if told <= COUNTED else 0, await highest_fid(tx))
    if greatest + margin:
        await count_beyond(tx, greatest + margin)


_NAMED = ("file", "file_to_delete2")
"""Tables of fids that have a key, or had one and are still being deleted."""


async def highest_fid(tx: Transaction) -> int:
    """Return the greatest fid up to COUNTED that is known to have been allocated."""
    return await _greatest(tx, (*_NAMED, "tempfile"))


async def _greatest(tx: Transaction, tables: Sequence[str]) -> int:
    rows = [await tx.row(f"SELECT MAX(fid) FROM {table} WHERE fid <= ?", COUNTED) for table in tables]
    return max((row[0] if row else None) or 0 for row in rows)


async def open_chosen(tx: Transaction, opening: OpenRequest, fid: int) -> int:
    """Open an upload under the requested fid, and advance the counter beyond it.

    Raises FidInUse, and BadParams if the fid is too great.
    """
    most = await highest_fid(tx) + STEP
    if fid > most:
        raise BadParams(f"The fid is out of range: it may be at most {most} now")
    if fid <= await _greatest(tx, _NAMED) or await tx.row("SELECT 1 FROM tempfile WHERE fid = ?", fid):
        raise FidInUse
    await tx.run(_insert(tx, fid=True), fid, *opening.row)
    await tx.advance("tempfile", "fid", fid)
    return fid


# --- closing ----------------------------------------------------------------------------------------------------------


async def close_many(tx: Transaction, closings: Sequence[CloseRequest]) -> list[int | TawaraError | None]:
    """Close uploads; return for each the replaced fid or None, or the error because of which it was not closed."""
    answers: dict[int, int | TawaraError | None] = {}
    waiting = list(enumerate(closings))
    while waiting:
        # Closings of the same key or fid run one after another; where keys are not compared as bytes, all do.
        seen: set[object] = set()
        now: list[tuple[int, CloseRequest]] = []
        later: list[tuple[int, CloseRequest]] = []
        for place, closing in waiting:
            names = {closing.file.fid, (closing.file.dmid, closing.file.key)}
            (later if seen & names or (seen and not tx.dialect.exact_keys) else now).append((place, closing))
            seen |= names
        now.sort(key=lambda each: (each[1].file.dmid, each[1].file.key))
        answers.update(zip((place for place, _ in now), await _close(tx, [each for _, each in now]), strict=True))
        waiting = later
    return [answers[place] for place in range(len(closings))]


async def _close(tx: Transaction, closings: Sequence[CloseRequest]) -> list[int | TawaraError | None]:
    """Close uploads of distinct keys and fids, given in key order; results as for close_many."""
    # For each open upload its fid, and again if it is stored already. FOR UPDATE does not lock rows of `file` here.
    values = rounded(sorted(closing.file.fid for closing in closings))
    stored_as = "(SELECT f.fid FROM file f WHERE f.fid = t.fid)"
    rows = await tx.rows(
        f"SELECT t.fid, {stored_as} FROM tempfile t WHERE t.fid IN ({marks(values)}){tx.dialect.for_update}",
        *values,
    )
    opened: dict[int, int | None] = dict(rows)
    named = await _named(tx, closings)
    answers: list[int | TawaraError | None] = []
    good: list[CloseRequest] = []
    replaced: list[int] = []
    for closing in closings:
        old = named.get((closing.file.dmid, closing.file.key))
        if closing.file.fid not in opened:
            answers.append(NoTempFile())
        elif closing.expected_fid is not None and (old or 0) != closing.expected_fid:
            answers.append(PreconditionFailed())
        elif opened[closing.file.fid] is not None:
            answers.append(FidExists())
        elif closing.multipart is not None and not await multipart.complete(tx, closing.multipart, closing.file.fid):
            answers.append(NoSuchUpload())
        else:
            answers.append(old)
            good.append(closing)
            if old is not None:
                replaced.append(old)
    await _replace(tx, good, sorted(replaced))
    return answers


async def _named(tx: Transaction, closings: Sequence[CloseRequest]) -> dict[tuple[int, bytes], int]:
    """Return the fids to which the closings' keys refer, with their rows locked."""
    dialect = tx.dialect
    names = [(closing.file.dmid, closing.file.key) for closing in closings]
    condition, values = dialect.one_of(names)
    rows = await tx.rows(
        f"SELECT f.dmid, {dialect.key_column('f.dkey')}, f.fid FROM file f WHERE {condition}{dialect.for_update}",
        *values,
    )
    # Where keys are not compared as bytes there is only one closing, and the stored key may be spelt differently.
    return {(dmid, bytes(key)) if dialect.exact_keys else names[0]: fid for dmid, key, fid in rows}


async def _replace(tx: Transaction, closings: Sequence[CloseRequest], replaced: Sequence[int]) -> None:
    """Store the new files, and queue the replication of these and the deletion of those that they replace."""
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
