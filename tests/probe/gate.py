"""A proxy in front of a storage node that can hold a request in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import re
from enum import Enum
from types import TracebackType
from typing import Self


class Held(Enum):
    """The point at which a request is held."""

    BEFORE = "before the node hears of it"
    HALF_WAY = "when the node has half of it"
    AFTER = "when the node has done it, and before anyone hears of that"


class Gate:
    """Forwards bytes in both directions until asked to hold a request. Use with `async with`."""

    def __init__(self, ip: str, target: tuple[str, int]) -> None:
        self._ip, self._target = ip, target
        self._server: asyncio.Server | None = None
        self._pattern: re.Pattern[bytes] | None = None
        self._held = Held.BEFORE
        self._open = asyncio.Event()
        self.caught = asyncio.Event()
        self.given_up = asyncio.Event()
        """Whether the client of the held request has disconnected."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, self._ip, 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """The address of the proxy."""
        assert self._server
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def hold(self, request: bytes, held: Held) -> None:
        """Hold the next request that begins like `request`, a regular expression."""
        self._pattern, self._held = re.compile(request), held
        self._open.clear()
        self.caught.clear()
        self.given_up.clear()

    def release(self) -> None:
        """Forward everything again, including the held request."""
        self._pattern = None
        self._open.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:  # the node is away
            writer.close()
            return
        with contextlib.suppress(OSError):
            silent = asyncio.Event()
            try:
                back = asyncio.create_task(self._answers(there_reader, writer, silent))
                try:
                    await self._requests(reader, there_writer, silent)
                finally:
                    if silent.is_set():
                        self.given_up.set()
                    back.cancel()
                    await asyncio.gather(back, return_exceptions=True)
            finally:
                there_writer.close()
                writer.close()

    async def _requests(self, reader: asyncio.StreamReader, node: asyncio.StreamWriter, silent: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if self._pattern is not None and self._pattern.match(data):
                self._pattern = None
                if self._held is Held.BEFORE:
                    data += await self._catch(reader)
                elif self._held is Held.HALF_WAY:
                    node.write(data[: len(data) - 10])
                    await node.drain()
                    await asyncio.sleep(0.05)  # so that the node has them
                    data = data[-10:] + await self._catch(reader)
                else:
                    silent.set()
            node.write(data)
            await node.drain()

    async def _catch(self, reader: asyncio.StreamReader) -> bytes:
        """Wait until released. Returns the bytes received meanwhile; drops the request if the client disconnects."""
        self.caught.set()
        opened = asyncio.create_task(self._open.wait())
        meanwhile = b""
        try:
            while not opened.done():
                more = asyncio.create_task(reader.read(65536))
                await asyncio.wait({more, opened}, return_when=asyncio.FIRST_COMPLETED)
                if not more.done():
                    more.cancel()
                    await asyncio.gather(more, return_exceptions=True)
                elif more.exception() is not None or not more.result():
                    self.given_up.set()
                    raise ConnectionResetError
                else:
                    meanwhile += more.result()
        finally:
            opened.cancel()
        return meanwhile

    async def _answers(self, node: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event) -> None:
        while data := await node.read(65536):
            if silent.is_set():
                self.caught.set()
                await self._open.wait()
            writer.write(data)
            await writer.drain()
        writer.close()
