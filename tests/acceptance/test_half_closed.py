"""Clients that send all their requests and then close their sending side, as `nc -N` does."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.acceptance.gateway_fixture import SECRET, store_fixture
from tests.acceptance.node_process import FILE, running

LARGE = os.urandom(3_000_000)


async def say(address: tuple[str, int], said: bytes) -> bytes:
    """All that is received after everything was sent, and the sending side closed at once."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(said)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), 15)
    finally:
        writer.close()


def get(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


def put(path: str, body: bytes, *fields: str) -> bytes:
    head = "\r\n".join([f"PUT {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *fields, "", ""])
    return head.encode() + body


STRANGE = "Expect: nothing"
"""A field with which the whole HTTP server gets a request."""


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "complete server"])
async def test_a_storage_node(tmp_path: Path, fast_path: bool) -> None:
    """A node answers all requests that were sent at once, small and large, plain and not, and then closes."""
    async with running(tmp_path, fast_path=fast_path) as node:
        address = node.http_address
        assert (await say(address, put(FILE, b"hello"))).startswith(b"HTTP/1.1 200 ")
        assert (await say(address, put("/dev1/large", LARGE))).startswith(b"HTTP/1.1 200 ")
        assert (await say(address, get(FILE))).endswith(b"\r\n\r\nhello")
        assert (await say(address, get("/dev1/large"))).endswith(LARGE)
        for fields in ([], [STRANGE]):
            several = (
                get(FILE) + put("/dev2/f", b"2", *fields) + get("/dev1/large", *fields) + get("/dev2/f") + get(FILE)
            )
            answer = await say(address, several)
            assert answer.count(b"HTTP/1.1 200 OK\r\n") == 5
            assert LARGE in answer and answer.endswith(b"\r\n\r\nhello")
        assert b"HTTP/1.1 200" not in await say(address, put("/dev1/half", b"x" * 1000)[:-1])
        assert not (tmp_path / "dev1" / "half").exists()
        assert await say(address, b"") == b""


@pytest.mark.parametrize("nginx", [True, False], ids=["nginx", "python"])
async def test_a_gateway(tmp_path: Path, nginx: bool) -> None:
    """The gateway answers complete requests, and reports no success for a body that breaks off."""
    bearer = f"Authorization: Bearer {SECRET}"
    async with store_fixture(tmp_path, nginx=nginx) as one:
        address = one.gateway.address
        assert (await say(address, put("/d/k", b"hello", bearer))).startswith(b"HTTP/1.1 201 ")
        assert (await say(address, get("/d/k"))).endswith(b"\r\n\r\nhello")
        assert (await say(address, get("/d/nothing"))).startswith(b"HTTP/1.1 404 ")
        assert (await say(address, get("/d/", bearer))).startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 2" not in await say(address, put("/d/half", b"x" * 1000, bearer)[:-1])
        assert await one.find(b"half") is None
        answer = await say(address, get("/d/k") + get("/d/nothing") + get("/d/k", "Range: bytes=1-2"))
        assert [answer.count(status) for status in (b" 200 OK\r\n", b" 404 Not", b" 206 Part")] == [1, 1, 1]
        if not nginx:
            assert (await say(address, put("/d/large", LARGE, bearer))).startswith(b"HTTP/1.1 201 ")
            assert (await say(address, get("/d/large"))).endswith(LARGE)
