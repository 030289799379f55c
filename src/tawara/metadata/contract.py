"""The boundary between Tawara and its database: what an engine promises, whichever of the three it is.

Everything that is asked of a database is a coroutine function whose first argument is a `Transaction`; these functions
are the sibling modules (`files`, `queues`, `cluster`, …), which hold all SQL, once, and say what each promises. An
engine runs them:

    stored = await metadata.read(files.find, dmid, key)
    await metadata.write(files.rename, dmid, old, new, now=now)

Statements are written with `?` for values. Where the engines' words differ, the transaction's `dialect` has them.
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
    """The words in which the engines differ."""

    name: str
    """`sqlite`, `postgresql` or `mysql`."""

    key_value: str
    """SQL for a key (bytes) given as a value: compares byte for byte with the `dkey` columns."""

    for_update: str
    """Suffix that locks the rows a SELECT returns, or nothing where a writer is alone anyway."""

    skip_locked: str
    """The same, and rows that another transaction has locked are passed over instead of waited for."""

    locks_are_local: bool
    """Whether the database has several primaries, and a row lock excludes only transactions at the same one (Galera).
    Transactions exclude each other there by the rows that both change: the later one to commit is refused."""

    by_key: str
    """After a mention of `file` in FROM: have its rows found, and ordered, by the index of keys."""

    unix_now: str
    """SQL for the database's own clock, in unix seconds with parts; it goes on within a transaction."""

    exact_keys: bool
    """Whether `dkey` columns compare byte for byte; not in a database of MogileFS with a collation of its own."""

    def key_column(self, column: str) -> str:
        """SQL that reads a `dkey` column as bytes, exactly as they were stored."""
        ...

    def bytes_column(self, column: str) -> str:
        """SQL that reads a column of bytes as bytes, whatever another program has stored in it."""
        ...

    def key_range(self, column: str, prefix: bytes, after: bytes | None) -> tuple[list[str], list[object]]:
        """Conditions for `column` beginning with `prefix` and being greater than `after`, with their values.

        An index can answer them, beginning right where the first row is.
        """
        ...

    def one_of(self, names: Sequence[tuple[int, bytes]]) -> tuple[str, list[object]]:
        """A condition for rows of `file f` that have one of these domains and keys, with its values."""
        ...

    def joined(self, column: str) -> str:
        """SQL for the numbers in `column` of a GROUP BY's rows, as text with commas between, in no order."""
        ...

    def insert_or_ignore(self, table: str, columns: Sequence[str]) -> str:
        """An INSERT of one row that leaves an existing row with the same primary key alone."""
        ...

    def upsert(self, table: str, key: Sequence[str], columns: Sequence[str]) -> str:
        """An INSERT of one row (`key` then `columns`) that overwrites `columns` of an existing one with that key."""
        ...


class Transaction(Protocol):
    """An open transaction. Exceptions leave nothing of it behind."""

    @property
    def dialect(self) -> Dialect:
        """The engine's words."""
        ...

    async def rows(self, sql: str, *values: object) -> list[Row]:
        """All rows of a SELECT."""
        ...

    async def row(self, sql: str, *values: object) -> Row | None:
        """The first row of a SELECT, or None."""
        ...

    async def run(self, sql: str, *values: object) -> int:
        """Execute a statement; the number of rows that it changed."""
        ...

    async def run_many(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        """Execute one statement for each sequence of values."""
        ...

    async def insert_many(self, sql: str, key: str, values: Sequence[Sequence[object]]) -> list[int]:
        """Execute an INSERT for each sequence of values; the numbers that `key` was given, in their order."""
        ...

    async def advance(self, table: str, key: str, number: int) -> None:
        """Have `key` count on beyond `number`, which was just inserted by hand."""
        ...

    async def last_counted(self, table: str, key: str) -> int:
        """The number after which `key` counts on."""
        ...

    async def count_from(self, table: str, key: str, number: int) -> None:
        """Have `key` count on after `number`, also if that is back; no greater one may be in the table.

        MySQL commits what was done before in the transaction.
        """
        ...

    async def insert(self, sql: str, key: str, *values: object) -> int:
        """Execute an INSERT into a table whose integer column `key` counts by itself; the number it was given.

        Raises model.errors.Dup when the row breaks a unique key; the transaction can go on. Raises FidsExhausted when
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
"""What a query returned; or, as a value, the exception that it raised."""
BatchQuery: TypeAlias = Callable[[Transaction, Sequence[QueryCall]], Awaitable[Sequence[Result]]]
"""The batch variant of a query: one transaction that returns the results of many calls, in their order. A result that
is an exception must have changed nothing; when the function itself raises, each call is run alone instead."""


def batched(many: BatchQuery) -> Callable[[Query[P, T]], Query[P, T]]:
    """Declare `many` as the batch variant of a query; it must have the same effect as the single calls."""

    def mark(query: Query[P, T]) -> Query[P, T]:
        query.__dict__["batched"] = many
        return query

    return mark


class Metadata(Protocol):
    """A database, open."""

    reads_at_once: bool
    """Whether `read` never suspends. Then it may also be asked outside any task; else it may need one, for timeouts."""
    clock: Clock
    """What time it is for the database: by it rows are dated, never by this machine's clock."""

    async def read(self, query: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask; sees everything committed before the call. Raises Db when the database does not answer."""
        ...

    async def read_apart(self, query: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same as `read` for questions that take long: the event loop goes on meanwhile, whatever the engine."""
        ...

    async def write(self, change: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Change; when this returns, the change is committed and durable. When it raises, nothing was changed.

        Changes that arrive together may share one commit; each succeeds or fails alone. Concurrent changes behave as if
        one after another where they touch the same rows. Raises what `change` raises; Dup for a unique key broken;
        Db when the database does not answer (whether a commit cut off by that took effect is then unknown).
        """
        ...

    async def close(self) -> None:
        """Finish what was begun, and let go."""
        ...
