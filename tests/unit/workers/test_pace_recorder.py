"""The throughput recorded by a process of workers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tawara.metadata import pace as rows
from tawara.metadata.contract import Metadata
from tawara.metadata.sqlite import SqliteMetadata
from tawara.model.pace import STOPPED_AFTER, alive
from tawara.workers.pace_recorder import PaceRecorder
from tawara.workers.runner import Status


@pytest.fixture
async def metadata(tmp_path: Path) -> AsyncIterator[Metadata]:
    """An empty database."""
    opened = SqliteMetadata.open(tmp_path / "tawara.db")
    yield opened
    await opened.close()


def status(done: int, busy: float, failed: int = 0) -> list[Status]:
    return [Status("replicate", 0, 0, done, failed, None, busy)]


async def test_two_recordings(metadata: Metadata) -> None:
    """The pace is that of busy time; an ended process records its end at once, and its pace is kept."""
    now = status(0, 0.0)
    keeper = PaceRecorder(metadata, lambda: now)
    await keeper._record(status(0, 0.0))
    await keeper._record(status(50, 2.0, failed=1))
    (found,) = await metadata.read(rows.load)
    assert (found.work, found.done, found.failed, found.pace) == ("replicate", 50, 1, 25.0)
    assert alive([found], int(time.time())) == [found]
    keeper.start()
    await keeper.stop()
    (gone,) = await metadata.read(rows.load)
    assert (gone.pace, gone.rate) == (25.0, 0)
    assert gone.recorded_at <= time.time() - STOPPED_AFTER
    assert alive([gone], int(time.time())) == []
