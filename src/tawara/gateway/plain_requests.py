"""The gateway's handler of plain requests from nginx (see http1.fast_path): the same handlers as the complete server's.

tests/acceptance/test_gateway_http.py runs on both servers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from aiohttp import web

from tawara.background import resume
from tawara.gateway import responses
from tawara.gateway.nginx_protocol import SMALL_BODY, GatewayStep, HeaderField
from tawara.gateway.requests import HttpRequest, PlainHttpRequest
from tawara.http1.fast_path import FastPathConnection
from tawara.http1.reply import Reply
from tawara.instruments import ABORTED, RequestMeter, method_label
from tawara.wire.plain_request import NotPlain, PlainRequest

_STEP: Final = HeaderField.STEP.lower().encode()
_READS: Final = (GatewayStep.DECIDE.encode(), GatewayStep.FILE.encode())
_STREAMS: Final = (GatewayStep.STREAM, GatewayStep.FILE_STREAM, GatewayStep.APPLICATION, GatewayStep.BODY)
_ADMIT: Final = GatewayStep.ADMIT.encode()
_SMALL_PUT: Final = GatewayStep.SMALL_PUT.encode()
_STEP_LABELS: Final = {each.encode(): each.value for each in (GatewayStep.ADMIT, GatewayStep.UNRECEIVED)}
"""Labels of requests that nginx makes before or after a body; all others are counted by their method."""


def label_of(step: GatewayStep, method: str) -> str:
    """Return the label by which a request is counted."""
    return _STEP_LABELS.get(step.encode()) or method_label(method)


class PlainRequests:
    """Answers plain requests by the handler of their step."""

    def __init__(
        self,
        handlers: Mapping[GatewayStep, Callable[[HttpRequest], Coroutine[Any, Any, Reply | web.StreamResponse]]],
        *,
        reads_at_once: bool,
        meter: RequestMeter,
        refuse: Callable[[HttpRequest, Exception], Reply] = responses.refusal,
        judge: Callable[[Reply], Reply] = responses.verdict,
    ) -> None:
        """The steps that stream a body are left to the complete server. `reads_at_once`: see Metadata.

        `refuse` and `judge`: see ErrorForm.
        """
        self._reads_at_once, self._meter, self._refuse, self._judge = reads_at_once, meter, refuse, judge
        self._handlers = {step.encode(): handler for step, handler in handlers.items() if step not in _STREAMS}

    def accept(self, request: PlainRequest) -> PlainRequest:
        """Return `request`. Raises NotPlain for a step that streams, and for a body that nginx does not send."""
        step = request.fields.get(_STEP)
        if step not in self._handlers:
            raise NotPlain
        if request.length > (SMALL_BODY if step == _SMALL_PUT else 0):
            raise NotPlain
        return request

    def handle(self, connection: FastPathConnection, request: PlainRequest, body: bytes) -> None:
        """See http1.fast_path.Handler."""
        replying = self._reply(connection, request, body)
        reads = request.method in ("GET", "HEAD") and request.fields[_STEP] in _READS  # nginx asks ADMIT by a GET
        if not self._reads_at_once or not reads:
            connection.reply_from(request, replying)
            return
        # Most look-ups do not suspend. So they are run without a task, which would cost as much as the look-up.
        try:
            awaited = replying.send(None)
        except StopIteration as stop:
            connection.reply(request, stop.value)
        else:
            connection.reply_from(request, resume(replying, awaited))

    def refusal(self, error: Exception, request: PlainRequest) -> Reply:
        """See http1.fast_path.Handler."""
        return self._refuse(PlainHttpRequest(request, b""), error)

    async def _reply(self, connection: FastPathConnection, request: PlainRequest, body: bytes) -> Reply:
        step = request.fields[_STEP]
        asked = PlainHttpRequest(request, body)
        begun, result = time.perf_counter(), ABORTED
        try:
            reply = await self._handlers[step](asked)
            result = str(reply.status)
        except ConnectionError:  # the client has left
            connection.abort()
            return Reply(500)
        except Exception as error:
            reply = self._refuse(asked, error)
            result = str(reply.status)
        finally:
            label = _STEP_LABELS.get(step) or method_label(request.method)
            self._meter.record(label, result, time.perf_counter() - begun)
        assert isinstance(reply, Reply)
        return self._judge(reply) if step == _ADMIT else reply
