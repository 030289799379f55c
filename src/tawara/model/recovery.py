"""Decides which files a recovery restores, deletes or leaves to an operator, from journals and files on devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tawara.model.journal_records import JournalEvidence, NamedFile


@dataclass
class RecoveryPlan:
    """The decision on everything that was found."""

    files: list[NamedFile] = field(default_factory=list)
    """To be restored, each on the devices where its bytes were seen."""
    deleted: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Contents without a name whose bytes are still there: they were deleted, and will be on the devices, too."""
    lost: list[NamedFile] = field(default_factory=list)
    """Named, and no device that was read has the bytes: not restored."""
    other_size: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Replicas that are not restored, for they have another size: (fid, devid, bytes wanted, bytes there)."""
    rivals: list[tuple[NamedFile, int]] = field(default_factory=list)
    """Not restored: a later file has the name (its fid)."""
    unnamed: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Bytes of which no device knows a name, nor that they were deleted; left as they are."""


def recover(
    evidence: JournalEvidence,
    has: Callable[[int, int], int | None],
    listed: Mapping[int, Iterable[int]],
    *,
    unseen: frozenset[int] = frozenset(),
) -> RecoveryPlan:
    """What to do. `has(devid, fid)` is the bytes that lie there; `listed` has all fids of the devices that tell them.

    Devices that are `unseen` were not looked at, and are taken to have what they should.
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
