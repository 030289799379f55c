"""Background tasks: start and stop."""

from __future__ import annotations

import asyncio

import pytest

from tawara.background import Background, end


async def test_stop_waits_for_cleanup() -> None:
    """`stop` waits until the cancelled work has finished its cleanup, and may be called again."""
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
    """Stopping a task that was never started does nothing, so that a failed start can clean up."""
    background = Background("a test")
    await background.stop()
    assert not background.started


async def test_finished_work_can_be_stopped() -> None:
    """Work that has already ended can be stopped."""
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    background = Background("a test")
    background.start(work())
    await done.wait()
    await background.stop()


async def test_a_cancelled_stop_raises() -> None:
    """A task that waits in `stop` can be cancelled and gets CancelledError; the work still finishes its cleanup."""
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


async def test_stop_raises_the_error_of_the_work() -> None:
    """An error that ended the work is raised by `stop`, and does not prevent the other tasks from being stopped."""
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


async def test_all_tasks_are_cancelled_before_any_is_awaited() -> None:
    """All tasks are cancelled before any is awaited, and the failure of one does not prevent waiting for the others."""
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
