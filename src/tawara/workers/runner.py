"""Runs a worker: claims ahead, limits concurrency, renews leases, backs off after errors, and stops.

A worker implements one unit of work; the runner decides when and how many. An idle runner sleeps until its wakeup is
notified, the next row is due, or its timeout ends: other processes queue work without notifying this one.
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
"""Seconds for which work is claimed; renewed while the work lasts."""
BATCH_SECONDS = 1.0
"""Seconds that the work claimed ahead should take."""
LARGEST_BATCH = 500
NOT_ALLOWED = 1.0
"""Seconds between two checks whether work may start."""
GRACE = 2.0
"""Seconds that units of work may take to finish when the runner stops."""


class Worker(Protocol[Item]):
    """One kind of maintenance."""

    name: str

    async def take(self, limit: int) -> Sequence[Item]:
        """Claim up to `limit` units of work, the most urgent first; fewer only if no more are due now."""
        ...

    async def work(self, item: Item) -> float | None:
        """Do one unit and record the result. Returns until when it was deferred (unix seconds), if it was.

        The call may be cancelled and its process killed at any point. After an exception the unit is claimed again
        when its lease expires.
        """
        ...

    async def next_due(self) -> float | None:
        """When the next unit is due (unix seconds); None if there is none."""
        ...

    async def renew(self, items: Sequence[Item]) -> None:
        """Extend the leases of claimed units."""
        ...

    async def release(self, items: Sequence[Item]) -> None:
        """Release claimed units that were not done."""
        ...


class NoClaims:
    """The part of a worker that claims nothing in the database and so has nothing to renew or release."""

    async def renew(self, items: Sequence[Any]) -> None:
        """See Worker."""

    async def release(self, items: Sequence[Any]) -> None:
        """See Worker."""


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a runner."""

    name: str
    working: int
    """Units in progress."""
    waiting: int
    """Units claimed and not started."""
    done: int
    """Units finished since the start; files, where a unit has several."""
    failed: int
    """Errors since the start."""
    last_error: str | None
    busy: float = 0.0
    """Seconds since the start in which at least one unit was in progress."""


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
        """`timeout`: seconds of sleep after which the runner looks for work without having been notified.

        `now`: the clock of the worker's due times. `files_in`: the number of files in a unit. While `may_work` is false
        nothing is started.
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
        """Units claimed and not finished, by id()."""
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
        """The current state."""
        waiting = len(self._held) - self._working
        busy = self._busy + (time.monotonic() - self._busy_since if self._working else 0.0)
        return Status(self._worker.name, self._working, waiting, self._done, self._failed, self._last_error, busy)

    def start(self) -> None:
        """Start working, in tasks of the running loop."""
        jobs: list[tuple[str, Any]] = [("claims", self._keep_claiming()), ("leases", self._keep_leases())]
        jobs += [(f"slot {number}", self._execute()) for number in range(self._concurrency)]
        self._tasks = [asyncio.create_task(job, name=f"{self._worker.name}: {name}") for name, job in jobs]

    async def stop(self) -> None:
        """Start nothing more, let units in progress finish within GRACE, and release the rest."""
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
                self._report_error("release", error)

    # --- the tasks ----------------------------------------------------------------------------------------------------

    async def _keep_claiming(self) -> None:
        errors_in_a_row = 0
        while True:
            try:
                await self._claim_some()
                errors_in_a_row = 0
            except Exception as error:
                errors_in_a_row += 1
                self._report_error("claim", error)
                await asyncio.sleep(backoff.after_errors(errors_in_a_row, self._rng))

    async def _claim_some(self) -> None:
        """Claim units that are due and queue them; sleep when no more are due."""
        if not self._may_work():
            await self._sleep(self._now() + NOT_ALLOWED)
            return
        limit = self._batch_size()
        items = await self._worker.take(limit)
        for item in items:
            self._held[id(item)] = item
        # Before anything that may fail: held units are renewed, so that no other process would ever claim them.
        for item in items:
            await self._queue.put(item)
        if len(items) < limit:
            await self._sleep(await self._worker.next_due())

    def _batch_size(self) -> int:
        """How many units to claim at once: about one second of work at the recent rate."""
        ahead = int(self._concurrency * BATCH_SECONDS / max(self._step, 0.001))
        return max(self._concurrency, min(LARGEST_BATCH, ahead))

    async def _sleep(self, due: float | None) -> None:
        pause = self._timeout if due is None else min(self._timeout, max(0.0, due - self._now()) + 0.01)
        self._wakes_at = self._now() + pause
        await self._wakeup.wait(pause)
        self._wakes_at = 0.0

    async def _execute(self) -> None:
        while True:
            item = await self._queue.get()
            if not self._may_work():
                self._held.pop(id(item), None)  # claimed again when its lease expires
                continue
            began = time.monotonic()
            if not self._working:
                self._busy_since = began
            self._working += 1
            self._at_rest.clear()
            try:
                until = await self._worker.work(item)
            except Exception as error:
                self._report_error("work", error)
            else:
                self._done += self._files_in(item)
                if until is not None and until < self._wakes_at:
                    self._wakeup.notify()
            finally:
                self._working -= 1
                if not self._working:
                    self._busy += time.monotonic() - self._busy_since
                    self._at_rest.set()
            self._held.pop(id(item), None)  # a cancelled unit stays held, to be released
            self._step += (time.monotonic() - began - self._step) / 16

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            if self._held:
                try:
                    await self._worker.renew(list(self._held.values()))
                except TawaraError as error:
                    self._report_error("renewal", error)

    def _report_error(self, action: str, error: Exception) -> None:
        self._failed += 1
        reason = str(error) or type(error).__name__
        self._last_error = f"{action} failed: {reason}"
        if isinstance(error, TawaraError | TimeoutError):
            log.warning("worker_failed", worker=self._worker.name, action=action, reason=reason)
        else:
            log.error("worker_failed", worker=self._worker.name, action=action, exc_info=error)


class ClaimedRow(Generic[Item]):
    """A claim that is replaced when its lease is renewed, while a worker uses it."""

    __slots__ = ("claim",)

    def __init__(self, claim: Item) -> None:
        self.claim = claim
