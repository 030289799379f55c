"""The HTTP server of the gateway: passes each request to the handler of its step, and turns errors into responses.

Behind nginx, the gateway answers a GET with the location of the bytes, and receives the body of a PUT as a file;
without nginx all bytes pass through Python. Clients see no difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import structlog
from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from tawara.gateway import responses
from tawara.gateway.nginx import NginxFront
from tawara.gateway.nginx_configuration import GatewayStep, HeaderField
from tawara.gateway.put_handlers import AdmitHandler, StoreHandler, UnreceivedHandler
from tawara.gateway.requests import RequestParser
from tawara.gateway.serve_handler import ServeHandler
from tawara.http1.connections import SERVER, BoundedConnection, HttpServer, plain, send_response
from tawara.listening import OnClosed
from tawara.model.errors import TawaraError
from tawara.model.limits import Limits
from tawara.store.writer import FileWriter

log = structlog.get_logger(__name__)

_NGINX_IDLE: Final = 3600.0
"""Seconds that a connection from nginx may be idle. nginx closes it earlier, so no request arrives at a closed one."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def handlers(
    serve: ServeHandler, parser: RequestParser, writer: FileWriter, front: NginxFront | None
) -> Mapping[GatewayStep, Handler]:
    """Return the handler of each step that a request can have."""
    if front is None:  # without nginx the header fields of a step come from a client and are ignored
        return {GatewayStep.DECIDE: partial(serve.handle, by_nginx=False)}
    return {
        GatewayStep.DECIDE: partial(serve.handle, by_nginx=True),
        GatewayStep.STREAM: partial(serve.handle, by_nginx=False),
        GatewayStep.ADMIT: AdmitHandler(parser, writer, front).handle,
        GatewayStep.STORE: StoreHandler(parser, writer, front).handle,
        GatewayStep.UNRECEIVED: UnreceivedHandler(parser, front).handle,
    }


class GatewayHttpServer:
    """Answers HTTP requests for files by domain and key."""

    def __init__(self, handlers: Mapping[GatewayStep, Handler], limits: Limits) -> None:
        """Needs a running event loop."""
        self._handlers, self._limits = handlers, limits
        self._behind_nginx = len(handlers) > 1
        idle = _NGINX_IDLE if self._behind_nginx else limits.header_time
        self._server = HttpServer(self._answer, limits, idle=idle)

    def connection(self, on_closed: OnClosed) -> BoundedConnection:
        """Return a protocol for one new connection, which calls `on_closed` when the connection has ended."""
        return self._server.connection(on_closed)

    async def close(self, grace: float) -> None:
        """Close idle connections now, the others after their response, at most `grace` seconds later."""
        await self._server.close(grace)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; a peer that does not read the response is disconnected."""
        step = GatewayStep.DECIDE
        if self._behind_nginx:
            step = GatewayStep(request.headers.get(HeaderField.STEP, GatewayStep.DECIDE))
        response = await respond(self._handlers[step], request)
        if response.prepared:
            return response
        response.headers.setdefault(hdrs.SERVER, SERVER)
        if step is GatewayStep.ADMIT:
            response = responses.verdict(response)
        return await send_response(request, response, timeout=self._limits.stalled_body)


async def respond(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    """Run a handler; return its response, or the one that its error asks for.

    Raises ConnectionError when the client is to be, or has been, disconnected.
    """
    try:
        return await handler(request)
    except TawaraError as error:
        return responses.refusal(request, error)
    except RequestPayloadError:
        return plain(400, "The body broke off, or is not chunked as it says")
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        log.exception("request_failed", method=request.method)
        return responses.internal_error()
