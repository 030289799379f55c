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


async def test_what_the_work_failed_of_comes_out_when_it_is_stopped() -> None:
    """An error that ended the work is not lost."""
    failing = asyncio.Event()

    async def work() -> None:
        failing.set()
        raise LookupError("nothing there")

    background = Background("a test")
    background.start(work())
    await failing.wait()
    with pytest.raises(LookupError, match="nothing there"):
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
