"""The embedded engine: SQLite in WAL mode; reads on the event loop, one writer thread with group commit.

A point look-up takes some tens of microseconds, less than passing it to a thread, so reads run directly on the event
loop. Changes are queued for the writer thread, which runs all queued changes in one transaction (in savepoints, so that
each can fail alone) and makes them durable with one fsync. Changes that arrive meanwhile, or while another process
writes, form the next group.

The queue is not a `batching.Batcher`: the writer takes its batch only once it holds the lock between processes, so that
changes which arrive while it waits join the batch, and it takes the next batch without a detour through the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import tempfile
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tawara.metadata.clock import Clock
from tawara.metadata.contract import BatchQuery, Dialect, P, Query, QueryCall, Result, Row, T
from tawara.metadata.creation import check_own_version
from tawara.metadata.dialect import StandardDialect
from tawara.metadata.write_lock import WriteLock
from tawara.model.errors import ConfigurationError, DatabaseFull, Db, Dup, FidsExhausted, TawaraError
from tawara.model.fid import HIGHEST

GROUP = 256
"""Most changes in one commit."""
MMAP_BYTES = 2_147_418_112
"""Bytes of the file that look-ups read by memory mapping, which saves a system call and a copy for each page.

The value is SQLite's maximum. Figures: `benchmarks/sqlite_mmap.py`, docs/performance.md.
"""
BUSY_SECONDS = 10.0
"""Seconds that a change waits for other writers before it fails with Db."""


class SqliteDialect(StandardDialect):
    """The SQL dialect of SQLite. Keys are stored as TEXT, as in MogileFS, but read and written byte for byte."""

    name = "sqlite"
    key_value = "CAST(? AS TEXT)"
    for_update = ""
    skip_locked = ""
    unix_now = "(julianday('now') - 2440587.5) * 86400.0"

    def key_column(self, column: str) -> str:
        """See Dialect."""
        return self.bytes_column(column)

    def bytes_column(self, column: str) -> str:
        """See Dialect. mogilefsd stores keys as text, which may not be valid UTF-8; SQLite keeps the type."""
        return f"CAST({column} AS BLOB)"

    def joined(self, column: str) -> str:
        """See Dialect."""
        return f"group_concat({column})"


class SqliteTransaction:
    """A transaction on one connection. Its coroutines never suspend, so that `_finish` can run their callers."""

    dialect: Dialect = SqliteDialect()

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany

    async def rows(self, sql: str, *values: object) -> list[Row]:
        """See Transaction."""
        return self._execute(sql, values).fetchall()

    async def row(self, sql: str, *values: object) -> Row | None:
        """See Transaction."""
        return cast("Row | None", self._execute(sql, values).fetchone())

    async def run(self, sql: str, *values: object) -> int:
        """See Transaction."""
        try:
            return self._execute(sql, values).rowcount
        except sqlite3.IntegrityError as error:
            raise Dup from error

    async def run_many(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        """See Transaction."""
        try:
            self._executemany(sql, values)
        except sqlite3.IntegrityError as error:
            raise Dup from error

    async def insert_many(self, sql: str, key: str, values: Sequence[Sequence[object]]) -> list[int]:
        """See Transaction."""
        return [await self.insert(sql, key, *each) for each in values]

    async def advance(self, table: str, key: str, number: int) -> None:
        """See Transaction. AUTOINCREMENT follows inserted values, so there is nothing to do."""

    async def last_counted(self, table: str, key: str) -> int:
        """See Transaction."""
        row = self._execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        return row[0] if row else 0

    async def count_from(self, table: str, key: str, number: int) -> None:
        """See Transaction."""
        self._execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        self._execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, number))

    async def insert(self, sql: str, key: str, *values: object) -> int:
        """See Transaction."""
        try:
            return self._execute(sql, values).lastrowid or 0
        except sqlite3.IntegrityError as error:
            raise Dup from error
        except sqlite3.OperationalError as error:
            # SQLite reports "full" both for a full disk and for an exhausted counter.
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL and await self._is_exhausted():
                raise FidsExhausted from error
            raise

    async def _is_exhausted(self) -> bool:
        return self._execute("SELECT 1 FROM sqlite_sequence WHERE seq >= ?", (HIGHEST,)).fetchone() is not None


def _finish(coroutine: Awaitable[T]) -> T:
    """Run a coroutine that never suspends, and return its result."""
    running = cast("Coroutine[Any, Any, T]", coroutine)
    try:
        running.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    running.close()
    raise RuntimeError("a query awaited something other than its transaction")


@dataclass(slots=True)
class _Change:
    """A change queued for the writer thread, with the future of its result."""

    query: Callable[..., Awaitable[Any]]
    call: QueryCall
    future: asyncio.Future[Any]
    answer: Result = None

    def set_result(self) -> None:
        if self.future.done():
            return  # the caller was cancelled; the change is committed all the same
        if isinstance(self.answer, BaseException):
            self.future.set_exception(self.answer)
        else:
            self.future.set_result(self.answer)

    def fail_as_busy(self) -> None:
        self.answer = Db("The database is busy")
        self.set_result()


class SqliteMetadata:
    """A SQLite file as `contract.Metadata`. Belongs to one event loop; other processes may open the file too."""

    reads_at_once = True

    def __init__(self, path: Path, *, any_version: bool = False) -> None:
        """Open the database at `path`, made by `create`. Raises ConfigurationError if it is not one of Tawara's."""
        self._path = path
        self._long_reader: sqlite3.Connection | None = None
        """Connection for long queries."""
        self._long_reader_lock = threading.Lock()
        try:
            self._writer_connection = _connect(path)
            self._reader = _connect(path, readonly=True)
            self._write_lock = WriteLock(path)
        except (sqlite3.Error, OSError) as error:
            raise ConfigurationError(f"{path} cannot be opened as a database: {error}") from error
        try:
            self._check_schema(any_version)
        except BaseException:
            self._close_all()
            raise
        self._reading = SqliteTransaction(self._reader)
        self._writing = SqliteTransaction(self._writer_connection)
        self._changes: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer = threading.Thread(target=self._write_groups, name="sqlite-writer", daemon=True)
        self._writer.start()
        self._closed = False
        self.clock = Clock(self)

    @classmethod
    def open(cls, path: Path, *, any_version: bool = False) -> SqliteMetadata:
        """Open the database at `path`; create it first if it does not exist."""
        if not path.exists():
            create(path)
        return cls(path, any_version=any_version)

    def _check_schema(self, any_version: bool) -> None:
        from_tables = "SELECT value FROM server_settings WHERE field = 'schema_version'"
        try:
            row = self._reader.execute(from_tables).fetchone()
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(f"{self._path} is not a database of Tawara or MogileFS: {error}") from error
        if row is None or row[0] != "17":
            raise ConfigurationError(f"{self._path} has schema version {row and row[0]}; this tracker needs 17")
        if not any_version:
            own = "SELECT value FROM server_settings WHERE field = 'tawara_schema_version'"
            version = self._reader.execute(own).fetchone()
            check_own_version(version and version[0])

    async def read(self, query: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Metadata. Never suspends."""
        asking = query(self._reading, *args, **kwargs)
        if "one_statement" in query.__dict__:
            return _read_statement(asking)
        return _read(self._reader, asking)

    async def read_long(self, query: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Metadata. Runs in a thread, with a connection of its own; one such query at a time."""
        if self._closed:
            raise Db("The database is closed")
        return await asyncio.to_thread(self._read_long, query, args, kwargs)

    def _read_long(self, query: Callable[..., Awaitable[T]], args: Any, kwargs: Any) -> T:
        with self._long_reader_lock:
            if self._long_reader is None:
                self._long_reader = _connect(self._path, readonly=True)
            return _read(self._long_reader, query(SqliteTransaction(self._long_reader), *args, **kwargs))

    async def write(self, change: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Metadata."""
        if self._closed:
            raise Db("The database is closed")
        self._loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = self._loop.create_future()
        waiting = _Change(change, QueryCall(args, kwargs), future)
        self._changes.put(waiting)
        timeout = self._loop.call_later(BUSY_SECONDS, waiting.fail_as_busy)
        try:
            return await future
        finally:
            timeout.cancel()

    async def close(self) -> None:
        """See Metadata."""
        if self._closed:
            return
        self._closed = True
        self._changes.put(None)
        await asyncio.to_thread(self._writer.join, BUSY_SECONDS)
        if not self._writer.is_alive():  # else the file is locked elsewhere; the thread ends with the process
            self._close_all()

    def _close_all(self) -> None:
        with self._long_reader_lock:
            self._reader.close()
            if self._long_reader is not None:
                self._long_reader.close()
        self._writer_connection.close()
        self._write_lock.close()

    # --- the writer thread --------------------------------------------------------------------------------------------

    def _write_groups(self) -> None:
        last = False
        while not last and (first := self._changes.get()) is not None:
            with self._write_lock:
                group, last = self._gather(first)
                self._make(group)
            self._deliver(group)

    def _gather(self, first: _Change) -> tuple[list[_Change], bool]:
        """Return all queued changes, and whether the writer is to stop after them."""
        group = [first]
        while len(group) < GROUP:
            try:
                change = self._changes.get_nowait()
            except queue.Empty:
                break
            if change is None:
                return group, True
            group.append(change)
        return group, False

    def _make(self, group: Sequence[_Change], *, fresh: bool = False) -> None:
        """Commit changes in one transaction; if that fails, each in its own, so that one cannot fail the others.

        A read-only connection is replaced once: SQLite fixes this state when it opens the file.
        """
        try:
            self._commit(group)
        except Exception as error:
            if _is_read_only(error) and not fresh and self._reconnect():
                self._make(group, fresh=True)
                return
            if len(group) == 1 or _is_busy(error):
                for change in group:
                    change.answer = error if isinstance(error, TawaraError) else _as_ours(error)
                return
            for change in group:
                self._make([change], fresh=fresh)

    def _reconnect(self) -> bool:
        try:
            connection = _connect(self._path)
        except sqlite3.Error:
            return False
        self._writer_connection.close()
        self._writer_connection, self._writing = connection, SqliteTransaction(connection)
        return True

    def _commit(self, group: Sequence[_Change]) -> None:
        execute = self._writer_connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            batches: defaultdict[BatchQuery | None, list[_Change]] = defaultdict(list)
            for change in group:
                if not change.future.done():  # not timed out or cancelled meanwhile
                    batches[getattr(change.query, "batched", None)].append(change)
            for many, batch in batches.items():
                if many is None or len(batch) == 1 or not self._try_batched(many, batch):
                    for change in batch:
                        change.answer = self._try(change.query, *change.call.args, **change.call.kwargs)
            execute("COMMIT")
        except BaseException:
            if self._writer_connection.in_transaction:
                execute("ROLLBACK")
            raise

    def _try_batched(self, many: BatchQuery, batch: Sequence[_Change]) -> bool:
        answers = self._try(many, [change.call for change in batch])
        if isinstance(answers, Exception):
            return False
        for change, answer in zip(batch, answers, strict=True):
            change.answer = answer
        return True

    def _try(self, change: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Result:
        """Run a change in a savepoint and return its result; if it raises, roll it back and return the exception."""
        execute = self._writer_connection.execute
        execute("SAVEPOINT one")
        try:
            answer = _finish(change(self._writing, *args, **kwargs))
        except sqlite3.Error:
            raise
        except Exception as error:
            if not self._writer_connection.in_transaction:
                raise  # SQLite has rolled back the whole group
            answer = error
            execute("ROLLBACK TO one")
        execute("RELEASE one")
        return answer

    def _deliver(self, group: list[_Change]) -> None:
        def set_result() -> None:
            for change in group:
                change.set_result()

        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(set_result)


def _read(connection: sqlite3.Connection, answering: Awaitable[T]) -> T:
    """Run a read-only query in one snapshot, and return its result. Raises Db."""
    try:
        connection.execute("BEGIN")
        try:
            return _finish(answering)
        finally:
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise Db(f"Database error: {error}") from error


def _read_statement(answering: Awaitable[T]) -> T:
    """Run a query of one statement, which is a snapshot by itself, and return its result. Raises Db."""
    try:
        return _finish(answering)
    except sqlite3.Error as error:
        raise Db(f"Database error: {error}") from error


def _as_ours(error: Exception) -> Db:
    if isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
        return DatabaseFull(f"Database error: {error}")
    return Db(f"Database error: {error}")


def _is_busy(error: Exception) -> bool:
    """Return whether a program without the write lock, such as mogilefsd, kept the file locked too long."""
    return isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _is_read_only(error: Exception) -> bool:
    """Return whether the connection is read-only, other than because the file was replaced after it was opened."""
    return (
        isinstance(error, sqlite3.Error)
        and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY
        and error.sqlite_errorcode != sqlite3.SQLITE_READONLY_DBMOVED
    )


def _text(stored: bytes) -> str:
    """Decode text stored by other programs: bytes that are not UTF-8 become surrogates."""
    return stored.decode("utf-8", "surrogateescape")


def _connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rw'}",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
        cached_statements=256,
    )
    connection.text_factory = _text
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -16384")
    connection.execute("PRAGMA temp_store = MEMORY")
    if readonly:
        connection.execute(f"PRAGMA mmap_size = {MMAP_BYTES}")
    return connection


def create(path: Path) -> None:
    """Create an empty database at `path`, atomically and readable by its owner only; an existing one is kept."""
    if not path.parent.is_dir():
        raise ConfigurationError(f"There is no directory {path.parent}, where the database {path.name} should be")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".tawara-") as private:
        unfinished = Path(private, path.name)
        unfinished.touch(mode=0o600)
        _create_file(unfinished)
        with contextlib.suppress(FileExistsError):  # another process created it first
            path.hardlink_to(unfinished)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _create_file(path: Path) -> None:
    from tawara.metadata import schema, schema_version

    connection = _connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in schema.statements("sqlite"):
            connection.execute(statement)
        connection.executemany(
            "INSERT INTO server_settings (field, value) VALUES (?, ?)",
            [
                ("schema_version", str(schema_version.MOGILEFS)),
                ("tawara_schema_version", str(schema_version.TAWARA)),
                ("case_sensitive_list_keys", "1"),
            ],
        )
        connection.execute("COMMIT")
    finally:
        connection.close()
