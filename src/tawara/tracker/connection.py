"""One connection of the line server: parses requests, answers them in order, and bounds what is buffered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

import structlog

from tawara.background import resume
from tawara.instruments import OTHER
from tawara.listening import OnClosed
from tawara.model import errors
from tawara.tracker.context import TrackerContext, TrackerRequest, Verb
from tawara.tracker.request_log import OK
from tawara.tracker.verbs import QUICK, THOROUGH, WRITING
from tawara.wire.line import Args, LineBuffer, Request, is_request_line, may_begin, ok, parse_request, refusal

if TYPE_CHECKING:
    from tawara.tracker.server import TrackerServer

log = structlog.get_logger(__name__)

_BURST = 16
"""Requests of one connection that are answered before the other connections are served."""
_ANSWERS = 64 * 1024
"""Bytes of answers that are collected before they are written to the transport."""
_LINGER_SECONDS = 2.0
"""Seconds for which input of a refused peer is dropped, so that it can read the refusal."""


class Connection(asyncio.Protocol):
    """The line protocol with one peer. One request is processed at a time; the others are queued, up to a limit."""

    __slots__ = (
        "_active",
        "_arrived",
        "_begun",
        "_busy",
        "_eof",
        "_leaving",
        "_lines",
        "_next",
        "_on_closed",
        "_reading",
        "_scheduled",
        "_server",
        "_transport",
        "_unread",
        "_waiting",
        "_waiting_bytes",
        "_writing",
        "client_ip",
    )

    def __init__(self, server: TrackerServer, on_closed: OnClosed) -> None:
        """`on_closed` is called when the connection has ended."""
        self._server = server
        self._on_closed = on_closed
        self._lines = LineBuffer(server.limits.line)
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._next = 0
        """Index in `_waiting` of the first request that was not begun."""
        self._waiting_bytes = 0
        self._arrived = 0.0
        """When the first of the waiting requests arrived (`time.perf_counter`)."""
        self._busy = False
        """Whether a request is running as a task."""
        self._scheduled = False
        """Whether the event loop will call `_serve`."""
        self._reading = True
        self._writing = True
        """Whether the transport accepts data, since the peer reads what is sent."""
        self._unread: asyncio.TimerHandle | None = None
        self._active = 0.0
        """Time of the last data from the peer or answer to it, by the event loop's clock."""
        self._begun = False
        """Whether the peer has sent a first line of this protocol."""
        self._eof = False
        self._leaving = False
        """Whether the connection is closing, so that no further request is answered."""
        self.client_ip: str | None = None

    # --- callbacks of the transport -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.client_ip = str(peer[0]).removeprefix("::ffff:")
        self._active = asyncio.get_running_loop().time()
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol. A running request is finished nevertheless."""
        self._transport = None
        self._leaving = True
        self._waiting.clear()
        self._next = self._waiting_bytes = 0
        if self._unread is not None:
            self._unread.cancel()
        self._server.closed(self)
        self._on_closed()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._leaving:
            return
        self._active = asyncio.get_running_loop().time()
        if not self._begun and not self._is_a_client(data):
            return
        lines = [line for line in self._lines.feed(data) if line]
        if lines:
            if not self._waiting:
                self._arrived = time.perf_counter()
            self._waiting += lines
            self._waiting_bytes += len(data)
        if not self._scheduled and not self._busy:
            self._serve()
        self._pause_or_resume_reading()

    def _is_a_client(self, data: bytes) -> bool:
        """Check the first line of a connection once it is complete; disconnect a peer of another protocol."""
        data = self._lines.partial + data
        if may_begin(data):
            self._begun = b"\n" in data.lstrip(b"\r\n")
            return True
        self._refuse_other_protocol(data)
        return False

    def _refuse_other_protocol(self, data: bytes) -> None:
        """Disconnect a peer that uses another protocol, such as HTTP, and discard its input."""
        log.info("other_protocol_refused", peer=self.client_ip, received=data[:40].decode("ascii", "replace"))
        self._leaving = True
        self._waiting.clear()
        self._next = self._waiting_bytes = 0
        self.abort()

    def eof_received(self) -> bool:
        """See asyncio.Protocol. Return whether to keep the connection, until all requests are answered."""
        self._eof = True
        return not self._leaving and (self._busy or self._scheduled or self._next < len(self._waiting))

    def pause_writing(self) -> None:
        """See asyncio.Protocol: the peer does not read its answers."""
        self._writing = False
        assert self._transport is not None
        self._watch_unread(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writing = True
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        self._schedule()

    def _watch_unread(self, unread: int) -> None:
        loop, seconds = asyncio.get_running_loop(), self._server.limits.unread_answer
        self._unread = loop.call_later(seconds, self._abort_if_unread, unread)

    def _abort_if_unread(self, unread: int) -> None:
        if self._transport is None:
            return
        left = self._transport.get_write_buffer_size()
        if left < unread:
            self._watch_unread(left)  # the peer reads, though slowly
        else:
            log.info("reply_not_read", peer=self.client_ip)
            self.abort()

    def close_if_idle(self, before: float) -> None:
        """Close the connection if it has been idle since `before` (event loop's clock)."""
        since = self.idle_since()
        if since is not None and since <= before:
            self.close()

    def idle_since(self) -> float | None:
        """Return when the connection became idle, by the event loop's clock; None while it is not idle.

        A connection is idle when no request is pending and no answer is unsent. One that watches is never idle.
        """
        if self._busy or self._scheduled or self._waiting or not self._writing or self._server.watches(self):
            return None
        return self._active

    def _pause_or_resume_reading(self) -> None:
        """Pause or resume reading, by the amount of pending input."""
        if self._transport is None or self._leaving or self._eof:
            return
        wanted = self._waiting_bytes <= self._server.limits.pipelined and not self._lines.overlong
        if wanted != self._reading and not self._transport.is_closing():
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # --- answering ----------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._scheduled and not self._busy:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        """Answer waiting requests, until one suspends or other connections have to be served."""
        self._scheduled = False
        answers: list[bytes] = []
        size = 0
        for _ in range(_BURST):
            if self._busy or self._leaving or not self._writing or self._next >= len(self._waiting):
                break
            line = self._waiting[self._next]
            self._next += 1
            answer = self._begin(line)
            if answer:
                answers.append(answer)
                size += len(answer)
                if size >= _ANSWERS:
                    self._send(b"".join(answers))
                    answers, size = [], 0
        if answers:
            self._send(answers[0] if len(answers) == 1 else b"".join(answers))
        if self._next < len(self._waiting):
            if self._writing and not self._busy:
                self._schedule()
        else:
            self._waiting.clear()
            self._next = self._waiting_bytes = 0
            if not self._busy:
                self._close_if_done()
            self._pause_or_resume_reading()

    def _begin(self, line: bytes) -> bytes:
        """Begin a request; return its answer, empty if the answer follows later."""
        begun = time.perf_counter()
        if is_request_line(line):
            self._refuse_other_protocol(line)
            return b""
        request = parse_request(line)
        if request.management:
            return self._server.management.answer(request, self)
        server = self._server
        verb = QUICK.get(request.command) or THOROUGH.get(request.command)
        result = OK
        if verb is None:
            result = errors.UnknownCommand.code
            answer = refusal(errors.UnknownCommand(), request.callid)
        elif (reason := server.tracker.cluster.stale) and request.command in WRITING:
            result = errors.StaleDatabase.code
            answer = self._refuse(request, errors.StaleDatabase.because(reason))
        else:
            call = TrackerRequest(request.args, self.client_ip)
            if not call.has_known_names(server.tracker.cluster):
                return self._continue_as_task(_refresh_first(verb, server.tracker, call), request, line, begun)
            running = verb(server.tracker, call)
            if not server.at_once or request.command not in QUICK:
                return self._continue_as_task(running, request, line, begun)
            try:
                awaited = running.send(None)
            except StopIteration as stop:
                answer = ok(stop.value, request.callid)
            except Exception as error:
                result = _code_of(error)
                answer = self._refuse(request, error)
            else:
                return self._continue_as_task(resume(running, awaited), request, line, begun)
        server.journal.finished(
            self.client_ip, line, self._arrived, begun, time.perf_counter(),
            command=OTHER if verb is None else request.command, result=result,
        )  # fmt: skip
        return answer

    def _continue_as_task(
        self, running: Coroutine[Any, Any, Args], request: Request, line: bytes, begun: float
    ) -> bytes:
        """Run a request as a task; further requests of this connection wait for it."""
        self._busy = True
        self._server.run(self._finish(running, request, line, begun))
        return b""

    async def _finish(self, running: Coroutine[Any, Any, Args], request: Request, line: bytes, begun: float) -> None:
        result = OK
        try:
            answer = ok(await running, request.callid)
        except Exception as error:
            result = _code_of(error)
            answer = self._refuse(request, error)
        self._server.journal.finished(
            self.client_ip, line, self._arrived, begun, time.perf_counter(), command=request.command, result=result
        )
        self._busy = False
        self._send(answer)
        self._serve()

    def _refuse(self, request: Request, error: Exception) -> bytes:
        """Return the answer to a request that failed. A defect is logged, and its details are not sent."""
        if isinstance(error, errors.TawaraError):
            if isinstance(error, errors.UnavailableError):
                self._server.management.announce(f"{request.command}: {error.wire_text}")
            return refusal(error, request.callid)
        log.error("request_failed", command=request.command, peer=self.client_ip, exc_info=error)
        self._server.management.announce(f"{request.command} crashed: {type(error).__name__}")
        return refusal(errors.TawaraError(), request.callid)

    def _send(self, data: bytes) -> None:
        self._active = asyncio.get_running_loop().time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def push(self, data: bytes) -> None:
        """Send lines that answer no request, unless the peer does not read its input."""
        if self._writing and not self._leaving:
            self._send(data)

    # --- closing ------------------------------------------------------------------------------------------------------

    def _close_if_done(self) -> None:
        """Close the connection when all is answered and the peer has closed its side or sent an overlong line."""
        if self._transport is None or self._leaving:
            return
        if self._lines.overlong:
            self._send(refusal(errors.LineTooLong()))
            self._linger()
        elif self._eof:
            self.close()

    def _linger(self) -> None:
        """Close after a delay in which input is discarded: closing with unread input would reset the last answer."""
        assert self._transport is not None
        self._leaving = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self.abort)

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close the connection when all answers are sent."""
        self._leaving = True
        if self._transport is not None:
            self._transport.close()

    @property
    def has_begun(self) -> bool:
        """Whether the peer has sent a first request."""
        return self._begun or self._leaving

    @property
    def busy(self) -> bool:
        """Whether a request of this peer is running."""
        return self._busy

    def waiting(self) -> list[bytes]:
        """The requests that were received and not begun."""
        return self._waiting[self._next :]


async def _refresh_first(verb: Verb, tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Run a verb after the view was refreshed: what it names may have been created by another process a moment ago."""
    await tracker.view.refresh_for_name(call.text("domain"), call.text("class"))
    return await verb(tracker, call)


def _code_of(error: Exception) -> str:
    """Return the code of an error, as metrics have it."""
    return error.code if isinstance(error, errors.TawaraError) else "crash"
