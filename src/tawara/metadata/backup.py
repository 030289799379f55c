"""Exports all rows of a database as plain values in one snapshot, and imports them into an empty database.

The engines of the two may differ. Rows are exported in chunks. In tables that grow with the files, a chunk covers a
fixed range of fids, so that unchanged rows form the same chunk in the next backup. Each function is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tawara.metadata import access_keys, catalogue, cluster, epochs, journals, migrations, rebuilding, uploads
from tawara.metadata.contract import Row, Transaction
from tawara.model.cluster import STALE
from tawara.model.errors import CorruptError
from tawara.model.fid import COUNTED, HIGHEST, fits
from tawara.wire.line import escape, unescape

if TYPE_CHECKING:
    from sqlalchemy import Table

RANGE: Final = 16_384
"""Size of a chunk's range of numbers, which are fids in most tables."""
MARGIN: Final = 1_000_000
"""Fids skipped after a restore: that many may have been allocated since the backup and exist on devices."""
_KEYS: Final = ("dkey",)
_DIGESTS: Final = ("checksum.checksum",)
_PASSING: Final = frozenset(
    {
        "lock",
        "tawara_note",
        "tawara_journal",
        "tawara_pace",
        "tawara_placement",
        "tawara_placement_change",
        "tawara_reason",
        "tawara_deleted",
        "tawara_absent",
        "tawara_multipart",
    }
)
"""Tables not exported, as they are specific to one database: locks, journal states, derived rows, uploads under way."""
_COUNTED: Final = ("fid", "logid")
"""First columns of primary keys by which growing tables are divided."""
_LOGS: Final = ("fsck_log", "tawara_scrub_log")
_COUNTERS: Final = {"tempfile": "fid", **dict.fromkeys(_LOGS, "logid")}
"""Auto-increment columns: a row near the highest possible number would exhaust the counter."""
_SMALL: Final = ("domain", "class", "host", "device", "server_settings")
_OWN_SETTINGS: Final = frozenset(
    {
        "schema_version",
        migrations.VERSION_FIELD,
        access_keys.CHANGES,
        journals.GENERATION,
        journals.MANIFEST,
        epochs.KNOWN_NAMES,
        STALE,
        "tawara_adopted",
        "tawara_widened",
    }
)
"""Settings that describe this database rather than its contents."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a table, in primary-key order."""

    table: str
    first: int
    """Start of the range of numbers; 0 for a table that is one chunk."""
    columns: tuple[str, ...]
    rows: list[list[Any]]


def tables() -> dict[str, Table]:
    """Return the exported tables, by name."""
    from tawara.metadata import schema

    return {name: table for name, table in schema.tables.tables.items() if name not in _PASSING}


def _columns(table: Table) -> tuple[str, ...]:
    return tuple(_text(column.name) for column in table.columns)


def _text(name: str) -> str:
    return name.encode().decode()  # SQLAlchemy's names are a subclass of str


def _primary(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.primary_key.columns)


# --- export -----------------------------------------------------------------------------------------------------------


async def dump(tx: Transaction, sink: Callable[[Chunk], None]) -> int:
    """Pass every row to `sink`; return the greatest fid. Must run as a read, for a consistent snapshot.

    If the connection is lost, the export restarts, and `sink` receives the same chunks again from the first.
    """
    there = await catalogue.tables(tx)
    for name, table in tables().items():
        if name in there:
            await _dump_table(tx, table, sink)
    return await uploads.highest_fid(tx)


async def _dump_table(tx: Transaction, table: Table, sink: Callable[[Chunk], None]) -> None:
    columns, primary = _columns(table), _primary(table)
    selected = ", ".join(_selected(tx, table.name, each) for each in columns)
    select, order = f'SELECT {selected} FROM "{table.name}"', f" ORDER BY {', '.join(primary)}"
    if primary[0] not in _COUNTED:
        rows = await tx.rows(select + order)
        if table.name == "server_settings":
            rows = [row for row in rows if row[0] not in _OWN_SETTINGS]
        sink(Chunk(_text(table.name), 0, columns, [_plain(table.name, columns, row) for row in rows]))
        return
    number = primary[0]
    start = 0
    while True:
        least = await tx.row(f'SELECT MIN({number}) FROM "{table.name}" WHERE {number} >= ?', start)
        if least is None or least[0] is None:
            return
        first = least[0] // RANGE * RANGE
        last = min(first + RANGE - 1, HIGHEST)
        part = await tx.rows(f"{select} WHERE {number} >= ? AND {number} <= ?{order}", first, last)
        sink(Chunk(_text(table.name), first, columns, [_plain(table.name, columns, row) for row in part]))
        if last == HIGHEST:
            return
        start = last + 1


def _selected(tx: Transaction, table: str, column: str) -> str:
    if column in _KEYS:
        return tx.dialect.key_column(column)
    return tx.dialect.bytes_column(column) if f"{table}.{column}" in _DIGESTS else column


def _plain(table: str, columns: Sequence[str], row: Row) -> list[Any]:
    """Return a row as JSON values: keys escaped as on the wire, digests in hex."""
    values: list[Any] = []
    for column, value in zip(columns, row, strict=True):
        if column in _KEYS and value is not None:
            value = escape(bytes(value)).decode()
        elif f"{table}.{column}" in _DIGESTS:
            value = bytes(value).hex()
        elif isinstance(value, bytes):
            value = value.decode()
        values.append(value)
    return values


# --- import -----------------------------------------------------------------------------------------------------------


async def load(tx: Transaction, chunk: Chunk) -> None:
    """Insert rows. Raises CorruptError for a number that no database can have.

    Rows of open uploads and logs are skipped if their number is so high that the table's counter could not continue
    from it.
    """
    table = tables()[chunk.table]
    known = set(_columns(table))
    unknown = [each for each in chunk.columns if each not in known]
    if unknown:
        raise ValueError(f"{chunk.table} has no {', '.join(unknown)}")
    marks = ", ".join(tx.dialect.key_value if each in _KEYS else "?" for each in chunk.columns)
    insert = f'INSERT INTO "{chunk.table}" ({", ".join(chunk.columns)}) VALUES ({marks})'
    rows = [_stored(chunk.table, chunk.columns, row) for row in chunk.rows]
    if (counter := _COUNTERS.get(chunk.table)) is not None:
        place = chunk.columns.index(counter)
        rows = [row for row in rows if row[place] <= COUNTED]
    await tx.run_many(insert, rows)


def _stored(table: str, columns: Sequence[str], row: Sequence[Any]) -> list[Any]:
    values: list[Any] = []
    for column, value in zip(columns, row, strict=True):
        if column in _KEYS and value is not None:
            value = unescape(value.encode())
        elif f"{table}.{column}" in _DIGESTS:
            value = bytes.fromhex(value)
        elif not fits(column, value):
            raise CorruptError(f"The backup has {column} {value} in its table {table}: no database can hold that")
        values.append(value)
    return values


async def finish(tx: Transaction, small: Mapping[str, Chunk], *, highest_fid: int) -> None:
    """Insert the small tables, which complete the store, and advance all counters beyond the numbers in use."""
    for name in _SMALL:
        chunk = small.get(name)
        if chunk is None:
            continue
        if name == "server_settings":
            for row in chunk.rows:
                await cluster.set_setting(tx, row[0], row[1])
        else:
            await load(tx, chunk)
    await uploads.count_beyond_all(tx, highest_fid, margin=MARGIN)
    for log in _LOGS:
        last = await tx.row(f"SELECT MAX(logid) FROM {log}")
        if last is not None and last[0]:
            await tx.advance(log, "logid", last[0])
    await rebuilding.end(tx)


def is_small(table: str) -> bool:
    """Return whether a table is a single chunk, and imported last."""
    return table in _SMALL
