"""Reads a device's metadata journal (wire.journal), through its storage node or from a local directory.

The files are numbered, so no directory listing is needed, and any node with GET works.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from tawara.model.errors import NodeUnreachable, NoSource
from tawara.model.journal_records import JournalRecord, SegmentPosition, to_read
from tawara.nodes.client import NodeClient
from tawara.wire import journal
from tawara.wire.journal import Damaged, Head

GAP = 64
"""Missing consecutive segments after which the end is assumed; each take-over by another worker skips one."""
LARGEST_GAP = 4096
"""The same if a later segment is known to exist."""
AHEAD = 8
"""Segments requested at a time."""

Fetch: TypeAlias = Callable[[str], Awaitable[bytes | None]]
"""Reads a file of a device; None if it does not exist. Raises NodeUnreachable."""
OnRecords: TypeAlias = Callable[[Head, Sequence[tuple[JournalRecord, bytes]]], Awaitable[None]]
"""Receives a file's head, and its records with their encoded lines."""


def through_node(nodes: NodeClient, origin: str, devid: int) -> Fetch:
    """Read files of a device through its storage node at `origin`."""

    async def fetch(path: str) -> bytes | None:
        try:
            return await nodes.read(f"{origin}/dev{devid}/{path}", limit=journal.LARGEST)
        except NoSource:
            return None

    return fetch


def from_directory(directory: Path) -> Fetch:
    """Read files of a device from its local directory."""

    def read(path: str) -> bytes | None:
        try:
            return (directory / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise NodeUnreachable(f"{directory / path}: {error.strerror}") from error

    async def fetch(path: str) -> bytes | None:
        return await asyncio.to_thread(read, path)

    return fetch


@dataclass
class JournalFiles:
    """The files of a device's journal, without the records."""

    active_segments: dict[int, tuple[Head, list[bytes]]] = field(default_factory=dict)
    """By slot."""
    damaged: list[str] = field(default_factory=list)
    """Paths of damaged files, with the reason."""


async def read_file(fetch: Fetch, path: str, journal_files: JournalFiles) -> tuple[Head, list[bytes]] | None:
    """Read a file's head and lines; None if it is missing or damaged, which is recorded in `journal_files`."""
    packed = await fetch(path)
    if packed is None:
        return None
    try:
        return await asyncio.to_thread(journal.unpack, packed)
    except Damaged as error:
        journal_files.damaged.append(f"{path}: {error}")
        return None


async def read_active_segments(fetch: Fetch) -> JournalFiles:
    """Read the active segments of all slots."""
    journal_files = JournalFiles()
    for slot in range(journal.ACTIVE_SLOTS):
        read = await read_file(fetch, journal.active_segment_path(slot), journal_files)
        if read is not None:
            journal_files.active_segments[slot] = read
    return journal_files


async def segments(fetch: Fetch, round_: int, journal_files: JournalFiles) -> AsyncIterator[tuple[Head, list[bytes]]]:
    """Yield the segments in the directory of rounds with this parity, in order; they may be of several rounds."""
    told = max(
        (head.segment for head, _ in journal_files.active_segments.values() if head.round % 2 == round_ % 2), default=0
    )
    number, missing = 0, 0
    while missing < (LARGEST_GAP if number < told else GAP):
        numbers = range(number + 1, number + 1 + AHEAD)
        read = await asyncio.gather(
            *(read_file(fetch, journal.segment_path(round_, each), journal_files) for each in numbers)
        )
        for wanted, each in zip(numbers, read, strict=True):
            missing = missing + 1 if each is None else 0
            if each is not None and each[0].segment != wanted:
                journal_files.damaged.append(
                    f"{journal.segment_path(round_, wanted)}: it says that it is {each[0].segment}"
                )
            elif each is not None:
                yield each
        number += AHEAD


@dataclass
class JournalContents:
    """The valid part of a device's journal, without the records."""

    devid: int
    heads: list[Head]
    """Heads of the valid files: those of the last complete round and later ones."""
    first: SegmentPosition
    """Position of the first valid file."""
    damaged: list[str]
    highest_fid: int

    @property
    def complete(self) -> bool:
        """Whether a complete round exists and no later file is damaged."""
        return not self.damaged and any(head.complete for head in self.heads)


def place_of(head: Head) -> SegmentPosition:
    """Return the position of a file in a journal."""
    return SegmentPosition(head.generation, head.round)


async def read_journal(fetch: Fetch, devid: int, keep: OnRecords) -> JournalContents:
    """Read a device's journal. `keep` gets the records of each file; which are valid is known only afterwards."""
    journal_files = await read_active_segments(fetch)
    heads: list[Head] = []
    unclear: list[tuple[SegmentPosition, str]] = []

    async def take(head: Head, lines: list[bytes]) -> None:
        try:
            records = await asyncio.to_thread(journal.decode_records, lines)
        except Damaged as error:
            unclear.append((place_of(head), f"round {head.round}, segment {head.segment}: {error}"))
        else:
            await keep(head, list(zip(records, lines, strict=True)))
            heads.append(head)

    for head, lines in list(journal_files.active_segments.values()):
        await take(head, lines)
    for parity in (0, 1):
        async for head, lines in segments(fetch, parity, journal_files):
            await take(head, lines)
    first = to_read((place_of(head), head.complete) for head in heads)
    counting = [head for head in heads if place_of(head) >= first]
    damaged = [*journal_files.damaged, *(why for place, why in unclear if place >= first), *_lost(counting)]
    return JournalContents(devid, counting, first, damaged, max((head.highest_fid for head in heads), default=0))


def _lost(heads: list[Head]) -> list[str]:
    """Return the missing segments to which a later or active segment refers."""
    there = {(head.generation, head.round, head.segment) for head in heads if not head.active_segment}
    told = {
        (head.generation, head.round, head.segment if head.active_segment else head.before)
        for head in heads
        if (head.segment if head.active_segment else head.before)
    }
    return [f"{journal.segment_path(round_, segment)}: missing" for _, round_, segment in sorted(told - there)]


async def read_manifest(fetch: Fetch) -> tuple[Head, dict[str, Any]] | None:
    """Return the newest valid manifest on a device; None without one."""
    best: tuple[Head, dict[str, Any]] | None = None
    for number in (0, 1):
        read = await read_file(fetch, journal.manifest_path(number), JournalFiles())
        if read is None:
            continue
        head, lines = read
        if best is None or (head.generation, head.number) > (best[0].generation, best[0].number):
            try:
                best = head, journal.decode_manifest(lines)
            except Damaged:
                continue
    return best
