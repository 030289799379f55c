"""A task in the background."""

from __future__ import annotations

import asyncio

import pytest

from tawara.background import Background, end


async def test_when_stop_is_over_so_is_the_work() -> None:
    """Stopping waits for what the work does when it is cancelled, and may be done again."""
    began, said = asyncio.Event(), []

    async def work() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            said.append("cleaned up")

    background = Background("a test")
    background.start(work())
    await began.wait()
    assert background.started
    await background.stop()
    assert said == ["cleaned up"]
    await background.stop()
    assert said == ["cleaned up"]


async def test_stop_without_a_start_does_nothing() -> None:
    """What never began can be stopped, as on the way out of a start that failed."""
    background = Background("a test")
    await background.stop()
    assert not background.started


async def test_work_that_is_done_by_itself_can_be_stopped() -> None:
    """Work need not go on until it is stopped."""
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    background = Background("a test")
    background.start(work())
    await done.wait()
    await background.stop()


async def test_who_stops_may_be_cancelled() -> None:
    """Whoever waits for the end can be cancelled, and learns of that; the work goes on to clean up."""
    began, may_end, said = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            said.append("cleaning up")
            await may_end.wait()
            said.append("over")

    background = Background("a test")
    background.start(work())
    await began.wait()
    stopping = asyncio.create_task(background.stop())
    while not said:
        await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    may_end.set()
    while len(said) < 2:
        await asyncio.sleep(0)
    assert said == ["cleaning up", "over"]


async def test_what_the_work_failed_of_comes_out_when_it_is_stopped() -> None:
    """An error that ended the work is not lost, and keeps nobody from stopping the rest."""
    failing = asyncio.Event()

    async def work() -> None:
        failing.set()
        raise LookupError("nothing there")

    background = Background("a test")
    background.start(work())
    await failing.wait()
    with pytest.raises(LookupError, match="nothing there"):
        await background.stop()
    await background.stop()


async def test_tasks_end_together_whatever_one_of_them_fails_of() -> None:
    """All are cancelled before any is waited for, and a failure of one keeps nobody from waiting for the others."""
    said: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            said.append(f"{name} cancelled")
            await asyncio.sleep(0)
            said.append(f"{name} over")
            if name == "first":
                raise LookupError("cannot clean up")

    tasks = [asyncio.create_task(work(name)) for name in ("first", "second")]
    await asyncio.sleep(0)
    await end(tasks)
    assert said == ["first cancelled", "second cancelled", "first over", "second over"]
