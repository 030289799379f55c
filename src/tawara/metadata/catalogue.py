"""Reads the database's catalogue of tables and columns, widens MogileFS's narrow columns, and restores them.

Columns are widened only as far as mogilefsd can still read them. SQLite ignores lengths, so nothing is widened there.
docs/mogilefs.md 17.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tawara.metadata.contract import Dialect, Transaction
from tawara.model.errors import InUse
from tawara.model.limits import KEY_BYTES


@dataclass(frozen=True, slots=True)
class Column:
    """A column as described by the database."""

    table: str
    name: str
    type: str
    """As in DDL, lower case: `varchar(255)`, `mediumint(8) unsigned`."""
    nullable: bool = True
    charset: str = ""
    """Of text columns on MySQL and MariaDB."""
    collation: str = ""
    """Of text columns; empty for the database's default (PostgreSQL, SQLite)."""

    @property
    def place(self) -> str:
        """`table.column`."""
        return f"{self.table}.{self.name}"


async def tables(tx: Transaction) -> dict[str, str]:
    """Return the tables, each with its storage engine (MySQL, MariaDB) or an empty string."""
    match tx.dialect.name:
        case "sqlite":
            sql = "SELECT name, '' FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        case "postgresql":
            sql = "SELECT table_name::text, '' FROM information_schema.tables WHERE table_schema = current_schema()"
        case _:
            sql = (
                "SELECT table_name, engine FROM information_schema.tables"
                " WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'"
            )
    return {_text(name): _text(engine) for name, engine in await tx.rows(sql)}


async def columns(tx: Transaction) -> dict[str, Column]:
    """Return the columns, by `table.column`."""
    match tx.dialect.name:
        case "sqlite":
            sql = (
                "SELECT m.name, c.name, c.type, NOT c.\"notnull\", '', ''"
                " FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
            )
        case "postgresql":
            sql = (
                "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, '',"
                " CASE WHEN a.attcollation IN (0, 100) THEN '' ELSE (SELECT collname::text FROM pg_collation l"
                " WHERE l.oid = a.attcollation) END FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
                " WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attnum > 0"
                " AND NOT a.attisdropped"
            )
        case _:
            sql = (
                "SELECT table_name, column_name, column_type, is_nullable = 'YES', COALESCE(character_set_name, ''),"
                " COALESCE(collation_name, '') FROM information_schema.columns WHERE table_schema = DATABASE()"
            )
    found: dict[str, Column] = {}
    for table, name, kind, nullable, charset, collation in await tx.rows(sql):
        type_ = _text(kind).lower().replace("character varying", "varchar")
        column = Column(_text(table), _text(name), type_, bool(nullable), _text(charset), _text(collation))
        found[column.place] = column
    return found


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


# --- widening ---------------------------------------------------------------------------------------------------------

_LENGTHS = {"tempfile.devids": 255, "host.hostip": 255, "host.altip": 255, "host.altmask": 64}
_KEYS = ("file.dkey", "tempfile.dkey")
_DEVIDS = ("file_on.devid", "file_on_corrupt.devid", "device.devid", "fsck_log.devid")
_INDEX_BYTES = 3070
"""Most bytes of a key in an InnoDB index, in addition to `dmid`."""
_CHARACTER_BYTES = {"utf8mb4": 4, "utf8mb3": 3, "utf8": 3, "ucs2": 2, "utf16": 4, "utf32": 4}


def wider(dialect: Dialect, column: Column) -> str | None:
    """Return the type to which a column is widened; None if it stays as it is."""
    if dialect.name == "sqlite":
        return None
    if column.place in _DEVIDS:
        return "integer" if column.type == "smallint" else None
    length = re.fullmatch(r"varchar\((\d+)\)", column.type)
    if length is None:
        return None
    wanted = _LENGTHS.get(column.place, 0)
    if column.place in _KEYS:
        wanted = min(KEY_BYTES, _INDEX_BYTES // _CHARACTER_BYTES.get(column.charset, 1))
    return f"varchar({wanted})" if wanted > int(length[1]) else None


def retype(dialect: Dialect, column: Column, type_: str) -> str:
    """Return the statement that changes a column's type and keeps its other attributes."""
    if dialect.name == "postgresql":
        return f"ALTER TABLE {column.table} ALTER COLUMN {column.name} TYPE {type_}"
    text = f" CHARACTER SET {column.charset} COLLATE {column.collation}" if column.charset else ""
    null = "NULL DEFAULT NULL" if column.nullable else "NOT NULL"
    return f"ALTER TABLE {column.table} MODIFY COLUMN {column.name} {type_}{text} {null}"


async def refuse_values_too_large(tx: Transaction, narrow: Mapping[str, str]) -> None:
    """Raise InUse if rows would not fit columns of these types (`table.column` -> type)."""
    for place, type_ in narrow.items():
        table, _, name = place.partition(".")
        length = re.fullmatch(r"varchar\((\d+)\)", type_)
        condition = f"CHAR_LENGTH({name}) > {length[1]}" if length else f"{name} > 32767"
        row = await tx.row(f"SELECT COUNT(*) FROM {table} WHERE {condition}")
        if row is not None and row[0]:
            raise InUse(
                f"{row[0]} rows of {place} do not fit into {type_}, as it was before it was widened",
                hint="Rename, change or delete what they stand for, then try again.",
            )
