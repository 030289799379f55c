"""The side channel in literal bytes (docs/mogilefs.md 18.3)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tawara.disks import disk_load
from tawara.disks.devices import DigestInProgress
from tawara.model.checksums import checksum_of
from tawara.model.cluster import HashType
from tawara.model.limits import Limits
from tawara.node import side_channel
from tawara.node.server import StorageNode
from tests.acceptance.node_process import get, running

ALMOST_A_REQUEST = rb"(size|MD5|SHA-1|CRC32C) /dev1\S{0,30}( \w+)?"
JUNK = st.lists(st.one_of(st.binary(max_size=80), st.from_regex(ALMOST_A_REQUEST)), max_size=8)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[StorageNode]:
    async with running(tmp_path) as node:
        yield node


async def ask(node: StorageNode, lines: bytes) -> bytes:
    """All that is received for `lines`, sent at once, until the node closes."""
    reader, writer = await asyncio.open_connection(*node.side_address)
    writer.write(lines)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer


async def test_replies_are_in_order(node: StorageNode, tmp_path: Path) -> None:
    """Sizes, digests, missing files and invalid lines, all sent at once, get one line each, in order."""
    data = os.urandom(9_000_000)
    (tmp_path / "dev1" / "f").write_bytes(data)
    md5, sha1 = hashlib.md5(data).hexdigest(), hashlib.sha1(data).hexdigest()
    crc = checksum_of(data, HashType.CRC64NVME).digest.hex()
    answer = await ask(
        node,
        b"MD5 /dev1/f\r\nsize /dev1/f\nSHA-1 /dev1/f fsck\r\n\r\ncrc64nvme /dev1/f\r\nsize /dev1/g\r\nMD5 /dev1/g\r\n"
        b"size /dev1/../f\r\nsize /dev9/f\r\nMD5 /dev1\r\nwurst\r\nsize /dev1/f\r\n",
    )
    assert answer.decode().split("\r\n") == [
        f"/dev1/f MD5={md5}",
        "/dev1/f 9000000",
        f"/dev1/f SHA-1={sha1}",
        f"/dev1/f CRC64NVME={crc}",
        "/dev1/g -1",
        "/dev1/g MD5=-1",
        "ERROR: uri invalid (contains ..)",
        "/dev9/f -1",
        "/dev1 MD5=-1",
        "ERR unknown command",
        "/dev1/f 9000000",
        "",
    ]


async def test_shutdown_is_not_honoured(node: StorageNode) -> None:
    """A client of the port cannot stop the node."""
    assert await ask(node, b"shutdown\r\nsize /dev1/f\r\n") == b"ERR shutdown is not honoured\r\n/dev1/f -1\r\n"
    assert (await get(node.http_address, "/dev1/usage"))[0] == 200


async def test_watch_streams_the_load_of_each_device(node: StorageNode) -> None:
    """About once a second a line for each device and a dot is sent, or an error if the system has no statistics."""
    reader, writer = await asyncio.open_connection(*node.side_address)
    writer.write(b"watch\r\n")
    first = await asyncio.wait_for(reader.readuntil(b"\n"), 5)
    if any(disk_load.disk_of(node.devices.docroot / name) for name in node.devices.names()):
        report = first + await asyncio.wait_for(reader.readuntil(b".\n"), 5)
        assert re.fullmatch(rb"1\t(\d+\.\d\d|-)\n2\t(\d+\.\d\d|-)\n\.\n", report)
    else:
        assert first == b"ERR iostat unavailable\r\n"
    writer.close()


async def test_watch_without_statistics(node: StorageNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the load cannot be determined, `watch` says so."""
    monkeypatch.setattr(disk_load, "_DISKSTATS", Path("/nonexistent"))
    assert await ask(node, b"watch\r\n") == b"ERR iostat unavailable\r\n"


async def test_checks_read_one_file_at_a_time_from_a_disk(
    node: StorageNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digests for fsck on one disk never overlap, those for other purposes may."""

    (tmp_path / "dev1" / "f").write_bytes(b"x" * 20_000_000)
    at_work = most = 0

    class Watched(DigestInProgress):
        def step(self) -> bool:
            nonlocal at_work, most
            if self.offset == 0:
                at_work += 1
                most = max(most, at_work)
            more = super().step()
            at_work -= not more
            return more

    monkeypatch.setattr(side_channel, "DigestInProgress", Watched)
    await asyncio.gather(*(ask(node, b"MD5 /dev1/f fsck\r\n") for _ in range(4)))
    assert most == 1
    await asyncio.gather(*(ask(node, b"MD5 /dev1/f\r\n") for _ in range(4)))
    assert most > 1


async def test_lines_of_an_http_request(node: StorageNode) -> None:
    """Lines after an HTTP request line, as in the body of a browser's POST, are not executed."""
    reader, writer = await asyncio.open_connection(*node.side_address)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nMD5 /dev1/f\r\n")
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_an_endless_line_is_disconnected(tmp_path: Path) -> None:
    """A line longer than the limit gets an error and the connection is closed; others are served."""
    async with running(tmp_path, Limits(line=1000)) as node:
        reader, writer = await asyncio.open_connection(*node.side_address)
        writer.write(b"size /" + b"a" * 5000)
        assert await asyncio.wait_for(reader.readline(), 5) == b"ERR line too long\r\n"
        assert await ask(node, b"size /dev1/f\r\n") == b"/dev1/f -1\r\n"
        writer.close()


async def test_an_incomplete_line_times_out(tmp_path: Path) -> None:
    """A client that stops sending is disconnected after the idle time."""
    async with running(tmp_path, Limits(side_channel_idle=0.2)) as node:
        reader, writer = await asyncio.open_connection(*node.side_address)
        writer.write(b"size /de")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 5)
        writer.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    junk=st.lists(
        st.one_of(st.binary(max_size=80), st.from_regex(rb"(size|MD5|SHA-1|CRC32C) /dev1\S{0,30}( \w+)?")), max_size=8
    )
)
@pytest.mark.slow
def test_garbage_gets_lines_without_internals(tmp_path: Path, junk: list[bytes]) -> None:
    """Any bytes get lines with an error message, and the node continues."""

    async def say() -> None:
        async with running(tmp_path) as node:
            lines = [each.replace(b"\n", b"").replace(b"watch", b"") for each in junk]
            answer = await ask(node, b"".join(each + b"\n" for each in lines))
            assert answer.count(b"\n") <= len(lines)
            assert b"Traceback" not in answer
            assert await ask(node, b"size /dev1/f\r\n") == b"/dev1/f -1\r\n"

    asyncio.run(say())
