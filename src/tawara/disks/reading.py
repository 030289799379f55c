"""Opens files, and reads small ones, in batches on a disk's thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from tawara.disks.devices import Devices, OpenFile
from tawara.model.errors import TawaraError

SMALL: Final = 64 * 1024
"""Bytes up to which a file is read when it is opened, and sent together with the head of the reply."""


class FileRequest(NamedTuple):
    """The path of a file, and whether its bytes are requested."""

    path: str
    body: bool


class OpenedFile(NamedTuple):
    """An existing file: open if it is large and its bytes were requested, else closed; `body` if it is small."""

    file: OpenFile
    body: bytes | None


def open_file(devices: Devices, wanted: FileRequest) -> OpenedFile:
    """Open a file. Blocks. Raises NoSuchFile, DirectoryInstead and what `Devices` raises for every path."""
    file = devices.open(wanted.path)
    if wanted.body and file.size > SMALL:
        return OpenedFile(file, None)
    with file:
        return OpenedFile(file, file.read(0, file.size) if wanted.body else None)


def open_files(devices: Devices, many: Sequence[FileRequest]) -> list[OpenedFile | TawaraError]:
    """Open many files; return the opened file or the error for each. Blocks."""
    found: list[OpenedFile | TawaraError] = []
    for wanted in many:
        try:
            found.append(open_file(devices, wanted))
        except TawaraError as error:
            found.append(error)
    return found
