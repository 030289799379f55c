"""Sorts journal records and sizes by fid in a temporary file, so that any number fits in bounded memory.

The file is an unnamed SQLite database in TMPDIR, deleted on close. Records of some thousand fids at a time are merged
by `model.journal_records`; only the owner of each key is kept over all fids. Blocks; one thread at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tawara.model.fid import COUNTED, HIGHEST
from tawara.model.journal_records import (
    JournalEvidence,
    JournalMerger,
    JournalRecord,
    KeyClaim,
    Name,
    SegmentPosition,
    evidence,
    name_of,
)
from tawara.wire import journal
from tawara.wire.journal import Head

WIDTH: Final = 20_000
"""Records or sizes processed at a time."""
_TABLES: Final = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA cache_size = -32768;
    CREATE TABLE record (fid INTEGER, devid INTEGER, generation INTEGER, round INTEGER, line BLOB);
    CREATE TABLE size (fid INTEGER, devid INTEGER, bytes INTEGER);
    CREATE TABLE name (
        dmid INTEGER, dkey BLOB, generation INTEGER, version INTEGER, fid INTEGER, PRIMARY KEY (dmid, dkey)
    ) WITHOUT ROWID;
"""
_INDEXES: Final = """
    CREATE INDEX record_fid ON record (fid);
    CREATE INDEX size_fid ON size (fid);
"""
_CLAIM: Final = """
    INSERT INTO name VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
    SET generation = excluded.generation, version = excluded.version, fid = excluded.fid
    WHERE (excluded.generation, excluded.version, excluded.fid) > (name.generation, name.version, name.fid)
"""
_NTH: Final = (
    "SELECT fid FROM record WHERE fid >= ? ORDER BY fid LIMIT 1 OFFSET ?",
    "SELECT fid FROM size WHERE fid >= ? ORDER BY fid LIMIT 1 OFFSET ?",
)


@dataclass(frozen=True)
class FidRange:
    """The evidence for a range of fids."""

    evidence: JournalEvidence
    sizes: Mapping[int, Mapping[int, int]]
    """devid -> fid -> size in bytes, as far as known."""

    def has(self, devid: int, fid: int) -> int | None:
        """Return the size of a fid on a device; None if it does not exist."""
        return self.sizes.get(devid, {}).get(fid)


class SortedSpool:
    """A temporary database: add all records and sizes first, then read them with `ranges`."""

    def __init__(self, width: int = WIDTH) -> None:
        self._width = width
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._database.executescript(_TABLES)
        self._first: dict[int, SegmentPosition] = {}

    def close(self) -> None:
        """Delete the temporary database."""
        self._database.close()

    # --- filling ------------------------------------------------------------------------------------------------------

    def add_records(self, devid: int, head: Head, records: Iterable[tuple[JournalRecord, bytes]]) -> None:
        """Add a file of a device's journal: its records with their lines."""
        rows = [(record.fid, devid, head.generation, head.round, line) for record, line in records]
        self._insert("INSERT INTO record VALUES (?, ?, ?, ?, ?)", rows)

    def count_from(self, devid: int, first: SegmentPosition) -> None:
        """Ignore records of this device from earlier rounds than `first`."""
        self._first[devid] = first

    def ignore(self, devid: int) -> None:
        """Ignore all records of this device, because not all were read."""
        self._first[devid] = SegmentPosition(HIGHEST, 0)

    def add_sizes(self, devid: int, sizes: Mapping[int, int]) -> None:
        """Add the fids on a device with their sizes in bytes."""
        self._insert("INSERT INTO size VALUES (?, ?, ?)", [(fid, devid, size) for fid, size in sizes.items()])

    def _insert(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany(statement, rows)
        self._database.execute("COMMIT")

    @property
    def highest_fid(self) -> int:
        """Return the greatest added fid up to COUNTED."""
        greatest = "(SELECT MAX(fid) FROM {} WHERE fid <= ?)".format
        row = self._database.execute(f"SELECT {greatest('record')}, {greatest('size')}", (COUNTED, COUNTED)).fetchone()
        return max(each or 0 for each in row)

    # --- reading ------------------------------------------------------------------------------------------------------

    def assign_owners(self) -> None:
        """Determine the owner of each key."""
        self._database.executescript(_INDEXES)
        for first, last in self._ranges():
            claims, _ = self._merger(first, last).claims()
            self._insert(_CLAIM, [(*name_of(each.file), *each.since, each.file.fid) for each in claims])

    def ranges(self) -> Iterator[FidRange]:
        """Yield all evidence in order of fid."""
        for first, last in self._ranges():
            claims, gone = self._merger(first, last).claims()
            sizes: dict[int, dict[int, int]] = {}
            for fid, devid, size in self._between("SELECT fid, devid, bytes FROM size", first, last):
                sizes.setdefault(devid, {})[fid] = size
            yield FidRange(evidence(claims, gone, self._owners(claims)), sizes)

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """Yield first and last fid of ranges that cover everything, each with about WIDTH rows of a table."""
        first = 0
        while first <= HIGHEST:
            ends = [self._database.execute(nth, (first, self._width)).fetchone() for nth in _NTH]
            last = min([end[0] for end in ends if end is not None], default=HIGHEST)
            yield first, last
            first = last + 1

    def _between(self, select: str, first: int, last: int) -> sqlite3.Cursor:
        return self._database.execute(f"{select} WHERE fid BETWEEN ? AND ?", (first, last))

    def _merger(self, first: int, last: int) -> JournalMerger:
        merger = JournalMerger()
        rows = self._between("SELECT devid, generation, round, line FROM record", first, last)
        for devid, generation, round_, line in rows:
            if SegmentPosition(generation, round_) >= self._first.get(devid, SegmentPosition(0, 0)):
                merger.add(devid, generation, [journal.decode_record(line)])
        return merger

    def _owners(self, claims: Iterable[KeyClaim]) -> dict[Name, int]:
        ask = "SELECT fid FROM name WHERE dmid = ? AND dkey = ?"
        names = [name_of(claim.file) for claim in claims]
        return {name: self._database.execute(ask, name).fetchone()[0] for name in names}
