"""The monitoring listener of a process: `/metrics`, `/livez`, `/readyz`, also while the process starts or drains.

With several processes on one port, the one that is asked collects the metrics of all, each labelled `process`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import hdrs, web

from tawara.client import AsyncClient
from tawara.http1.connections import HttpServer, plain, send_response
from tawara.listening import TcpListener
from tawara.model.errors import TawaraError
from tawara.model.limits import Limits
from tawara.monitoring.components import DATABASE, MonitoredComponents
from tawara.monitoring.metrics import CONTENT_TYPE, merge, render_process
from tawara.monitoring.store_health import observe
from tawara.monitoring.store_metrics import render_store

log = structlog.get_logger(__name__)

_CONNECTIONS: Final = 64
_GRACE: Final = 0.5
_IDLE: Final = 120.0
_STORE_FRESH: Final = 5.0
"""Seconds for which the metrics of the store are used again."""
_STORE_TIMEOUT: Final = 8.0
"""Seconds within which the store must answer; Prometheus waits for 10 by default."""
_PROCESS_TIMEOUT: Final = 2.0
"""Seconds within which another process must answer."""
_LONGEST: Final = 4 * 1024 * 1024
"""Most bytes of the metrics of one process."""
_OWN: Final = "/metrics/own"


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that share a monitoring port."""

    number: int
    """Number of this one."""
    listening: socket.socket
    """Unix socket at which this process gives its own metrics to the others."""
    names: Sequence[bytes]
    """Names of these sockets, by process."""


class MonitoringServer:
    """Start it before the components and stop it after them; each once."""

    def __init__(
        self,
        components: MonitoredComponents,
        listen: Sequence[tuple[str, int] | socket.socket],
        group: ProcessGroup | None = None,
    ) -> None:
        """Listen on each of `listen`. `group`: None in the only process."""
        self._components, self._wanted, self._group = components, listen, group
        self._listeners: list[TcpListener] = []
        self._http: HttpServer | None = None
        self._store_text = b""
        self._store_at = float("-inf")
        self._asking = asyncio.Lock()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Hosts and ports of the started server."""
        return [each.address for each in self._listeners[: len(self._wanted)]]

    async def start(self) -> None:
        """Listen. Raises PortTaken."""
        limits = Limits()
        self._http = HttpServer(self._answer, limits, idle=_IDLE)
        places = [*self._wanted, *([self._group.listening] if self._group is not None else [])]
        try:
            for place in places:
                listener = TcpListener(place, "the monitoring", self._http.connection, connections=_CONNECTIONS)
                self._listeners.append(listener)
                listener.open()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Release the ports."""
        for listener in self._listeners:
            await listener.close()
        if self._http is not None:
            await self._http.close(_GRACE)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            response = plain(405, "Method not allowed", Allow="GET, HEAD")
        else:
            try:
                response = await self._reply(request.path, request.query.get("scope", ""))
            except TawaraError as error:
                response = plain(503, error.message)
        return await send_response(request, response, timeout=Limits().stalled_body)

    async def _reply(self, path: str, scope: str) -> web.Response:
        match path:
            case "/livez":
                return plain(200, "ok")
            case "/readyz":
                reasons = await self._components.readiness.reasons()
                return plain(503, "\n".join(reasons)) if reasons else plain(200, "ok")
            case "/metrics" if scope == "store":
                return _metrics(await self._store())
            case "/metrics" if not scope:
                return _metrics(await self._all())
            case "/metrics/own":
                return _metrics(await self._own())
        return plain(404, "Not found; there are /metrics, /livez and /readyz")

    async def _own(self) -> bytes:
        readiness = self._components.readiness
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(0)
        lag = asyncio.get_running_loop().time() - begun
        database, reasons = await readiness.works(DATABASE), await readiness.reasons()
        return render_process(self._components, database=database, ready=not reasons, lag=lag)

    async def _all(self) -> bytes:
        if self._group is None:
            return await self._own()
        texts = await asyncio.gather(*(self._of(number) for number in range(len(self._group.names))))
        return merge((str(number), text) for number, text in enumerate(texts))

    async def _of(self, number: int) -> str:
        """Return the metrics of one process; empty if it does not answer."""
        assert self._group is not None
        if number == self._group.number:
            return (await self._own()).decode()
        try:
            async with asyncio.timeout(_PROCESS_TIMEOUT):
                return await _fetch(self._group.names[number])
        except (OSError, ValueError) as error:
            log.info("metrics_of_process_missing", number=number, reason=str(error) or type(error).__name__)
            return ""

    async def _store(self) -> bytes:
        tracker = self._components.tracker
        if tracker is None or not self._components.readiness.started:
            raise TawaraError("Metrics of the store are given by trackers that have started")
        async with self._asking:
            loop = asyncio.get_running_loop()
            if loop.time() - self._store_at >= _STORE_FRESH:
                try:
                    async with asyncio.timeout(_STORE_TIMEOUT), AsyncClient("{}:{}".format(*tracker.address)) as client:
                        self._store_text = render_store(await observe(client))
                except TimeoutError:
                    raise TawaraError("The store does not answer") from None
                self._store_at = loop.time()
            return self._store_text


def _metrics(text: bytes) -> web.Response:
    return web.Response(body=text, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})


async def _fetch(name: bytes) -> str:
    """Return the body of an answer with status 200 from a Unix socket. Raises OSError, ValueError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, name)
        reader, writer = await asyncio.open_unix_connection(sock=connection)
    except BaseException:
        connection.close()
        raise
    try:
        writer.write(b"GET %s HTTP/1.0\r\n\r\n" % _OWN.encode())
        answer = bytearray()
        while data := await reader.read(65_536):
            answer += data
            if len(answer) > _LONGEST:
                raise ValueError("the answer is too long")
    finally:
        writer.close()
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise ValueError("the process gives no metrics")
    return body.decode()
