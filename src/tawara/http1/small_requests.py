"""An HTTP client for HEAD and for GET of small files, cheaper than a complete HTTP client.

The tracker sends one HEAD for each new file, and the monitor reads each device's usage file every few seconds; with a
complete HTTP client these requests were half of the work or more.

Connections are kept for a while and reused. If the server has closed one meanwhile, the request is sent once more on a
new connection, which is allowed for these methods (RFC 9110, section 9.2.2).
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar, cast

from yarl import URL

from tawara.wire import head_answer, small_answer
from tawara.wire.head_answer import HeadAnswer
from tawara.wire.small_answer import SmallAnswer

Answer = TypeVar("Answer", HeadAnswer, SmallAnswer)
_KEPT_SECONDS: Final = 15.0
"""Seconds for which an idle connection is kept; shorter than the keep-alive of any server we know."""
_CACHED_SERVERS: Final = 1024
_URL: Final = re.compile(r"http://([\x21-\x7e]+?)(/[\x21-\x7e]*)")


class _Server(NamedTuple):
    """The address of an HTTP server."""

    host: str
    port: int
    name: bytes
    """The value of the Host field."""


@lru_cache(_CACHED_SERVERS)
def _server(authority: str) -> _Server:
    """Parse the authority of a URL. Raises ValueError."""
    url = URL(f"http://{authority}/", encoded=True)
    if not url.host or url.port is None:
        raise ValueError("not a URL of plain HTTP")
    return _Server(url.host, url.port, authority.encode("ascii"))


class _Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[HeadAnswer | SmallAnswer] | None = None
        self._parse: Callable[[bytes], HeadAnswer | SmallAnswer | None] = head_answer.parse
        self._received = b""
        self._expiry: asyncio.TimerHandle | None = None
        self.used = False
        """Whether it has carried a request before, so that the server may have closed it as idle."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(exc or ConnectionResetError("the connection was closed"))

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.close()  # data without a request
            return
        self._received += data
        try:
            answer = self._parse(self._received)
        except ValueError as error:
            self._fail(error)
            return
        if answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    async def request(self, request: bytes, parse: Callable[[bytes], Answer | None]) -> Answer:
        """Send `request` and return its parsed reply. Raises OSError, ValueError; the caller closes after an error."""
        self._parse = parse
        if self._expiry is not None:
            self._expiry.cancel()
        if self._transport is None:
            raise ConnectionResetError("the connection was closed")
        self._received = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return cast("Answer", await self._answer)

    def set_idle(self) -> None:
        """Keep the connection open for a while without a request."""
        self.used, self._answer = True, None
        self._expiry = asyncio.get_running_loop().call_later(_KEPT_SECONDS, self.close)

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        if self._transport is not None:
            self._transport.abort()


class SmallRequests:
    """Sends HEAD and small GET to any number of servers, over at most `connections_per_host` connections to each."""

    def __init__(self, *, connect_timeout: float, answer_timeout: float, connections_per_host: int) -> None:
        """Timeouts are in seconds."""
        self._connect_timeout, self._answer_timeout = connect_timeout, answer_timeout
        self._limits: defaultdict[_Server, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(connections_per_host)
        )
        self._idle: defaultdict[_Server, list[_Connection]] = defaultdict(list)

    async def head(self, url: str, fields: Mapping[str, str] = MappingProxyType({})) -> HeadAnswer:
        """Send HEAD to `url` (plain HTTP), with further header fields. Raises OSError, TimeoutError, ValueError."""
        return await self._exchange(b"HEAD", url, fields, head_answer.parse)

    async def get(self, url: str, fields: Mapping[str, str] = MappingProxyType({})) -> SmallAnswer:
        """Get the small file at `url` (plain HTTP), with further header fields.

        Raises OSError, TimeoutError; ValueError for a reply that only a complete HTTP client can read.
        """
        return await self._exchange(b"GET", url, fields, small_answer.parse)

    async def _exchange(
        self, method: bytes, url: str, fields: Mapping[str, str], parse: Callable[[bytes], Answer | None]
    ) -> Answer:
        parts = _URL.fullmatch(url)
        if parts is None:
            raise ValueError("not a URL of plain HTTP")
        server = _server(parts[1])
        more = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode("ascii")
        request = b"%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (method, parts[2].encode(), server.name, more)
        async with self._limits[server], asyncio.timeout(self._connect_timeout + self._answer_timeout):
            while True:
                connection = self._take_idle(server) or await self._connect(server)
                try:
                    answer = await connection.request(request, parse)
                except ConnectionError:
                    connection.close()
                    if not connection.used:
                        raise
                except BaseException:
                    connection.close()
                    raise
                else:
                    if answer.keep:
                        connection.set_idle()
                        self._idle[server].append(connection)
                    else:
                        connection.close()
                    return answer

    def _take_idle(self, server: _Server) -> _Connection | None:
        """Return the connection that became idle last, if one is still open."""
        idle = self._idle[server]
        while idle:
            connection = idle.pop()
            if connection.is_open:
                return connection
        return None

    async def _connect(self, server: _Server) -> _Connection:
        async with asyncio.timeout(self._connect_timeout):
            loop = asyncio.get_running_loop()
            return (await loop.create_connection(_Connection, server.host, server.port))[1]

    def close(self) -> None:
        """Close the idle connections; current requests are completed."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()
