"""A TCP proxy that cuts connections at points that a test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Cut:
    """When to cut. Both functions get all bytes of one connection so far; True cuts the connection there."""

    port: int = 0
    before_forwarding: Callable[[bytes], bool] = lambda sent: False
    """Called with the bytes of the client; at a cut the latest piece is not forwarded."""
    before_answering: Callable[[bytes, bytes], bool] = lambda sent, answered: False
    """Called with the bytes of the client and of the server; at a cut the latest piece is not forwarded."""
    meanwhile: Callable[[], Awaitable[object]] | None = None
    """Called before the client notices the cut."""
    cuts: int = 0
    """Number of cuts."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


@asynccontextmanager
async def cut(target: tuple[str, int]) -> AsyncIterator[Cut]:
    """A proxy on 127.0.0.1 in front of `target`."""
    state = Cut()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*target)
        sent, answered = bytearray(), bytearray()

        async def forward() -> None:
            while piece := await reader.read(65536):
                sent.extend(piece)
                if state.before_forwarding(bytes(sent)):
                    state.cuts += 1
                    return
                there_writer.write(piece)
                await there_writer.drain()

        async def answer() -> None:
            while piece := await there_reader.read(65536):
                answered.extend(piece)
                if state.before_answering(bytes(sent), bytes(answered)):
                    state.cuts += 1
                    if state.meanwhile is not None:
                        await state.meanwhile()
                    return
                writer.write(piece)
                await writer.drain()

        ways = [asyncio.create_task(forward()), asyncio.create_task(answer())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.transport.abort()
            there_writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        state.tasks.add(task)
        task.add_done_callback(state.tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)
        await server.wait_closed()
