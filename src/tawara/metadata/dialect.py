"""The common part of the SQL dialects, and byte-wise ranges of keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

V = TypeVar("V")


def successor(prefix: bytes) -> bytes | None:
    """Return the least byte string that is greater than all strings with `prefix`; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


class StandardDialect:
    """Dialect for keys in binary columns, with `ON CONFLICT`; see contract.Dialect for each member."""

    name = "standard"
    key_value = "?"
    for_update = " FOR UPDATE"
    skip_locked = " FOR UPDATE SKIP LOCKED"
    locks_are_local = False
    by_key = ""
    unix_now = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"
    exact_keys = True
    byte_order = True

    def key_column(self, column: str) -> str:
        """See Dialect."""
        return column

    def bytes_column(self, column: str) -> str:
        """See Dialect."""
        return column

    def key_range(self, column: str, prefix: bytes, after: bytes | None) -> tuple[list[str], list[object]]:
        """See Dialect. One lower bound and one upper one: of two, SQLite would use the wrong one half of the time."""
        conditions: list[str] = []
        values: list[object] = []
        if after is not None and after >= prefix:
            conditions.append(f"{column} > {self.key_value}")
            values.append(after)
        elif prefix:
            conditions.append(f"{column} >= {self.key_value}")
            values.append(prefix)
        if (end := successor(prefix)) is not None:
            conditions.append(f"{column} < {self.key_value}")
            values.append(end)
        return conditions, values

    def one_of(self, names: Sequence[tuple[int, bytes]]) -> tuple[str, list[object]]:
        """See Dialect."""
        conditions: list[str] = []
        values: list[object] = []
        for dmid in sorted({dmid for dmid, _ in names}):
            keys = rounded([key for each, key in names if each == dmid])
            conditions.append(f"f.dmid = ? AND f.dkey IN ({', '.join([self.key_value] * len(keys))})")
            values += (dmid, *keys)
        return " OR ".join(conditions), values

    def joined(self, column: str) -> str:
        """See Dialect."""
        return f"string_agg(CAST({column} AS text), ',')"

    def insert_or_ignore(self, table: str, columns: Sequence[str]) -> str:
        """See Dialect."""
        return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks(columns)}) ON CONFLICT DO NOTHING"

    def upsert(self, table: str, key: Sequence[str], columns: Sequence[str]) -> str:
        """See Dialect."""
        changes = ", ".join(f"{column} = excluded.{column}" for column in columns)
        both = (*key, *columns)
        return (
            f"INSERT INTO {table} ({', '.join(both)}) VALUES ({marks(both)})"
            f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
        )


def marks(values: Sequence[object]) -> str:
    """Return a `?` for each of `values`, separated by commas."""
    return ", ".join("?" * len(values))


def rounded(values: Sequence[V]) -> list[V]:
    """Pad the values for an IN list to a power of two by repeating the last: fewer distinct statements to prepare."""
    size = 1 << (len(values) - 1).bit_length()
    return [*values, *[values[-1]] * (size - len(values))]
