"""Listens for nginx servers that are not ours, and tells them where the files are that their applications name."""

from __future__ import annotations

from functools import partial
from typing import Final

import structlog
from aiohttp import web

from tawara.gateway.application_files import adapted
from tawara.gateway.get_handler import GetHandler
from tawara.gateway.http_server import GatewayHttpServer
from tawara.gateway.nginx_protocol import GatewayStep, HeaderField
from tawara.gateway.requests import HttpRequest, MethodNotAllowed, RequestParser
from tawara.http1.reply import Reply, text_reply
from tawara.listening import TcpListener, take
from tawara.model.access.grants import Right
from tawara.model.errors import DeniedError, Forbidden, NotFoundError
from tawara.model.limits import Limits
from tawara.wire.http import path_of

log = structlog.get_logger(__name__)

_PURPOSE: Final = "the gateway, for balancers"
_GRACE: Final = 1.0
"""Seconds that requests get to finish at a stop."""


class BalancerFileHandler:
    """Returns the places of a file to a balancer whose access key may read it."""

    def __init__(self, parser: RequestParser, get: GetHandler) -> None:
        """`parser` must not let reads pass without a key: places have addresses and signatures."""
        self._parser, self._get = parser, get

    async def handle(self, request: HttpRequest, *, by_nginx: bool) -> Reply | web.StreamResponse:
        """Answer one request. Raises NotFoundError for a domain that the key may not read, and as GetHandler."""
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed
        target = self._parser.target(request)
        if not target.key:
            raise NotFoundError
        try:
            await self._parser.authorise(request, target, Right.READ)
        except Forbidden:
            raise NotFoundError from None  # the balancer's client has nothing to do with its key
        except DeniedError:
            log.warning("balancer_refused", domain=target.domain)
            return text_reply(503, "The balancer's access key is refused")
        domain = await self._parser.domain(target)
        kept_type = request.headers.get(HeaderField.KEPT_TYPE) or ""
        reply = await self._get.handle(request, domain, target.key, by_nginx=by_nginx, content_type=kept_type)
        return adapted(reply, path_of(domain.name, target.key), kept_type)


class BalancerListener:
    """Answers GatewayStep.FILE and FILE_STREAM, nothing else. Start and stop it once."""

    def __init__(self, listen: tuple[str, int], limits: Limits) -> None:
        self._listen, self._limits = listen, limits
        self._http: GatewayHttpServer | None = None
        self._listener: TcpListener | None = None
        self.address: tuple[str, int] = listen
        """The host and port to which it is bound, once started."""

    def start(self, files: BalancerFileHandler, *, reads_at_once: bool) -> None:
        """Listen. Needs a running event loop. Raises PortTaken."""
        steps = {
            GatewayStep.FILE: partial(files.handle, by_nginx=True),
            GatewayStep.FILE_STREAM: partial(files.handle, by_nginx=False),
        }
        self._http = GatewayHttpServer(
            {**dict.fromkeys(GatewayStep, _refuse), **steps}, self._limits, reads_at_once=reads_at_once
        )
        inner = take(self._listen, _PURPOSE)
        self.address = inner.getsockname()[:2]
        self._listener = TcpListener(
            inner,
            _PURPOSE,
            self._http.connection,
            connections=self._limits.connections,
            share=self._limits.open_files_share,
        )
        self._listener.open()

    async def stop(self) -> None:
        """Stop listening, wait briefly for requests to finish, abort the rest."""
        if self._listener is not None:
            await self._listener.close()
        if self._http is not None:
            await self._http.close(_GRACE / 4)


async def _refuse(request: HttpRequest) -> Reply:
    raise NotFoundError
