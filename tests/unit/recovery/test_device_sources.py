"""The replicas in a device's directory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from tawara.model import fid as fids
from tawara.model.errors import NodeUnreachable
from tawara.recovery import device_sources
from tawara.recovery.journal_collector import JournalCollector


def _store(device: Path, fid: int, size: int) -> None:
    path = device / fids.relative_path(fid)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


async def test_every_replica_of_a_directory_is_listed_with_its_size(tmp_path: Path) -> None:
    """All replicas below a device's directory are listed, from all its subdirectories, and nothing else."""
    sizes = {7: 3, 8: 0, 2_000_001: 5}
    for fid, size in sizes.items():
        _store(tmp_path, fid, size)
    (tmp_path / "usage").write_text("used: 1\n")
    found: dict[int, int] = {}
    async for part in device_sources.from_directory(tmp_path, 3).listing():
        assert part
        found |= part
    assert found == sizes


async def test_size_of_a_replica_of_a_directory(tmp_path: Path) -> None:
    """The size of a replica is that of its file, and None if the file is missing."""
    _store(tmp_path, 7, 3)
    source = device_sources.from_directory(tmp_path, 3)
    assert (await source.size(7), await source.size(8)) == (3, None)


async def test_devices_that_hang_are_waited_for_together() -> None:
    """However many devices do not answer, reading journals, manifest and marks waits for their timeout once."""
    waiting = 0

    async def fetch(path: str) -> bytes | None:
        nonlocal waiting
        waiting += 1
        await asyncio.wait_for(all_asked.wait(), 5)
        raise NodeUnreachable(f"{path}: no answer in time")

    async def watch() -> None:
        while True:
            all_asked.clear()
            while waiting < 9:
                await asyncio.sleep(0)
            all_asked.set()
            await asyncio.sleep(0)

    all_asked = asyncio.Event()
    sources = [replace(device_sources.from_directory(Path("/"), devid), fetch=fetch) for devid in range(1, 10)]
    watching = asyncio.create_task(watch())
    with JournalCollector(sources) as collector:
        await collector.read_names()
        assert (len(collector.silent), waiting) == (9, 9)
    for read in (device_sources.newest_manifest(sources), device_sources.marks({each.devid: each for each in sources})):
        waiting = 0
        assert await read == {}
        assert waiting == 9
    watching.cancel()


def test_devices_are_named_by_url_or_directory(tmp_path: Path) -> None:
    """A device is given as the URL of its node, as a directory `devN`, or as a directory that contains such."""
    nodes = cast("Any", None)
    (tmp_path / "dev3").mkdir()
    (tmp_path / "dev12").mkdir()
    assert [each.devid for each in device_sources.parse("http://h1:7500/dev4", nodes)] == [4]
    assert [each.devid for each in device_sources.parse(str(tmp_path / "dev3"), nodes)] == [3]
    assert sorted(each.devid for each in device_sources.parse(str(tmp_path), nodes)) == [3, 12]
