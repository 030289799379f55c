"""Connection pools of one process to its database server, which shrink to the number of connections the server allows.

A server may allow fewer connections than the pools want (per role, per user, or in total), and other processes share
them. When it refuses one, the pools continue with those that are open, and try one more from time to time. A pool
without a connection replaces an idle one of another pool. Processes cannot see each other: each closes what it does not
use and, while connections are scarce, gives one up now and then, so that every process gets some.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

import structlog

from tawara.model.errors import Db

log = structlog.get_logger(__name__)

GROW_PERIOD: Final = 30.0
"""Seconds between attempts to open one more connection than the server last allowed."""
RETRY_PERIOD: Final = 0.2
"""Seconds between attempts of a process that has no connection."""
IDLE: Final = 30.0
"""Seconds after which an idle connection is closed; other processes may need it."""
IDLE_WHILE_LIMITED: Final = 0.5
"""Idle limit in seconds after the server has refused a connection."""
RELEASE_PERIOD: Final = 5.0
"""Seconds after which a process with several connections, and a need for more, closes one for other processes."""
PAUSE_AFTER_RELEASE: Final = 1.0
"""Seconds for which it does not request that connection again."""
LOG_PERIOD: Final = 300.0
"""Seconds between two log lines about the same limit."""

T = TypeVar("T")


class ConnectionLost(Exception):
    """The connection is lost, unusable, or could not be opened."""


class LimitMet(ConnectionLost):
    """The server allows no further connection; the text says which limit it is."""


class Poolable(Protocol):
    """A connection, as used by pools."""

    async def close(self) -> None:
        """Close it gracefully."""
        ...

    def terminate(self) -> None:
        """Drop it without notifying the server."""
        ...


L = TypeVar("L", bound=Poolable)


class Budget(Generic[L]):
    """Limits the open connections of all pools; assigns slots in the order of the requests."""

    def __init__(self, connect: Callable[[], Awaitable[L]], most: int, clock: Callable[[], float] = time.monotonic):
        """`connect` may raise ConnectionLost, LimitMet and other errors."""
        self._connect = connect
        self._clock = clock
        self._most = most
        self._limit = most
        self._allowed = most
        """Number of open connections when the server refused one more."""
        self._grow_at = 0.0
        self._release_at = 0.0
        self._expiring: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self.reason = ""
        """The server's message when it refused a connection."""
        self._logged_at: float | None = None
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.open = 0
        """Number of open connections, including idle ones."""
        self.pools: list[Pool[L]] = []

    async def enter(self) -> None:
        """Take a slot, in the order of the requests."""
        if self.is_limited:
            self._share(self._clock())
        if self._used < self._limit and not self._waiting:
            self._used += 1
            return
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled():
                self.release()
            raise

    @property
    def is_limited(self) -> bool:
        """Whether the server allows fewer connections than the pools want."""
        return self._limit < self._most

    def _share(self, now: float) -> None:
        if now >= self._grow_at:
            self._grow_at, self._release_at = now + GROW_PERIOD, now + RELEASE_PERIOD
            self._set_limit(self._limit + 1)
        elif now >= self._release_at and self.open > 1:
            self._release_at, self._grow_at = now + RELEASE_PERIOD, now + PAUSE_AFTER_RELEASE
            self._limit = self.open - 1

    def release(self) -> None:
        """Release a slot."""
        self._used -= 1
        self._fill_slots()

    def _set_limit(self, limit: int) -> None:
        self._limit = limit
        self._fill_slots()

    def _fill_slots(self) -> None:
        while self._waiting and self._used < self._limit:
            slot = self._waiting.popleft()
            if not slot.done():
                self._used += 1
                slot.set_result(None)

    async def make(self, pool: Pool[L]) -> L:
        """Open a connection; the caller has a slot.

        Raises LimitMet if the server refuses it, and any exception of `connect`.
        """
        if self.open >= self._limit:
            # Fewer connections are in use than open, so another pool has an idle one.
            await self.close_idle(besides=pool)
        self.open += 1
        try:
            link = await self._connect()
        except LimitMet as error:
            self.open -= 1
            self._shrink(str(error))
            raise
        except BaseException:
            self.open -= 1
            raise
        if self._limit < self._most and self.open > self._allowed:
            self._allowed = self.open
            self._set_limit(self._limit + 1)  # the server may allow more by now
        return link

    def _shrink(self, reason: str) -> None:
        limit = max(1, self.open)
        self.reason, self._allowed = reason, self.open
        now = self._clock()
        if self._logged_at is None or now - self._logged_at >= LOG_PERIOD:
            self._logged_at = now
            log.warning("database_connection_limit_met", reason=reason, wanted=self._most)
        self._grow_at, self._release_at = now + GROW_PERIOD, now + RELEASE_PERIOD
        self._set_limit(limit)

    async def close_idle(self, besides: Pool[L] | None = None) -> bool:
        """Close one idle connection of any pool except `besides`; return whether there was one."""
        for pool in self.pools:
            if pool is not besides and pool.idle:
                self.open -= 1
                await pool.idle.pop(0)[1].close()
                return True
        return False

    def _watch_idle(self) -> None:
        if self._expiring is None:
            loop = asyncio.get_running_loop()
            self._expiring = loop.call_later(IDLE_WHILE_LIMITED if self.is_limited else IDLE, self._close_unused)

    def _close_unused(self) -> None:
        self._expiring = None
        before = self._clock() - (IDLE_WHILE_LIMITED if self.is_limited else IDLE)
        for pool in self.pools:
            while pool.idle and pool.idle[0][0] <= before:
                self._close_later(pool.idle.pop(0)[1])
            if pool.idle:
                self._watch_idle()

    def _close_later(self, link: L) -> None:
        self.open -= 1
        task = asyncio.get_running_loop().create_task(link.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def keep(self, pool: Pool[L], link: L) -> None:
        """Take back a reusable connection."""
        if self.open > self._limit:
            self._close_later(link)
        else:
            pool.idle.append((self._clock(), link))
            self._watch_idle()

    async def close(self) -> None:
        """Close the idle connections of all pools."""
        if self._expiring is not None:
            self._expiring.cancel()
        for pool in self.pools:
            while pool.idle:
                self._close_later(pool.idle.pop()[1])
        if self._closing:
            await asyncio.wait(set(self._closing))


class Pool(Generic[L]):
    """At most `size` connections, opened when needed; the most recently used one is used first."""

    def __init__(self, budget: Budget[L], size: int) -> None:
        self._budget = budget
        self._free = asyncio.Semaphore(size)
        self.idle: list[tuple[float, L]] = []
        """Idle connections with the time since when each is idle, the longest first."""
        budget.pools.append(self)

    async def use(self, work: Callable[[L], Awaitable[T]]) -> T:
        """Call `work` with a connection that no other task uses.

        A connection is reused only after a result, or an exception that does not indicate a broken connection. After
        ConnectionLost, Db (an error of the database not known to be harmless) or a cancellation it is dropped.
        """
        async with self._free:
            await self._budget.enter()
            try:
                return await self._use(await self._take(), work)
            finally:
                self._budget.release()

    async def _take(self) -> L:
        while True:
            if self.idle:
                return self.idle.pop()[1]
            try:
                return await self._budget.make(self)
            except LimitMet:
                if self._budget.open:
                    self._budget.release()  # wait for one of the open connections
                    await self._budget.enter()
                else:
                    await asyncio.sleep(RETRY_PERIOD)  # other processes have all of them

    async def _use(self, link: L, work: Callable[[L], Awaitable[T]]) -> T:
        try:
            result = await work(link)
        except (ConnectionLost, Db, asyncio.CancelledError):
            self._budget.open -= 1
            link.terminate()
            raise
        except BaseException:
            self._budget.keep(self, link)
            raise
        self._budget.keep(self, link)
        return result

    def forget(self) -> None:
        """Drop the idle connections, which are probably lost as well."""
        while self.idle:
            self._budget.open -= 1
            self.idle.pop()[1].terminate()
