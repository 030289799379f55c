"""Server connections that answer plain requests at little cost and hand all others to the complete HTTP server.

Each connection begins here. A request is plain if `wire/plain_request` parses it and the `Handler` accepts it. The
first other request on a connection (chunked, with Expect, large, malformed) goes to the complete server, together with
the connection, which stays there. This module does framing, pipelining, timeouts, half-closed connections and the
hand-over; the `Handler` answers.

A connection works on one request at a time. It buffers at most `_READ_AHEAD` bytes of further requests.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeAlias, cast

import structlog

from tawara.http1.connections import SERVER
from tawara.http1.reply import Reply
from tawara.instruments import ABORTED, RequestMeter, method_label
from tawara.listening import OnClosed, wait_for_first_requests
from tawara.model.errors import TawaraError
from tawara.model.limits import Limits
from tawara.model.node_errors import Stalled
from tawara.wire import plain_request
from tawara.wire.http import http_date
from tawara.wire.plain_request import NotPlain, PlainRequest

log = structlog.get_logger(__name__)

_READ_AHEAD: Final = 128 * 1024
"""Bytes of further requests that a connection buffers before it pauses reading."""


SendBody: TypeAlias = Callable[[asyncio.Transport], Coroutine[Any, Any, None]]
"""Sends the body of a reply to a transport. Raises ConnectionError, OSError (TimeoutError included), TawaraError."""


class Handler(Protocol):
    """Answers plain requests."""

    def accept(self, request: PlainRequest) -> PlainRequest:
        """Return `request` as it is to be handled, e.g. with a canonical target.

        Raises NotPlain or a TawaraError for a request that the complete server must answer.
        """
        ...

    def handle(self, connection: FastPathConnection, request: PlainRequest, body: bytes) -> None:
        """Start to answer: call `reply`, `reply_from` or `reply_streaming` of `connection` once, now or later.

        What it raises is replied by `refusal`.
        """
        ...

    def refusal(self, error: Exception, request: PlainRequest) -> Reply:
        """Return the reply to a request that failed with `error`."""
        ...


class FastPath:
    """The connections of one listener that answer plain requests, and their shared handler."""

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        complete_server: Callable[[OnClosed], asyncio.Protocol],
        *,
        form: re.Pattern[bytes] = plain_request.NODE,
        idle: float | None = None,
        meter: RequestMeter | None = None,
        names_server: bool = True,
    ) -> None:
        """`complete_server` makes the protocol that takes over a connection. `form`: that of plain requests.

        `idle`: seconds that a connection may wait for its next request; None: `limits.header_time`. `meter` counts the
        requests. `names_server`: whether replies have Server and Date; nginx replaces both by its own.
        """
        self.meter = meter
        self.names_server = names_server
        self.draining = False
        """Whether each connection is closed after its next reply."""
        self.handler, self.limits, self.complete_server, self.form = handler, limits, complete_server, form
        self.idle = limits.header_time if idle is None else idle
        self.connections: set[FastPathConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._emptied: asyncio.Event | None = None

    def connection(self, on_closed: OnClosed) -> FastPathConnection:
        """Make the protocol of a new connection. It calls `on_closed` when the connection is closed."""
        return FastPathConnection(self, on_closed)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in a task of its own."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def remove(self, connection: FastPathConnection) -> None:
        """Forget a connection that is closed or handed over."""
        self.connections.discard(connection)
        if self._emptied is not None and not self.connections:
            self._emptied.set()

    async def close(self, grace: float) -> None:
        """Close idle connections now and the others after their reply; abort those left after `grace` seconds.

        Connections that were accepted just now get some of that time for their first request.
        """
        self.draining = True
        await wait_for_first_requests(lambda: any(each.is_new for each in self.connections), grace)
        for connection in list(self.connections):
            connection.finish()
        if self.connections:
            self._emptied = asyncio.Event()
            try:
                await asyncio.wait_for(self._emptied.wait(), grace)
            except TimeoutError:
                for connection in list(self.connections):
                    connection.abort()


class FastPathConnection(asyncio.Protocol):
    """One connection, until it is closed or handed to the complete server."""

    __slots__ = (
        "_begun",
        "_body",
        "_busy",
        "_ended",
        "_fast_path",
        "_handling",
        "_last",
        "_missing",
        "_on_closed",
        "_reading",
        "_request",
        "_rest",
        "_since",
        "_status",
        "_timer",
        "_transport",
        "_unsent",
        "_writing",
    )  # fmt: skip

    def __init__(self, fast_path: FastPath, on_closed: OnClosed) -> None:
        self._fast_path, self._on_closed = fast_path, on_closed
        self._transport: asyncio.Transport | None = None
        """None before the connection is made and after it is closed or handed over."""
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0
        """Loop time of the last progress of what the connection waits for."""
        self._rest = b""
        """Bytes received and not parsed yet, or an incomplete head."""
        self._request: PlainRequest | None = None
        """The request whose body is incomplete."""
        self._body: list[bytes] = []
        self._missing = 0
        """Bytes of the body that are still to come."""
        self._busy = False
        """Whether a request is being handled."""
        self._handling = False
        """Whether `Handler.handle` is on the stack."""
        self._reading = self._writing = True
        """Whether the transport reads, and whether it accepts more to write."""
        self._unsent = 0
        """Bytes in the write buffer at the last look."""
        self._last = False
        """Whether the connection is closed after the current reply."""
        self._ended = False
        """Whether the peer has closed its sending half."""
        self._begun = 0.0
        """When the current request was handled (`time.perf_counter`)."""
        self._status = 0
        """Status of the current reply."""

    # --- callbacks of the transport -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._fast_path.connections.add(self)
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        limits = self._fast_path.limits
        self._timer = loop.call_later(min(limits.header_time, limits.stalled_body), self._check_timeouts)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol. A request that is being handled is completed nevertheless."""
        self._detach()
        self._on_closed()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._request is not None:
            self._body.append(data)
            self._missing -= len(data)
            self._since = asyncio.get_running_loop().time()
            if self._missing <= 0:
                self._complete(self._request, b"".join(self._body))
            return
        if self._busy or not self._writing:
            self._rest += data
            if len(self._rest) > _READ_AHEAD and self._reading and self._transport is not None:
                self._reading = False
                self._transport.pause_reading()
            return
        if not self._rest:
            self._since = asyncio.get_running_loop().time()
        self._parse_next(self._rest + data if self._rest else data)

    def idle_since(self) -> float | None:
        """See listening.Sheddable."""
        return self._since if self._transport is not None and self._is_idle else None

    @property
    def _is_idle(self) -> bool:
        return not self._busy and self._request is None and not self._rest and self._writing

    def eof_received(self) -> bool:
        """See asyncio.Protocol. A peer that has closed its sending half still receives all replies."""
        self._ended = True
        return self._busy or (bool(self._rest) and not self._writing)

    def pause_writing(self) -> None:
        """See asyncio.Protocol: the peer does not read the replies."""
        self._writing = False
        self._since = asyncio.get_running_loop().time()
        if self._transport is not None:
            self._unsent = self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writing = True
        self._since = asyncio.get_running_loop().time()
        if not self._busy:
            self._parse_next(b"")

    # --- requests -----------------------------------------------------------------------------------------------------

    def _parse_next(self, data: bytes) -> None:
        """Start the next request: from `data`, or from the buffered bytes if `data` is empty."""
        if not data:
            data, self._rest = self._rest, b""
            if self._transport is not None and not self._reading:
                self._reading = True
                self._transport.resume_reading()
        if self._transport is None or self._transport.is_closing():
            return
        if not data:
            if self._ended:
                self._transport.close()
            return
        self._rest = b""
        try:
            parsed = plain_request.parse(data, self._fast_path.limits.header, self._fast_path.form)
            if parsed is None:
                self._rest = data
                if self._ended:
                    self._transport.close()
                return
            request, end = parsed
            request = self._fast_path.handler.accept(request)
        except (NotPlain, TawaraError):
            self._hand_over(data)
            return
        self._missing = request.length - (len(data) - end)
        if not request.length:
            self._rest = data[end:]
            self._handle(request, b"")
        elif self._missing <= 0:
            self._complete(request, data[end:])
        else:
            self._request, self._body = request, [data[end:]]
            if self._ended:
                self._transport.close()

    def _complete(self, request: PlainRequest, data: bytes) -> None:
        """Handle a request whose body is complete in `data`, perhaps followed by further requests."""
        self._request, self._body = None, []
        if len(data) > request.length:
            self._rest, data = data[request.length :], data[: request.length]
        self._handle(request, data)

    def _handle(self, request: PlainRequest, body: bytes) -> None:
        self._busy = self._handling = True
        self._begun = time.perf_counter()
        try:
            self._fast_path.handler.handle(self, request, body)
        except Exception as error:
            self.refuse(request, error)
        finally:
            self._handling = False

    def _hand_over(self, data: bytes) -> None:
        """Give the connection to the complete server, from the request that `data` begins with."""
        transport = self._transport
        assert transport is not None
        self._detach()
        protocol = self._fast_path.complete_server(self._on_closed)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)
        if self._ended and not protocol.eof_received():
            transport.close()

    def _detach(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transport, self._rest, self._request, self._body = None, b"", None, []
        self._fast_path.remove(self)

    # --- replies ------------------------------------------------------------------------------------------------------

    def reply(self, request: PlainRequest, reply: Reply) -> None:
        """Send `reply`; nothing if the connection is closed."""
        if self._handling:  # not from within handle(), or a flood of pipelined requests would be answered recursively
            asyncio.get_running_loop().call_soon(self._write_reply, request, reply)
        else:
            self._write_reply(request, reply)

    def refuse(self, request: PlainRequest, error: Exception) -> None:
        """Send the handler's reply to `error`."""
        self.reply(request, self._fast_path.handler.refusal(error, request))

    def reply_from(self, request: PlainRequest, work: Coroutine[Any, Any, Reply]) -> None:
        """Run `work` in a task and send the reply that it returns, or the handler's reply to its exception."""

        async def run() -> None:
            try:
                reply = await work
            except Exception as error:
                self.refuse(request, error)
            else:
                self.reply(request, reply)

        self._fast_path.run(run())

    def reply_streaming(self, request: PlainRequest, reply: Reply, send: SendBody, close: Callable[[], object]) -> None:
        """Send the head of `reply`, then the body by `send`. `close` is called at the end in any case.

        An error of `send` aborts the connection: the head is already sent, so the status cannot report it.
        """
        transport = self._transport
        if transport is None:
            close()
            return
        transport.write(self._head(request, reply))
        self._fast_path.run(self._stream(request, transport, send, close))

    async def _stream(
        self, request: PlainRequest, transport: asyncio.Transport, send: SendBody, close: Callable[[], object]
    ) -> None:
        try:
            await send(transport)
        except ConnectionError:
            self._record(request, ABORTED)
            transport.abort()
        except (OSError, TawaraError) as error:  # a TimeoutError, which is an OSError, means: the peer does not read
            self._record(request, ABORTED)
            reason = str(error) if isinstance(error, TawaraError) else error.strerror or "the peer does not read"
            log.warning("transfer_aborted", path=request.target, reason=reason)
            transport.abort()
        else:
            self._finish_reply(request)
        finally:
            close()

    def _write_reply(self, request: PlainRequest, reply: Reply) -> None:
        if self._transport is None:
            return
        head = self._head(request, reply)
        self._transport.write(head + reply.body if reply.body and request.method != "HEAD" else head)
        self._finish_reply(request)

    def _record(self, request: PlainRequest, result: str) -> None:
        meter = self._fast_path.meter
        if meter is not None:
            meter.record(method_label(request.method), result, time.perf_counter() - self._begun)

    def _head(self, request: PlainRequest, reply: Reply) -> bytes:
        self._status = reply.status
        self._last = self._last or self._fast_path.draining
        length = reply.part.length if reply.part else len(reply.body)
        fields = dict(reply.fields)
        if self._fast_path.names_server:
            fields |= {"Server": SERVER, "Date": http_date(int(time.time()))}
        if reply.status not in (204, 304):
            fields["Content-Length"] = str(length)
        return plain_request.head(request, reply.status, fields.items(), keep=request.keep and not self._last)

    def _finish_reply(self, request: PlainRequest) -> None:
        """Go on after a complete reply: close the connection, or parse the next buffered request."""
        self._busy = False
        self._record(request, str(self._status))
        if self._transport is None:
            return
        self._since = asyncio.get_running_loop().time()
        if self._last or not request.keep:
            self._transport.close()
        elif self._writing and (self._rest or self._ended):
            self._parse_next(b"")

    # --- timeouts and the end -----------------------------------------------------------------------------------------

    def _check_timeouts(self) -> None:
        """Close the connection if what it waits for has made no progress for too long.

        One timer serves all limits: it fires after the shortest of them, and again for the rest of a longer one.
        """
        if self._transport is None:
            return
        loop, limits = asyncio.get_running_loop(), self._fast_path.limits
        shortest = min(limits.header_time, limits.stalled_body)
        if not self._writing:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._unsent, self._since = unsent, loop.time()
        stalled = self._request is not None or not self._writing
        waits = self._fast_path.idle if not self._rest else limits.header_time
        left = self._since + (limits.stalled_body if stalled else waits) - loop.time()
        if self._busy and self._writing:
            left = shortest
        if left > 0:
            self._timer = loop.call_later(min(left, shortest), self._check_timeouts)
        elif self._request is not None:
            self._last = True
            self.refuse(self._request, Stalled())
        elif self._writing:
            self._transport.close()
        else:
            self._transport.abort()

    @property
    def is_new(self) -> bool:
        """Whether no request has arrived yet."""
        return not self._begun and self._transport is not None

    def finish(self) -> None:
        """Close the connection after the current reply, or at once if there is none."""
        self._last = True
        if not self._busy and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()
