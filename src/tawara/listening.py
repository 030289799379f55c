"""The door-keeper: takes a port, and lets in no more connections at once than were agreed; the rest wait outside."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

import structlog

from tawara.background import Background
from tawara.model.errors import PortTaken

_BACKLOG: Final = 1024
_AT_ONCE: Final = 64
"""Connections that are let in before those inside have their turn."""
_DESCRIPTORS_PER_CONNECTION: Final = 4
"""The connection, its second descriptor for sendfile, the file, its directory."""
_FEWEST: Final = 8
"""Connections that any listener may have."""
_PAUSE: Final = 0.1
"""Seconds to wait when the process has no descriptor left for another connection."""
_IDLE: Final = 1.0
"""Seconds without a request after which a connection may be closed for a newcomer."""
_SHED: Final = 32
"""One in so many connections is closed at a time when room is needed, so that all are seldom looked through."""
_SAY_EVERY: Final = 60.0
"""Seconds between two log lines that say that a listener is full."""
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}
"""Seconds of silence, seconds between questions, and questions without an answer, before a peer is gone (tcp(7))."""

log = structlog.get_logger(__name__)


@runtime_checkable
class Sheddable(Protocol):
    """A protocol whose connection may be closed for another's sake while it is idle."""

    def idle_since(self) -> float | None:
        """Since when, by the event loop's clock, the connection is idle; None while it is not."""
        ...


OnClosed = Callable[[], None]
"""To be called once when a connection is over."""


class TcpListener:
    """Listens on one address and makes a protocol for each connection let in."""

    def __init__(
        self,
        address: tuple[str, int] | socket.socket,
        purpose: str,
        make_protocol: Callable[[OnClosed], asyncio.Protocol],
        *,
        connections: int,
        reuse_port: bool = False,
        descriptors: int = _DESCRIPTORS_PER_CONNECTION,
        share: float = 1.0,
    ) -> None:
        """Take `address` (port 0: any free one; or a socket that listens) for `purpose`, in words. Raises PortTaken.

        `descriptors` is how many open files a connection needs, itself included; `share` is the part of the process's
        limit of open files that all of them may take. When the listener is full, protocols that are `Sheddable` are
        closed for newcomers, those first that have been idle for longest.
        """
        self._make_protocol = make_protocol
        self._purpose = purpose
        self.most = min(connections, _affordable(descriptors, share))
        self._free = asyncio.Semaphore(self.most)
        """Connections that are let in at once."""
        self._inside: set[asyncio.Transport] = set()
        self._said = -_SAY_EVERY
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
                try:
                    connection = await self._next()
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                        self._make_room(str(error.strerror))
                        await asyncio.sleep(_PAUSE)
                    continue
                try:
                    await self._wait_for_room()
                except asyncio.CancelledError:
                    connection.close()
                    raise
                entering = loop.create_task(self._let_in(connection))
                self._entering.add(entering)
                entering.add_done_callback(self._entering.discard)
            await asyncio.sleep(0)

    async def _wait_for_room(self) -> None:
        """Wait until one more connection may come in, closing idle ones for it."""
        while self._free.locked():
            self._make_room("the listener has its share of connections")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._free.acquire(), _IDLE)
                return
        await self._free.acquire()

    def _make_room(self, reason: str) -> None:
        """Close some connections that are idle, the longest first; say so from time to time."""
        now = asyncio.get_running_loop().time()
        idle: list[tuple[float, int, asyncio.Transport]] = []
        for transport in self._inside:
            protocol = transport.get_protocol()
            since = protocol.idle_since() if isinstance(protocol, Sheddable) else None
            if since is not None and now - since >= _IDLE and not transport.is_closing():
                idle.append((since, id(transport), transport))
        shed = sorted(idle)[: max(1, len(self._inside) // _SHED)]
        for _, _, transport in shed:
            transport.close()
        if now - self._said >= _SAY_EVERY:
            self._said = now
            log.warning(
                "listener_full", listener=self._purpose, reason=reason, connections=len(self._inside),
                most=self.most, idle=len(idle), closed=len(shed),
            )  # fmt: skip

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
        inside: list[asyncio.Transport] = []

        def on_closed() -> None:
            self._inside.difference_update(inside)
            self._free.release()

        try:
            transport, _ = await loop.connect_accepted_socket(lambda: self._make_protocol(on_closed), connection)
        except OSError:
            connection.close()
            self._free.release()
        else:
            if not transport.is_closing():
                inside.append(transport)
                self._inside.add(transport)


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
    # And a peer that was switched off must not keep its connection for ever.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if (option := getattr(socket, name, None)) is not None:  # Linux has them all
            listening.setsockopt(socket.IPPROTO_TCP, option, value)
    return listening


def _affordable(descriptors: int, share: float) -> int:
    """Connections that a share of the process's limit of open files allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_FEWEST, int(soft * share) // descriptors)
