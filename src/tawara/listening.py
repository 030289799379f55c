"""The door-keeper: takes a port, and lets in no more connections at once than were agreed; the rest wait outside."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import Callable
from typing import Final

import structlog

from tawara.background import Background
from tawara.model.errors import PortTaken

_BACKLOG: Final = 1024
_AT_ONCE: Final = 64
"""Connections that are let in before those inside have their turn."""
_DESCRIPTORS_PER_CONNECTION: Final = 4
"""The connection, its second descriptor for sendfile, the file, its directory."""
_PAUSE: Final = 0.1
"""Seconds to wait when the process has no descriptor left for another connection."""

log = structlog.get_logger(__name__)

Leave = Callable[[], None]
"""To be called once when a connection is over."""


class Door:
    """Listens on one address and makes a protocol for each connection let in."""

    def __init__(
        self,
        address: tuple[str, int] | socket.socket,
        purpose: str,
        make_protocol: Callable[[Leave], asyncio.Protocol],
        *,
        connections: int,
        reuse_port: bool = False,
        descriptors: int = _DESCRIPTORS_PER_CONNECTION,
    ) -> None:
        """Take `address` (port 0: any free one; or a socket that listens) for `purpose`, in words. Raises PortTaken.

        `descriptors` is how many open files a connection needs, itself included.
        """
        self._make_protocol = make_protocol
        self._free = asyncio.Semaphore(min(connections, _affordable(descriptors)))
        self._welcoming = Background("door")
        self._entering: set[asyncio.Task[None]] = set()
        self._socket = address if isinstance(address, socket.socket) else take(address, purpose, reuse_port=reuse_port)
        self._socket.setblocking(False)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are really listened on."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def open(self) -> None:
        """Begin to let connections in."""
        self._welcoming.start(self._welcome())

    async def close(self) -> None:
        """Give the port back. Connections that are in stay."""
        await self._welcoming.stop()
        if self._entering:
            await asyncio.wait(self._entering)
        self._socket.close()

    async def _welcome(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(_AT_ONCE):
                await self._free.acquire()
                try:
                    connection = await self._next()
                except OSError as error:
                    self._free.release()
                    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                        log.warning("no descriptor for another connection", reason=error.strerror)
                        await asyncio.sleep(_PAUSE)
                    continue
                entering = loop.create_task(self._let_in(connection))
                self._entering.add(entering)
                entering.add_done_callback(self._entering.discard)
            await asyncio.sleep(0)

    async def _next(self) -> socket.socket:
        """The connection that waits, at once if there is one.

        The loop would take one in each of its turns, which are long when many are served, and newcomers would starve.
        """
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            connection, _ = await asyncio.get_running_loop().sock_accept(self._socket)
        connection.setblocking(False)
        return connection

    async def _let_in(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: self._make_protocol(self._free.release), connection)
        except OSError:
            connection.close()
            self._free.release()


def take(address: tuple[str, int], purpose: str, *, reuse_port: bool = False) -> socket.socket:
    """A socket that listens on `address` (port 0: any free one) for `purpose`, in words. Raises PortTaken."""
    host, port = address
    try:
        family, _, _, _, resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(resolved[:2], family=family, backlog=_BACKLOG, reuse_port=reuse_port)
    except OSError as error:
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise PortTaken(
            f"{host}:{port} {reason}; {purpose} wants it",
            hint="Stop what listens there, or give another port in the configuration.",
        ) from error
    # Connections inherit it: small answers to pipelined requests must not wait for acknowledgements.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _affordable(descriptors: int) -> int:
    """Connections that the process's limit of open files allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(8, soft // descriptors)
