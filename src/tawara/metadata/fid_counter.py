"""The counter that allocates new fids (`tempfile.fid`): its state, and how to reset it.

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
    """The state of the counter, and the fids that a reset must avoid."""

    counter: int
    """Fid after which the counter continues."""
    highest: int
    """Greatest fid up to COUNTED that is known to have been allocated."""
    files_beyond: int
    """Files with a fid greater than COUNTED. They are kept, and conflict with nothing."""
    uploads_beyond: int
    """Open uploads with such a fid. A reset discards them."""

    @property
    def is_too_far(self) -> bool:
        """Whether the counter is beyond any value that it can reach by counting."""
        return self.counter > COUNTED

    @property
    def reset_to(self) -> int:
        """The value for a reset: beyond fids that were allocated and of which no record remains."""
        return self.highest + STEP


async def read_counter(tx: Transaction) -> FidCounter:
    """Return the state of the counter."""
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
    """Set the counter to `to`, and discard open uploads with greater fids.

    Raises UsageError if `to` is out of range, InUse if a file has one of the next STEP fids.
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
