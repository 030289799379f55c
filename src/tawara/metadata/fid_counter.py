"""The counter from which new fids come (`tempfile.fid`): where it stands, and how it is brought back.

Each function is one transaction; times are unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from tawara.metadata import files, uploads
from tawara.metadata.contract import Transaction
from tawara.model.errors import InUse, UsageError
from tawara.model.fid import COUNTED, STEP


@dataclass(frozen=True, slots=True)
class FidCounter:
    """Where the counter stands, and what it has to stay clear of."""

    counter: int
    """The fid after which counting goes on."""
    highest: int
    """The greatest fid up to COUNTED that is known to have been given out."""
    files_beyond: int
    """Files with a fid greater than COUNTED. They are kept, and are in the way of nothing."""
    uploads_beyond: int
    """Open uploads with such a fid. A reset gives them up."""

    @property
    def is_too_far(self) -> bool:
        """Whether the counter stands where counting alone never brings it."""
        return self.counter > COUNTED

    @property
    def reset_to(self) -> int:
        """Where a reset puts the counter: beyond what was given out and is not known any more."""
        return self.highest + STEP


async def look(tx: Transaction) -> FidCounter:
    """The counter as it is."""
    return FidCounter(
        counter=await tx.last_counted("tempfile", "fid"),
        highest=await uploads.highest_fid(tx),
        files_beyond=await _count_above(tx, "file", COUNTED),
        uploads_beyond=await _count_above(tx, "tempfile", COUNTED),
    )


async def _count_above(tx: Transaction, table: str, fid: int) -> int:
    row = await tx.row(f"SELECT COUNT(*) FROM {table} WHERE fid > ?", fid)
    return int(row[0]) if row else 0


async def reset(tx: Transaction, to: int, *, now: int) -> None:
    """Have fids count on after `to`, and give up the open uploads with greater ones.

    Raises UsageError for a number that is no such place, InUse when a file has one of the next STEP fids.
    """
    if not 0 <= to <= COUNTED:
        raise UsageError(f"The counter can be set to 0 to {COUNTED}")
    for table in ("file", "file_on", "file_to_delete2"):
        taken = await tx.row(f"SELECT MIN(fid) FROM {table} WHERE fid > ? AND fid <= ?", to, to + STEP)
        if taken is not None and taken[0] is not None:
            raise InUse(f"The fid {taken[0]} is in use, soon after {to}", hint="Give another number with --to.")
    for (fid,) in await tx.rows("SELECT fid FROM tempfile WHERE fid > ?", to):
        await files.discard_upload(tx, fid, now=now)
    await tx.count_from("tempfile", "fid", to)
