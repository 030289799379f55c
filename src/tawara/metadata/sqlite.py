"""The embedded engine: SQLite in WAL mode, read on the event loop, written by one thread with group commit.

A point look-up costs some tens of microseconds, less than handing it to a thread, so reads run right where they are
asked. Changes queue up for the writer, which takes all that wait into one transaction (each in a savepoint of its own)
and makes them durable with one fsync; while that runs, the next ones gather.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tawara.metadata.contract import Dialect, P, Question, Row, T, Transaction
from tawara.metadata.dialect import StandardDialect
from tawara.metadata.founding import check_own_version
from tawara.model.errors import ConfigurationError, Db, Dup, TawaraError

GROUP = 256
"""Most changes in one commit."""
BUSY_SECONDS = 10.0
"""How long a change waits for another process that is writing."""


class SqliteDialect(StandardDialect):
    """SQLite's words. Keys are kept as TEXT, as MogileFS does, but taken and given byte for byte."""

    name = "sqlite"
    key_value = "CAST(? AS TEXT)"
    for_update = ""
    skip_locked = ""

    def key_column(self, column: str) -> str:
        """See Dialect."""
        return f"CAST({column} AS BLOB)"


class SqliteTransaction:
    """A transaction on one connection. Its coroutines never suspend, so that `_finish` can run what awaits them."""

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
        """See Transaction. AUTOINCREMENT minds what is inserted."""

    async def insert(self, sql: str, key: str, *values: object) -> int:
        """See Transaction."""
        try:
            return self._execute(sql, values).lastrowid or 0
        except sqlite3.IntegrityError as error:
            raise Dup from error


def _finish(coroutine: Awaitable[T]) -> T:
    """Run a coroutine that never suspends to its end."""
    running = cast("Coroutine[Any, Any, T]", coroutine)
    try:
        running.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    running.close()
    raise RuntimeError("a question to the database awaited something else than its transaction")


@dataclass(slots=True)
class _Change:
    """A change that waits for the writer, and whom to tell."""

    make: Callable[[Transaction], Awaitable[Any]]
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def tell(self) -> None:
        if self.future.done():
            return  # whoever asked has been cancelled; the change stands all the same
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class SqliteMetadata:
    """A SQLite file as `contract.Metadata`. Belongs to one event loop; other processes may open the file too."""

    reads_at_once = True

    def __init__(self, path: Path, *, any_version: bool = False) -> None:
        """Open the database at `path`, made by `create`. Raises ConfigurationError if it is not one of ours."""
        self._path = path
        try:
            self._writer_connection = _connect(path)
            self._reader = _connect(path, readonly=True)
        except sqlite3.Error as error:
            raise ConfigurationError(f"{path} cannot be opened as a database: {error}") from error
        try:
            self._check_schema(any_version)
        except BaseException:
            self._reader.close()
            self._writer_connection.close()
            raise
        self._reading = SqliteTransaction(self._reader)
        self._changes: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer = threading.Thread(target=self._write_groups, name="sqlite-writer", daemon=True)
        self._writer.start()
        self._closed = False

    @classmethod
    def open(cls, path: Path, *, any_version: bool = False) -> SqliteMetadata:
        """Open the database at `path`, and make it first if there is none."""
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

    async def read(self, question: Question[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Metadata. Never suspends."""
        try:
            self._reader.execute("BEGIN")
            try:
                return _finish(question(self._reading, *args, **kwargs))
            finally:
                self._reader.execute("COMMIT")
        except sqlite3.Error as error:
            raise Db(f"Database error: {error}") from error

    async def write(self, change: Question[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Metadata."""
        if self._closed:
            raise Db("The database is closed")
        self._loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = self._loop.create_future()
        self._changes.put(_Change(lambda transaction: change(transaction, *args, **kwargs), future))
        return await future

    async def close(self) -> None:
        """See Metadata."""
        if self._closed:
            return
        self._closed = True
        self._changes.put(None)
        await asyncio.to_thread(self._writer.join)
        self._reader.close()
        self._writer_connection.close()

    # --- the writer's thread ------------------------------------------------------------------------------------------

    def _write_groups(self) -> None:
        while (first := self._changes.get()) is not None:
            group, last = self._gather(first)
            try:
                self._commit(group)
            except Exception:
                self._commit_alone(group)
            self._deliver(group)
            if last:
                return

    def _gather(self, first: _Change) -> tuple[list[_Change], bool]:
        """All that wait now, and whether the writer is to stop after them."""
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

    def _commit_alone(self, group: list[_Change]) -> None:
        """The group could not be committed: find out which of its changes can, so that one spoils it for no other."""
        for change in group:
            change.error = None
            try:
                self._commit([change])
            except Exception as error:
                change.error = error if isinstance(error, TawaraError) else Db(f"Database error: {error}")

    def _commit(self, group: list[_Change]) -> None:
        execute = self._writer_connection.execute
        transaction = SqliteTransaction(self._writer_connection)
        execute("BEGIN IMMEDIATE")
        try:
            for change in group:
                execute("SAVEPOINT one")
                try:
                    change.result = _finish(change.make(transaction))
                except sqlite3.Error:
                    raise
                except Exception as error:
                    change.error = error
                    execute("ROLLBACK TO one")
                execute("RELEASE one")
            execute("COMMIT")
        except BaseException:
            if self._writer_connection.in_transaction:
                execute("ROLLBACK")
            raise

    def _deliver(self, group: list[_Change]) -> None:
        def tell() -> None:
            for change in group:
                change.tell()

        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(tell)


def _connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rw'}",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
        cached_statements=256,
    )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -16384")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def create(path: Path) -> None:
    """Make an empty database at `path`, whole or not at all, readable by its owner only."""
    from tawara.metadata import schema

    unfinished = path.with_name(path.name + ".new")
    for leftover in (unfinished, path.with_name(path.name + ".new-wal"), path.with_name(path.name + ".new-shm")):
        leftover.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    connection = _connect(unfinished)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in schema.statements("sqlite"):
            connection.execute(statement)
        connection.executemany(
            "INSERT INTO server_settings (field, value) VALUES (?, ?)",
            [
                ("schema_version", str(schema.MOGILEFS_SCHEMA)),
                ("tawara_schema_version", str(schema.TAWARA_SCHEMA)),
                ("case_sensitive_list_keys", "1"),
            ],
        )
        connection.execute("COMMIT")
    finally:
        connection.close()
    unfinished.rename(path)
