"""The line server: accepts connections, up to a limit, and closes them gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from tawara.instruments import RequestMeter
from tawara.listening import TcpListener, wait_for_first_requests
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.limits import Limits
from tawara.nodes.signing import RequestSigner
from tawara.tracker.connection import Connection
from tawara.tracker.context import Nodes, TrackerContext
from tawara.tracker.management import Management
from tawara.tracker.request_log import RequestLog

_DESCRIPTORS_PER_CONNECTION = 1
"""Open files per connection: its socket. Connections to the database and to storage nodes are few."""
_LOOKS = 10
"""Number of checks for idle connections within the idle limit."""
_GRACE_SECONDS = 2.4
"""Seconds that running requests get to finish when the server stops."""
_FLUSH_SECONDS = 1.0
"""Seconds that peers then get to read their last answers."""


class TrackerServer:
    """Answers the line protocol on one address."""

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: Nodes,
        wakeups: Wakeups,
        *,
        address: tuple[str, int] | socket.socket,
        limits: Limits | None = None,
        reuse_port: bool = False,
        side_channel_port: int | None = 7501,
        jobs: tuple[str, ...] = ("queryworker",),
        shutdown: Callable[[], None] | None = None,
        signer: RequestSigner | None = None,
        beside_mogilefsd: bool = False,
    ) -> None:
        """`address` may be a listening socket; port 0 chooses a free port.

        `shutdown` is called by `!shutdown`; with None that command is refused. `signer` signs the URLs for clients.
        With `beside_mogilefsd` classes keep only checksums that a mogilefsd on the same database knows.
        """
        self.limits = limits or Limits()
        self.tracker = TrackerContext(metadata, view, nodes, wakeups, side_channel_port, signer, beside_mogilefsd)
        self.at_once = metadata.reads_at_once
        """Whether requests may begin outside a task, which often finishes them before a task would have started."""
        self.journal = RequestLog()
        self.management = Management(self.journal, self._waiting, jobs, shutdown)
        self._wanted_address = address
        self._address: tuple[str, int] | None = None
        self._reuse_port = reuse_port
        self._listener: TcpListener | None = None
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None
        """Set when the last connection of a stopping server has ended."""

    @property
    def meter(self) -> RequestMeter:
        """Counts of the requests."""
        return self.journal.meter

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    @property
    def address(self) -> tuple[str, int]:
        """The address on which the server listens or listened, once it was started."""
        assert self._address is not None, "not started"
        return self._address

    async def start(self) -> None:
        """Listen. Raises PortTaken."""
        self._listener = TcpListener(
            self._wanted_address,
            "the tracker",
            lambda on_closed: Connection(self, on_closed),
            connections=self.limits.connections,
            reuse_port=self._reuse_port,
            descriptors=_DESCRIPTORS_PER_CONNECTION,
            share=self.limits.open_files_share,
        )
        self._address = self._listener.address
        self._listener.open()

    async def stop(self) -> None:
        """Stop accepting, wait a few seconds for running requests, then close all connections."""
        if self._listener is not None:
            await self._listener.close()
            self._listener = None
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        await wait_for_first_requests(lambda: not all(each.has_begun for each in self._connections))
        for connection in list(self._connections):
            if not connection.busy:
                connection.close()
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=_GRACE_SECONDS)
            for task in unfinished:
                task.cancel()
            if unfinished:
                await asyncio.wait(unfinished)
        for connection in list(self._connections):
            connection.close()
        if self._connections:
            self._emptied = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), _FLUSH_SECONDS)
        for connection in list(self._connections):
            connection.abort()

    # --- called by connections ----------------------------------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """Register a connection."""
        self._connections.add(connection)
        self._look_for_idle()

    def _look_for_idle(self) -> None:
        """Close connections that are idle for longer than the limit; one timer serves all."""
        limit = self.limits.tracker_idle
        if limit and self._idle_timer is None:
            self._idle_timer = asyncio.get_running_loop().call_later(limit / _LOOKS, self._close_idle)

    def _close_idle(self) -> None:
        self._idle_timer = None
        before = asyncio.get_running_loop().time() - self.limits.tracker_idle
        for connection in list(self._connections):
            connection.close_if_idle(before)
        if self._connections:
            self._look_for_idle()

    def closed(self, connection: Connection) -> None:
        """Unregister a connection."""
        self._connections.discard(connection)
        self.management.watchers.discard(connection)
        if self._emptied is not None and not self._connections:
            self._emptied.set()

    def watches(self, connection: Connection) -> bool:
        """Return whether a connection watches errors."""
        return connection in self.management.watchers

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a request as a task."""
        self.journal.running += 1
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.journal.running -= 1
        self._tasks.discard(task)

    def _waiting(self) -> Iterator[bytes]:
        for connection in self._connections:
            for line in connection.waiting():
                yield b"%s %s" % ((connection.client_ip or "-").encode(), line)
