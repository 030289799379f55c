"""The side channel: sizes, digests and disk load for trackers, a line each (docs/mogilefs.md 18.3).

Replies are in the order of the requests. A connection works on one request at a time, so a long digest delays no other
connection. `shutdown` is refused: the port has no authentication.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

import structlog

from tawara.disks import paths
from tawara.disks.devices import Devices, DigestInProgress
from tawara.disks.load_meter import LoadMeter
from tawara.disks.pools import DevicePools
from tawara.listening import OnClosed
from tawara.model.cluster import HashType
from tawara.model.errors import NotFoundError, TawaraError
from tawara.model.limits import Limits
from tawara.model.node_errors import DirectoryInstead, InvalidPath
from tawara.wire import side_channel as wire
from tawara.wire.line import is_request_line

log = structlog.get_logger(__name__)

_FSCK: Final = "fsck"
_NO_FILE: Final = (NotFoundError, InvalidPath, DirectoryInstead)


class SideChannel:
    """Answers side-channel lines about the files of `devices`."""

    def __init__(self, devices: Devices, pools: DevicePools, limits: Limits) -> None:
        self._devices, self._pools, self._limits = devices, pools, limits
        self._tasks: set[asyncio.Task[None]] = set()
        self._disks: dict[int, asyncio.Lock] = {}
        """Locks by file system: a check reads one file at a time from each."""
        self._meter = LoadMeter(devices, pools)

    def connection(self, on_closed: OnClosed) -> asyncio.Protocol:
        """Make the protocol of a new connection. It calls `on_closed` when the connection is closed."""
        reader = asyncio.StreamReader(limit=self._limits.line)

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(reader, writer, connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        connection = _Connection(reader, begin, on_closed)
        return connection

    async def close(self) -> None:
        """Close all connections now."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)
        await self._meter.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: _Connection) -> None:
        try:
            while line := await self._line(reader):
                connection.waits = False
                if is_request_line(line):
                    writer.transport.abort()  # a browser's request: its further lines are not carried out
                    return
                request = wire.parse(line)
                if isinstance(request, wire.WatchRequest):
                    await self._watch(writer)
                    return
                if request is not None:
                    await self._say(writer, await self._answer(request))
                connection.waits = True
        except asyncio.LimitOverrunError:
            writer.write(wire.LINE_TOO_LONG)
        except (ConnectionError, TimeoutError):
            writer.transport.abort()
        except TawaraError as error:  # no answer of the protocol says that a device fails
            log.warning("side_channel_aborted", reason=str(error))
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        except Exception:
            log.exception("side_channel_failed")
            writer.transport.abort()
        finally:
            writer.close()

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        """The next line; nothing at the end. Raises LimitOverrunError, TimeoutError."""
        async with asyncio.timeout(self._limits.side_channel_idle):
            try:
                return await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                return b""

    async def _say(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        writer.write(answer)
        async with asyncio.timeout(self._limits.unread_answer):
            await writer.drain()

    async def _answer(self, request: wire.SizeRequest | wire.DigestRequest | wire.SideChannelError) -> bytes:
        match request:
            case wire.SideChannelError(answer):
                return answer
            case wire.SizeRequest(uri):
                return wire.size(uri, await self._size(uri))
            case wire.DigestRequest(hashtype, uri, reason):
                return await self._digest(uri, hashtype, in_short_steps=reason == _FSCK)

    async def _size(self, uri: str) -> int | None:
        path = paths.canonical(uri)
        try:
            return await self._pools.run(await self._pools.of(path), self._devices.size, path)
        except _NO_FILE:
            return None

    async def _digest(self, uri: str, hashtype: HashType, *, in_short_steps: bool) -> bytes:
        """Digest in short steps on the disk's threads, so that other reads of the disk are not delayed."""
        try:
            path = paths.canonical(uri)
            pool_name = await self._pools.of(path)
            file = await self._pools.run(pool_name, self._devices.open, path)
        except _NO_FILE:
            return wire.digest(uri, hashtype, None)
        except TawaraError:
            return wire.read_failed(uri, 0)
        disk = self._disks.setdefault(file.disk, asyncio.Lock()) if in_short_steps else nullcontext()
        digest = DigestInProgress(file, hashtype)
        try:
            async with disk:
                while await self._pools.run(pool_name, digest.step):
                    pass
        except TawaraError:
            return wire.read_failed(uri, digest.offset)
        finally:
            self._pools.submit_cleanup(pool_name, file.close)
        return wire.digest(uri, hashtype, digest.digest())

    async def _watch(self, writer: asyncio.StreamWriter) -> None:
        """Report the load of the disks about once a second until the peer goes away."""
        if not await self._meter.works():
            await self._say(writer, wire.NO_STATISTICS)
            return
        while not writer.transport.is_closing():
            await self._say(writer, await self._meter.next())


class _Connection(asyncio.StreamReaderProtocol):
    """A connection that calls `on_closed` at its end."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        begin: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None],
        on_closed: OnClosed,
    ) -> None:
        super().__init__(reader, begin)
        self._on_closed = on_closed
        self._active = asyncio.get_running_loop().time()
        self.waits = True
        """Whether no request is being answered."""

    def data_received(self, data: bytes) -> None:
        self._active = asyncio.get_running_loop().time()
        super().data_received(data)

    def idle_since(self) -> float | None:
        """See listening.Sheddable."""
        return self._active if self.waits else None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._on_closed()
