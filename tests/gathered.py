"""All that directories of devices tell, together, for tests whose stores are small."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tawara.client import sources
from tawara.client.gathering import Gathering
from tawara.model.names import Evidence


async def gathered(devices: Iterable[tuple[Path, int]]) -> tuple[Evidence, Gathering]:
    """What follows from the names in these directories of these devices, and how the reading went."""
    with Gathering([sources.from_directory(path, devid) for path, devid in devices]) as gathering:
        await gathering.read_names()
        parts = [stretch.evidence async for stretch in gathering.stretches()]
    return joined(parts), gathering


def joined(parts: Sequence[Evidence]) -> Evidence:
    """What is said of several stretches of fids, as though it were of one."""
    files = [file for part in parts for file in part.files]
    gone = {fid: devids for part in parts for fid, devids in part.gone.items()}
    return Evidence(files, gone, [rival for part in parts for rival in part.rivals])
