"""The fast path of a storage node and its complete HTTP server give identical replies."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import os
from pathlib import Path

import pytest

from tests.acceptance.node_process import FILE, running

MODIFIED = "Sun, 09 Sep 2001 01:46:40 GMT"
MD5 = base64.b64encode(hashlib.md5(b"abc").digest()).decode()
Said = tuple[str, dict[str, str], bytes, bool]
"""Status line, fields but the date, body, whether the connection was kept."""

CONDITIONS: tuple[list[str], ...] = (
    [], ["Range: bytes=1-3"], ["Range: bytes=-2"], ["Range: bytes=999999-"], ["Range: lines=1"],
    [f"If-Modified-Since: {MODIFIED}"], ["If-Modified-Since: yesterday"],
    [f"If-Range: {MODIFIED}", "Range: bytes=1-3"], ["If-Range: x", "Range: bytes=1-3"],
)  # fmt: skip
READS = [
    (f"{method} /dev1/{name}", fields, b"")
    for method in ("GET", "HEAD")
    for name in ("f", "empty", "large", "nothing", "d", "f/below")
    for fields in CONDITIONS
]
WRITES = [
    ("PUT /dev1/x/y", ["Content-Length: 3"], b"abc"),
    ("PUT /dev1/x/y", ["Content-Length: 0"], b""),
    ("PUT /dev1/x/y", ["Content-Length: 3", f"Content-MD5: {MD5}"], b"abc"),
    ("PUT /dev1/x/y", ["Content-Length: 3", f"Content-MD5: {MD5}"], b"xyz"),
    ("PUT /dev1/x/y", ["Content-Length: 3", "Content-MD5: x"], b"abc"),
    ("PUT /dev1/usage", ["Content-Length: 3"], b"abc"),
    ("PUT /dev1/d", ["Content-Length: 3"], b"abc"),
    ("PUT /dev1/f/below", ["Content-Length: 3"], b"abc"),
    (f"PUT {FILE}", ["Content-Length: 3"], b"abc"),
    (f"PUT {FILE}", ["Content-Length: 3"], b"abc"),
    (f"PUT {FILE}", ["Content-Length: 3"], b"xyz"),
    (f"PUT {FILE}", ["Content-Length: 3", "Tawara-Replace: yes"], b"xyz"),
    ("DELETE /dev1/x/y", [], b""),
    ("DELETE /dev1/x/y", [], b""),
    ("DELETE /dev1/d", [], b""),
    ("DELETE /dev1/usage", [], b""),
    ("MKCOL /dev1/x/z", [], b""),
    ("MKCOL /dev1/d", [], b""),
    ("MKCOL /dev1/f", [], b""),
]
KEEPING: tuple[tuple[str, list[str]], ...] = (
    ("1.1", []),
    ("1.1", ["Connection: close"]),
    ("1.0", []),
    ("1.0", ["Connection: Keep-Alive"]),
)


async def ask(address: tuple[str, int], request: bytes) -> Said:
    """The reply to one request."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        status, *lines = head.decode().rstrip().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines)
        date = fields.pop("Date")
        assert date.endswith(" GMT")
        bodiless = request.startswith(b"HEAD") or status.split()[1] in ("204", "304")
        body = b"" if bodiless else await asyncio.wait_for(reader.readexactly(int(fields["Content-Length"])), 20)
        writer.write(b"MKCOL /dev1/kept HTTP/1.0\r\n\r\n")
        try:
            kept = bool(await asyncio.wait_for(reader.read(), 20))
        except ConnectionError:
            kept = False
        return status, fields, body, kept
    finally:
        writer.close()


async def hear(root: Path, version: str, connection: list[str], *, fast_path: bool) -> list[Said]:
    """The replies of a node with some files to all requests."""
    root.mkdir()
    async with running(root, fast_path=fast_path) as node:
        (root / "dev1" / "d").mkdir()
        for name, data in {"f": b"0123456789", "empty": b"", "large": os.urandom(10) * 10_000}.items():
            (root / "dev1" / name).write_bytes(data[:10] if name == "f" else b"L" * len(data))
            os.utime(root / "dev1" / name, (10**9, 10**9))
        heard = []
        for line, fields, body in (*READS, *WRITES):
            lines = [f"{line} HTTP/{version}", "Host: n", *connection, *fields, "", ""]
            heard.append(await ask(node.http_address, "\r\n".join(lines).encode() + body))
        return heard


@pytest.mark.parametrize(("version", "connection"), KEEPING)
async def test_both_paths_reply_alike(tmp_path: Path, version: str, connection: list[str]) -> None:
    """Status, fields, body and keep-alive are the same for every plain request."""
    quick = await hear(tmp_path / "quick", version, connection, fast_path=True)
    whole = await hear(tmp_path / "whole", version, connection, fast_path=False)
    for asked, ours, theirs in zip(itertools.chain(READS, WRITES), quick, whole, strict=True):
        assert ours == theirs, asked
