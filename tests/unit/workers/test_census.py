"""The census worker counts when files have changed, and when it is time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tawara.metadata import census, files
from tawara.metadata.contract import Metadata
from tawara.metadata.counting import LEASE
from tawara.metadata.sqlite import SqliteMetadata
from tawara.model.census import Group
from tawara.workers.census import Census


@pytest.fixture
async def metadata(tmp_path: Path) -> AsyncIterator[Metadata]:
    """An empty database."""
    opened = SqliteMetadata.open(tmp_path / "tawara.db")
    yield opened
    await opened.close()


async def _store(metadata: Metadata, key: bytes) -> None:
    fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=(1, 2), now=1)
    await metadata.write(files.close_upload, fid, dmid=1, key=key, classid=0, length=3, devids=(1, 2), now=2)


async def _count(worker: Census) -> int:
    """Have the worker do all that it thinks is due; how many counts that were."""
    items = await worker.take(1)
    for item in items:
        await worker.work(item)
    return len(items)


async def test_it_counts_after_changes_only(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first time, and after something was stored; what has not changed is said to be as new as ever."""
    monkeypatch.setattr("tawara.workers.census.SHARE", float("inf"))  # however long a count takes here
    await _store(metadata, b"a")
    assert await _count(Census(metadata, period=0)) == 1
    found = await metadata.read(census.load)
    assert found is not None
    assert found.groups == (Group(1, 0, (1, 2), 1, 3),)
    await metadata.write(census.touch, now=5)
    assert await _count(Census(metadata, period=0)) == 0
    again = await metadata.read(census.stamp)
    assert again is not None
    assert again.at >= found.at
    await _store(metadata, b"b")
    assert await _count(Census(metadata, period=0)) == 1
    found = await metadata.read(census.load)
    assert found is not None
    assert found.files == 2


async def test_it_leaves_time_between(metadata: Metadata) -> None:
    """What was counted a moment ago is not counted again before its time, whoever counted it."""
    worker = Census(metadata, period=3600)
    assert await _count(worker) == 1
    await _store(metadata, b"a")
    assert await _count(worker) == 0
    assert await _count(Census(metadata, period=3600)) == 0


async def test_one_process_counts(metadata: Metadata) -> None:
    """While somebody else counts, nobody else does."""
    assert await metadata.write(census.begin, now=10**9, lease=LEASE)
    worker = Census(metadata, period=0)
    assert len(await worker.take(1)) == 1, "that turn is long over"
    assert await Census(metadata, period=0).take(1) == []
