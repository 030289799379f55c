"""The merged evidence of directories of devices, for tests with small stores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tawara.model.journal_records import JournalEvidence
from tawara.recovery import device_sources
from tawara.recovery.journal_collector import JournalCollector


async def gathered(devices: Iterable[tuple[Path, int]]) -> tuple[JournalEvidence, JournalCollector]:
    """The evidence in the journals in these directories of these devices, and the collector."""
    with JournalCollector([device_sources.from_directory(path, devid) for path, devid in devices]) as gathering:
        await gathering.read_names()
        parts = [fid_range.evidence async for fid_range in gathering.ranges()]
    return joined(parts), gathering


def joined(parts: Sequence[JournalEvidence]) -> JournalEvidence:
    """The evidence of several ranges of fids as one."""
    files = [file for part in parts for file in part.files]
    gone = {fid: devids for part in parts for fid, devids in part.gone.items()}
    return JournalEvidence(files, gone, [rival for part in parts for rival in part.rivals])
