"""What is still to be written on the devices: a note for each device whose names say no longer what the rows say.

A change of a file's name, class, checksum or replicas leaves a note, (devid, fid), in its own transaction, for every
device that it concerns. The note says only *that* something is to be written; what it is is read when it is written
(`journals`). Its number is taken while the transaction has the file's row locked, so that of two changes of one file,
or of one key, the later has the greater number, whatever the clocks say.
"""

from __future__ import annotations

from collections.abc import Sequence

from tawara.metadata.contract import Transaction
from tawara.metadata.dialect import marks, rounded

_NOTE = "INSERT INTO tawara_note (fid, devid) VALUES (?, ?)"


async def of_places(tx: Transaction, places: Sequence[tuple[int, int]]) -> None:
    """Note these (fid, devid): a replica came, or went."""
    await tx.run_many(_NOTE, places)


async def of_files(tx: Transaction, fids: Sequence[int]) -> None:
    """Note these files on every device that has them: they have another name, class or checksum, or none any more."""
    values = rounded(fids)
    select = f"SELECT fid, devid FROM file_on WHERE fid IN ({marks(values)})"
    await tx.run(f"INSERT INTO tawara_note (fid, devid) {select}", *values)
