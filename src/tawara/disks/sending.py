"""Sends a file to a connection without its bytes passing through Python, on any event loop.

`loop.sendfile` does not exist in uvloop and blocks on the disk in asyncio. Here the thread of the disk calls
sendfile(2) on a second descriptor of the connection, which never blocks on the network, and the event loop waits until
the connection takes more. (A second descriptor, because the loop may close its own at any moment and the number may
become another connection's.)
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Final

from tawara.disks.pools import DevicePools

_STEP: Final = 1024 * 1024
_SMALL_STEPS: Final = 16


class FileShrank(ConnectionError):
    """The file ended before the announced length; the connection cannot be used any more"""


async def send_file(
    transport: asyncio.Transport,
    file: int,
    offset: int,
    count: int,
    *,
    pools: DevicePools,
    pool_name: str,
    timeout: float,
) -> None:
    """Send `count` bytes from `offset` of the file open as `file`, after what `transport` still has to write.

    Raises ConnectionError when the peer is gone, TimeoutError when it reads nothing for `timeout` seconds, OSError
    when the disk fails.
    """
    descriptor = os.dup(transport.get_extra_info("socket").fileno())
    try:
        while transport.get_write_buffer_size():
            if transport.is_closing():
                raise ConnectionResetError
            await _writable(descriptor, timeout)
        end = offset + count
        while offset < end:
            offset, blocked = await pools.run(pool_name, partial(_send_some, descriptor, file, offset, end))
            if blocked:
                await _writable(descriptor, timeout)
    finally:
        os.close(descriptor)


def _send_some(connection: int, file: int, offset: int, end: int) -> tuple[int, bool]:
    """Send until the connection would block, or until other work of the pool should run."""
    for _ in range(_SMALL_STEPS):
        try:
            sent = os.sendfile(connection, file, offset, min(_STEP, end - offset))
        except BlockingIOError:
            return offset, True
        if not sent:
            raise FileShrank
        offset += sent
        if offset == end:
            break
    return offset, False


async def _writable(descriptor: int, timeout: float) -> None:
    """Wait until the connection is writable or has failed. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(descriptor, tell)
    try:
        async with asyncio.timeout(timeout):
            await ready
    finally:
        loop.remove_writer(descriptor)
