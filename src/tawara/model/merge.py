"""Decides what a database restored to an earlier state takes over from the journals on its devices.

A file with an unwritten journal record in the database (a dirty marker) was changed after the last journal write, so
the database is newer than the devices.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tawara.model.files import StoredFile
from tawara.model.journal_records import NamedFile


@dataclass
class Changes:
    """Changes to make for some fids."""

    restore: list[NamedFile] = field(default_factory=list)
    """Files that the database lacks."""
    rename: list[NamedFile] = field(default_factory=list)
    """Files whose key or class has changed."""
    replicas: list[tuple[int, int]] = field(default_factory=list)
    """(fid, devid): copies that the database lacks."""
    forget: list[int] = field(default_factory=list)
    """Files that have been deleted or replaced."""
    clashes: list[NamedFile] = field(default_factory=list)
    """Lost files whose fid the database has assigned to other content; not changed."""


def changes(
    files: Sequence[NamedFile], gone: Iterable[int], known: Mapping[int, StoredFile], noted: Collection[int]
) -> Changes:
    """Compare the evidence of the devices (`files` with keys and bytes, `gone` fids) with the database.

    `known`: the database's files among those fids; `noted`: the fids for which the database is newer.
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
    """Whether a fid has different contents in journal and database: immutable metadata differ."""
    told, has = file.facts, known
    if told.length != has.length:
        return True
    if None not in (told.stored_at, has.stored_at) and told.stored_at != has.stored_at:
        return True
    sums = told.checksum, has.checksum
    return None not in sums and sums[0] != sums[1] and sums[0].hashtype is sums[1].hashtype  # type: ignore[union-attr] # neither is None
