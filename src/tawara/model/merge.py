"""What a database that was put back to an earlier state takes in from the names on its devices.

A file of which the database has something to write on a device (a note) was changed after the last names were written:
of that the database knows more than the devices.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tawara.model.files import StoredFile
from tawara.model.journal_records import NamedFile


@dataclass
class Changes:
    """What is to be done with some fids."""

    restore: list[NamedFile] = field(default_factory=list)
    """Files that the database does not have."""
    rename: list[NamedFile] = field(default_factory=list)
    """Files that have another key or class since."""
    replicas: list[tuple[int, int]] = field(default_factory=list)
    """(fid, devid): copies that the database does not know."""
    forget: list[int] = field(default_factory=list)
    """Files that were deleted, or replaced, since."""
    clashes: list[NamedFile] = field(default_factory=list)
    """Files that were lost, and whose fid the database has given to other content since; left as they are."""


def changes(
    files: Sequence[NamedFile], gone: Iterable[int], known: Mapping[int, StoredFile], noted: Collection[int]
) -> Changes:
    """Compare what the devices tell (`files` that have names and bytes, fids that are `gone`) with the database.

    `known`: the database's files among those fids; `noted`: the fids of which it knows more than the devices.
    """
    found = Changes()
    for file in files:
        if file.fid in noted:
            known_file = known.get(file.fid)
            if known_file is not None and _is_other_content(file, known_file):
                found.clashes.append(file)
            continue
        _compare(found, file, known.get(file.fid))
    found.forget += [fid for fid in gone if fid in known and fid not in noted]
    return found


def _compare(found: Changes, file: NamedFile, known: StoredFile | None) -> None:
    if known is None:
        found.restore.append(file)
    elif _is_other_content(file, known):
        found.clashes.append(file)
    else:
        if (known.dmid, known.key, known.classid) != (file.facts.dmid, file.facts.key, file.facts.classid):
            found.rename.append(file)
        found.replicas += [(file.fid, devid) for devid in file.devids if devid not in known.devids]


def _is_other_content(file: NamedFile, known: StoredFile) -> bool:
    """Whether one fid stands for two contents: they differ in what never changes."""
    told, has = file.facts, known
    if told.length != has.length:
        return True
    if None not in (told.stored_at, has.stored_at) and told.stored_at != has.stored_at:
        return True
    sums = told.checksum, has.checksum
    return None not in sums and sums[0] != sums[1] and sums[0].hashtype is sums[1].hashtype  # type: ignore[union-attr] # neither is None
