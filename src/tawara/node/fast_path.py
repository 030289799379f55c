"""The quick way through a storage node's HTTP door: requests in their plain form, answered at little cost.

An application's file is a PUT of some KiB and a HEAD, and a request costs a whole HTTP server more than its disk does.
So each connection begins here. The first request on it that is not plain (`wire/plain_request`: chunks, Expect), is
large, or has something wrong with it goes to the whole server in `http`, and the connection with it, for good. Both
answer alike; `tests/acceptance/test_node_http.py` runs on both.

One request of a connection is worked on at a time. No more of what comes meanwhile is read than a body may have.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, cast

import structlog

from tawara.disks import deletions, paths, reading, small_files
from tawara.disks.devices import Devices, OpenFile
from tawara.disks.pools import DevicePools, PoolBatcher
from tawara.disks.reading import SMALL, FileRequest, OpenedFile
from tawara.disks.sending import send_file
from tawara.disks.small_files import SmallFile
from tawara.http1.connections import SERVER
from tawara.listening import OnClosed
from tawara.model.errors import TawaraError
from tawara.model.limits import Limits
from tawara.model.node_errors import Stalled
from tawara.node import replies
from tawara.node.replies import Reply
from tawara.wire import plain_request
from tawara.wire.http import http_date
from tawara.wire.plain_request import REPLACE, NotPlain, PlainRequest
from tawara.wire.ranges import Span

log = structlog.get_logger(__name__)

_REPLACE: Final = REPLACE.lower().encode()
_READ_AHEAD: Final = 128 * 1024
"""Bytes of further requests that may wait, per connection, before reading pauses."""
_BATCH: Final = 64
"""Most files that one thread stores, or deletes, in one turn."""
_READS: Final = 16
"""Most files that one thread opens in one turn."""


class FastPath:
    """What the connections of one door have in common."""

    def __init__(
        self, devices: Devices, pools: DevicePools, limits: Limits, whole_server: Callable[[OnClosed], asyncio.Protocol]
    ) -> None:
        """`whole_server` makes the protocol that takes a connection over. Needs a running event loop."""
        self.devices, self.pools, self.limits, self.whole_server = devices, pools, limits, whole_server
        # Two parties of each at a time, one of which prepares while the other waits for the disk. With one, 32 clients
        # stored half as many files on a disk that others kept busy; with four, no more than with two (measured).
        self.stores = PoolBatcher(pools, partial(small_files.store, devices), width=2, most=_BATCH)
        self.deletions = PoolBatcher(pools, partial(deletions.delete, devices), width=2, most=_BATCH)
        # Reads of files that are in no cache keep a disk busy only when several wait for it at once.
        self.reads = PoolBatcher(pools, partial(reading.open_files, devices), width=6, most=_READS)
        self.connections: set[FastPathConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._emptied: asyncio.Event | None = None

    def connection(self, on_closed: OnClosed) -> FastPathConnection:
        """A protocol for one new connection, which calls `leave` when the connection is over."""
        return FastPathConnection(self, on_closed)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Work on a request in a task of its own."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def gone(self, connection: FastPathConnection) -> None:
        """A connection is over, or has gone to the whole server."""
        self.connections.discard(connection)
        if self._emptied is not None and not self.connections:
            self._emptied.set()

    async def close(self, grace: float) -> None:
        """End idle connections now, the others when their request is done, or cut them after `grace` seconds."""
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
    """One connection, until it is over or handed over."""

    __slots__ = (
        "_body",
        "_busy",
        "_ended",
        "_fast_path",
        "_last",
        "_missing",
        "_on_closed",
        "_reading",
        "_request",
        "_rest",
        "_since",
        "_timer",
        "_transport",
        "_unsent",
        "_writing",
    )  # fmt: skip

    def __init__(self, fast_path: FastPath, on_closed: OnClosed) -> None:
        self._fast_path, self._on_closed = fast_path, on_closed
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0
        """When what is waited for was last seen to come nearer."""
        self._rest = b""
        """What came and was not looked at, or is no whole head yet."""
        self._request: PlainRequest | None = None
        """A request whose body has not come whole."""
        self._body: list[bytes] = []
        self._missing = 0
        self._busy = False
        """A request is being worked on."""
        self._reading = self._writing = True
        self._unsent = 0
        """Bytes that the peer had not taken when we last looked."""
        self._last = False
        """The connection ends with the answer to the request that is worked on."""
        self._ended = False
        """The peer sends no more; what it has asked is answered."""

    # --- what the transport tells -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._fast_path.connections.add(self)
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        limits = self._fast_path.limits
        self._timer = loop.call_later(min(limits.header_time, limits.stalled_body), self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol. What is being stored is stored all the same."""
        self._forget()
        self._on_closed()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._request is not None:
            self._body.append(data)
            self._missing -= len(data)
            self._since = asyncio.get_running_loop().time()
            if self._missing <= 0:
                self._have(self._request, b"".join(self._body))
            return
        if self._busy or not self._writing:
            self._rest += data
            if len(self._rest) > _READ_AHEAD and self._reading and self._transport is not None:
                self._reading = False
                self._transport.pause_reading()
            return
        if not self._rest:
            self._since = asyncio.get_running_loop().time()
        self._go_on(self._rest + data if self._rest else data)

    def idle_since(self) -> float | None:
        """See listening.Sheddable."""
        return self._since if self._transport is not None and self._is_idle else None

    @property
    def _is_idle(self) -> bool:
        return not self._busy and self._request is None and not self._rest and self._writing

    def eof_received(self) -> bool:
        """See asyncio.Protocol. A peer that sends no more gets the answers to all that it has asked."""
        self._ended = True
        return self._busy or (bool(self._rest) and not self._writing)

    def pause_writing(self) -> None:
        """See asyncio.Protocol: the peer does not read what it is sent."""
        self._writing = False
        self._since = asyncio.get_running_loop().time()
        if self._transport is not None:
            self._unsent = self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writing = True
        self._since = asyncio.get_running_loop().time()
        if not self._busy:
            self._go_on(b"")

    # --- requests -----------------------------------------------------------------------------------------------------

    def _go_on(self, data: bytes) -> None:
        """Begin what is asked next: in `data`, or in what has waited."""
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
            parsed = plain_request.parse(data, self._fast_path.limits.header)
            if parsed is None:
                self._rest = data
                if self._ended:
                    self._transport.close()
                return
            request, end = parsed
            target = paths.canonical(request.target)
            if target is not request.target:
                request = request._replace(target=target)
            if request.length > SMALL or not self._fast_path.pools.knows(paths.parse(request.target).device):
                raise NotPlain
        except (NotPlain, TawaraError):
            self._hand_over(data)
            return
        self._missing = request.length - (len(data) - end)
        if not request.length:
            self._rest = data[end:]
            self._begin(request, b"")
        elif self._missing <= 0:
            self._have(request, data[end:])
        else:
            self._request, self._body = request, [data[end:]]
            if self._ended:
                self._transport.close()

    def _have(self, request: PlainRequest, data: bytes) -> None:
        """A request's body is there, and perhaps more."""
        self._request, self._body = None, []
        if len(data) > request.length:
            self._rest, data = data[request.length :], data[: request.length]
        self._begin(request, data)

    def _begin(self, request: PlainRequest, body: bytes) -> None:
        self._busy = True
        fast_path, pool_name = self._fast_path, paths.parse(request.target).device
        match request.method:
            case "PUT":
                try:
                    md5 = replies.content_md5(request.field(b"content-md5"))
                except TawaraError as error:  # not at once, or a flood of such requests would be answered recursively
                    asyncio.get_running_loop().call_soon(self._done, request, 400, error)
                else:
                    status = 200 if md5 is None else 201
                    file = SmallFile(request.target, body, md5, request.field(_REPLACE) is not None)
                    fast_path.stores.add(pool_name, file, partial(self._done, request, status))
            case "DELETE":
                fast_path.deletions.add(pool_name, request.target, partial(self._done, request, 204))
            case "MKCOL":
                fast_path.run(self._make_directory(request, pool_name))
            case _:
                fast_path.reads.add(
                    pool_name, FileRequest(request.target, request.method == "GET"), partial(self._found, request)
                )

    def _hand_over(self, data: bytes) -> None:
        """Let the whole server have the connection, from the request that `data` begins with."""
        transport = self._transport
        assert transport is not None
        self._forget()
        protocol = self._fast_path.whole_server(self._on_closed)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)
        if self._ended and not protocol.eof_received():
            transport.close()

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transport, self._rest, self._request, self._body = None, b"", None, []
        self._fast_path.gone(self)

    # --- answers ------------------------------------------------------------------------------------------------------

    def _done(self, request: PlainRequest, status: int, outcome: Exception | None) -> None:
        self._say(request, Reply(status) if outcome is None else replies.refusal(outcome, *request[:2]))

    def _found(self, request: PlainRequest, found: OpenedFile | Exception) -> None:
        if isinstance(found, Exception):
            self._say(request, replies.refusal(found, *request[:2]))
            return
        field = request.field
        reply = replies.of_file(
            found, wanted=field(b"range"), if_range=field(b"if-range"), if_modified_since=field(b"if-modified-since")
        )
        if reply.part is None or request.method == "HEAD" or not reply.part.length:
            if not found.file.closed:
                self._fast_path.pools.on_closed(paths.parse(request.target).device, found.file.close)
            self._say(request, reply)
        elif self._transport is not None:
            self._transport.write(self._head(request, reply))
            sending = self._send(request, found.file, reply.part)
            self._fast_path.run(sending)

    async def _make_directory(self, request: PlainRequest, pool_name: str) -> None:
        try:
            await self._fast_path.pools.run(pool_name, self._fast_path.devices.make_directory, request.target)
        except Exception as error:
            self._done(request, 201, error)
        else:
            self._done(request, 201, None)

    async def _send(self, request: PlainRequest, file: OpenFile, part: Span) -> None:
        """Send `part` of a file after its head; what goes wrong from here on can only be told by cutting off."""
        transport, pools, pool_name = self._transport, self._fast_path.pools, paths.parse(request.target).device
        if transport is None:
            pools.on_closed(pool_name, file.close)
            return
        try:
            await send_file(
                transport, file.descriptor, part.start, part.length,
                pools=pools, pool_name=pool_name, timeout=self._fast_path.limits.stalled_body,
            )  # fmt: skip
        except ConnectionError:
            transport.abort()
        except (OSError, TawaraError) as error:  # TimeoutError is one: the peer takes nothing
            reason = str(error) if isinstance(error, TawaraError) else error.strerror or "the peer does not read"
            log.warning("transfer given up", path=request.target, reason=reason)
            transport.abort()
        else:
            self._answered(request)
        finally:
            pools.on_closed(pool_name, file.close)

    def _say(self, request: PlainRequest, reply: Reply) -> None:
        if self._transport is None:
            return
        head = self._head(request, reply)
        self._transport.write(head + reply.body if reply.body and request.method != "HEAD" else head)
        self._answered(request)

    def _head(self, request: PlainRequest, reply: Reply) -> bytes:
        length = reply.part.length if reply.part else len(reply.body)
        fields = {"Server": SERVER, **reply.fields, "Date": http_date(int(time.time()))}
        if reply.status not in (204, 304):
            fields["Content-Length"] = str(length)
        return plain_request.head(request, reply.status, fields.items(), keep=request.keep and not self._last)

    def _answered(self, request: PlainRequest) -> None:
        self._busy = False
        if self._transport is None:
            return
        self._since = asyncio.get_running_loop().time()
        if self._last or not request.keep:
            self._transport.close()
        elif self._writing and (self._rest or self._ended):
            self._go_on(b"")

    # --- time, and the end --------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Whether what is waited for has come nearer; each limit is looked after by the one timer, which is never late:
        it goes off after the shortest of them, and for the rest of a longer one once more."""
        if self._transport is None:
            return
        loop, limits = asyncio.get_running_loop(), self._fast_path.limits
        shortest = min(limits.header_time, limits.stalled_body)
        if not self._writing:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._unsent, self._since = unsent, loop.time()
        stalled = self._request is not None or not self._writing
        left = self._since + (limits.stalled_body if stalled else limits.header_time) - loop.time()
        if self._busy and self._writing:
            left = shortest
        if left > 0:
            self._timer = loop.call_later(min(left, shortest), self._look)
        elif self._request is not None:
            self._last = True
            self._say(self._request, replies.refusal(Stalled(), *self._request[:2]))
        elif self._writing:
            self._transport.close()
        else:
            self._transport.abort()

    def finish(self) -> None:
        """End the connection, after the answer to what is worked on."""
        self._last = True
        if not self._busy and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()
