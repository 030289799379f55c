"""TCP segments: the head and the body of a PUT, and of a reply to GET, never wait for each other. If they are two small
segments on a connection with Nagle's algorithm, the second waits until the peer acknowledges the first, which it delays
by 40 ms (RFC 896; RFC 1122, section 4.2.3.2). So they are sent in one segment if possible, and on connections without
the algorithm. The kernel counts the received segments with data."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tawara.node.server import StorageNode
from tawara.nodes.client import NodeClient

BODY = b"x" * 1024
_DATA_SEGMENTS_IN = 152
"""Offset of tcpi_data_segs_in in struct tcp_info (linux/tcp.h)."""


def _data_segments_in(connection: socket.socket) -> int:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
    return int.from_bytes(info[_DATA_SEGMENTS_IN : _DATA_SEGMENTS_IN + 4], "little")


def _other_end(connection: socket.socket) -> socket.socket:
    """The other end of `connection`, which is in this process, too."""
    for each in os.listdir("/proc/self/fd"):
        try:
            candidate = socket.socket(fileno=os.dup(int(each)))
        except OSError:
            continue  # no socket, or the listing itself
        try:
            if candidate.type == socket.SOCK_STREAM and candidate.getsockname() == connection.getpeername():
                return candidate
        except OSError:
            pass  # not connected
        candidate.close()
    raise AssertionError("the other end is not here")


class _Receiver:
    """Answers one PUT at a time, and records the number of its segments and whether Nagle's algorithm was on."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bool]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport_socket = writer.get_extra_info("socket")
        with socket.socket(fileno=os.dup(transport_socket.fileno())) as ours, _other_end(ours) as theirs:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            if length is not None:
                await reader.readexactly(int(length[1]))
            else:
                await reader.readuntil(b"0\r\n\r\n")
            nodelay = theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            self.seen.append((_data_segments_in(ours), bool(nodelay)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()


async def _pieces() -> AsyncIterator[bytes]:
    yield BODY[:500]
    yield BODY[500:]


@asynccontextmanager
async def _receiving() -> AsyncIterator[tuple[_Receiver, str]]:
    receiver = _Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    async with server:
        yield receiver, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dev1/0/000/000/0000000001.fid"


@pytest.mark.parametrize(
    ("put", "segments"),
    [
        (lambda nodes, url: nodes.put(url, BODY, length=len(BODY)), 1),
        (lambda nodes, url: nodes.put(url, BODY, length=len(BODY), md5=bytes(16)), 1),
        (lambda nodes, url: nodes.put(url, _pieces(), length=len(BODY)), 2),
        (lambda nodes, url: nodes.put(url, _pieces(), length=None), 3),
    ],
    ids=["bytes", "with a digest", "pieces, as a copy", "pieces of unknown length"],
)
async def test_a_put(put: Callable[[NodeClient, str], Awaitable[None]], segments: int) -> None:
    """The head is sent with the first piece of the body, and no piece waits for an acknowledgement."""
    async with _receiving() as (receiver, url), NodeClient() as nodes:
        await put(nodes, url)
    ((seen, nodelay),) = receiver.seen
    assert nodelay
    assert 1 <= seen <= segments


@pytest.mark.parametrize(("size", "most"), [(1024, 1), (300_000, 300_000 // 16_384)], ids=["small", "by sendfile"])
async def test_a_reply_to_get(tmp_path: Path, size: int, most: int) -> None:
    """A storage node's reply is sent in one segment; a long one on a connection without Nagle's algorithm."""
    (tmp_path / "dev1").mkdir()
    (tmp_path / "dev1" / "x").write_bytes(bytes(size))
    node = StorageNode(tmp_path, http=("127.0.0.1", 0), side_channel=None)
    await node.start()
    try:
        reader, writer = await asyncio.open_connection(*node.http_address)
        writer.write(b"GET /dev1/x HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head
        await reader.readexactly(size)
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as ours, _other_end(ours) as theirs:
            assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert 1 <= _data_segments_in(ours) <= most
        writer.close()
        await writer.wait_closed()
    finally:
        await node.stop()
