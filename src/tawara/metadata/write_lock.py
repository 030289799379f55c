"""A fair write lock between the processes that share a SQLite file.

A SQLite writer that finds the file locked sleeps and polls, up to 100 ms apart, so next to a process that writes all
the time a change waits for seconds. Here the kernel queues the processes, by flock(2), on two files: the holder of the
first lock is next, the holder of the second writes. A process that has just written queues behind the one that is next.
The locks of a dead process are free. Integrity still rests on SQLite's own locks."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType


class WriteLock:
    """The write lock of the database at `path`, a context manager that blocks the thread until the lock is held."""

    def __init__(self, path: Path) -> None:
        """Open the lock files. Raises OSError."""
        self._next = _open_beside(path, "-next")
        try:
            self._now = _open_beside(path, "-turn")
        except OSError:
            os.close(self._next)
            raise

    def __enter__(self) -> None:
        fcntl.flock(self._next, fcntl.LOCK_EX)
        fcntl.flock(self._now, fcntl.LOCK_EX)
        fcntl.flock(self._next, fcntl.LOCK_UN)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fcntl.flock(self._now, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the lock files."""
        os.close(self._next)
        os.close(self._now)


def _open_beside(path: Path, suffix: str) -> int:
    """Open or create an empty file next to the database, with its owner and mode, like SQLite's own files."""
    facts = path.stat()
    lock = os.open(f"{path}{suffix}", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, facts.st_mode & 0o777)
    if os.geteuid() == 0:
        os.fchown(lock, facts.st_uid, facts.st_gid)
    return lock
