"""Devices as sources of a recovery, each read through its storage node or as a local directory."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tawara.model import fid as fids
from tawara.model.epoch import Epoch
from tawara.model.errors import NodeUnreachable, UsageError
from tawara.nodes import journals
from tawara.nodes.client import NodeClient
from tawara.nodes.journals import Fetch
from tawara.wire import epoch, listing

_URL = re.compile(r"(https?://[^/]+)/dev(\d{1,10})/?")
_DEVICE = re.compile(r"dev(\d{1,10})")
PAUSES = (0.1, 0.5, 2.0)
"""Seconds between retries of a request to a node that did not respond."""
T = TypeVar("T")


@dataclass(frozen=True)
class DeviceSource:
    """Access to one device."""

    devid: int
    where: str
    """URL or directory, for messages."""
    fetch: Fetch
    size: Callable[[int], Awaitable[int | None]]
    """Returns the size of a fid in bytes; None if it does not exist. Raises NodeUnreachable."""
    listing: Callable[[], AsyncIterator[dict[int, int]]]
    """Yields all fids on the device with their sizes in bytes. Raises NodeUnreachable; NoSource if not supported."""


def through_node(nodes: NodeClient, origin: str, devid: int) -> DeviceSource:
    """Access a device through its storage node, Tawara's or MogileFS's, at `origin`."""

    fetch_once = journals.through_node(nodes, origin, devid)

    async def size(fid: int) -> int | None:
        return await _with_retries(lambda: nodes.size(origin + fids.path(devid, fid)))

    async def fetch(path: str) -> bytes | None:
        return await _with_retries(lambda: fetch_once(path))

    async def page(first: int) -> tuple[dict[int, int], int | None]:
        url = origin + listing.path(devid, first)
        text = await nodes.read(url, limit=listing.LARGEST)
        try:
            return listing.decode(text, first)
        except ValueError as error:
            raise NodeUnreachable(f"{url}: {error}") from error

    async def every() -> AsyncIterator[dict[int, int]]:
        following: int | None = 0
        while following is not None:
            found, following = await _with_retries(partial(page, following))
            yield found

    return DeviceSource(devid, f"{origin}/dev{devid}", fetch, size, every)


async def _with_retries(ask: Callable[[], Awaitable[T]]) -> T:
    """Retry if a node does not respond: one lost request among millions must not exclude the device."""
    for pause in PAUSES:
        try:
            return await ask()
        except NodeUnreachable:
            await asyncio.sleep(pause)
    return await ask()


def from_directory(directory: Path, devid: int) -> DeviceSource:
    """Access a device through its local directory."""

    def stat(fid: int) -> int | None:
        try:
            return (directory / fids.relative_path(fid)).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise NodeUnreachable(f"{directory}: {error.strerror}") from error

    async def size(fid: int) -> int | None:
        return await asyncio.to_thread(stat, fid)

    async def every() -> AsyncIterator[dict[int, int]]:
        parts = _listing(directory, devid)
        try:
            while (found := await asyncio.to_thread(next, parts, None)) is not None:
                yield found
        except OSError as error:
            raise NodeUnreachable(f"{directory}: {error.strerror}") from error

    return DeviceSource(devid, str(directory), journals.from_directory(directory), size, every)


def _listing(directory: Path, devid: int) -> Iterator[dict[int, int]]:
    """Yield the files, one directory at a time."""
    pending = [directory]
    while pending:
        found: dict[int, int] = {}
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name.isdigit():
                        pending.append(Path(entry.path))
                elif entry.name.endswith(".fid"):
                    place = fids.parse_path(f"/dev{devid}/{Path(entry.path).relative_to(directory)}")
                    if place is not None:
                        found[place[1]] = entry.stat(follow_symlinks=False).st_size
        if found:
            yield found


def parse(text: str, nodes: NodeClient) -> list[DeviceSource]:
    """Parse a source named on the command line: `http://HOST:PORT/devN`, a directory `devN`, or a directory of these.

    Raises UsageError.
    """
    url = _URL.fullmatch(text)
    if url is not None:
        return [through_node(nodes, url[1], _devid(url[2]))]
    directory = Path(text)
    if "://" in text or not directory.is_dir():
        raise UsageError(
            f"{text} is no device", hint="Give http://HOST:PORT/devN, a directory devN, or the directory that has them."
        )
    own = _DEVICE.fullmatch(directory.name)
    if own is not None:
        return [from_directory(directory, _devid(own[1]))]
    below = {_devid(found[1]): each for each in directory.iterdir() if (found := _DEVICE.fullmatch(each.name))}
    if not below:
        raise UsageError(f"{text} has no directories dev1, dev2, …")
    return [from_directory(below[devid], devid) for devid in sorted(below)]


def _devid(digits: str) -> int:
    devid = int(digits)
    if devid > fids.HIGHEST_ID:
        raise UsageError(f"dev{digits} is no device: the greatest is dev{fids.HIGHEST_ID}")
    return devid


async def newest_manifest(sources: Iterable[DeviceSource]) -> Mapping[str, Any]:
    """Read the newest cluster manifest; empty without one. Nodes that do not respond are skipped."""

    async def read(source: DeviceSource) -> tuple[tuple[int, int], Mapping[str, Any]]:
        try:
            found = await journals.read_manifest(source.fetch)
        except NodeUnreachable:
            found = None
        return ((-1, -1), {}) if found is None else ((found[0].generation, found[0].number), found[1])

    every = await asyncio.gather(*map(read, sources))
    return max(every, key=lambda each: each[0], default=((-1, -1), {}))[1]


async def marks(every: Mapping[int, DeviceSource]) -> dict[int, Epoch]:
    """Read the epoch marks of devices, by devid. Nodes that do not respond are skipped."""

    async def read(source: DeviceSource) -> Epoch | None:
        try:
            body = await source.fetch(epoch.FILE)
        except NodeUnreachable:
            return None
        return epoch.parse(body) if body else None

    found = await asyncio.gather(*map(read, every.values()))
    return {devid: mark for devid, mark in zip(every, found, strict=True) if mark is not None}
