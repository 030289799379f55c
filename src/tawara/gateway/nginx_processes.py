"""Finds and kills the nginx processes of a directory by /proc. All functions block."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def running_in(directory: Path, program: str) -> Iterator[int]:
    """Yield the pids of other processes that run `program` with the working directory `directory`.

    Directories are compared by device and inode: another mount namespace may have a different one at the same path.
    """
    path = str(directory.resolve())
    facts = directory.stat()
    for entry in _PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            if (entry / "exe").readlink().name.removesuffix(" (deleted)") != program:  # deleted by an upgrade
                continue
            if str((entry / "cwd").readlink()) != path:
                continue
            its = (entry / "cwd").stat()
            if (its.st_dev, its.st_ino) == (facts.st_dev, facts.st_ino):
                yield int(entry.name)


def open_files(pid: int) -> set[str]:
    """Return the paths of the files that a process has open. Raises OSError."""
    found = set()
    for entry in (_PROC / str(pid) / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(entry.readlink()))
    return found


def end_all(directory: Path, program: str, timeout: float) -> None:
    """Kill the processes of `running_in`, and wait up to `timeout` seconds until they have exited."""
    end = time.monotonic() + timeout
    for pid in running_in(directory, program):
        with suppress(OSError):
            _end(pid, max(0.0, end - time.monotonic()))


def _end(pid: int, timeout: float) -> None:
    """Kill a process that is not our child, and wait until it has exited. Raises OSError."""
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [], timeout)
    finally:
        os.close(process)
