"""Decides which files a recovery restores, deletes or leaves to an operator, from journals and files on devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tawara.model.journal_records import JournalEvidence, NamedFile


@dataclass
class RecoveryPlan:
    """The decisions on all files found."""

    files: list[NamedFile] = field(default_factory=list)
    """Files to restore, each with the devices that have its bytes."""
    deleted: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Deleted contents whose bytes still exist, to be deleted from the devices: fid -> devids."""
    lost: list[NamedFile] = field(default_factory=list)
    """Files that are not restored because no device that was read has their bytes."""
    other_size: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Replicas that are not restored because their size is wrong: (fid, devid, expected bytes, actual bytes)."""
    rivals: list[tuple[NamedFile, int]] = field(default_factory=list)
    """Files that are not restored because a later file has the key: (file, fid of the later file)."""
    unnamed: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Contents without any journal record; not changed: fid -> devids."""


def recover(
    evidence: JournalEvidence,
    has: Callable[[int, int], int | None],
    listed: Mapping[int, Iterable[int]],
    *,
    unseen: frozenset[int] = frozenset(),
) -> RecoveryPlan:
    """Make a plan. `has(devid, fid)` returns the size in bytes; `listed` has all fids of devices that list them.

    Devices in `unseen` were not read and are assumed to have all their files.
    """
    done = RecoveryPlan(rivals=list(evidence.rivals))
    for file in evidence.files:
        devids: list[int] = []
        for devid in file.devids:
            size = file.facts.length if devid in unseen else has(devid, file.fid)
            if size == file.facts.length:
                devids.append(devid)
            elif size is not None:
                done.other_size.append((file.fid, devid, file.facts.length, size))
        if devids:
            done.files.append(NamedFile(file.fid, file.facts, tuple(devids)))
        else:
            done.lost.append(file)
    for fid, devices in evidence.gone.items():
        left = tuple(devid for devid in devices if devid not in unseen and has(devid, fid) is not None)
        if left:
            done.deleted[fid] = left
    _list_unnamed(done, evidence, listed)
    return done


def _list_unnamed(done: RecoveryPlan, evidence: JournalEvidence, listed: Mapping[int, Iterable[int]]) -> None:
    known = {file.fid for file in done.files} | {file.fid for file, _ in done.rivals} | evidence.gone.keys()
    known |= {file.fid for file in done.lost}
    for devid, fids in listed.items():
        for fid in fids:
            if fid in evidence.gone and devid not in evidence.gone[fid]:
                done.deleted[fid] = (*done.deleted.get(fid, ()), devid)
            elif fid not in known:
                done.unnamed[fid] = (*done.unnamed.get(fid, ()), devid)
