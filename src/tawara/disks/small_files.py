"""Stores small files in batches: many cost about as much disk time as one.

All files are written before the first is synced, so that the file system's writes for one sync (inode blocks, journal)
serve the others, too; each directory is synced once for all files named in it. For each file the order that makes it
atomic is kept: its bytes are synced, then its name is linked, then the directory is synced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from tawara.disks import paths
from tawara.disks.devices import Devices
from tawara.disks.incoming import IncomingFile, TargetDirectory
from tawara.model.errors import TawaraError


class SmallFile(NamedTuple):
    """A file in memory and its target path; `md5` is the expected raw digest, if known."""

    path: str
    body: bytes
    md5: bytes | None = None
    replace: bool = False
    """Whether to replace other content under the same fid."""


def store(devices: Devices, files: Sequence[SmallFile]) -> list[TawaraError | None]:
    """Store files durably, in their order; return None or the error for each. Blocks.

    An error of `Devices.receive` or `IncomingFile.commit` concerns its own file only.
    """
    with _Batch(devices) as batch:
        for file in files:
            batch.begin(file)
        if len(files) > 1:
            batch.each(IncomingFile.start_writeback)
        batch.each(IncomingFile.seal)
        batch.each(IncomingFile.publish)
        batch.sync_names()
        return batch.outcomes


class _Batch:
    """The files of one call of `store`."""

    def __init__(self, devices: Devices) -> None:
        self.outcomes: list[TawaraError | None] = []
        self._devices = devices
        self._places: dict[tuple[str, tuple[str, ...]], TargetDirectory] = {}
        self._in_progress: list[tuple[int, TargetDirectory, IncomingFile]] = []
        """Files in progress, each with its index into `outcomes`."""

    def begin(self, file: SmallFile) -> None:
        """Write one more file, still unnamed."""
        self.outcomes.append(None)
        try:
            target = paths.parse_writable(file.path)
            directory = target.device, target.names[:-1]
            place = self._places.get(directory)
            if place is None:
                place = self._places[directory] = self._devices.open_directory(target)
            place.check_space(len(file.body))
            keep = self._devices.keeps(target, replace=file.replace)
            incoming = IncomingFile(
                place, target.names[-1], md5=file.md5, unnamed=self._devices.unnamed, shared=True, immutable=keep
            )
            self._in_progress.append((len(self.outcomes) - 1, place, incoming))
            incoming.write(file.body)
        except TawaraError as error:
            self.outcomes[-1] = error

    def each(self, step: Callable[[IncomingFile], None]) -> None:
        """Run `step` on every file that has not failed."""
        for number, _, incoming in self._in_progress:
            if self.outcomes[number] is None:
                try:
                    step(incoming)
                except TawaraError as error:
                    self.outcomes[number] = error

    def sync_names(self) -> None:
        """Make the names durable."""
        for place in self._places.values():
            try:
                place.sync()
            except TawaraError as error:
                for number, its_place, _ in self._in_progress:
                    if its_place is place and self.outcomes[number] is None:
                        self.outcomes[number] = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for _, _, incoming in self._in_progress:
            incoming.abort()
        for place in self._places.values():
            place.close()
