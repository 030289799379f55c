"""When a connection of the side channel counts as idle, and what a listener may close."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from tawara.listening import Sheddable
from tawara.model.limits import Limits
from tawara.node.side_channel import SideChannel


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.aborted = self.closing = False

    def write(self, data: Any) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted = self.closing = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class _Pools:
    """Answers each size when the test lets it."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def of(self, path: str) -> str:
        return "dev1"

    async def run(self, *_: object) -> int:
        await self.go_on.wait()
        return 7


def _is_sheddable(connection: object) -> bool:
    return isinstance(connection, Sheddable)


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_connection_is_idle_while_no_request_is_answered() -> None:
    """A new connection is idle, one whose request is being answered is not, and then it is idle again."""
    pools, closed = _Pools(), list[int]()
    devices = cast("Any", SimpleNamespace(size=None))
    channel = SideChannel(devices, cast("Any", pools), Limits())
    connection = cast("Any", channel.connection(lambda: closed.append(1)))
    assert _is_sheddable(connection)
    connection.connection_made(transport := _Transport())
    began = connection.idle_since()
    assert began is not None
    connection.data_received(b"size /dev1/x\r\n")
    await _settle()
    assert connection.idle_since() is None
    pools.go_on.set()
    await _settle()
    assert transport.sent == b"/dev1/x 7\r\n"
    assert connection.idle_since() > began
    connection.connection_lost(None)
    await _settle()
    assert closed == [1]
    await channel.close()


async def test_a_request_of_http_is_cut_off() -> None:
    """A browser's request aborts the connection, and its further lines are not carried out."""
    channel = SideChannel(cast("Any", None), cast("Any", _Pools()), Limits())
    connection: Any = channel.connection(lambda: None)
    connection.connection_made(transport := _Transport())
    connection.data_received(b"POST / HTTP/1.1\r\nsize /dev1/x\r\n")
    await _settle()
    assert (transport.aborted, transport.sent) == (True, b"")
    connection.connection_lost(None)
    await channel.close()
