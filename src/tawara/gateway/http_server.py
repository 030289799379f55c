"""The HTTP server of the gateway: passes each request to the handler of its step, and turns errors into responses.

Behind nginx, the gateway answers a GET with the location of the bytes, and receives the body of a PUT as a file;
without nginx all bytes pass through Python. Clients see no difference.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import structlog
from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from tawara.gateway import responses
from tawara.gateway.application_files import ApplicationFileHandler
from tawara.gateway.nginx import NginxFront
from tawara.gateway.nginx_protocol import GatewayStep, HeaderField
from tawara.gateway.plain_requests import PlainRequests, label_of
from tawara.gateway.put_handlers import AdmitHandler, SmallPutHandler, StoreHandler, UnreceivedHandler
from tawara.gateway.reproxy_applications import ReproxyHandler
from tawara.gateway.requests import HttpRequest, RequestParser
from tawara.gateway.serve_handler import ServeHandler
from tawara.http1.connections import SERVER, HttpServer, send_response
from tawara.http1.fast_path import FastPath
from tawara.http1.reply import Reply, text_reply
from tawara.instruments import ABORTED, RequestMeter
from tawara.listening import OnClosed
from tawara.model.limits import Limits
from tawara.store.writer import FileWriter
from tawara.wire.plain_request import GATEWAY

log = structlog.get_logger(__name__)

_NGINX_IDLE: Final = 3600.0
"""Seconds that a connection from nginx may be idle. nginx closes it earlier, so no request arrives at a closed one."""

_STEPS: Final = {str(step): step for step in GatewayStep}

RequestT = TypeVar("RequestT", bound=HttpRequest)
Handler = Callable[[HttpRequest], Coroutine[Any, Any, Reply | web.StreamResponse]]


class ErrorForm(NamedTuple):
    """The form of a protocol's error replies."""

    refusal: Callable[[HttpRequest, Exception], Reply]
    """Makes the reply to a failed request."""
    verdict: Callable[[Reply], Reply]
    """Makes of the reply to GatewayStep.ADMIT the one for nginx's auth_request."""


_PLAIN_TEXT: Final = ErrorForm(responses.refusal, responses.verdict)


def handlers(
    serve: ServeHandler,
    parser: RequestParser,
    writer: FileWriter,
    front: NginxFront | None,
    limits: Limits,
    files: ApplicationFileHandler | None = None,
    reproxy: ReproxyHandler | None = None,
) -> Mapping[GatewayStep, Handler]:
    """Return the handler of each step that a request can have; `files`: for the files that applications name;
    `reproxy`: for applications that answer with X-Reproxy-URL.
    """
    if front is None:  # without nginx the header fields of a step come from a client and are ignored
        return {GatewayStep.DECIDE: partial(serve.handle, by_nginx=False)}
    further: dict[GatewayStep, Handler] = {}
    if files is not None:
        further[GatewayStep.FILE] = partial(files.handle, by_nginx=True)
        further[GatewayStep.FILE_STREAM] = partial(files.handle, by_nginx=False)
    if reproxy is not None:
        further[GatewayStep.APPLICATION] = reproxy.handle
    return further | {
        GatewayStep.DECIDE: partial(serve.handle, by_nginx=True),
        GatewayStep.STREAM: partial(serve.handle, by_nginx=False),
        **put_handlers(parser, writer, front, limits),
    }


def put_handlers(
    parser: RequestParser, writer: FileWriter, front: NginxFront, limits: Limits
) -> Mapping[GatewayStep, Callable[[HttpRequest], Coroutine[Any, Any, Reply]]]:
    """Return the handler of each step of a PUT behind nginx."""
    admit = AdmitHandler(parser, writer, front)
    return {
        GatewayStep.ADMIT: admit.handle,
        GatewayStep.STORE: StoreHandler(parser, writer, front).handle,
        GatewayStep.SMALL_PUT: SmallPutHandler(parser, writer, limits).handle,
        GatewayStep.UNRECEIVED: UnreceivedHandler(admit).handle,
    }


class GatewayHttpServer:
    """Answers HTTP requests for files: behind nginx the plain ones on the fast path, all others completely."""

    def __init__(
        self,
        handlers: Mapping[GatewayStep, Handler],
        limits: Limits,
        *,
        reads_at_once: bool = False,
        fast_path: bool = True,
        errors: ErrorForm = _PLAIN_TEXT,
        meter: RequestMeter | None = None,
    ) -> None:
        """Needs a running event loop. `reads_at_once`: see Metadata. Without `fast_path` the complete server answers
        every request.
        """
        self._handlers, self._limits, self._errors = handlers, limits, errors
        self.meter = meter or RequestMeter()
        self._behind_nginx = len(handlers) > 1
        idle = _NGINX_IDLE if self._behind_nginx else limits.header_time
        self._server = HttpServer(self._answer, limits, idle=idle)
        self._fast_path: FastPath | None = None
        if fast_path and self._behind_nginx:
            plain = PlainRequests(
                handlers,
                reads_at_once=reads_at_once,
                meter=self.meter,
                refuse=errors.refusal,
                judge=errors.verdict,
            )
            self._fast_path = FastPath(
                plain, limits, self._server.connection, form=GATEWAY, idle=idle, names_server=False
            )

    def connection(self, on_closed: OnClosed) -> asyncio.Protocol:
        """Return a protocol for one new connection, which calls `on_closed` when the connection has ended."""
        return (self._fast_path or self._server).connection(on_closed)

    async def close(self, grace: float) -> None:
        """Close idle connections now, the others after their response, at most `grace` seconds later."""
        if self._fast_path is not None:
            await asyncio.gather(self._fast_path.close(grace), self._server.close(grace))
        else:
            await self._server.close(grace)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; a peer that does not read the response is disconnected."""
        step = GatewayStep.DECIDE
        if self._behind_nginx:
            step = _STEPS.get(request.headers.get(HeaderField.STEP, ""), GatewayStep.DECIDE)
        begun, result = time.perf_counter(), ABORTED
        try:
            reply = await respond(self._handlers[step], request, refusal=self._errors.refusal)
            result = str(reply.status)
        finally:
            self.meter.record(label_of(step, request.method), result, time.perf_counter() - begun)
        if isinstance(reply, web.StreamResponse):
            return reply
        if step is GatewayStep.ADMIT:
            reply = self._errors.verdict(reply)
        response = to_response(reply)
        if self._fast_path is not None:
            response.force_close()  # so that nginx's next request begins on the fast path again
        return await send_response(request, response, timeout=self._limits.stalled_body)


def to_response(reply: Reply) -> web.Response:
    """Return a reply as aiohttp sends it."""
    fields = {hdrs.SERVER: SERVER, **reply.fields}
    if reply.part is not None:
        fields[hdrs.CONTENT_LENGTH] = str(reply.part.length)
        return web.Response(status=reply.status, headers=fields)
    return web.Response(status=reply.status, headers=fields, body=reply.body)


async def respond(
    handler: Callable[[RequestT], Coroutine[Any, Any, Reply | web.StreamResponse]],
    request: RequestT,
    *,
    refusal: Callable[[RequestT, Exception], Reply] = responses.refusal,
) -> Reply | web.StreamResponse:
    """Run a handler; return its reply, or `refusal` of its error; a response that it has sent already.

    Raises ConnectionError when the client is to be, or has been, disconnected.
    """
    try:
        return await handler(request)
    except RequestPayloadError:
        return text_reply(400, "The body broke off, or is not chunked as it says")
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception as error:
        return refusal(request, error)
