"""Serves one further protocol of the gateway: at its own address, or on a socket of its own behind nginx."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from tawara.gateway.fid_cache import FidCache
from tawara.gateway.http_server import ErrorForm, GatewayHttpServer, Handler
from tawara.gateway.nginx import NginxFront
from tawara.gateway.nginx_parameters import NginxFeatures
from tawara.gateway.nginx_protocol import GatewayStep
from tawara.gateway.nginx_routes import ListenerProtocol
from tawara.instruments import RequestMeter
from tawara.listening import TcpListener, take
from tawara.model.limits import Limits
from tawara.store.local_devices import LocalDevices

_GRACE: Final = 1.0
"""Seconds that requests get to finish at a stop; aiohttp may take twice as long."""


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """What all protocols of a gateway process share."""

    front: NginxFront | None = None
    """The nginx in front of them."""
    process: int = 0
    """Number of this process, if there are several behind one nginx."""
    local: LocalDevices | None = None
    """Devices of this machine, which are read by nginx and written directly."""
    tls: ssl.SSLContext | None = None
    """With which clients are served without nginx; None: no TLS."""
    cache: FidCache | None = None
    """Chooses the files that nginx sends through its cache."""
    fast_path: bool = True
    """Whether plain requests from nginx are answered without the complete HTTP server."""

    @property
    def features(self) -> NginxFeatures:
        """What nginx can do."""
        return NginxFeatures() if self.front is None else self.front.features


class FurtherProtocol(Protocol):
    """A protocol that a gateway serves beside plain HTTP."""

    @property
    def protocol(self) -> ListenerProtocol:
        """Which one it is."""
        ...

    def bind(self) -> socket.socket:
        """Take its address; return the listening socket. Raises PortTaken."""
        ...

    async def open(self, parts: GatewayParts) -> None:
        """Answer the requests of nginx, or of clients without nginx."""
        ...

    async def stop(self) -> None:
        """Stop listening, wait briefly for requests to finish, abort the rest."""
        ...


class ProtocolListener:
    """Bind it, open it, close it; each once."""

    def __init__(
        self,
        protocol: ListenerProtocol,
        listen: tuple[str, int] | socket.socket,
        purpose: str,
        limits: Limits,
        errors: ErrorForm,
    ) -> None:
        """Listen on a host and port (0: any free one) or on a listening socket; errors name `purpose`."""
        self.protocol = protocol
        self._listen, self._purpose, self._limits, self._errors = listen, purpose, limits, errors
        self.meter = RequestMeter()
        self._public: socket.socket | None = None
        self._behind_nginx = False
        self._http: GatewayHttpServer | None = None
        self._listener: TcpListener | None = None
        self._address: tuple[str, int] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """The host and port to which it is bound."""
        assert self._address is not None, "not bound"
        return self._address

    def bind(self) -> socket.socket:
        """Take the address; return the listening socket. Raises PortTaken."""
        self._public = self._listen if isinstance(self._listen, socket.socket) else take(self._listen, self._purpose)
        self._address = self._public.getsockname()[:2]
        return self._public

    async def open(
        self, handlers: Mapping[GatewayStep, Handler], parts: GatewayParts, *, reads_at_once: bool = False
    ) -> None:
        """Accept clients, or nginx's connections if it is in front; see GatewayHttpServer."""
        limits = self._limits
        self._behind_nginx = parts.front is not None
        self._http = GatewayHttpServer(
            handlers,
            limits,
            reads_at_once=reads_at_once,
            fast_path=parts.fast_path,
            errors=self._errors,
            meter=self.meter,
        )
        if parts.front is None:
            assert self._public is not None, "not bound"
            inner = self._public
        else:
            inner = await asyncio.to_thread(parts.front.open_socket, parts.process, self.protocol)
        self._listener = TcpListener(
            inner,
            self._purpose,
            self._http.connection,
            connections=limits.connections,
            share=limits.open_files_share,
            tls=parts.tls,
        )
        self._listener.open()

    async def close(self) -> None:
        """Stop listening, wait briefly for requests to finish, abort the rest."""
        if self._public is not None:
            self._public.close()
        if self._listener is not None:
            await self._listener.close()
        if self._http is not None:
            await self._http.close(_GRACE / 4 if self._behind_nginx else _GRACE)
        if self._listener is not None:
            await self._listener.abort_connections()
