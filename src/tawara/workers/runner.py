"""What all workers have in common: claiming ahead, doing so much at once, sleeping, waking, backing off, stopping.

A worker knows one unit of work; everything about when and how many is here. An idle runner sleeps until its bell rings,
the next row falls due, or its patience ends, for other processes queue work too and their bells are not heard here.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import structlog

from tawara import background
from tawara.metadata.wakeups import Wakeup
from tawara.model import backoff
from tawara.model.errors import TawaraError

log = structlog.get_logger(__name__)

Item = TypeVar("Item")

LEASE = 60
"""Seconds for which work is claimed at a time; it is renewed while the work lasts."""
BATCH_SECONDS = 1.0
"""For how long the work that is claimed ahead should last."""
LARGEST_BATCH = 500
NOT_ALLOWED = 1.0
"""Seconds after which it is asked again whether work may be begun."""
GRACE = 2.0
"""Seconds that units of work get to finish at a stop."""


class Worker(Protocol[Item]):
    """One kind of care for the store."""

    name: str

    async def take(self, limit: int) -> Sequence[Item]:
        """Claim up to `limit` units of work, the most urgent first; fewer only if no more is due now."""
        ...

    async def work(self, item: Item) -> float | None:
        """Do one unit and write down the outcome; if it was put off, until when (unix seconds).

        May be cancelled anywhere, and its process killed. What it raises leaves the unit to be claimed again when its
        lease runs out.
        """
        ...

    async def next_due(self) -> float | None:
        """When the next unit falls due (unix seconds); None if there is none."""
        ...

    async def renew(self, items: Sequence[Item]) -> None:
        """Hold claimed units for another lease."""
        ...

    async def release(self, items: Sequence[Item]) -> None:
        """Give claimed units back undone."""
        ...


class NoClaims:
    """The part of a worker that claims nothing in the database, so that there is nothing to be kept or given back."""

    async def renew(self, items: Sequence[Any]) -> None:
        """See Worker."""

    async def release(self, items: Sequence[Any]) -> None:
        """See Worker."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a runner is doing."""

    name: str
    working: int
    """Units under way."""
    waiting: int
    """Units claimed and not begun."""
    done: int
    """Units finished since the start, in files where a unit is several."""
    failed: int
    """Errors since the start."""
    last_error: str | None
    busy: float = 0.0
    """Seconds since the start in which at least one unit was under way."""


def _one(item: object) -> int:
    return 1


class Runner(Generic[Item]):
    """Runs one worker, `concurrency` units at a time."""

    def __init__(
        self,
        worker: Worker[Item],
        *,
        concurrency: int,
        timeout: float,
        wakeup: Wakeup | None = None,
        lease: float = LEASE,
        now: Callable[[], float] = time.time,
        files_in: Callable[[Item], int] = _one,
        may_work: Callable[[], bool] = lambda: True,
    ) -> None:
        """`patience`: seconds of sleep after which to look for work without having been woken.

        `now`: the time by which the worker says when something is due. While not `may_work` nothing is begun.
        """
        self._worker = worker
        self._now = now
        self._concurrency = concurrency
        self._timeout = timeout
        self._lease = lease
        self._wakeup = wakeup or Wakeup()
        self._files_in = files_in
        self._may_work = may_work
        self._rng = random.Random()  # noqa: S311 - only spreads pauses
        self._queue: asyncio.Queue[Item] = asyncio.Queue(maxsize=concurrency)
        self._held: dict[int, Item] = {}
        """What is claimed and not finished, by id()."""
        self._tasks: list[asyncio.Task[None]] = []
        self._working = 0
        self._busy = 0.0
        self._busy_since = 0.0
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self._wakes_at = 0.0
        self._step = 0.01
        self._done = 0
        self._failed = 0
        self._last_error: str | None = None

    @property
    def status(self) -> Status:
        """What it is doing now."""
        waiting = len(self._held) - self._working
        busy = self._busy + (time.monotonic() - self._busy_since if self._working else 0.0)
        return Status(self._worker.name, self._working, waiting, self._done, self._failed, self._last_error, busy)

    def start(self) -> None:
        """Begin to work, in tasks of the running loop."""
        jobs: list[tuple[str, Any]] = [("taking", self._keep_taking()), ("leases", self._keep_leases())]
        jobs += [(f"hand {number}", self._hand()) for number in range(self._concurrency)]
        self._tasks = [asyncio.create_task(job, name=f"{self._worker.name}: {name}") for name, job in jobs]

    async def stop(self) -> None:
        """Begin nothing more, let what is under way finish for a moment, and give back the rest."""
        if not self._tasks:
            return
        self._tasks[0].cancel()
        while not self._queue.empty():
            self._queue.get_nowait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._at_rest.wait(), GRACE)
        await background.end(self._tasks)
        self._tasks = []
        if self._held:
            left = list(self._held.values())
            self._held.clear()
            try:
                async with asyncio.timeout(GRACE):
                    await self._worker.release(left)
            except (TawaraError, TimeoutError) as error:
                self._complain("not given back, left to its lease", error)

    # --- the tasks ----------------------------------------------------------------------------------------------------

    async def _keep_taking(self) -> None:
        errors_in_a_row = 0
        while True:
            try:
                await self._take_some()
                errors_in_a_row = 0
            except Exception as error:
                errors_in_a_row += 1
                self._complain("cannot look for work", error)
                await asyncio.sleep(backoff.after_errors(errors_in_a_row, self._rng))

    async def _take_some(self) -> None:
        """Claim what is due and hand it on; where there is no more, sleep."""
        if not self._may_work():
            await self._sleep(self._now() + NOT_ALLOWED)
            return
        limit = self._appetite()
        items = await self._worker.take(limit)
        for item in items:
            self._held[id(item)] = item
        # Before anything that may fail: what is held is renewed, so that nobody else would ever take it.
        for item in items:
            await self._queue.put(item)
        if len(items) < limit:
            await self._sleep(await self._worker.next_due())

    def _appetite(self) -> int:
        """How many units to claim at once: what is done in about a second, by the pace of late."""
        ahead = int(self._concurrency * BATCH_SECONDS / max(self._step, 0.001))
        return max(self._concurrency, min(LARGEST_BATCH, ahead))

    async def _sleep(self, due: float | None) -> None:
        pause = self._timeout if due is None else min(self._timeout, max(0.0, due - self._now()) + 0.01)
        self._wakes_at = self._now() + pause
        await self._wakeup.wait(pause)
        self._wakes_at = 0.0

    async def _hand(self) -> None:
        while True:
            item = await self._queue.get()
            if not self._may_work():
                self._held.pop(id(item), None)  # left to its lease
                continue
            began = time.monotonic()
            if not self._working:
                self._busy_since = began
            self._working += 1
            self._at_rest.clear()
            try:
                until = await self._worker.work(item)
            except Exception as error:
                self._complain("a unit of work failed", error)
            else:
                self._done += self._files_in(item)
                if until is not None and until < self._wakes_at:
                    self._wakeup.notify()
            finally:
                self._working -= 1
                if not self._working:
                    self._busy += time.monotonic() - self._busy_since
                    self._at_rest.set()
            self._held.pop(id(item), None)  # one that was cancelled is still held, to be released
            self._step += (time.monotonic() - began - self._step) / 16

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            if self._held:
                try:
                    await self._worker.renew(list(self._held.values()))
                except TawaraError as error:
                    self._complain("cannot renew leases", error)

    def _complain(self, what: str, error: Exception) -> None:
        self._failed += 1
        self._last_error = f"{what}: {error or type(error).__name__}"
        if isinstance(error, TawaraError | TimeoutError):
            log.warning(f"{self._worker.name}: {what}", reason=str(error))
        else:
            log.error(f"{self._worker.name}: {what}", exc_info=error)


class ClaimedRow(Generic[Item]):
    """A claim whose lease may be renewed under the hands of those who work on it."""

    __slots__ = ("claim",)

    def __init__(self, claim: Item) -> None:
        self.claim = claim
