"""Devices from which a namespace is put together again, each through its storage node or as a directory here."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tawara.client import journals
from tawara.client.journals import Fetch
from tawara.client.nodes import NodeClient
from tawara.model import fid as fids
from tawara.model.errors import NodeUnreachable, NoSource, UsageError
from tawara.model.names import Merger, Named, Namespace
from tawara.wire import listing

_URL = re.compile(r"(https?://[^/]+)/dev(\d{1,10})/?")
_DEVICE = re.compile(r"dev(\d{1,10})")
AT_ONCE = 16
"""Sizes asked of a node at a time."""
PAUSES = (0.1, 0.5, 2.0)
"""Seconds after which a node that did not answer is asked again."""
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """One device."""

    devid: int
    where: str
    """In words."""
    fetch: Fetch
    size: Callable[[int], Awaitable[int | None]]
    """The bytes of a fid, None if it is not there. Raises NodeUnreachable."""
    listing: Callable[[], Awaitable[dict[int, int] | None]]
    """Every fid that lies there, with its bytes; None where that cannot be told. Raises NodeUnreachable."""


def through_node(nodes: NodeClient, origin: str, devid: int) -> Source:
    """A device whose storage node, of whatever kind, answers at `origin`."""

    fetch_once = journals.through_node(nodes, origin, devid)

    async def size(fid: int) -> int | None:
        return await _patiently(lambda: nodes.size(origin + fids.path(devid, fid)))

    async def fetch(path: str) -> bytes | None:
        return await _patiently(lambda: fetch_once(path))

    async def page(first: int) -> tuple[dict[int, int], int | None]:
        url = origin + listing.path(devid, first)
        text = await nodes.read(url, limit=listing.LARGEST)
        try:
            return listing.decode(text, first)
        except ValueError as error:
            raise NodeUnreachable(f"{url}: {error}") from error

    async def every() -> dict[int, int] | None:
        found: dict[int, int] = {}
        following: int | None = 0
        while following is not None:
            try:
                more, following = await _patiently(partial(page, following))
            except NoSource:
                return None
            found |= more
        return found

    return Source(devid, f"{origin}/dev{devid}", fetch, size, every)


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again when a node does not answer: among millions of questions one is lost, and the device is not."""
    for pause in PAUSES:
        try:
            return await ask()
        except NodeUnreachable:
            await asyncio.sleep(pause)
    return await ask()


def from_directory(directory: Path, devid: int) -> Source:
    """A device whose directory is on this machine."""

    def stat(fid: int) -> int | None:
        try:
            return (directory / fids.relative_path(fid)).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise NodeUnreachable(f"{directory}: {error.strerror}") from error

    async def size(fid: int) -> int | None:
        return await asyncio.to_thread(stat, fid)

    async def every() -> dict[int, int]:
        try:
            return await asyncio.to_thread(_listing, directory, devid)
        except OSError as error:
            raise NodeUnreachable(f"{directory}: {error.strerror}") from error

    return Source(devid, str(directory), journals.from_directory(directory), size, every)


def _listing(directory: Path, devid: int) -> dict[int, int]:
    found: dict[int, int] = {}
    pending = [directory]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name.isdigit():
                        pending.append(Path(entry.path))
                elif entry.name.endswith(".fid"):
                    place = fids.parse_path(f"/dev{devid}/{Path(entry.path).relative_to(directory)}")
                    if place is not None:
                        found[place[1]] = entry.stat(follow_symlinks=False).st_size
    return found


def parse(text: str, nodes: NodeClient) -> list[Source]:
    """The devices that a person names: `http://HOST:PORT/devN`, a directory `devN`, or one with such in it.

    Raises UsageError.
    """
    url = _URL.fullmatch(text)
    if url is not None:
        return [through_node(nodes, url[1], int(url[2]))]
    directory = Path(text)
    if "://" in text or not directory.is_dir():
        raise UsageError(
            f"{text} is no device", hint="Give http://HOST:PORT/devN, a directory devN, or the directory that has them."
        )
    own = _DEVICE.fullmatch(directory.name)
    if own is not None:
        return [from_directory(directory, int(own[1]))]
    below = {int(found[1]): each for each in directory.iterdir() if (found := _DEVICE.fullmatch(each.name))}
    if not below:
        raise UsageError(f"{text} has no directories dev1, dev2, …")
    return [from_directory(below[devid], devid) for devid in sorted(below)]


async def newest_charter(sources: Iterable[Source]) -> Mapping[str, Any]:
    """What the cluster was made of, as the newest charter says; nothing if there is none. Silent nodes are left out."""
    best: tuple[tuple[int, int], Mapping[str, Any]] = ((-1, -1), {})
    for source in sources:
        try:
            read = await journals.read_charter(source.fetch)
        except NodeUnreachable:
            continue
        if read is not None and (read[0].generation, read[0].number) > best[0]:
            best = (read[0].generation, read[0].number), read[1]
    return best[1]


@dataclass
class Gathered:
    """What devices say of the names of what they hold."""

    namespace: Namespace
    damaged: dict[int, list[str]] = field(default_factory=dict)
    """By devid: files of names that are not as they were written."""
    incomplete: list[int] = field(default_factory=list)
    """Devices whose names were not all written when this was read, as in a young or adopted store."""
    silent: dict[int, str] = field(default_factory=dict)
    """By devid: why a device could not be read."""
    highest_fid: int = 0


async def gather(sources: Sequence[Source], told: Callable[[Source], None] = lambda _: None) -> Gathered:
    """Read the names on all devices, one after the other, and put them together. `told` hears of each that is done."""
    merger = Merger()
    gathered = Gathered(merger.namespace())
    for source in sources:
        try:
            found = await journals.read_journal(source.fetch, source.devid)
        except NodeUnreachable as error:
            gathered.silent[source.devid] = str(error)
            continue
        for head, records in found.parts:
            merger.add(source.devid, head.generation, records)
        if found.damaged:
            gathered.damaged[source.devid] = found.damaged
        elif not found.complete:
            gathered.incomplete.append(source.devid)
        gathered.highest_fid = max(gathered.highest_fid, found.highest_fid)
        told(source)
    gathered.namespace = merger.namespace()
    gathered.highest_fid = max(gathered.highest_fid, gathered.namespace.highest_fid)
    return gathered


@dataclass
class Bytes:
    """What really lies on the devices."""

    sizes: dict[int, dict[int, int]] = field(default_factory=dict)
    """devid -> fid -> bytes, of the fids that were looked for, or of all that are there."""
    listed: set[int] = field(default_factory=set)
    """Devices of which every fid is known."""
    silent: dict[int, str] = field(default_factory=dict)

    def unlisted(self, devids: Iterable[int]) -> list[int]:
        """Those of the devices that answered, but cannot tell what else lies there."""
        return sorted(set(devids) - self.listed - self.silent.keys())

    def has(self, devid: int, fid: int) -> int | None:
        """The bytes of a fid on a device, None if it is not there."""
        return self.sizes.get(devid, {}).get(fid)


async def look_for(
    sources: Sequence[Source], namespace: Namespace, told: Callable[[int], None] = lambda _: None
) -> Bytes:
    """See what lies on the devices: all of it where they can be listed, else what they should have."""
    wanted: dict[int, list[int]] = {}
    every: list[Named] = [*namespace.files, *(file for file, _ in namespace.rivals)]
    for fid, devids in [(file.fid, file.devids) for file in every] + list(namespace.gone.items()):
        for devid in devids:
            wanted.setdefault(devid, []).append(fid)
    there = Bytes()
    for source in sources:
        try:
            listed = await source.listing()
            if listed is not None:
                there.sizes[source.devid] = listed
                there.listed.add(source.devid)
            else:
                there.sizes[source.devid] = await _ask(source, wanted.get(source.devid, []))
        except NodeUnreachable as error:
            there.silent[source.devid] = str(error)
        told(len(wanted.get(source.devid, [])))
    return there


async def _ask(source: Source, wanted: Sequence[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for start in range(0, len(wanted), AT_ONCE * 16):
        part = wanted[start : start + AT_ONCE * 16]
        waiting = iter(part)

        async def ask(waiting: Any = waiting) -> None:
            for fid in waiting:
                size = await source.size(fid)
                if size is not None:
                    found[fid] = size

        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(part))):
                group.create_task(ask())
    return found
