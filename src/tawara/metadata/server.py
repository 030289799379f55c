"""Common part of the engines with a database server: pooled connections, retries, time limits, batches.

A driver (`postgres`, `mysql`) provides `Link`s and reports failures by the exceptions below; this module decides how to
react. A query that failed for a transient reason is run again from its start, as the contract allows. A change whose
COMMIT was interrupted is not, because it may have taken effect: that raises NoReply. If nothing can have been changed,
DatabaseUnavailable is raised, and the client may use another tracker.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from tawara.metadata.batching import QueryBatcher
from tawara.metadata.clock import Clock
from tawara.metadata.contract import BatchQuery, Dialect, P, Query, QueryCall, Result, Row, T, Transaction
from tawara.metadata.error_codes import Remedy
from tawara.metadata.pool import Budget, LimitMet, Pool
from tawara.metadata.pool import ConnectionLost as ConnectionLost
from tawara.metadata.reachability import Reachability
from tawara.model.errors import ConfigurationError, DatabaseUnavailable, Db, Dup, FidsExhausted, InvalidKey

_SLACK = 0.25
"""Seconds added to a transaction's time limit for the whole call, so that the transaction reports its own timeout."""


class TransactionConflict(Exception):
    """A deadlock or a serialisation failure: a retry may succeed."""


class UniqueViolation(Dup):
    """A unique constraint was violated, possibly by a concurrent transaction."""

    code = "dup"
    message = Dup.message
    hint = None


class NoReply(Db):
    """The connection was lost during the commit: the change may or may not have been made."""

    code = "db"
    message = "The database was lost while it committed; the change may or may not have been made"
    hint = Db.hint


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits and pool sizes of one process for its database server."""

    readers: int = 4
    """Most connections for look-ups."""
    writers: int = 8
    """Most connections for changes."""
    answer: float = 10.0
    """Seconds within which every query returns or raises Db."""
    connect: float = 5.0
    """Most seconds for opening a connection."""
    unreachable: float = 1.0
    """Seconds that a query waits for a new connection attempt after the last one failed."""
    tries: int = 12
    """Most attempts of a query that meets a deadlock or a unique key violation."""
    batch: int = 64
    """Most calls in one batch."""


def outcome(remedy: Remedy, message: str) -> Exception:
    """Return the exception for a classified failure."""
    match remedy:
        case Remedy.RETRY:
            return TransactionConflict()
        case Remedy.RECONNECT:
            return ConnectionLost(message)
        case Remedy.LIMIT:
            return LimitMet(message)
        case Remedy.COLLISION:
            return UniqueViolation()
        case Remedy.EXHAUSTED:
            return FidsExhausted()
        case Remedy.BAD_VALUE:
            return InvalidKey("This database, made by MogileFS, cannot keep such a key")
        case Remedy.CALLER:
            return Db(f"Database error: {message}")


class Link(Transaction, Protocol):
    """One connection. Raises TransactionConflict, ConnectionLost, UniqueViolation, or Db for other errors."""

    async def begin(self, *, snapshot: bool) -> None:
        """Begin a transaction: read-only from one snapshot, or one for changes."""
        ...

    async def commit(self) -> None:
        """Commit the transaction durably."""
        ...

    async def rollback(self) -> None:
        """Undo the transaction."""
        ...

    async def close(self) -> None:
        """Close the connection gracefully."""
        ...

    def terminate(self) -> None:
        """Drop the connection without notifying the server."""
        ...


Connect: TypeAlias = Callable[[], Awaitable[Link]]


class _SeveralStatements(Exception):
    """Raised when a look-up tried without a transaction needs one."""


class _FirstStatement:
    """A transaction of one statement, for which the database needs no BEGIN; refuses a second statement."""

    def __init__(self, link: Link) -> None:
        self.dialect: Dialect = link.dialect
        self._link: Link | None = link

    def _once(self) -> Link:
        link, self._link = self._link, None
        if link is None:
            raise _SeveralStatements
        return link

    async def rows(self, sql: str, *values: object) -> list[Row]:
        """See Transaction."""
        return await self._once().rows(sql, *values)

    async def row(self, sql: str, *values: object) -> Row | None:
        """See Transaction."""
        return await self._once().row(sql, *values)

    def __getattr__(self, name: str) -> Any:
        raise _SeveralStatements  # a statement that changes something: not a look-up, or one that needs a lock


@dataclass(slots=True)
class _Attempt:
    """The progress of one attempt to apply a change."""

    committing: bool = False
    """Whether a COMMIT is in progress: if it is interrupted, its result is unknown."""


async def _or_roll_back(link: Link, query: Callable[..., Awaitable[T]], call: QueryCall, attempt: _Attempt) -> T:
    """Run the query in the transaction that `link` has begun, and commit it or roll it back."""
    try:
        result = await query(link, *call.args, **call.kwargs)
    except (ConnectionLost, asyncio.CancelledError):
        raise
    except BaseException:
        try:
            await link.rollback()
        except Db as error:
            raise ConnectionLost from error
        raise
    attempt.committing = True
    try:
        await link.commit()
    except (ConnectionLost, Db) as error:
        raise NoReply from error
    except TransactionConflict:
        attempt.committing = False  # refused: with several primaries, another server changed the same rows first
        raise
    return result


class ServerMetadata:
    """A database server as `contract.Metadata`. Belongs to one event loop."""

    reads_at_once = False

    def __init__(self, connect: Connect, pace: ServerLimits) -> None:
        self._pace = pace
        self._reachability = Reachability(connect, pace.unreachable)
        self._budget = Budget(self._pooled, pace.readers + pace.writers)
        self._readers = Pool(self._budget, pace.readers)
        self._writers = Pool(self._budget, pace.writers)
        self._batchers: dict[BatchQuery, QueryBatcher] = {}
        self._need_snapshot: set[object] = set()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.clock = Clock(self)

    # --- the contract -------------------------------------------------------------------------------------------------

    async def read(self, query: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Metadata."""
        return await self._ask(query, QueryCall(args, kwargs), self._read)

    async def read_long(self, query: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Metadata."""
        return await self.read(query, *args, **kwargs)

    async def write(self, change: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Metadata."""
        return await self._ask(change, QueryCall(args, kwargs), self._write)

    async def close(self) -> None:
        """See Metadata."""
        self._closed = True
        for batcher in self._batchers.values():
            await batcher.drain()
        while self._under_way:
            await asyncio.wait(set(self._under_way))
        await self._reachability.close()
        await self._budget.close()

    async def link(self) -> Link:
        """Open a separate connection, for state bound to a connection, such as locks; the caller closes it."""
        try:
            return await self._another()
        except LimitMet:
            if not await self._budget.close_idle():
                raise
            return await self._another()

    async def _pooled(self) -> Link:
        if self._reachability.is_down:
            raise ConnectionLost(self._reachability.reason)  # found while this query waited for a slot in the pool
        return await self._another()

    async def _another(self) -> Link:
        try:
            return await self._reachability.connect()
        except ConfigurationError as error:
            # The server accepted this process before, so the caller cannot correct the cause.
            raise DatabaseUnavailable(error.message) from error

    # --- dispatch -----------------------------------------------------------------------------------------------------

    async def _ask(
        self, query: Callable[..., Awaitable[T]], call: QueryCall, way: Callable[..., Coroutine[Any, Any, Any]]
    ) -> T:
        if self._closed:
            raise Db("The database is closed")
        many: BatchQuery | None = getattr(query, "batched", None)
        answer: asyncio.Future[T]
        if many is not None:
            answer = self._batcher(query, many, way).add(call)
        else:
            # A separate task, so that cancelling the caller leaves no connection in mid-transaction.
            task = asyncio.create_task(way(query, call))
            self._under_way.add(task)
            task.add_done_callback(self._finished)
            answer = asyncio.shield(task)
        try:
            # The query has its own time limit and knows whether it was committing; this one covers waiting.
            async with asyncio.timeout(self._pace.answer + _SLACK):
                return await answer
        except TimeoutError:
            raise (NoReply if way == self._write else DatabaseUnavailable) from None

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may be gone

    def _batcher(
        self, query: Callable[..., Awaitable[Any]], many: BatchQuery, way: Callable[..., Coroutine[Any, Any, Any]]
    ) -> QueryBatcher:
        batcher = self._batchers.get(many)
        if batcher is None:

            async def run_batch(calls: Sequence[QueryCall]) -> Sequence[Result]:
                if len(calls) > 1:
                    try:
                        answers: Sequence[Result] = await way(many, QueryCall((calls,), {}))
                    except (NoReply, DatabaseUnavailable):
                        raise
                    except Exception:  # noqa: S110 one of them spoils it for all: each is asked alone, and gets its own
                        pass
                    else:
                        return answers
                return await asyncio.gather(*(way(query, call) for call in calls), return_exceptions=True)

            batcher = self._batchers[many] = QueryBatcher(run_batch, width=2, most=self._pace.batch)
        return batcher

    # --- execution ----------------------------------------------------------------------------------------------------

    async def _read(self, query: Callable[..., Awaitable[T]], call: QueryCall) -> T:
        async def once(link: Link) -> T:
            if query not in self._need_snapshot:
                try:
                    return await query(_FirstStatement(link), *call.args, **call.kwargs)
                except _SeveralStatements:
                    self._need_snapshot.add(query)
            await link.begin(snapshot=True)
            try:
                return await _or_roll_back(link, query, call, _Attempt())
            except NoReply as error:
                raise ConnectionLost from error  # a read has nothing to commit

        return await self._within_time(once, self._readers, _Attempt())

    async def _write(self, change: Callable[..., Awaitable[T]], call: QueryCall) -> T:
        attempt = _Attempt()

        async def once(link: Link) -> T:
            await link.begin(snapshot=False)
            return await _or_roll_back(link, change, call, attempt)

        return await self._within_time(once, self._writers, attempt)

    async def _within_time(self, once: Callable[[Link], Awaitable[T]], links: Pool[Link], attempt: _Attempt) -> T:
        try:
            async with asyncio.timeout(self._pace.answer):
                return await self._retry_until_connected(once, links)
        except TimeoutError:
            if not self._budget.open and self._budget.reason:
                raise DatabaseUnavailable(f"The database allows no connection: {self._budget.reason}") from None
            self._reachability.mark_down()
            raise (NoReply if attempt.committing else DatabaseUnavailable) from None

    async def _retry_until_connected(self, once: Callable[[Link], Awaitable[T]], links: Pool[Link]) -> T:
        lost = 0
        for tried in range(1, self._pace.tries + 1):
            if not await self._reachability.is_reachable():
                links.forget()
                raise DatabaseUnavailable(f"The database does not answer: {self._reachability.reason}")
            try:
                return await links.use(once)
            except ConnectionLost as error:
                # Drops all idle connections, as after a restart of the server; a new one shows whether it is back.
                links.forget()
                lost += 1
                if lost == 3:
                    raise DatabaseUnavailable from error
            except TransactionConflict as error:
                if tried == self._pace.tries:
                    raise DatabaseUnavailable("The database found no order for concurrent changes") from error
            except UniqueViolation:
                # A concurrent change used the same unique key first; the query detects that when it is run again. Only
                # a violation in every attempt is reported.
                if tried == self._pace.tries:
                    raise
            await asyncio.sleep(random.uniform(0, 0.002 * 2 ** min(tried, 6)))  # noqa: S311 no secret
        raise AssertionError("every last try returns or raises")
