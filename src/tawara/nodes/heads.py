"""HEAD, and GET of small files, at little cost: each file that comes in is asked for once, and each device's usage file
is read every few seconds, which with a whole HTTP client is half of the work, or most of it.

Connections are kept for a while and used again. One that was closed meanwhile is no reason to fail: these
requests may be repeated (RFC 9110, section 9.2.2), and go once more on a fresh connection.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar, cast

from yarl import URL

from tawara.wire import head_answer, small_answer
from tawara.wire.head_answer import HeadAnswer
from tawara.wire.small_answer import SmallAnswer

Answer = TypeVar("Answer", HeadAnswer, SmallAnswer)
_KEPT_SECONDS: Final = 15.0
"""How long a connection without work is kept, less than any server we know waits for the next request."""
_PLACES: Final = 1024
_URL: Final = re.compile(r"http://([\x21-\x7e]+?)(/[\x21-\x7e]*)")


class _Place(NamedTuple):
    """Where a node's HTTP is."""

    host: str
    port: int
    name: bytes
    """For the Host field."""


@lru_cache(_PLACES)
def _place(authority: str) -> _Place:
    """Raises ValueError for what is none."""
    url = URL(f"http://{authority}/", encoded=True)
    if not url.host or url.port is None:
        raise ValueError("no address of plain HTTP")
    return _Place(url.host, url.port, authority.encode("ascii"))


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[HeadAnswer | SmallAnswer] | None = None
        self._parse: Callable[[bytes], HeadAnswer | SmallAnswer | None] = head_answer.parse
        self._received = b""
        self._expiry: asyncio.TimerHandle | None = None
        self.used = False
        """Whether it has answered before, so that it may have been closed without our fault."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(exc or ConnectionResetError("the connection was closed"))

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.close()  # nothing was asked
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

    async def ask(self, request: bytes, parse: Callable[[bytes], Answer | None]) -> Answer:
        """Raises OSError, ValueError. Whoever does not get an answer closes the connection."""
        self._parse = parse
        if self._expiry is not None:
            self._expiry.cancel()
        if self._transport is None:
            raise ConnectionResetError("the connection was closed")
        self._received = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return cast("Answer", await self._answer)

    def rest(self) -> None:
        """There is nothing more to ask, for now."""
        self.used, self._answer = True, None
        self._expiry = asyncio.get_running_loop().call_later(_KEPT_SECONDS, self.close)

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        if self._transport is not None:
            self._transport.abort()


class Heads:
    """Asks any number of servers, over at most `connections_per_host` connections to each at once."""

    def __init__(self, *, connect_timeout: float, answer_timeout: float, connections_per_host: int) -> None:
        """Times in seconds."""
        self._connect_timeout, self._answer_timeout = connect_timeout, answer_timeout
        self._turns: defaultdict[_Place, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(connections_per_host)
        )
        self._resting: defaultdict[_Place, list[_Connection]] = defaultdict(list)

    async def ask(self, url: str) -> HeadAnswer:
        """What the server at `url` (plain HTTP) says of it. Raises OSError, TimeoutError, ValueError."""
        return await self._exchange(b"HEAD", url, head_answer.parse)

    async def get(self, url: str) -> SmallAnswer:
        """The small file at `url` (plain HTTP). Raises OSError, TimeoutError; ValueError if it may not be small."""
        return await self._exchange(b"GET", url, small_answer.parse)

    async def _exchange(self, method: bytes, url: str, parse: Callable[[bytes], Answer | None]) -> Answer:
        parts = _URL.fullmatch(url)
        if parts is None:
            raise ValueError("no address of plain HTTP")
        place = _place(parts[1])
        request = b"%s %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (method, parts[2].encode(), place.name)
        async with self._turns[place], asyncio.timeout(self._connect_timeout + self._answer_timeout):
            while True:
                connection = self._rested(place) or await self._connected(place)
                try:
                    answer = await connection.ask(request, parse)
                except ConnectionError:
                    connection.close()
                    if not connection.used:
                        raise
                except BaseException:
                    connection.close()
                    raise
                else:
                    if answer.keep:
                        connection.rest()
                        self._resting[place].append(connection)
                    else:
                        connection.close()
                    return answer

    def _rested(self, place: _Place) -> _Connection | None:
        """The connection that rested last, if one is still there."""
        resting = self._resting[place]
        while resting:
            connection = resting.pop()
            if connection.open:
                return connection
        return None

    async def _connected(self, place: _Place) -> _Connection:
        async with asyncio.timeout(self._connect_timeout):
            loop = asyncio.get_running_loop()
            return (await loop.create_connection(_Connection, place.host, place.port))[1]

    def close(self) -> None:
        """Close the connections that rest; requests under way are finished."""
        for resting in self._resting.values():
            for connection in resting:
                connection.close()
        self._resting.clear()
