"""Merging journals into a database: which devices are read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tawara.metadata.sqlite import SqliteMetadata
from tawara.model.errors import UsageError
from tawara.recovery import rebuild
from tawara.recovery.merge import merge


@pytest.fixture
async def metadata(tmp_path: Path) -> AsyncIterator[SqliteMetadata]:
    opened = SqliteMetadata.open(tmp_path / "tawara.db")
    yield opened
    await opened.close()


def _device(tmp_path: Path) -> str:
    (tmp_path / "dev1").mkdir(exist_ok=True)
    return str(tmp_path)


async def test_a_merge_needs_a_device(metadata: SqliteMetadata, tmp_path: Path) -> None:
    """Without a device, or if all are ignored, there is nothing to read, and the command says so."""
    for devices, ignore in (([], ()), ([_device(tmp_path)], (1,))):
        with pytest.raises(UsageError, match="No device to read"):
            await merge(metadata, devices, ignore=ignore, trust=False, dry_run=True, progress=_no_progress)


async def test_a_device_without_a_journal_adds_nothing(metadata: SqliteMetadata, tmp_path: Path) -> None:
    """A device that has neither files nor a journal is read, and nothing is merged."""
    merged, collector = await merge(
        metadata, [_device(tmp_path)], ignore=(), trust=False, dry_run=True, progress=_no_progress
    )
    assert (merged.restored, merged.deleted, merged.clashes, merged.other_stores) == (0, 0, [], [])
    assert merged.next_fid == rebuild.MARGIN + 1
    assert not collector.silent


def _no_progress(*_: object) -> None:
    pass
