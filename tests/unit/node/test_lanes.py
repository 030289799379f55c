"""Work that is done together, on the threads of a disk."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tawara.node.devices import Devices
from tawara.node.lanes import Lanes, Together


@pytest.fixture
def lanes(tmp_path: Path) -> Iterator[Lanes]:
    lanes = Lanes(Devices(tmp_path))
    yield lanes
    lanes.close()


async def test_what_comes_meanwhile_goes_together(lanes: Lanes) -> None:
    """The first goes at once, what comes while it is under way goes in one party, and each gets its own answer."""
    parties: list[list[int]] = []
    begun, go_on = threading.Event(), threading.Event()

    def work(numbers: Sequence[int]) -> list[int | Exception]:
        parties.append(list(numbers))
        begun.set()
        assert go_on.wait(20)
        return [ValueError("no") if number == 3 else number * 10 for number in numbers]

    together = Together(lanes, work, width=1, most=3)
    first = asyncio.create_task(together.do("dev1", 1))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    others = [asyncio.create_task(together.do("dev1", number)) for number in (2, 3, 4, 5)]
    await asyncio.sleep(0)
    go_on.set()
    answers = await asyncio.gather(first, *others, return_exceptions=True)
    assert [str(each) for each in answers] == ["10", "20", "no", "40", "50"]
    assert parties == [[1], [2, 3, 4], [5]]


async def test_a_lane_that_hangs_holds_up_no_other(lanes: Lanes) -> None:
    """Work for another disk is done while one does not answer."""
    go_on = threading.Event()

    def work(names: Sequence[str]) -> list[str]:
        assert names != ["stuck"] or go_on.wait(20)
        return list(names)

    together = Together(lanes, work, width=1, most=8)
    stuck = asyncio.create_task(together.do("dev1", "stuck"))
    assert await asyncio.wait_for(together.do("dev2", "free"), 10) == "free"
    assert not stuck.done()
    go_on.set()
    assert await stuck == "stuck"


async def test_work_that_fails_as_a_whole_is_told_to_all(lanes: Lanes) -> None:
    """An exception is everybody's answer, and the lane goes on; who was cancelled misses nothing."""
    fail = True

    def work(numbers: Sequence[int]) -> list[int]:
        if fail:
            raise RuntimeError("broken")
        return list(numbers)

    together = Together(lanes, work, width=1, most=8)
    both = await asyncio.gather(together.do("dev1", 1), together.do("dev1", 2), return_exceptions=True)
    assert [str(each) for each in both] == ["broken", "broken"]
    fail = False
    cancelled = asyncio.create_task(together.do("dev1", 3))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await together.do("dev1", 4) == 4


async def test_work_for_closed_lanes_is_refused_and_not_forgotten(lanes: Lanes) -> None:
    """Whoever asks when the node has stopped is told so, and does not wait for ever."""
    together: Together[int, int] = Together(lanes, list, width=1, most=1)
    await together.do("dev1", 1)
    lanes.close()
    answers = await asyncio.wait_for(
        asyncio.gather(*(together.do("dev1", number) for number in range(3)), return_exceptions=True), 10
    )
    assert [type(each) for each in answers] == [RuntimeError] * 3
