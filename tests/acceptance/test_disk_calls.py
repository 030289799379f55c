"""While they serve, a storage node and a gateway make no disk access on the event loop's thread."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tawara.node.server import StorageNode
from tests.acceptance.disk_calls import nothing_on_disks
from tests.acceptance.gateway_fixture import store_fixture
from tests.acceptance.node_process import FILE, get, put, talk

SIZES = [0, 10, 300_000]


async def aside(node: StorageNode, said: bytes, lines: int) -> list[bytes]:
    """The first lines of the side channel's reply."""
    reader, writer = await asyncio.open_connection(*node.side_address)
    try:
        writer.write(said)
        return [await asyncio.wait_for(reader.readline(), 20) for _ in range(lines)]
    finally:
        writer.close()


async def answered(node: StorageNode) -> None:
    """Every kind of request, on every path."""
    address = node.http_address
    for size in SIZES:
        body = os.urandom(size)
        for status in (200, 200):  # the second replaces the same content
            assert (await talk(address, put(FILE, body))).startswith(b"HTTP/1.1 %d" % status)
        assert (await talk(address, put(FILE, b"other"))).startswith(b"HTTP/1.1 409")
        for fields in ([], ["Range: bytes=0-4"], ["Range: bytes=900000-"], ["Expect: x"]):
            assert (await get(address, FILE, *fields))[0] in (200, 206, 416)
        assert (await get(address, FILE, method="HEAD"))[0] == 200
        said = await aside(node, f"size {FILE}\r\nsize /dev1/no\r\nMD5 {FILE}\r\n".encode(), 3)
        assert hashlib.md5(body).hexdigest().encode() in said[-1]
        assert (await get(address, FILE, method="DELETE"))[0] == 204
    chunks = (
        b"PUT %s HTTP/1.1\r\nHost: n\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    assert (await talk(address, chunks % FILE.encode())).startswith(b"HTTP/1.1 200")
    broken = put(FILE, b"x" * 100_000)[:-10]  # a body that breaks off
    _, writer = await asyncio.open_connection(*address)
    writer.write(broken)
    await writer.drain()
    writer.close()
    for path in ("/dev1/usage", "/dev1/", "/", "/dev3/x", "/dev1/fids-0", "/dev1/nothing"):
        await get(address, path)
    assert (await get(address, "/dev1/a/b/", method="MKCOL"))[0] == 201
    assert (await get(address, FILE, method="DELETE"))[0] == 204
    await aside(node, b"watch\r\n", 1)


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "complete server"])
async def test_a_storage_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast_path: bool) -> None:
    """Files, lists, usage, sizes, digests, load and health are read on other threads, from the start on."""
    (tmp_path / "dev1").mkdir()
    (tmp_path / "dev2").mkdir()
    with nothing_on_disks(tmp_path, monkeypatch) as found:
        loopback = ("127.0.0.1", 0)
        node = StorageNode(tmp_path, http=loopback, side_channel=loopback, fast_path=fast_path)
        await node.start()
        try:
            await answered(node)
            await node._rounds.round()
            assert node._health is not None
            await node._health._check_devices()
        finally:
            await node.stop()
    assert not found, found[0]


@pytest.mark.parametrize("nginx", [True, False], ids=["nginx", "python"])
async def test_a_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nginx: bool) -> None:
    """Devices, received bodies and nginx's own directory are accessed on other threads only, from start to stop."""
    async with store_fixture(tmp_path, nginx=nginx) as one:
        with nothing_on_disks(tmp_path, monkeypatch) as found:
            for size in SIZES:
                body = os.urandom(size)
                for kind in ("three", "md5", "one"):
                    assert (await one.put(f"/d/{kind}?class={kind}", body)).status in (201, 204)
                    assert (await one.ask("GET", f"/d/{kind}")).body == body
                    await one.ask("GET", f"/d/{kind}", headers={"Range": "bytes=1-3"})
                    await one.ask("GET", f"/d/{kind}", headers={"Range": "bytes=1-18446744073709551615"})
            assert (await one.ask("PUT", "/d/none")).status == 401
            await one.gateway.stop()
    assert not found, found[0]


async def test_the_check_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call on this thread is detected, by path and by descriptor, and one on another thread is not."""
    (tmp_path / "file").write_text("x")
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    calls: list[Callable[[], object]] = [(tmp_path / "file").exists, (tmp_path / "file").read_text, tmp_path.stat]
    calls.append(lambda: os.read(descriptor, 1))
    with nothing_on_disks(tmp_path, monkeypatch) as found:
        for number, call in enumerate(calls, start=1):
            with pytest.raises(OSError, match="on the event loop"):
                call()
            assert len(found) == number
            await asyncio.to_thread(call)
            assert len(found) == number
    os.close(descriptor)
