"""All that directories of devices tell, together, for tests whose stores are small."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tawara.client import sources
from tawara.client.gathering import Gathering
from tawara.model.names import Namespace


async def gathered(devices: Iterable[tuple[Path, int]]) -> tuple[Namespace, Gathering]:
    """What follows from the names in these directories of these devices, and how the reading went."""
    with Gathering([sources.from_directory(path, devid) for path, devid in devices]) as gathering:
        await gathering.read_names()
        parts = [stretch.namespace async for stretch in gathering.stretches()]
    gone = {fid: devids for part in parts for fid, devids in part.gone.items()}
    files = [file for part in parts for file in part.files]
    return Namespace(files, gone, [rival for part in parts for rival in part.rivals]), gathering
