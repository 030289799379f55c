"""Compares a rebuild from the devices with the live database, while the store continues to run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from tawara.metadata import files, journals
from tawara.metadata.contract import Metadata
from tawara.metadata.open import open_metadata
from tawara.model.drill import Differences, compare
from tawara.model.errors import NodeUnreachable
from tawara.model.journal_records import NamedFile
from tawara.recovery import device_sources
from tawara.recovery.device_sources import DeviceSource
from tawara.recovery.journal_collector import JournalCollector
from tawara.recovery.rebuild import Progress, read_all, restore

PAGE = 1000
TRIES = 3
"""Times that differing files are compared again, because the store continues to run."""
PAUSE = 7.0
"""Seconds between two comparisons, enough for changes to be written to the devices."""


class Drill:
    """Rebuilds some devices into a temporary database and compares it with the live one."""

    def __init__(self, metadata: Metadata, chosen: Sequence[DeviceSource], *, look: bool) -> None:
        self._metadata = metadata
        self._chosen = chosen
        self._look = look
        self.devids = frozenset(source.devid for source in chosen)
        self.compared = 0
        self.read = JournalCollector([])
        self._unnamed: Mapping[int, Sequence[int]] = {}

    async def compare_until_stable(self, spool: Path, progress: Progress) -> Differences:
        """Return the differences that remain after repeated comparisons."""
        found = await self._once(spool / "1.db", None)
        for attempt in range(2, TRIES + 1):
            if not found:
                break
            progress(f"{len(found.fids):,} files differ; they are compared again in {PAUSE:.0f} s")
            await asyncio.sleep(PAUSE)
            found = await self._once(spool / f"{attempt}.db", found.fids)
        return found

    async def _once(self, spool: Path, only: set[int] | None) -> Differences:
        rebuilt = await self._rebuilt(spool)
        readable = self.devids - self.read.silent.keys()
        live = await self._files(self._metadata, readable)
        if only is None:
            self.compared = len(live)
        found = compare(live, rebuilt)
        return found if only is None else found.only(only)

    async def _rebuilt(self, spool: Path) -> dict[int, NamedFile]:
        metadata = await open_metadata(f"sqlite:{spool.absolute()}")
        try:
            with JournalCollector(self._chosen) as self.read:
                await read_all(self.read, trust=not self._look)
                manifest = dict(await device_sources.newest_manifest(self._chosen))
                restored = await restore(self.read, manifest, metadata, trust=not self._look)
            self._unnamed = restored.left.unnamed
            return await self._files(metadata, self.devids)
        finally:
            await metadata.close()

    async def find_unknown_contents(self) -> dict[int, list[int]]:
        """Return existing contents that neither the journals nor the database know: fid -> devids."""
        size = {source.devid: source.size for source in self._chosen}
        found: dict[int, list[int]] = {}
        fids = sorted(self._unnamed)
        for start in range(0, len(fids), PAGE):
            for fid in sorted(await self._metadata.read(journals.unknown, fids[start : start + PAGE])):
                try:
                    there = [devid for devid in self._unnamed[fid] if await size[devid](fid) is not None]
                except NodeUnreachable:
                    continue
                if there:
                    found[fid] = there
        return found

    @staticmethod
    async def _files(metadata: Metadata, devids: frozenset[int]) -> dict[int, NamedFile]:
        """Return all files on these devices, with only their replicas on these devices."""
        found: dict[int, NamedFile] = {}
        after = 0
        while page := await metadata.read(files.list_fids, after, PAGE):
            after = page[-1].fid
            for file in page:
                here = tuple(sorted(devids.intersection(file.devids)))
                if here:
                    found[file.fid] = NamedFile(file.fid, journals.facts_of(file), here)
        return found
