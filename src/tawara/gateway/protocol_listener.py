"""Listens for the clients of one further protocol of the gateway, and answers them by the complete HTTP server."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from tawara.http1.connections import HttpServer
from tawara.instruments import RequestMeter
from tawara.listening import TcpListener, take
from tawara.model.limits import Limits

_GRACE: Final = 1.0
"""Seconds that requests get to finish at a stop; aiohttp may take twice as long."""


class ProtocolListener:
    """Bind it, open it, close it; each once."""

    def __init__(self, listen: tuple[str, int] | socket.socket, purpose: str, limits: Limits) -> None:
        """Listen on a host and port (0: any free one) or on a listening socket; errors name `purpose`."""
        self._listen, self._purpose, self._limits = listen, purpose, limits
        self.meter = RequestMeter()
        self._public: socket.socket | None = None
        self._http: HttpServer | None = None
        self._listener: TcpListener | None = None
        self._address: tuple[str, int] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """The host and port to which it is bound."""
        assert self._address is not None, "not bound"
        return self._address

    def bind(self) -> None:
        """Take the address. Raises PortTaken."""
        self._public = self._listen if isinstance(self._listen, socket.socket) else take(self._listen, self._purpose)
        self._address = self._public.getsockname()[:2]

    def open(self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        """Accept clients; `answer` answers each request. Needs a running event loop."""
        assert self._public is not None, "not bound"
        limits = self._limits
        self._http = HttpServer(answer, limits, idle=limits.header_time, meter=self.meter)
        self._listener = TcpListener(
            self._public,
            self._purpose,
            self._http.connection,
            connections=limits.connections,
            share=limits.open_files_share,
        )
        self._listener.open()

    async def close(self) -> None:
        """Stop listening, wait briefly for requests to finish, abort the rest."""
        if self._listener is not None:
            await self._listener.close()
        elif self._public is not None:
            self._public.close()
        if self._http is not None:
            await self._http.close(_GRACE)
