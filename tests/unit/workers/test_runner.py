"""The runner: wake-up, sleep, back-off, stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from tawara.metadata.wakeups import Wakeup
from tawara.model.errors import Db
from tawara.workers import runner as runners
from tawara.workers.runner import Runner
from tests.unit.workers.workers_fixture import eventually


class Pile:
    """A worker whose work is a list of numbers; negative ones fail."""

    name = "pile"

    def __init__(self, *numbers: int) -> None:
        self.due = list(numbers)
        self.done: list[int] = []
        self.given_back: list[int] = []
        self.renewed = 0
        self.looked = 0
        self.most_at_once = 0
        self.now = 0
        self.broken = 0
        self.unknown = 0
        self.later: float | None = None
        self.hold: asyncio.Event | None = None

    async def take(self, limit: int) -> Sequence[int]:
        self.looked += 1
        if self.broken:
            self.broken -= 1
            raise Db
        taken, self.due = self.due[:limit], self.due[limit:]
        return taken

    async def work(self, item: int) -> float | None:
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        try:
            if self.hold:
                await self.hold.wait()
            await asyncio.sleep(0)
            if item < 0:
                raise Db
            self.done.append(item)
            return self.later
        finally:
            self.now -= 1

    async def next_due(self) -> float | None:
        if self.unknown:
            self.unknown -= 1
            raise Db
        return None

    async def renew(self, items: Sequence[int]) -> None:
        self.renewed += len(items)

    async def release(self, items: Sequence[int]) -> None:
        self.given_back += items


async def test_all_work_is_done_within_the_concurrency() -> None:
    """All due work is done, within the limit of concurrency."""
    pile = Pile(*range(1000))
    runner = Runner(pile, concurrency=7, timeout=60)
    runner.start()
    await eventually(lambda: len(pile.done) == 1000)
    await runner.stop()
    assert sorted(pile.done) == list(range(1000))
    assert pile.most_at_once == 7
    assert runner.status.done == 1000


async def test_claimed_work_is_done_when_the_next_claim_fails() -> None:
    """When the database fails after a batch was claimed, the batch is done and not held."""
    pile = Pile(1, 2, 3)
    pile.unknown = 1
    runner = Runner(pile, concurrency=7, timeout=60)
    runner.start()
    await eventually(lambda: len(pile.done) == 3)
    await runner.stop()
    assert pile.given_back == []


async def test_wakes_when_notified() -> None:
    """An idle runner claims once, sleeps, and wakes at once when notified."""
    pile, wakeup = Pile(), Wakeup()
    runner = Runner(pile, concurrency=2, timeout=60, wakeup=wakeup)
    runner.start()
    await asyncio.sleep(0.05)
    assert pile.looked == 1
    pile.due = [1]
    wakeup.notify()
    await eventually(lambda: pile.done == [1])  # long before its patience ends
    await runner.stop()


async def test_polls_after_its_timeout() -> None:
    """Work that another process queued is found without a notification."""
    pile = Pile()
    runner = Runner(pile, concurrency=2, timeout=0.05)
    runner.start()
    await asyncio.sleep(0.01)
    pile.due = [1]
    await eventually(lambda: pile.done == [1])
    await runner.stop()


async def test_a_short_deferral_shortens_the_sleep() -> None:
    """A unit that is deferred to a time before the next wake-up shortens the sleep."""
    pile = Pile(1)
    pile.hold = asyncio.Event()
    runner = Runner(pile, concurrency=2, timeout=60)
    runner.start()
    await eventually(lambda: pile.now == 1)
    looked = pile.looked
    pile.later = time.time()
    pile.hold.set()
    await eventually(lambda: pile.looked > looked)
    await runner.stop()


async def test_errors_do_not_stop_it() -> None:
    """A failed unit is counted and its lease expires; an unavailable database is waited for."""
    pile = Pile(-1, 2)
    pile.broken = 1
    runner = Runner(pile, concurrency=2, timeout=60)
    runner.start()
    await eventually(lambda: pile.done == [2])
    assert runner.status.failed == 2
    assert runner.status.last_error
    await runner.stop()
    assert pile.given_back == []


async def test_stopping_releases_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units in progress may finish within the grace time, and all others that were claimed are released."""
    monkeypatch.setattr(runners, "GRACE", 0.05)
    pile = Pile(*range(100))
    pile.hold = asyncio.Event()
    runner = Runner(pile, concurrency=3, timeout=60)
    runner.start()
    await eventually(lambda: pile.now == 3)
    await runner.stop()
    assert pile.done == []
    assert sorted(pile.given_back + pile.due) == list(range(100))
    assert pile.now == 0


async def test_leases_are_renewed() -> None:
    """Units in progress for longer than a lease stay claimed."""
    pile = Pile(1)
    pile.hold = asyncio.Event()
    runner = Runner(pile, concurrency=1, timeout=60, lease=0.06)
    runner.start()
    await eventually(lambda: pile.renewed >= 2)
    pile.hold.set()
    await eventually(lambda: pile.done == [1])
    await runner.stop()


async def test_nothing_starts_while_work_is_not_permitted() -> None:
    """While work is not permitted nothing is claimed, and the leases of claimed units expire."""
    allowed, pile = True, Pile(1, 2, 3)
    pile.hold = asyncio.Event()
    runner = Runner(pile, concurrency=1, timeout=0.01, may_work=lambda: allowed)
    runner.start()
    await eventually(lambda: pile.now)
    allowed = False
    pile.due = [4]
    pile.hold.set()
    await eventually(lambda: pile.done == [1] and not runner.status.waiting)
    looked = pile.looked
    allowed = True
    await eventually(lambda: 4 in pile.done)
    assert pile.looked > looked
    assert pile.done == [1, 4]
    await runner.stop()
