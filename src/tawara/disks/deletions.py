"""Deletes files in batches, with one fsync per directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack

from tawara.disks import paths
from tawara.disks.devices import Devices
from tawara.model.errors import TawaraError
from tawara.model.node_errors import as_node_errors


def delete(devices: Devices, files: Sequence[str]) -> list[TawaraError | None]:
    """Delete files durably; return None or the error for each: NoSuchFile, PathConflict, Reserved. Blocks.

    The directory is synced after NoSuchFile, too, so that a file which an interrupted call removed earlier does not
    reappear after a power cut.
    """
    outcomes: list[TawaraError | None] = []
    directories: dict[tuple[str, tuple[str, ...]], int] = {}
    touched: list[tuple[str, tuple[str, ...]] | None] = []
    with ExitStack() as stack:
        for file in files:
            outcomes.append(None)
            touched.append(None)
            try:
                target = paths.parse_writable(file)
                place = target.device, target.names[:-1]
                if place not in directories:
                    directories[place] = stack.enter_context(devices.parent(target))
                touched[-1] = place
                with as_node_errors():
                    os.unlink(target.names[-1], dir_fd=directories[place])
            except TawaraError as error:
                outcomes[-1] = error
        for place, directory in directories.items():
            try:
                with as_node_errors():
                    os.fsync(directory)
            except TawaraError as error:
                outcomes = [error if its == place else said for its, said in zip(touched, outcomes, strict=True)]
    return outcomes
