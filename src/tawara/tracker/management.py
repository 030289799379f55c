"""The `!` commands: status of the tracker itself, without a database query (docs/mogilefs.md 6)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from tawara import __version__
from tawara.tracker.request_log import RequestLog
from tawara.wire.line import Request

_HELP = b"""Mogilefsd admin commands:

   !version  Server version
   !recent   Recently finished queries and how long they took.
   !queue    Queries that are pending.
   !stats    General stats on what we're up to.
   !watch    Observe errors and warnings.
   !jobs     Outstanding job counts, desired level, and pids.
   !shutdown Stop the tracker, if it was started to allow that.
"""


class ManagedConnection(Protocol):
    """The part of a connection that `!` commands use."""

    def push(self, data: bytes) -> None:
        """Send lines that answer no request."""
        ...


@dataclass(slots=True)
class Management:
    """Answers `!` commands for one server."""

    journal: RequestLog
    waiting: Callable[[], Iterable[bytes]]
    """The queued requests: `IP line` each."""
    jobs: tuple[str, ...]
    """The jobs of this process."""
    shutdown: Callable[[], None] | None = None
    """Stops the tracker; with None `!shutdown` is refused, since any client of the port may send it."""
    watchers: set[ManagedConnection] = field(default_factory=set)
    """The connections that watch errors."""

    def answer(self, request: Request, listener: ManagedConnection) -> bytes:
        """Return the lines of the answer, with the terminating dot."""
        commands = {
            "version": self._version,
            "stats": self._stats,
            "jobs": self._jobs,
            "queue": self._queue,
            "pend": self._queue,
            "recent": self.journal.recent,
            "shutdown": self._shutdown,
            "want": self._fixed,
            "to": self._fixed,
        }
        if request.command.startswith("watch"):
            lines = self._watch(listener)
        else:
            command = next((run for name, run in commands.items() if request.command.startswith(name)), None)
            if command is None:
                return _HELP + b".\r\n"
            lines = command()
        return b"".join(line + b"\r\n" for line in [*lines, b"."])

    def announce(self, text: str) -> None:
        """Send a line to all watchers."""
        if self.watchers:
            line = b":: %s\r\n" % text.replace("\r", " ").replace("\n", " ").encode("utf-8", "replace")
            for watcher in list(self.watchers):
                watcher.push(line)

    # --- the commands -------------------------------------------------------------------------------------------------

    def _version(self) -> list[bytes]:
        return [f"Tawara {__version__}".encode()]

    def _stats(self) -> list[bytes]:
        pending = sum(1 for _ in self.waiting())
        counts = {
            "uptime": self.journal.uptime,
            "pending_queries": pending,
            "processing_queries": self.journal.running,
            "bored_queryworkers": int(self.journal.running == 0),
        }
        if self.journal.queries:
            counts["queries"] = self.journal.queries
        return [f"{name} {count}".encode() for name, count in counts.items()]

    def _jobs(self) -> list[bytes]:
        return [
            f"{job} {line}".encode()
            for job in sorted(self.jobs)
            for line in ("count 1", "desired 1", f"pids {os.getpid()}")
        ]

    def _queue(self) -> list[bytes]:
        return list(self.waiting())

    def _watch(self, listener: ManagedConnection) -> list[bytes]:
        if listener in self.watchers:
            self.watchers.remove(listener)
            return [b"Removed you from watcher list."]
        self.watchers.add(listener)
        return [b"Added you to watcher list."]

    def _shutdown(self) -> list[bytes]:
        if self.shutdown is None:
            return [b"ERROR: this tracker was not started to allow !shutdown; stop it with SIGTERM"]
        self.shutdown()
        return []

    def _fixed(self) -> list[bytes]:
        return [b"ERROR: the jobs of this tracker run in one process; their number is fixed"]
