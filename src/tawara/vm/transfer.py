"""An instance as one file, to be moved to another host that has its packages: what is in it, written and read.

A tar archive: `tawara-instance.json` (whose instance it is, and on which layers it stands), the disks as they are,
libvirt's descriptions of snapshots, and last the checksums of all.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from tawara.vm.errors import ImageError
from tawara.vm.guest_json import read_value
from tawara.vm.qcow2 import MAGIC

HEADER = "tawara-instance.json"
SUMS = "SHA256SUMS"
OVERLAY = "system/overlay.qcow2"
DATA = "data.qcow2"
_MEMBER = re.compile(r"system/overlay\.qcow2|data\.qcow2|system/snapshots/\d{3}\.xml")
_SMALL = 1 << 20
"""Bytes that a header, a list of checksums or a snapshot's description may have."""
_FORMAT = 1
_EXTERNAL_DATA = 1 << 2
"""The incompatible feature of a qcow2 file whose clusters are in another file."""


@dataclass(frozen=True)
class ExportedInstance:
    """Whose instance it is, and what it stands on."""

    name: str
    fqdn: str
    package: str
    version: str
    delta: str
    base: str
    settings: tuple[tuple[str, ...], ...] = ()
    """What `tawara vm set` has changed: pairs of name and value."""
    format: int = _FORMAT


def write_archive(out: IO[bytes], instance: ExportedInstance, files: Mapping[str, Path | bytes]) -> None:
    """Write the archive; `files`: by member name, a file or a content."""
    sums = {}
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        add_member(archive, HEADER, json.dumps(asdict(instance), indent=2).encode() + b"\n")
        for name, source in files.items():
            sums[name] = add_member(archive, name, source)
        add_member(archive, SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode())


class _Hashing:
    """A file that is read once, and its digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def add_member(archive: tarfile.TarFile, name: str, source: Path | bytes) -> str:
    """Add a member, read once; return its SHA-256."""
    member = tarfile.TarInfo(name)
    member.mode = 0o600
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        member.size = len(source) if isinstance(source, bytes) else source.stat().st_size
        hashing = _Hashing(file)
        archive.addfile(member, hashing)
    return hashing.sha256.hexdigest()


def read_header(path: Path) -> ExportedInstance:
    """Return whose instance a file holds. Raises ImageError for any other file."""
    try:
        with tarfile.open(path, mode="r|") as archive:
            first = archive.next()
            if first is not None and first.name == HEADER and first.isreg() and first.size <= _SMALL:
                found = read_value(ExportedInstance, json.loads(_content(archive, first)))
                if isinstance(found, ExportedInstance) and found.format == _FORMAT:
                    return found
    except (tarfile.TarError, ValueError) as error:
        raise ImageError(f"{path} is not an exported instance: {error}") from error
    raise ImageError(f"{path} is not an instance that this version of Tawara can import")


def unpack(path: Path, folder: Path) -> list[str]:
    """Unpack disks and snapshots into an empty folder, checked; return the names. Raises ImageError.

    Nothing but the known members is accepted, so that the file cannot write elsewhere.
    """
    sums, expected = {}, None
    try:
        with tarfile.open(path, mode="r|") as archive:
            for member in archive:
                if expected is not None or not member.isreg():
                    raise ImageError(f"{path}: {member.name!r} does not belong into an exported instance")
                if member.name == SUMS and member.size <= _SMALL:
                    expected = _content(archive, member)
                elif _MEMBER.fullmatch(member.name) and member.name not in sums:
                    sums[member.name] = _unpack(archive, member, folder / member.name)
                elif member.name != HEADER:
                    raise ImageError(f"{path}: {member.name!r} does not belong into an exported instance")
    except tarfile.TarError as error:
        raise ImageError(f"{path} is damaged: {error}") from error
    if expected != "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode() or OVERLAY not in sums:
        raise ImageError(f"{path} is damaged or incomplete: its checksums do not match", hint="Export it again.")
    return list(sums)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return stream.read() if stream else b""


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    stream = archive.extractfile(member)
    assert stream is not None
    digest = hashlib.sha256()
    with target.open("wb") as out:
        while data := stream.read(_SMALL):
            digest.update(data)
            out.write(data)
    return digest.hexdigest()


def check_disk(path: Path, backing: str | None) -> None:
    """Raise ImageError unless it is a qcow2 file on this backing file alone.

    A disk from elsewhere that named another file would show that file of this host to the guest.
    """
    with path.open("rb") as file:
        header = file.read(80)
        if len(header) < 80:
            raise ImageError(f"{path.name} is no qcow2 disk")
        magic, version, offset, size = struct.unpack_from(">IIQI", header)
        (features,) = struct.unpack_from(">Q", header, 72)
        if magic != MAGIC or version != 3 or features & _EXTERNAL_DATA or size > 1023:
            raise ImageError(f"{path.name} is no qcow2 disk of version 3 with its data inside")
        file.seek(offset)
        found: Any = file.read(size).decode(errors="replace") if offset else None
    if found != backing:
        raise ImageError(f"{path.name} stands on {found}, not on {backing}")
