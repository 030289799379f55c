"""When a worker that queues tasks itself does so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tawara.metadata.contract import Metadata
from tawara.model.files import TaskType
from tawara.workers.task_queue import TaskQueue


def _queue(now: float, due: float | None = None) -> TaskQueue:
    async def read(*_: Any) -> float | None:
        return due

    fake = SimpleNamespace(clock=SimpleNamespace(guess=lambda: now), read=read)
    return TaskQueue(cast("Metadata", fake), TaskType.MOVE, lease=60)


def test_a_tick_is_taken_once() -> None:
    """A due tick is taken once; the next is due after the pause."""
    queue = _queue(1000.0)
    assert queue.take_tick(pause=10) is True
    assert queue.next_tick == 1010
    assert queue.take_tick(pause=10) is False


@pytest.mark.parametrize(
    ("next_tick", "due"), [(0, True), (1000, True), (1000.1, False), (1010, False), (1010.1, True)]
)
def test_a_tick_of_another_clock_is_due(next_tick: float, due: bool) -> None:
    """A tick in the future is waited for, unless it is further ahead than a pause: the clock was set back."""
    queue = _queue(1000.0)
    queue.next_tick = next_tick
    assert queue.tick_is_due(now=1000, pause=10) is due


@pytest.mark.parametrize(
    ("task", "ticks", "expected"),
    [(None, True, 50), (None, False, None), (40, True, 40), (60, True, 50), (60, False, 60)],
)
async def test_the_next_thing_due(task: float | None, ticks: bool, expected: float | None) -> None:
    """What is due next is the first of the next task and, where ticks count, the next tick."""
    queue = _queue(0, task)
    queue.next_tick = 50
    assert await queue.next_due(ticks=ticks) == expected
