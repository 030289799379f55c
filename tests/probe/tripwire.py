"""Proxies in front of a database and storage nodes that count the traffic and cut it at a chosen moment.

A program may be killed between any two pieces that it sends or receives. A tripwire counts these pieces over all its
proxies; once it trips it forwards nothing, in either direction, until the program is dead.
"""

from __future__ import annotations

import asyncio
import re
from types import TracebackType
from typing import Self

_LOOKING = re.compile(rb"(GET|PUT|MKCOL) /dev\d+/(usage|test-write)")
"""Requests that monitors send to storage nodes at any time."""


class Tripwire:
    """See the module. Use with `async with`."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._left: int | None = None
        self._open = asyncio.Event()
        self._open.set()
        self.tripped = asyncio.Event()
        self.passed = 0
        """Pieces that have passed since `arm`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        await self.cut()
        for server in self._servers:
            await server.wait_closed()

    async def add_proxy(self, target: tuple[str, int], ip: str = "127.0.0.1") -> int:
        """Start a proxy for `target` at `ip`. Returns its port."""

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(target, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(accept, ip, 0)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def arm(self, pieces: int) -> None:
        """Cut the traffic after this number of pieces."""
        self._left, self.passed = pieces, 0
        self.tripped.clear()

    async def cut(self) -> None:
        """Cut all connections, and forward new ones."""
        self._left = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._open.set()

    async def _serve(self, target: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection(*target)
        except OSError:
            writer.transport.abort()
            return
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        looking = asyncio.Event()
        ways = [
            asyncio.create_task(self._pass(reader, there_writer, looking, requests=True)),
            asyncio.create_task(self._pass(there_reader, writer, looking, requests=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            writer.transport.abort()
            there_writer.transport.abort()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, looking: asyncio.Event, *, requests: bool
    ) -> None:
        while piece := await reader.read(65536):
            if requests:
                looking.set() if _LOOKING.match(piece) else looking.clear()
            if self._left is not None and not looking.is_set():
                if self._left == 0:
                    self._left = None
                    self._open.clear()
                    self.tripped.set()
                else:
                    self._left -= 1
                    self.passed += 1
            await self._open.wait()
            writer.write(piece)
            await writer.drain()
