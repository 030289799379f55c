"""Examines a MogileFS database before adoption: contents, limits, obstacles (docs/mogilefs.md 17)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tawara.metadata import catalogue, migrations, runs
from tawara.metadata.catalogue import Column
from tawara.metadata.contract import Transaction
from tawara.model.cluster import DeviceState, HashType, HostState
from tawara.model.errors import ConfigurationError, InvalidReplpolicy
from tawara.model.policy import parse

PREFIX = "tawara_"
"""Prefix of Tawara's own tables and settings."""
ADOPTED = "tawara_adopted"
"""Setting: the time of adoption; absent in a database created by Tawara."""

WIDENED = "tawara_widened"
"""Setting: the types of columns before they were widened: `table.column` -> type, as JSON."""

UNKNOWN_TO_MOGILEFS = f"hashtype NOT IN ({HashType.MD5:d}, {HashType.SHA1:d})"
"""SQL condition for a checksum algorithm that is not MogileFS's: mogilefsd fails where it reads it."""

_NEEDED = {
    *("domain", "class", "file", "tempfile", "file_on", "host", "device", "server_settings", "fsck_log", "checksum"),
    *("file_to_replicate", "file_to_delete2", "file_to_queue"),
}
_OWN_OF_MOGILEFS = _NEEDED | {
    *("file_on_corrupt", "unreachable_fids", "file_to_delete", "file_to_delete_later", "lock"),
}


@dataclass(frozen=True, slots=True)
class DomainFound:
    """A domain and its contents."""

    name: str
    files: int
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeysFound:
    """How keys are stored, and the consequences."""

    type: str
    charset: str
    collation: str
    same: tuple[tuple[str, str], ...]
    """Examples of pairs of keys that this database treats as one."""
    meaning: str
    """Description of the key comparison, as a sentence."""
    unreadable: int
    """Number of keys stored in characters that represent no bytes."""
    probably_latin1: bool = False
    """Whether mogilefsd's connections appear to have used Latin-1, which the URL declares by `?keys=latin1`."""


@dataclass(frozen=True, slots=True)
class AdoptionFindings:
    """The contents of a database, and whether it can be adopted."""

    engine: str
    own_version: int
    """Version of Tawara's tables; 0 if there are none."""
    adopted: bool
    """Whether MogileFS created the database and Tawara adopted it."""
    domains: tuple[DomainFound, ...]
    files: int
    bytes: int
    replicas: int
    hosts: Mapping[str, int]
    """State -> number of hosts."""
    devices: Mapping[str, int]
    queues: Mapping[str, int]
    """Table -> number of rows."""
    keys: KeysFound
    limits: tuple[str, ...]
    """Values that this database cannot represent."""
    notes: tuple[str, ...]
    """Differences from mogilefsd's behaviour, and other points to review."""
    obstacles: tuple[str, ...]
    """Reasons why the database cannot be adopted as it is."""
    widening: Mapping[str, tuple[str, str]]
    """Columns that could be widened: `table.column` -> (current type, wider type)."""
    widened: Mapping[str, str]
    """Columns that Tawara has widened: `table.column` -> original type."""
    media_types: int = 0
    """Files whose media type is known only to Tawara's tables."""
    orphans: int = 0
    """Rows of tawara_file for files that mogilefsd has deleted."""
    copies: int = 0
    """Copy reservations, which only Tawara's tables record."""
    unknown_checksums: int = 0
    """Classes and files with a checksum that MogileFS does not know."""


async def examine(tx: Transaction) -> AdoptionFindings:
    """Examine the database without changing it. Raises ConfigurationError if it is not a MogileFS database."""
    tables = await catalogue.tables(tx)
    if missing := sorted(_NEEDED - tables.keys()):
        raise ConfigurationError(f"The database is not one of MogileFS 2.73: it has no table {', '.join(missing)}")
    columns = await catalogue.columns(tx)
    settings = await runs.settings(tx, "")
    version = await migrations.version(tx)
    keys = await _keys(tx, columns["file.dkey"])
    files = await tx.row("SELECT COUNT(*), COALESCE(SUM(length), 0) FROM file")
    assert files is not None
    widening = {
        column.place: (column.type, wide)
        for column in columns.values()
        if column.table in tables and (wide := catalogue.wider(tx.dialect, column))
    }
    return AdoptionFindings(
        engine=tx.dialect.name,
        own_version=version,
        adopted=ADOPTED in settings,
        domains=await _domains(tx),
        files=files[0],
        bytes=int(files[1]),
        replicas=await count(tx, "file_on"),
        hosts=await _states(tx, "host"),
        devices=await _states(tx, "device"),
        queues={each: await count(tx, each) for each in _QUEUES if each in tables},
        keys=keys,
        limits=_limits(tx, columns, keys),
        notes=tuple(await _notes(tx, tables, settings, keys)),
        obstacles=tuple(await _obstacles(tx, tables, keys)),
        widening=widening,
        widened=widened(settings),
        media_types=await count(tx, "tawara_file", "content_type IS NOT NULL") if "tawara_file" in tables else 0,
        orphans=await count(tx, "tawara_file", orphaned("tawara_file")) if "tawara_file" in tables else 0,
        copies=await count(tx, "tawara_copy") if "tawara_copy" in tables else 0,
        unknown_checksums=await count(tx, "class", UNKNOWN_TO_MOGILEFS)
        + await count(tx, "checksum", UNKNOWN_TO_MOGILEFS),
    )


def orphaned(table: str) -> str:
    """Return the condition that no key refers to the fid of a row of `table`, one of Tawara's tables.

    Tawara deletes such rows along with the file's data; mogilefsd does not know the tables.
    """
    return f"NOT EXISTS (SELECT 1 FROM file WHERE file.fid = {table}.fid)"


def widened(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the types of columns before they were widened: `table.column` -> type."""
    before: dict[str, str] = json.loads(settings.get(WIDENED, "{}"))
    return before


_QUEUES = (
    "file_to_replicate",
    "file_to_delete2",
    "file_to_queue",
    "tempfile",
    "file_to_delete",
    "file_to_delete_later",
)


async def count(tx: Transaction, table: str, condition: str = "") -> int:
    """Return the number of rows in a table, or of those that meet a condition."""
    row = await tx.row(f"SELECT COUNT(*) FROM {table}{f' WHERE {condition}' if condition else ''}")
    return row[0] if row else 0


async def _states(tx: Transaction, table: str) -> dict[str, int]:
    rows = await tx.rows(f"SELECT status, COUNT(*) FROM {table} GROUP BY status")
    return {status or "": number for status, number in rows}


async def _domains(tx: Transaction) -> tuple[DomainFound, ...]:
    counts: dict[int, int] = dict(await tx.rows("SELECT dmid, COUNT(*) FROM file GROUP BY dmid"))
    classes: dict[int, list[str]] = {}
    for dmid, name in await tx.rows("SELECT dmid, classname FROM class ORDER BY dmid, classid"):
        classes.setdefault(dmid, []).append(name or "")
    rows = await tx.rows("SELECT dmid, namespace FROM domain ORDER BY namespace")
    return tuple(DomainFound(name or "", counts.get(dmid, 0), tuple(classes.get(dmid, ()))) for dmid, name in rows)


_PAIRS = (("A", "a"), ("x", "x "), ("é", "e"))
"""Pairs of keys that some collations treat as equal: by case, a trailing blank, or an accent."""
_WORDS = {("A", "a"): "upper and lower case", ("x", "x "): "blanks at the end", ("é", "e"): "accents"}


async def _keys(tx: Transaction, column: Column) -> KeysFound:
    same: list[tuple[str, str]] = []
    if tx.dialect.name == "mysql" and column.charset:
        for pair in _PAIRS:
            one, other = (f"CONVERT(CAST(? AS CHAR) USING {column.charset}) COLLATE {column.collation}" for _ in pair)
            row = await tx.row(f"SELECT {one} = {other}", *pair)
            if row is not None and row[0]:
                same.append(pair)
    elif tx.dialect.name == "postgresql" and column.collation:
        for pair in _PAIRS:
            row = await tx.row(f'SELECT ?::text COLLATE "{column.collation}" = ?::text', *pair)
            if row is not None and row[0]:
                same.append(pair)
    if same:
        meaning = (
            f"keys that differ only in {', '.join(_WORDS[pair] for pair in same)} are one key: storing one replaces the"
            " other, as with mogilefsd"
        )
    else:
        meaning = "keys are compared byte for byte"
    unreadable, latin1 = await _characters(tx, column)
    return KeysFound(column.type, column.charset, column.collation, tuple(same), meaning, unreadable, latin1)


_SAMPLE = 1000


async def _characters(tx: Transaction, column: Column) -> tuple[int, bool]:
    """Count the keys that represent no bytes; return also whether these are probably UTF-8 misread as Latin-1."""
    if tx.dialect.name == "postgresql" and column.type.startswith("varchar"):
        return await count(tx, "file", "dkey ~ '[^\\u0001-\\u00FF]'"), False
    if tx.dialect.name != "mysql" or not column.charset:
        return 0, False
    rows = await tx.rows(
        "SELECT CAST(CONVERT(dkey USING latin1) AS BINARY) FROM file"
        " WHERE LENGTH(CONVERT(dkey USING utf8mb4)) <> CHAR_LENGTH(dkey) LIMIT ?",
        _SAMPLE,
    )
    utf8 = 0
    for (key,) in rows:
        try:
            bytes(key).decode()
        except UnicodeDecodeError:
            continue
        utf8 += b"?" not in bytes(key)
    # Text that was decoded correctly is hardly ever valid UTF-8 when it is encoded as Latin-1.
    return 0, utf8 * 10 > len(rows)


def _limits(tx: Transaction, columns: Mapping[str, Column], keys: KeysFound) -> tuple[str, ...]:
    if tx.dialect.name == "sqlite":
        return ()
    narrow: list[str] = []
    if keys.type.startswith("varchar"):
        narrow.append(f"keys longer than {keys.type[8:-1]} characters")
        if tx.dialect.name == "postgresql":
            narrow.append("keys with a NUL byte")
        else:
            narrow.append(f"keys of characters that {keys.charset} does not have")
    if columns["host.hostip"].type == "varchar(15)":
        narrow.append("addresses longer than those of IPv4")
    if columns["device.devid"].type == "smallint":
        narrow.append("device numbers above 32767")
    return tuple(narrow)


async def _notes(tx: Transaction, tables: Mapping[str, str], settings: Mapping[str, str], keys: KeysFound) -> list[str]:
    notes: list[str] = []
    if keys.same or (tx.dialect.name == "sqlite" and settings.get("case_sensitive_list_keys", "0") == "0"):
        notes.append(
            "list_keys compares prefixes byte for byte; mogilefsd takes upper and lower case for the same here"
        )
    for field, words in _SETTINGS.items():
        if settings.get(field):
            notes.append(f"the setting {field} is {settings[field]}: {words}")
    old_queues = {
        table: await count(tx, table) for table in ("file_to_delete", "file_to_delete_later") if table in tables
    }
    notes += [
        f"{table}, a queue of old, has {rows} rows: let mogilefsd work them off"
        for table, rows in old_queues.items()
        if rows
    ]
    for dmid, name, policy in await tx.rows("SELECT dmid, classname, replpolicy FROM class WHERE replpolicy <> ''"):
        try:
            parse(policy)
        except InvalidReplpolicy as error:
            notes.append(f"class {name} (dmid {dmid}): {error.message}; its files are not replicated by us")
    strange = sorted(each for each in tables if each not in _OWN_OF_MOGILEFS and not each.startswith(PREFIX))
    if strange:
        notes.append(f"tables that are not of MogileFS itself (plugins?) are left alone: {', '.join(strange)}")
    if tx.dialect.name == "sqlite":
        row = await tx.row("PRAGMA journal_mode")
        if row is not None and row[0] != "wal":
            notes.append("the file is not in WAL mode: readers and writers wait for each other, as with mogilefsd")
    return notes


_SETTINGS = {
    "fsck_host": "a check is under way, which our workers would carry on",
    "rebal_host": "a rebalance is under way, which our workers would carry on",
    "memcache_servers": "memcache is not used",
    "slave_keys": "all is read from the database itself, not from its replicas",
}


async def _obstacles(tx: Transaction, tables: Mapping[str, str], keys: KeysFound) -> list[str]:
    obstacles: list[str] = []
    slow = sorted(name for name, engine in tables.items() if engine and engine.lower() != "innodb")
    if slow:
        obstacles.append(f"tables without transactions: ALTER TABLE … ENGINE=InnoDB for {', '.join(slow)}")
    if keys.unreadable:
        obstacles.append(f"{keys.unreadable} keys have characters above U+00FF, which stand for no byte")
    known: dict[str, set[str]] = {"host": {*HostState}, "device": {*DeviceState}}
    for table, states in known.items():
        for state, rows in (await _states(tx, table)).items():
            if state not in states:
                obstacles.append(f"{rows} rows of {table} have the unknown state {state!r}")
    unnamed = await count(tx, "file", "dkey IS NULL")
    if unnamed:
        obstacles.append(f"{unnamed} files have no key")
    return obstacles
