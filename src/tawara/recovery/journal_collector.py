"""Collects the journals and file lists of all devices, and yields them in ranges of fids."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from tawara.model.errors import NodeUnreachable, NoSource
from tawara.model.fid import COUNTED
from tawara.model.journal_records import JournalEvidence, JournalRecord
from tawara.nodes import journals
from tawara.recovery.device_sources import DeviceSource
from tawara.recovery.spool import FidRange, SortedSpool
from tawara.wire import epoch
from tawara.wire.journal import Head

AT_ONCE = 16
"""Concurrent requests for sizes to one node."""


class JournalCollector:
    """Collects evidence from devices: call `read_names`, optionally `list_bytes`, then `ranges`."""

    def __init__(self, sources: Sequence[DeviceSource]) -> None:
        self.sources = sources
        self.damaged: dict[int, list[str]] = {}
        """By devid: damaged journal files."""
        self.incomplete: list[int] = []
        """Devices whose journal is not complete yet, as in a new or adopted store."""
        self.silent: dict[int, str] = {}
        """By devid: reason why a device could not be read."""
        self.listed: set[int] = set()
        """Devices whose files were listed completely."""
        self.unlisted: list[int] = []
        """Devices whose storage node responds but does not support listing."""
        self.greatest_generation = 0
        """Greatest generation of the journals read."""
        self._highest_told = 0

    def __enter__(self) -> Self:
        self._spool = SortedSpool()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    async def read_names(self, told: Callable[[DeviceSource], None] = lambda _: None) -> None:
        """Read the journals of all devices one after the other; `told` is called after each."""
        await self._find_silent()
        for source in self.sources:
            if source.devid in self.silent:
                self._spool.ignore(source.devid)
                continue
            try:
                await self._read_journal(source)
            except NodeUnreachable as error:
                self.silent[source.devid] = str(error)
                self._spool.ignore(source.devid)
            else:
                told(source)

    async def _find_silent(self) -> None:
        """Send all devices a request at the same time, so that those that hang cost one timeout and not one each."""

        async def ask(source: DeviceSource) -> None:
            try:
                await source.fetch(epoch.FILE)
            except NodeUnreachable as error:
                self.silent[source.devid] = str(error)

        await asyncio.gather(*map(ask, self.sources))

    async def _read_journal(self, source: DeviceSource) -> None:
        async def keep(head: Head, records: Sequence[tuple[JournalRecord, bytes]]) -> None:
            self.greatest_generation = max(self.greatest_generation, head.generation)
            await asyncio.to_thread(self._spool.add_records, source.devid, head, records)

        found = await journals.read_journal(source.fetch, source.devid, keep)
        self._spool.count_from(source.devid, found.first)
        if found.damaged:
            self.damaged[source.devid] = found.damaged
        elif not found.complete:
            self.incomplete.append(source.devid)
        if found.highest_fid <= COUNTED:
            self._highest_told = max(self._highest_told, found.highest_fid)

    async def list_bytes(self, told: Callable[[DeviceSource], None] = lambda _: None) -> None:
        """List the files of every device whose node can."""
        for source in self.sources:
            if source.devid in self.silent:
                continue
            try:
                async for part in source.listing():
                    await asyncio.to_thread(self._spool.add_sizes, source.devid, part)
            except NoSource:
                self.unlisted.append(source.devid)
            except NodeUnreachable as error:
                self.silent[source.devid] = str(error)
            else:
                self.listed.add(source.devid)
            told(source)

    @property
    def highest_fid(self) -> int:
        """Return the greatest fid, up to COUNTED, found on a device or in a journal."""
        return max(self._highest_told, self._spool.highest_fid)

    async def ranges(self) -> AsyncIterator[FidRange]:
        """Yield all evidence in order of fid. Devices without a list are queried for each fid they should have."""
        await asyncio.to_thread(self._spool.assign_owners)
        ranges = self._spool.ranges()
        while (fid_range := await asyncio.to_thread(next, ranges, None)) is not None:
            asked = {source.devid: source for source in self.sources if source.devid in self.unlisted}
            sizes = {devid: sizes for devid, sizes in fid_range.sizes.items() if devid in self.listed}
            for devid, wanted in wanted_of(fid_range.evidence).items():
                if devid in asked and devid not in self.silent:
                    try:
                        sizes[devid] = await _ask(asked[devid], wanted)
                    except NodeUnreachable as error:
                        self.silent[devid] = str(error)
            yield FidRange(fid_range.evidence, sizes)


def wanted_of(evidence: JournalEvidence) -> Mapping[int, Sequence[int]]:
    """Return the fids that each device should have, or may still have."""
    wanted: dict[int, list[int]] = {}
    every = [*evidence.files, *(file for file, _ in evidence.rivals)]
    for fid, devids in [*((file.fid, file.devids) for file in every), *evidence.gone.items()]:
        for devid in devids:
            wanted.setdefault(devid, []).append(fid)
    return wanted


async def _ask(source: DeviceSource, wanted: Sequence[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    waiting = iter(wanted)

    async def ask() -> None:
        for fid in waiting:
            size = await source.size(fid)
            if size is not None:
                found[fid] = size

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(wanted))):
                group.create_task(ask())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return found
