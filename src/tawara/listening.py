"""TCP listener with a connection limit; further connections stay in the accept backlog."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
import ssl
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

import structlog

from tawara.background import Background
from tawara.model.errors import PortTaken

_BACKLOG: Final = 1024
_AT_ONCE: Final = 64
"""Connections accepted in a row before the event loop runs other callbacks."""
_DESCRIPTORS_PER_CONNECTION: Final = 4
"""The connection, its second descriptor for sendfile, the file, its directory."""
_FEWEST: Final = 8
"""Least connection limit of a listener."""
_HANDSHAKE: Final = 10.0
"""Seconds for the handshake of TLS."""
_TURNS: Final = 10
"""Most turns of the event loop to wait for the end of aborted connections."""
_PAUSE: Final = 0.1
"""Seconds to wait when the process is out of file descriptors."""
_IDLE: Final = 1.0
"""Seconds without a request after which a connection may be closed in favour of a new one."""
_SHED: Final = 32
"""One in so many connections is closed at a time, so that the search for idle ones is rare."""
_LOG_PERIOD: Final = 60.0
"""Seconds between two listener_full events."""
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}
"""Idle seconds before the first probe, seconds between probes, unanswered probes before the peer is gone (tcp(7))."""

log = structlog.get_logger(__name__)


@runtime_checkable
class Sheddable(Protocol):
    """A protocol whose connection may be closed while it is idle."""

    def idle_since(self) -> float | None:
        """Return the loop time since which the connection is idle; None while it is busy."""
        ...


_FIRST_REQUEST: Final = 1.0
"""Seconds that an accepted connection gets for its first request when its server stops."""
_LOOK: Final = 0.02
"""Seconds between two looks for such connections."""
OnClosed = Callable[[], None]
"""Called once when a connection is closed."""


class TcpListener:
    """Listens on one address and makes a protocol for each accepted connection."""

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
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Listen on `address` (port 0: any free one; or a listening socket); errors name `purpose`. Raises PortTaken.

        `descriptors` is how many open files a connection needs, itself included; `share` is the part of the process's
        limit of open files that all connections may use. When the listener is full, idle `Sheddable` connections are
        closed in favour of new ones, the longest idle first. With `tls`, connections speak TLS.
        """
        self._make_protocol, self._tls = make_protocol, tls
        self._name = purpose
        self.most = min(connections, _affordable(descriptors, share))
        self._free = asyncio.Semaphore(self.most)
        """Free places below the connection limit."""
        self._connected: set[asyncio.Transport] = set()
        self._logged_at = -_LOG_PERIOD
        self._accepting = Background("listener")
        self._starting: set[asyncio.Task[None]] = set()
        self._socket = address if isinstance(address, socket.socket) else take(address, purpose, reuse_port=reuse_port)
        self._socket.setblocking(False)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the socket."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def open(self) -> None:
        """Start to accept connections."""
        self._accepting.start(self._accept())

    async def close(self) -> None:
        """Release the port. Existing connections stay open."""
        await self._accepting.stop()
        if self._starting:
            await asyncio.wait(self._starting)
        self._socket.close()

    async def abort_connections(self) -> None:
        """End the connections that are left at once, such as those whose peer does not answer the end of TLS."""
        for transport in list(self._connected):
            transport.abort()
        for _ in range(_TURNS):  # their sockets are closed some turns of the loop later
            if self._connected:
                await asyncio.sleep(0)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(_AT_ONCE):
                try:
                    connection = await self._next()
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                        self._close_idle(str(error.strerror))
                        await asyncio.sleep(_PAUSE)
                    continue
                try:
                    await self._wait_for_slot()
                except asyncio.CancelledError:
                    connection.close()
                    raise
                starting = loop.create_task(self._start(connection))
                self._starting.add(starting)
                starting.add_done_callback(self._starting.discard)
            await asyncio.sleep(0)

    async def _wait_for_slot(self) -> None:
        """Wait until the limit allows one more connection; close idle ones."""
        while self._free.locked():
            self._close_idle("the connection limit is reached")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._free.acquire(), _IDLE)
                return
        await self._free.acquire()

    def _close_idle(self, reason: str) -> None:
        """Close some idle connections, the longest idle first; log it from time to time."""
        now = asyncio.get_running_loop().time()
        idle: list[tuple[float, int, asyncio.Transport]] = []
        for transport in self._connected:
            protocol = transport.get_protocol()
            since = protocol.idle_since() if isinstance(protocol, Sheddable) else None
            if since is not None and now - since >= _IDLE and not transport.is_closing():
                idle.append((since, id(transport), transport))
        shed = sorted(idle)[: max(1, len(self._connected) // _SHED)]
        for _, _, transport in shed:
            transport.close()
        if now - self._logged_at >= _LOG_PERIOD:
            self._logged_at = now
            log.warning(
                "listener_full", listener=self._name, reason=reason, connections=len(self._connected),
                most=self.most, idle=len(idle), closed=len(shed),
            )  # fmt: skip

    async def _next(self) -> socket.socket:
        """Accept the next connection, at once if one is in the backlog.

        asyncio accepts one per loop iteration; these are long under load, and new connections would starve. And when
        its `sock_accept` is cancelled, a connection that it has accepted is lost.
        """
        while True:
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                await self._wait_for_connection()
            else:
                connection.setblocking(False)
                return connection

    async def _wait_for_connection(self) -> None:
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(self._socket, _set, readable)
        try:
            await readable
        finally:
            loop.remove_reader(self._socket)

    async def _start(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        inside: list[asyncio.Transport] = []

        def on_closed() -> None:
            self._connected.difference_update(inside)
            self._free.release()

        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: self._make_protocol(on_closed),
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else _HANDSHAKE,
            )
        except OSError:
            connection.close()
            self._free.release()
        else:
            if not transport.is_closing():
                inside.append(transport)
                self._connected.add(transport)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def wait_for_first_requests(is_any_new: Callable[[], bool], seconds: float = _FIRST_REQUEST) -> None:
    """Wait, a second or `seconds` at most, while there are connections without a request. Call it when a server stops.

    A client whose connection was accepted just now will send a request, which must not be lost.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + min(seconds, _FIRST_REQUEST)
    while loop.time() < end and is_any_new():  # noqa: ASYNC110 - an event would cost each request something
        await asyncio.sleep(_LOOK)


def take(address: tuple[str, int], purpose: str, *, reuse_port: bool = False) -> socket.socket:
    """Make a socket that listens on `address` (port 0: any free one); errors name `purpose`. Raises PortTaken."""
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
    # Inherited by connections: small replies to pipelined requests must not wait for acknowledgements.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A peer that was switched off must not keep its connection for ever.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if (option := getattr(socket, name, None)) is not None:  # Linux has them all
            listening.setsockopt(socket.IPPROTO_TCP, option, value)
    return listening


def _affordable(descriptors: int, share: float) -> int:
    """Return the connections that `share` of the process's limit of open files allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_FEWEST, int(soft * share) // descriptors)
