"""Files are opened, and small ones read, in one turn of the disk's thread, many that are asked for together in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from tawara.disks.devices import Devices, OpenFile
from tawara.model.errors import TawaraError

SMALL: Final = 64 * 1024
"""Files up to this size are read at once, and leave together with the head of the answer."""


class FileRequest(NamedTuple):
    """A file, and whether its bytes are wanted, too."""

    path: str
    body: bool


class OpenedFile(NamedTuple):
    """A file that is there: open if it is large and its bytes are wanted, else closed; `body` if it is small."""

    file: OpenFile
    body: bytes | None


def open_file(devices: Devices, wanted: FileRequest) -> OpenedFile:
    """Blocks. Raises NoSuchFile, DirectoryInstead and what `Devices` raises for every path."""
    file = devices.open(wanted.path)
    if wanted.body and file.size > SMALL:
        return OpenedFile(file, None)
    with file:
        return OpenedFile(file, file.read(0, file.size) if wanted.body else None)


def open_files(devices: Devices, many: Sequence[FileRequest]) -> list[OpenedFile | TawaraError]:
    """The same for many, with the error of each that has one as its answer."""
    found: list[OpenedFile | TawaraError] = []
    for wanted in many:
        try:
            found.append(open_file(devices, wanted))
        except TawaraError as error:
            found.append(error)
    return found
