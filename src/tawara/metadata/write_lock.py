"""Processes that write to one SQLite file take turns, each woken the moment that it is its turn.

SQLite has whoever finds the file locked sleep and look again, up to 100 ms later, and take nothing in the meantime from
a neighbour who writes all the time: a change then waits for seconds. Here waiting is done in the kernel, by flock(2),
on two locks. Whoever has the first is next; whoever has the second writes; who has just written comes after the one who
is next. The locks of a process that dies are free. What keeps the file whole are SQLite's own locks all the same.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType


class WriteLock:
    """A place in the queue for the database at `path`; blocks the thread that enters it until it is its turn."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
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
        """Give up the place."""
        os.close(self._next)
        os.close(self._now)


def _open_beside(path: Path, suffix: str) -> int:
    """An empty file beside the database, whose owner and mode it gets, as SQLite does it with its own."""
    facts = path.stat()
    lock = os.open(f"{path}{suffix}", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, facts.st_mode & 0o777)
    if os.geteuid() == 0:
        os.fchown(lock, facts.st_uid, facts.st_gid)
    return lock
