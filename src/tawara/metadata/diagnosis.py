"""Everything that the database says about one fid, for people who look for a mistake (reference: file_debug).

Each function is one transaction; see `contract`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tawara.metadata.contract import Transaction
from tawara.model.cluster import Checksum, HashType

_TABLES = {
    "fid": ("file", ("fid", "dmid", "dkey", "length", "classid", "devcount"), ""),
    "tempfile": ("tempfile", ("classid", "dmid", "dkey", "devids"), ""),
    "replqueue": ("file_to_replicate", ("fid", "nexttry", "fromdevid", "failcount", "flags"), ""),
    "delqueue": ("file_to_delete2", ("fid", "nexttry", "failcount"), ""),
    "fsckqueue": ("file_to_queue", ("fid", "devid", "type", "nexttry", "failcount", "flags", "arg"), " AND type = 1"),
    "rebqueue": ("file_to_queue", ("fid", "devid", "type", "nexttry", "failcount", "flags", "arg"), " AND type = 2"),
}
"""Prefix in the reply -> table, its columns, and which of its rows."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The rows about one fid."""

    fid: int
    devids: tuple[int, ...]
    checksum: Checksum | None
    rows: Mapping[str, Mapping[str, bytes | str | int | None]]
    """By the prefix of file_debug: `fid`, `tempfile`, `replqueue`, `delqueue`, `fsckqueue`, `rebqueue`."""


async def facts_of(tx: Transaction, fid: int) -> Facts:
    """All that is known of `fid`, whether or not a key names it."""
    rows: dict[str, Mapping[str, bytes | str | int | None]] = {}
    for prefix, (table, columns, condition) in _TABLES.items():
        selected = ", ".join(tx.dialect.key_column(each) if each == "dkey" else each for each in columns)
        row = await tx.row(f"SELECT {selected} FROM {table} WHERE fid = ?{condition}", fid)
        if row is not None:
            rows[prefix] = dict(zip(columns, row, strict=True))
    checksum = await tx.row("SELECT hashtype, checksum FROM checksum WHERE fid = ?", fid)
    devids = await tx.rows("SELECT devid FROM file_on WHERE fid = ? ORDER BY devid", fid)
    return Facts(
        fid=fid,
        devids=tuple(row[0] for row in devids),
        checksum=Checksum(HashType(checksum[0]), bytes(checksum[1])) if checksum else None,
        rows=rows,
    )
