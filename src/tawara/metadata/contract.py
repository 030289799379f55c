"""The interface between Tawara and its database: the guarantees of each of the three engines.

Every query and change is a coroutine function whose first argument is a `Transaction`. The sibling modules (`files`,
`queues`, `cluster`, …) contain these functions, and with them all SQL. An engine runs them:

    stored = await metadata.read(files.find, dmid, key)
    await metadata.write(files.rename, dmid, old, new, now=now)

Statements have `?` for values. Where the engines' SQL differs, the transaction's `dialect` provides it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from tawara.metadata.clock import Clock

P = ParamSpec("P")
T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]


class Dialect(Protocol):
    """The differences between the engines' SQL dialects."""

    name: str
    """`sqlite`, `postgresql` or `mysql`."""

    key_value: str
    """SQL placeholder for a key (bytes) that compares byte for byte with the `dkey` columns."""

    for_update: str
    """Suffix that locks the rows returned by a SELECT; empty where writers are exclusive anyway."""

    skip_locked: str
    """The same as `for_update`, but skips rows locked by other transactions instead of waiting for them."""

    locks_are_local: bool
    """Whether the database has several primaries, and a row lock excludes only transactions at the same one (Galera).
    Transactions exclude each other there by the rows that both change: the later one to commit is refused."""

    by_key: str
    """Index hint after `file` in FROM: find and order its rows by the index of keys."""

    unix_now: str
    """SQL for the database's clock, in unix seconds with fractions; it advances within a transaction."""

    exact_keys: bool
    """Whether `dkey` columns compare byte for byte; false for a MogileFS database with a collation of its own."""

    byte_order: bool
    """Whether `dkey` columns sort byte for byte; false for keys as text in a MogileFS database."""

    def key_column(self, column: str) -> str:
        """Return SQL that reads a `dkey` column as the bytes that were stored."""
        ...

    def bytes_column(self, column: str) -> str:
        """Return SQL that reads a column of bytes as bytes, regardless of the type stored by another program."""
        ...

    def key_range(self, column: str, prefix: bytes, after: bytes | None) -> tuple[list[str], list[object]]:
        """Return conditions, with their values, for `column` to begin with `prefix` and be greater than `after`.

        An index can serve them, starting at the first matching row.
        """
        ...

    def one_of(self, names: Sequence[tuple[int, bytes]]) -> tuple[str, list[object]]:
        """Return a condition, with its values, for rows of `file f` with one of these domains and keys."""
        ...

    def joined(self, column: str) -> str:
        """Return SQL that joins the numbers in `column` of a group's rows by commas, in no order."""
        ...

    def insert_or_ignore(self, table: str, columns: Sequence[str]) -> str:
        """Return an INSERT of one row that keeps an existing row with the same primary key."""
        ...

    def upsert(self, table: str, key: Sequence[str], columns: Sequence[str]) -> str:
        """Return an INSERT of one row (`key`, then `columns`) that overwrites `columns` of a row with the same key."""
        ...


class Transaction(Protocol):
    """An open transaction. An exception rolls it back completely."""

    @property
    def dialect(self) -> Dialect:
        """The engine's dialect."""
        ...

    async def rows(self, sql: str, *values: object) -> list[Row]:
        """Return all rows of a SELECT."""
        ...

    async def row(self, sql: str, *values: object) -> Row | None:
        """Return the first row of a SELECT, or None."""
        ...

    async def run(self, sql: str, *values: object) -> int:
        """Execute a statement; return the number of rows changed."""
        ...

    async def run_many(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        """Execute one statement for each sequence of values."""
        ...

    async def insert_many(self, sql: str, key: str, values: Sequence[Sequence[object]]) -> list[int]:
        """Execute an INSERT for each sequence of values; return the numbers assigned to `key`, in order."""
        ...

    async def advance(self, table: str, key: str, number: int) -> None:
        """Advance the counter of `key` beyond `number`, which was just inserted explicitly."""
        ...

    async def last_counted(self, table: str, key: str) -> int:
        """Return the number after which the counter of `key` continues."""
        ...

    async def count_from(self, table: str, key: str, number: int) -> None:
        """Set the counter of `key` to continue after `number`, even if that is lower.

        The table must have no greater number. MySQL implicitly commits the transaction so far.
        """
        ...

    async def insert(self, sql: str, key: str, *values: object) -> int:
        """Execute an INSERT into a table whose integer column `key` is auto-incremented; return the assigned number.

        Raises model.errors.Dup if the row violates a unique key; the transaction can continue. Raises FidsExhausted if
        there is no greater number.
        """
        ...


Query: TypeAlias = Callable[Concatenate[Transaction, P], Awaitable[T]]
"""A coroutine function over a transaction. It awaits nothing but that transaction, so that an engine may run it in a
thread, and it may be run again from its start, so it has no effect but on the database."""


class QueryCall(NamedTuple):
    """The arguments of one call of a query."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


Result: TypeAlias = Any
"""The return value of a query, or the exception that it raised, as a value."""
BatchQuery: TypeAlias = Callable[[Transaction, Sequence[QueryCall]], Awaitable[Sequence[Result]]]
"""The batch variant of a query: one transaction that returns the results of many calls, in their order. A result that
is an exception must have changed nothing; when the function itself raises, each call is run alone instead."""


def batched(many: BatchQuery) -> Callable[[Query[P, T]], Query[P, T]]:
    """Declare `many` as the batch variant of a query; it must have the same effect as the single calls."""

    def mark(query: Query[P, T]) -> Query[P, T]:
        query.__dict__["batched"] = many
        return query

    return mark


def one_statement(query: Query[P, T]) -> Query[P, T]:
    """Declare that a query is a single SELECT, which needs no transaction for a consistent view of the database."""
    query.__dict__["one_statement"] = True
    return query


class Metadata(Protocol):
    """An open database."""

    reads_at_once: bool
    """Whether `read` never suspends. If so, it may be called outside any task; else it may need a task for timeouts."""
    clock: Clock
    """The database's clock, which dates rows; this machine's clock is never used for that."""

    async def read(self, query: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query that sees everything committed before the call. Raises Db if the database does not respond."""
        ...

    async def read_long(self, query: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a long query as `read` does, without blocking the event loop, whatever the engine."""
        ...

    async def write(self, change: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a change; when this returns, it is committed and durable. If it raises, nothing was changed.

        Changes that arrive together may share one commit; each succeeds or fails alone. Concurrent changes behave as if
        they ran one after another where they touch the same rows. Raises what `change` raises, Dup for a violated
        unique key, and Db if the database does not respond (it is then unknown whether an interrupted commit took
        effect).
        """
        ...

    async def close(self) -> None:
        """Finish pending calls, and close the database."""
        ...
