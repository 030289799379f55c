"""The database's time, estimated from local clocks, and the difference between two clocks."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from tawara.metadata import clock
from tawara.metadata.contract import Metadata


@pytest.mark.parametrize(
    ("before", "told", "after", "apart"),
    [
        (100.0, 100.5, 101.0, 0),
        (100.1, 100, 130.0, 0.1),
        (90.0, 100, 130.0, 0),  # the answer was long in coming, and may have been given early
        (3700.0, 100, 3700.1, 3600),
        (100.0, 3700, 101.0, -3599),
    ],
)
def test_seconds_apart(before: float, told: int, after: float, apart: float) -> None:
    """Only a difference that the round-trip time cannot explain counts."""
    assert clock.seconds_apart(before, told, after) == pytest.approx(apart)


class Machine:
    """A database, and a machine with two clocks; time passes only as a test says."""

    def __init__(self) -> None:
        self.database = 5000.0
        self.wall = 1000.0
        self.steady = 1.0
        self.asked = 0
        self.delay = 0.0
        self.clock = clock.Clock(cast("Metadata", self), wall=lambda: self.wall, steady=lambda: self.steady)

    def passes(self, seconds: float) -> None:
        self.database += seconds
        self.wall += seconds
        self.steady += seconds

    async def read(self, query: object) -> float:
        assert query is clock.now
        self.asked += 1
        told = self.database
        await asyncio.sleep(0)
        self.passes(self.delay)
        return told


async def test_the_database_is_rarely_queried() -> None:
    """Concurrent callers share one query, and none follows for some time, while the returned time advances."""
    machine = Machine()
    assert set(await asyncio.gather(*(machine.clock.now() for _ in range(20)))) == {5000.0}
    machine.passes(clock.FRESH - 0.1)
    assert await machine.clock.now() == pytest.approx(machine.database)
    assert machine.asked == 1
    machine.passes(0.2)
    assert await machine.clock.now() == pytest.approx(machine.database)
    assert machine.asked == 2


@pytest.mark.parametrize("seconds", [3600.0, -3600.0, 1.0])
async def test_a_changed_local_clock_has_no_effect(seconds: float) -> None:
    """Whatever the machine's own clock is set to, the returned time is right, and the database is queried to confirm
    it."""
    machine = Machine()
    await machine.clock.now()
    machine.wall += seconds
    assert machine.clock.guess() == pytest.approx(machine.database)
    assert await machine.clock.now() == pytest.approx(machine.database)
    assert machine.asked == 2
    machine.passes(1)
    assert await machine.clock.now() == pytest.approx(machine.database)
    assert machine.asked == 2


async def test_after_a_suspend_the_database_is_queried() -> None:
    """After a suspend that the steady clock did not count, the time is right once the local clock was corrected."""
    machine = Machine()
    await machine.clock.now()
    machine.database += 500
    machine.wall += 500
    assert await machine.clock.now() == pytest.approx(machine.database)


async def test_a_changed_database_clock_is_followed() -> None:
    """A change of the database's clock is followed within seconds, and a backward step is counted."""
    machine = Machine()
    await machine.clock.now()
    for by, times in ((3600, 0), (-3600, 1), (-30, 2)):
        machine.database += by
        machine.passes(clock.FRESH)
        assert await machine.clock.now() == pytest.approx(machine.database)
        assert machine.clock.set_back == times


async def test_a_slow_answer_does_not_change_the_time() -> None:
    """An answer that takes seconds does not change the estimate as long as that may be right."""
    machine = Machine()
    await machine.clock.now()
    machine.passes(clock.FRESH)
    machine.delay = 4.0
    assert await machine.clock.now() == pytest.approx(machine.database)
    assert machine.clock.set_back == 0
