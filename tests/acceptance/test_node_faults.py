"""Killed nodes, broken connections, and slow, excessive and numerous clients."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tawara.disks.devices import Devices
from tawara.disks.paths import INCOMING
from tawara.model.limits import Limits
from tests.acceptance.node_process import FILE, files, get, parse, process, put, resident, running, talk

HALF = f"PUT {FILE} HTTP/1.1\r\nHost: n\r\nContent-Length: 2000000\r\n\r\n".encode() + b"x" * 1_000_000
MEMORY = 150 * 1024 * 1024


async def until(true: Callable[[], bool]) -> None:
    """Wait until a condition holds, which must be soon."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.02)


def written(pid: int) -> int:
    """The bytes that a process has passed to write(2) and similar calls so far."""
    return int(Path(f"/proc/{pid}/io").read_text().split("wchar: ")[1].split()[0])


async def test_a_node_killed_during_a_put_leaves_nothing(tmp_path: Path) -> None:
    """After SIGKILL in the middle of an upload over an old file, the old file is complete and no other file exists."""
    async with process(tmp_path) as (child, address):
        assert parse(await talk(address, put(FILE, b"old")))[0] == 200
        _, writer = await asyncio.open_connection(*address)
        writer.write(HALF)
        await until(lambda: written(child.pid) > 900_000)
        child.kill()
        await child.wait()
        writer.close()
    assert (tmp_path / FILE[1:]).read_bytes() == b"old"
    async with process(tmp_path) as (_, address):
        assert (await get(address, FILE))[2] == b"old"
        assert files(tmp_path) == {FILE[1:]}


async def test_named_leftovers_are_removed_at_the_next_start(tmp_path: Path) -> None:
    """Without support for unnamed files, a killed upload leaves a hidden file, which the next start removes."""
    (tmp_path / "dev1").mkdir()
    child = os.fork()
    if not child:  # a writer that dies without a word, as under SIGKILL
        incoming = Devices(tmp_path, unnamed_files=False).receive(FILE)
        incoming.write(b"half")
        os._exit(0)
    os.waitpid(child, 0)
    (leftover,) = files(tmp_path)
    assert leftover.startswith(f"dev1/{INCOMING}/")
    async with process(tmp_path) as (_, address):
        assert files(tmp_path) == set()
        assert (await get(address, FILE))[0] == 404


async def test_a_broken_connection_leaves_nothing(tmp_path: Path) -> None:
    """A client that disconnects, in plain or chunked bodies, leaves neither a file nor a descriptor."""
    async with running(tmp_path) as node:
        descriptors = len(os.listdir("/proc/self/fd"))
        chunked = f"PUT {FILE} HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\nabc".encode()
        for said in (HALF, chunked):
            _, writer = await asyncio.open_connection(*node.http_address)
            writer.write(said)
            await writer.drain()
            await until(lambda: (tmp_path / "dev1/0/000/000").exists())
            writer.transport.abort()
        await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
        assert files(tmp_path) == set()


async def test_a_malformed_chunk_is_refused(tmp_path: Path) -> None:
    """A body that violates the chunked encoding gets 400 and is not stored."""
    async with running(tmp_path) as node:
        head = f"PUT {FILE} HTTP/1.1\r\nHost: n\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        answer = await talk(node.http_address, head + b"3\r\nabc\r\nzzz\r\n")
        assert parse(answer)[0] == 400
        assert files(tmp_path) == set()


async def test_a_stalled_body_is_given_up(tmp_path: Path) -> None:
    """After `stalled_body` without a byte the upload is refused with 408 and the connection closed."""
    async with running(tmp_path, Limits(stalled_body=0.3)) as node:
        reader, writer = await asyncio.open_connection(*node.http_address)
        writer.write(HALF)
        status, fields, _ = parse(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5))
        assert (status, fields["connection"]) == (408, "close")
        assert files(tmp_path) == set()
        writer.close()


async def test_an_unread_reply_is_given_up(tmp_path: Path) -> None:
    """A client that requests much and reads nothing is disconnected, whether the files are large or small."""
    async with running(tmp_path, Limits(stalled_body=0.3)) as node:
        (tmp_path / "dev1" / "large").write_bytes(b"x" * 50_000_000)
        (tmp_path / "dev1" / "small").write_bytes(b"x" * 60_000)
        for request in (b"GET /dev1/large HTTP/1.1\r\n\r\n", b"GET /dev1/small HTTP/1.1\r\nHost: n\r\n\r\n" * 1000):
            reader, writer = await asyncio.open_connection(*node.http_address, limit=1024)
            writer.write(request)
            await asyncio.sleep(1.0)  # longer than the node's patience; what is in buffers by now is all there will be
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await asyncio.wait_for(reader.readexactly(50_000_000), 5)
            writer.close()


@pytest.mark.parametrize("said", [b"", b"GET /dev1/us", b"GET /dev1/usage HTTP/1.1\r\nHost: n\r\nX: "])
async def test_an_incomplete_header_is_given_up(tmp_path: Path, said: bytes) -> None:
    """A connection without a complete header is closed after `header_time`, whether bytes arrive or not."""
    async with running(tmp_path, Limits(header_time=0.4)) as node:
        reader, writer = await asyncio.open_connection(*node.http_address)
        began = time.monotonic()
        writer.write(said)
        ended = asyncio.ensure_future(reader.read())
        while not ended.done():
            if said and not writer.is_closing():
                writer.write(b"a")
            await asyncio.wait([ended], timeout=0.05)
            assert time.monotonic() - began < 5
        assert time.monotonic() - began >= 0.3
        writer.close()


async def test_floods_of_headers_do_not_fill_the_memory(tmp_path: Path) -> None:
    """Clients that send endless headers are disconnected early, while others are served and memory stays bounded."""
    async with process(tmp_path) as (child, address):

        async def flood(start: bytes, more: bytes) -> int:
            sent = 0
            _, writer = await asyncio.open_connection(*address)
            try:
                writer.write(start)
                while sent < 20_000_000:
                    writer.write(more)
                    await writer.drain()
                    sent += len(more)
            except ConnectionError:
                pass
            finally:
                writer.close()
            return sent

        kinds = [
            (b"GET /dev1/x HTTP/1.1\r\n", b"X-Field: " + b"y" * 8000 + b"\r\n"),
            (b"GET /", b"a" * 65536),
            (b"GET /dev1/x HTTP/1.1\r\nX: ", b"b" * 65536),
            (b"", b"\x00\xff" * 32768),
        ]
        floods = [asyncio.create_task(flood(*kind)) for kind in kinds * 10]
        served = 0
        while not all(each.done() for each in floods):
            assert (await get(address, "/dev1/usage"))[0] == 200
            served += 1
        assert served
        assert max(await asyncio.gather(*floods)) < 20_000_000
        assert resident(child.pid) < MEMORY


async def test_floods_of_pipelined_requests_do_not_fill_the_memory(tmp_path: Path) -> None:
    """A client that sends requests without end and never reads is throttled, not buffered."""
    async with process(tmp_path) as (child, address):
        (tmp_path / "dev1" / "f").write_bytes(b"x" * 60_000)
        _, writer = await asyncio.open_connection(*address)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                while True:
                    writer.write(b"GET /dev1/f HTTP/1.1\r\nHost: n\r\n\r\n" * 1000)
                    await writer.drain()
        assert (await get(address, "/dev1/usage"))[0] == 200
        assert resident(child.pid) < MEMORY
        writer.transport.abort()


async def test_a_large_file_needs_little_memory(tmp_path: Path) -> None:
    """A few hundred MiB are stored and read in chunks, and the process stays small."""
    size, block = 320 * 1024 * 1024, os.urandom(1 << 20)
    async with process(tmp_path) as (child, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(f"PUT {FILE} HTTP/1.1\r\nHost: n\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size // len(block)):
            writer.write(block)
            await writer.drain()
        assert parse(await reader.readuntil(b"\r\n\r\n"))[0] == 200
        writer.write(f"GET {FILE} HTTP/1.1\r\nHost: n\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(size // len(block)):
            assert await reader.readexactly(len(block)) == block
        assert resident(child.pid) < MEMORY
        writer.close()


async def test_connections_beyond_the_limit_wait(tmp_path: Path) -> None:
    """With a limit of two connections, a third is served as soon as one is closed."""
    async with running(tmp_path, Limits(connections=2)) as node:
        inside = [await asyncio.open_connection(*node.http_address) for _ in range(2)]
        for reader, writer in inside:
            writer.write(b"HEAD /dev1/usage HTTP/1.1\r\nHost: n\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
        third = asyncio.create_task(get(node.http_address, "/dev1/usage"))
        assert not (await asyncio.wait([third], timeout=0.3))[0]
        inside[0][1].close()
        assert (await asyncio.wait_for(third, 5))[0] == 200
        inside[1][1].close()


async def test_stopping_takes_less_than_five_seconds(tmp_path: Path) -> None:
    """Idle, half-sent and unread connections do not delay a stop, and an interrupted upload leaves nothing."""
    async with running(tmp_path) as node:
        (tmp_path / "dev1" / "large").write_bytes(b"x" * 50_000_000)
        writers = []
        for said in (b"", b"GET /de", HALF, b"GET /dev1/large HTTP/1.1\r\n\r\n"):
            _, writer = await asyncio.open_connection(*node.http_address)
            writer.write(said)
            writers.append(writer)
        _, side = await asyncio.open_connection(*node.side_address)
        side.write(b"watch\n")
        await until(lambda: (tmp_path / "dev1/0/000/000").exists())
        began = time.monotonic()
        await node.stop()
        assert time.monotonic() - began < 5
        for writer in (*writers, side):
            writer.close()
        assert files(tmp_path) == {"dev1/large"}


async def test_a_hanging_disk_delays_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While every request for one disk hangs, another disk is served, and a node on both starts."""
    over = threading.Event()

    def hanging(real: Callable[[Devices, str], Any]) -> Callable[[Devices, str], Any]:
        def call(self: Devices, path: str) -> Any:
            if "dev1" in path:
                over.wait(20)
            return real(self, path)

        return call

    monkeypatch.setattr(Devices, "open", hanging(Devices.open))
    monkeypatch.setattr(Devices, "usage", hanging(Devices.usage))
    (tmp_path / "dev1").mkdir()
    (tmp_path / "dev1" / "f").write_bytes(b"x")
    try:
        async with running(tmp_path) as node:
            stuck = [asyncio.create_task(get(node.http_address, "/dev1/f")) for _ in range(30)]
            await asyncio.sleep(0.1)
            assert (await asyncio.wait_for(get(node.http_address, "/dev2/usage"), 5))[0] == 200
            assert not any(each.done() for each in stuck)
            over.set()
            assert {(await each)[0] for each in stuck} == {200}
    finally:
        over.set()


async def test_acknowledged_small_uploads_survive_a_kill(tmp_path: Path) -> None:
    """After SIGKILL, acknowledged uploads exist, others are complete or absent, and nothing else is left."""
    acknowledged: dict[str, bytes] = {}
    sent: dict[str, bytes] = {}

    async def upload(address: tuple[str, int], client: int) -> None:
        reader, writer = await asyncio.open_connection(*address)
        try:
            for number in range(10_000):
                name, body = f"dev1/0/000/{client % 3:03}/{client}-{number}", os.urandom(200 + 37 * client)
                sent[name] = body
                writer.write(put(f"/{name}", body).replace(b"Connection: close\r\n", b""))
                if (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 "):
                    acknowledged[name] = body
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with process(tmp_path) as (child, address):
        uploads = [asyncio.create_task(upload(address, client)) for client in range(24)]
        await until(lambda: len(acknowledged) > 200)
        child.kill()
        await asyncio.gather(*uploads)
    found = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    assert acknowledged.keys() <= found.keys()
    assert found.items() <= sent.items()
