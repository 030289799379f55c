"""The outbox of the device journals: marks (devid, fid) whose journal records are out of date (`tawara_note`).

A change of a file's key, class, checksum or replicas inserts a mark for every device concerned, in the same
transaction. The mark has no content: the record is built from the file's rows when it is written (`journals`). Its
number is taken while the transaction has the file's row locked, so that of two changes of one file or key the later has
the greater number, whatever the clocks say."""

from __future__ import annotations

from collections.abc import Sequence

from tawara.metadata.contract import Transaction
from tawara.metadata.dialect import marks, rounded

_NOTE = "INSERT INTO tawara_note (fid, devid) VALUES (?, ?)"


async def of_places(tx: Transaction, places: Sequence[tuple[int, int]]) -> None:
    """Mark these (fid, devid): a replica was added or removed."""
    await tx.run_many(_NOTE, places)


async def of_files(tx: Transaction, fids: Sequence[int]) -> None:
    """Mark these files on every device that has them: their key, class or checksum changed, or they were deleted."""
    values = rounded(fids)
    select = f"SELECT fid, devid FROM file_on WHERE fid IN ({marks(values)})"
    await tx.run(f"INSERT INTO tawara_note (fid, devid) {select}", *values)
