"""Compares a rebuild from the devices with the live database, while the store continues to run."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tawara.metadata import cluster as cluster_rows
from tawara.metadata import files, journals
from tawara.metadata.contract import Metadata
from tawara.metadata.open import open_metadata
from tawara.model.cluster import Cluster
from tawara.model.drill import Differences, compare
from tawara.model.errors import NodeUnreachable
from tawara.model.journal_records import NamedFile
from tawara.nodes.client import NodeClient
from tawara.recovery import device_sources
from tawara.recovery.device_sources import DeviceSource
from tawara.recovery.journal_collector import JournalCollector
from tawara.recovery.rebuild import Progress, read_all, restore

PAGE = 1000
TRIES = 3
"""Times that differing files are compared again, because the store continues to run."""
PAUSE = 7.0
"""Seconds between two comparisons, enough for changes to be written to the devices."""


@dataclass(frozen=True)
class DrillResult:
    """Result of a drill."""

    devids: frozenset[int]
    """Devices that were chosen."""
    compared: int
    """Number of files compared."""
    wrong: Differences
    """Files that a rebuild would not restore correctly."""
    unwritten: set[int]
    """Fids that differ only because their changes are not journaled on the devices yet."""
    unknown: Mapping[int, Sequence[int]]
    """Contents that neither the journals nor the database know: fid -> devids."""
    read: JournalCollector


async def run_drill(
    metadata: Metadata, nodes: NodeClient, *, sample: int | None, look: bool, progress: Progress
) -> DrillResult:
    """Rebuild `sample` random devices, or all, into a temporary database, and compare it with the live one.

    `look`: also check that the data exists, and search for data that the database does not know.
    """
    cluster = await metadata.read(cluster_rows.load)
    drill = Drill(metadata, choose_devices(cluster, nodes, sample), look=look)
    with tempfile.TemporaryDirectory(prefix="tawara-drill-") as spool:
        found = await drill.compare_until_stable(Path(spool), progress)
    unknown = await drill.find_unknown_contents()
    waiting = await metadata.read(journals.waiting)
    due = await metadata.read(journals.read_due)
    incomplete = {
        devid
        for devid in drill.devids
        if (known := due.journals.get(devid)) is None
        or known.generation != due.generation
        or known.position is not None
    }
    unwritten = {
        fid
        for fid in found.fids
        if fid in waiting or (fid in found.missing and set(found.missing[fid].devids) <= incomplete)
    }
    wrong = found.only(found.fids - unwritten)
    return DrillResult(drill.devids, drill.compared, wrong, unwritten, unknown, drill.read)


def choose_devices(cluster: Cluster, nodes: NodeClient, sample: int | None) -> list[DeviceSource]:
    """Return the devices that can be read: `sample` of them, chosen at random, or all."""
    devids = [devid for devid in sorted(cluster.devices) if cluster.can_read_from(devid)]
    if sample is not None and sample < len(devids):
        devids = sorted(random.sample(devids, sample))
    origins = [(devid, cluster.origin(devid)) for devid in devids]
    return [device_sources.through_node(nodes, origin, devid) for devid, origin in origins if origin]


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
        found = await self._compare_once(spool / "1.db", None)
        for attempt in range(2, TRIES + 1):
            if not found:
                break
            progress(f"{len(found.fids):,} files differ; they are compared again in {PAUSE:.0f} s")
            await asyncio.sleep(PAUSE)
            found = await self._compare_once(spool / f"{attempt}.db", found.fids)
        return found

    async def _compare_once(self, spool: Path, only: set[int] | None) -> Differences:
        rebuilt = await self._rebuild(spool)
        readable = self.devids - self.read.silent.keys()
        live = await self._files(self._metadata, readable)
        if only is None:
            self.compared = len(live)
        found = compare(live, rebuilt)
        return found if only is None else found.only(only)

    async def _rebuild(self, spool: Path) -> dict[int, NamedFile]:
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
