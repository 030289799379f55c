"""The line server: takes in connections, up to a limit, and ends them in good order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import structlog

from tawara.listening import take
from tawara.metadata.bell import Bells
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.model.limits import Limits
from tawara.tracker.connection import Connection
from tawara.tracker.context import Nodes, Tracker
from tawara.tracker.journal import Journal
from tawara.tracker.management import Management

_log = structlog.get_logger("tracker")

_ACCEPTED_AT_ONCE = 64
_RETRY_SECONDS = 0.5
"""When to accept again after the system had no descriptors left."""
_GRACE_SECONDS = 3.0
"""How long requests that are being worked on may still take when the server stops."""
_FLUSH_SECONDS = 1.0
"""How long peers may then take to read their last answers."""


class TrackerServer:
    """Answers the line protocol on one address."""

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: Nodes,
        bells: Bells,
        *,
        address: tuple[str, int],
        limits: Limits | None = None,
        reuse_port: bool = False,
        side_channel_port: int | None = 7501,
        jobs: tuple[str, ...] = ("queryworker",),
        shutdown: Callable[[], None] | None = None,
    ) -> None:
        """Port 0 takes a free one. `shutdown` is what `!shutdown` calls; without it that is refused."""
        self.limits = limits or Limits()
        self.tracker = Tracker(metadata, view, nodes, bells, side_channel_port)
        self.journal = Journal()
        self.management = Management(self.journal, self._waiting, jobs, shutdown)
        self._wanted_address = address
        self._reuse_port = reuse_port
        self._socket: socket.socket | None = None
        self._listening = False
        self._stopping = False
        self._connections: set[Connection] = set()
        self._arriving: set[Connection] = set()
        """Accepted, and not yet told by the transport that they are there."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._emptied: asyncio.Event | None = None
        """Set when the last connection of a stopping server is gone."""

    @property
    def address(self) -> tuple[str, int]:
        """Where the server listens."""
        if self._socket is None:
            return self._wanted_address
        host, port = self._socket.getsockname()[:2]
        return host, port

    async def start(self) -> None:
        """Listen. Raises PortTaken."""
        self._socket = take(self._wanted_address, "the tracker", reuse_port=self._reuse_port)
        self._socket.setblocking(False)
        self._listen()

    async def stop(self) -> None:
        """Take in no more; finish what is being worked on, for some seconds; end all connections."""
        self._stopping = True
        self._deafen()
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
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # --- taking in ----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._socket is not None and not self._listening and not self._stopping:
            self._listening = True
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)

    def _deafen(self) -> None:
        if self._socket is not None and self._listening:
            self._listening = False
            asyncio.get_running_loop().remove_reader(self._socket.fileno())

    def _accept(self) -> None:
        assert self._socket is not None
        for _ in range(_ACCEPTED_AT_ONCE):
            if len(self._connections) + len(self._arriving) >= self.limits.connections:
                self._deafen()  # the others wait in the backlog
                return
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                _log.warning("cannot accept connections for a moment", error=str(error))
                self._deafen()
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._listen)
                return
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._keep(self._take_in(accepted))

    def _take_in(self, accepted: socket.socket) -> Coroutine[Any, Any, None]:
        connection = Connection(self)
        self._arriving.add(connection)

        async def take_in() -> None:
            try:
                await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, accepted)
            except OSError as error:
                _log.debug("a connection ended as it began", error=str(error))
                accepted.close()
                self._arriving.discard(connection)
                self._listen()

        return take_in()

    # --- what connections tell ----------------------------------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """A connection is there."""
        self._arriving.discard(connection)
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self.management.watchers.discard(connection)
        self._listen()
        if self._emptied is not None and not self._connections:
            self._emptied.set()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Work on a request."""
        self.journal.running += 1
        self._keep(work).add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.journal.running -= 1

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _waiting(self) -> Iterator[bytes]:
        for connection in self._connections:
            for line in connection.waiting():
                yield b"%s %s" % ((connection.client_ip or "-").encode(), line)
