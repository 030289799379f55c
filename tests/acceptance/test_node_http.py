"""The storage node's HTTP, in literal bytes (docs/mogilefs.md 8.5 and 18.1)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tawara.model import fid
from tawara.model.errors import PortTaken
from tawara.model.limits import Limits
from tawara.node.server import StorageNode
from tawara.wire import listing
from tests.acceptance.node_process import FILE, files, get, parse, process, put, running, talk

ALMOST_HTTP = rb"(GET|PUT|MKCOL) /dev1/[^\r\n]{0,80} HTTP/1\.[01]\r\n[^\0]{0,80}\r\n\r\n"
JUNK = st.one_of(st.binary(max_size=300), st.from_regex(ALMOST_HTTP))


@pytest.fixture(params=[True, False], ids=["fast path", "complete server"])
async def node(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[StorageNode]:
    """A node with the fast path, and one where all requests go to the complete HTTP server."""
    async with running(tmp_path, fast_path=request.param) as node:
        yield node


async def test_a_perl_client_of_http_1_0(node: StorageNode, tmp_path: Path) -> None:
    """An HTTP/1.0 PUT with Content-length gets 200, the file exists, the connection is closed."""
    answer = await talk(node.http_address, f"PUT {FILE} HTTP/1.0\r\nContent-length: 5\r\n\r\nhello".encode())
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert (tmp_path / FILE[1:]).read_bytes() == b"hello"


@pytest.mark.parametrize("size", [5, 200_000])
async def test_other_content_under_a_fid_is_refused(node: StorageNode, tmp_path: Path, size: int) -> None:
    """A PUT of other content under a fid gets 409 and changes nothing; a repeated one, and one that requests a
    replacement, succeed."""
    old, new = os.urandom(size), os.urandom(size)
    for body, fields, status, kept in (
        (old, (), 200, old),
        (old, (), 200, old),
        (new, (), 409, old),
        (new[:-1], (), 409, old),
        (new, ("Tawara-Replace: yes",), 200, new),
        (old, (), 409, new),
    ):
        answer = parse(await talk(node.http_address, put(FILE, body, *fields)))
        assert (answer[0], "tawara-conflict" in answer[1]) == (status, status == 409)
        assert (tmp_path / FILE[1:]).read_bytes() == kept
    assert files(tmp_path) == {FILE[1:]}


async def test_a_node_configured_to_replace(tmp_path: Path) -> None:
    """With `refuse_other_content` off, for a mogilefsd that repairs by PUT, other content replaces a fid's."""
    async with running(tmp_path, immutable=False) as node:
        for body in (b"old", b"new"):
            assert parse(await talk(node.http_address, put(FILE, body)))[0] == 200
    assert (tmp_path / FILE[1:]).read_bytes() == b"new"


async def test_keep_alive_of_http_1_0(node: StorageNode) -> None:
    """An HTTP/1.0 client that asks for keep-alive gets it, and the reply says so."""
    reader, writer = await asyncio.open_connection(*node.http_address)
    for _ in range(3):
        writer.write(b"GET /dev1/usage HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        status, fields, _ = parse(head)
        assert (status, fields["connection"].lower()) == (200, "keep-alive")
        await reader.readexactly(int(fields["content-length"]))
    writer.close()


async def test_chunked_with_expect(node: StorageNode, tmp_path: Path) -> None:
    """pymogile's upload: 100 Continue comes before the body, 200 after it."""
    reader, writer = await asyncio.open_connection(*node.http_address)
    head = f"PUT {FILE} HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    writer.write(head.encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
    assert (tmp_path / FILE[1:]).read_bytes() == b"hello world"
    writer.close()


async def test_expect_is_refused_before_the_body(node: StorageNode) -> None:
    """A client that asks first gets 404 for a missing device without sending its body."""
    head = b"PUT /dev9/x HTTP/1.1\r\nHost: n\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    reader, writer = await asyncio.open_connection(*node.http_address)
    writer.write(head)
    status, fields, _ = parse(await reader.readuntil(b"\r\n\r\n"))
    assert (status, fields["connection"]) == (404, "close")
    writer.close()


async def test_content_md5(node: StorageNode, tmp_path: Path) -> None:
    """A right digest is 201, a wrong one 400 with nothing stored: monitors detect thereby that the node verifies."""
    right = base64.b64encode(hashlib.md5(b".").digest()).decode()
    wrong = base64.b64encode(hashlib.md5(b"?").digest()).decode()
    path = "/dev1/test-write/test-md5"
    assert parse(await talk(node.http_address, put(path, b".", f"Content-MD5: {wrong}")))[0] == 400
    assert parse(await talk(node.http_address, put(path, b".", "Content-MD5: nonsense")))[0] == 400
    assert files(tmp_path) == set()
    assert parse(await talk(node.http_address, put(path, b".", f"Content-MD5: {right}")))[0] == 201
    assert files(tmp_path) == {path[1:]}


async def test_the_monitors_test_write(node: StorageNode) -> None:
    """MKCOL, PUT, GET, and a usage file with used and total that are not zero."""
    assert (await get(node.http_address, "/dev1/test-write/", method="MKCOL"))[0] == 201
    body = b"time=1 rand=42"
    assert parse(await talk(node.http_address, put("/dev1/test-write/test-write-42", body)))[0] == 200
    assert (await get(node.http_address, "/dev1/test-write/test-write-42"))[2] == body
    status, _, usage = await get(node.http_address, "/dev1/usage")
    lines = usage.decode().splitlines()
    facts = dict(line.split(": ") for line in lines)
    assert status == 200
    ours = ["file_system", "holds", "identity", "whole_disk"]
    assert list(facts) == sorted(["available", "device", "disk", "time", "total", "use", "used", *ours])
    assert int(facts["used"]) > 0
    assert int(facts["total"]) == int(facts["used"]) + int(facts["available"])


@pytest.mark.parametrize("size", [10, 200_000])
async def test_the_range_matrix(node: StorageNode, tmp_path: Path, size: int) -> None:
    """Parts, suffixes, clipped and impossible ranges, of files that are sent by either path."""
    data = os.urandom(size)
    (tmp_path / "dev1" / "f").write_bytes(data)
    for asked, part in {"2-5": data[2:6], "5-": data[5:], "-3": data[-3:], f"4-{size * 2}": data[4:]}.items():
        status, fields, body = await get(node.http_address, "/dev1/f", f"Range: bytes={asked}")
        assert (status, body) == (206, part)
        assert fields["content-range"].startswith("bytes ")
        assert fields["content-range"].endswith(f"/{size}")
    status, fields, _ = await get(node.http_address, "/dev1/f", f"Range: bytes={size}-")
    assert (status, fields["content-range"]) == (416, f"bytes */{size}")
    for asked in ("bytes=0-1,3-4", "bytes=9-1", "lines=1-2"):
        status, fields, body = await get(node.http_address, "/dev1/f", f"Range: {asked}")
        assert (status, body, fields["accept-ranges"]) == (200, data, "bytes")
    status, fields, body = await get(node.http_address, "/dev1/f", "Range: bytes=1-2", method="HEAD")
    assert (status, fields["content-length"], body) == (206, "2", b"")


async def test_conditions(node: StorageNode, tmp_path: Path) -> None:
    """304 if If-Modified-Since equals Last-Modified exactly; If-Range with another date returns the whole file."""
    (tmp_path / "dev1" / "f").write_bytes(b"0123456789")
    _, fields, _ = await get(node.http_address, "/dev1/f", method="HEAD")
    assert fields["content-length"] == "10"
    date = fields["last-modified"]
    old = "Thu, 01 Jan 1970 00:00:00 GMT"
    assert (await get(node.http_address, "/dev1/f", f"If-Modified-Since: {date}"))[::2] == (304, b"")
    assert (await get(node.http_address, "/dev1/f", f"If-Modified-Since: {old}"))[0] == 200
    assert (await get(node.http_address, "/dev1/f", "Range: bytes=1-2", f"If-Range: {date}"))[::2] == (206, b"12")
    assert (await get(node.http_address, "/dev1/f", "Range: bytes=1-2", f"If-Range: {old}"))[0] == 200


async def test_deleting(node: StorageNode) -> None:
    """204 for a file, 404 for a missing one, as rebalance requires."""
    await talk(node.http_address, put(FILE, b"x"))
    assert (await get(node.http_address, FILE, method="DELETE"))[0] == 204
    assert (await get(node.http_address, FILE, method="DELETE"))[0] == 404
    assert (await get(node.http_address, FILE))[0] == 404


@pytest.mark.parametrize("path", ["/", "/dev1", "/dev1/", "/dev1/0"])
async def test_directories_are_not_listed(node: StorageNode, tmp_path: Path, path: str) -> None:
    """A directory gets 200 and does not show its contents."""
    (tmp_path / "dev1" / "0").mkdir()
    status, _, body = await get(node.http_address, path)
    assert (status, body) == (200, b"Directory listing disabled\n")


async def test_the_files_of_a_device_are_listed_in_pages(
    node: StorageNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All fids with their sizes, each once, and no other file; the list cannot be written."""
    monkeypatch.setattr("tawara.disks.listing.PAGE_FILES", 3)
    wanted = {1: 1, 2: 2, 999: 3, 1000: 4, 123_456_789: 5, 9_999_999_999: 6, 12_345_678_901: 7}
    for number, size in wanted.items():
        await talk(node.http_address, put(fid.path(1, number), b"x" * size))
    directory = tmp_path / "dev1" / "0" / "000" / "000"
    (directory / "0000001001.fid").write_text("belongs elsewhere")
    (directory / "0000000003.fid").symlink_to(directory / "0000000001.fid")
    (directory / "0000000004.fid").mkdir()
    too_great = tmp_path / fid.path(1, 99_999_999_999_999_999_999)[1:]
    too_great.parent.mkdir(parents=True, exist_ok=True)
    too_great.write_text("no fid")
    (tmp_path / "dev1" / "0" / "001").symlink_to(tmp_path / "dev1" / "0" / "000")
    (tmp_path / "dev1" / "0" / "7").mkdir()
    found: dict[int, int] = {}
    pages = 0
    following: int | None = 0
    while following is not None:
        status, _, body = await get(node.http_address, listing.path(1, following))
        assert status == 200
        more, following = listing.decode(body, following)
        assert not more.keys() & found.keys()
        found |= more
        pages += 1
    assert found == wanted
    assert pages > 1
    assert (await get(node.http_address, "/dev2/fids-0"))[::2] == (200, b"end\n")
    assert (await get(node.http_address, "/dev1/fids-9999999"))[2] == b"9999999999 6\nend\n"
    assert (await get(node.http_address, "/dev1/fids-10000000"))[0] == 404
    assert (await get(node.http_address, "/dev9/fids-0"))[0] == 404
    assert parse(await talk(node.http_address, put("/dev1/fids-0", b"x")))[0] == 403
    assert (await get(node.http_address, "/dev1/fids-0", method="DELETE"))[0] == 403


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("POST /dev1/x", 400), ("PUT /x", 400), ("PUT /dev1", 400), ("PUT /dev9/x", 404), ("PUT /dev1/usage", 403),
        ("DELETE /dev1/usage", 403), ("GET /dev1/..", 400), ("GET /dev1/%2e%2e/secret", 400),
        ("GET /dev1/..%2fsecret", 400), ("GET /dev1/x%00y", 400), ("GET /dev1/../secret", 400),
        ("GET /dev1/link", 404), ("GET /dev1/out/secret", 404), ("PUT /dev1/out/new", 409),
        ("DELETE /dev1/out/secret", 404), ("MKCOL /dev1/out/new", 409), ("GET /dev1/~incoming/x", 400),
        ("GET http://node/dev1/../secret", 400), ("GET /secret", 400), ("GET /dev1/nothing?x=../y", 404),
    ],
)  # fmt: skip
async def test_nothing_outside_a_device_is_reachable(
    node: StorageNode, tmp_path: Path, request_line: str, status: int
) -> None:
    """Dots, escapes and links are refused, and nothing outside is read, changed or created."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "dev1" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "dev1" / "out").symlink_to(tmp_path)
    before = files(tmp_path)
    request = f"{request_line} HTTP/1.1\r\nHost: n\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    answer = await talk(node.http_address, request.encode())
    assert parse(answer)[0] == status
    assert b"secret" not in answer
    assert files(tmp_path) == before


async def test_a_part_does_not_replace_the_whole(node: StorageNode, tmp_path: Path) -> None:
    """PUT with Content-Range is refused, and so is one without a length."""
    assert parse(await talk(node.http_address, put(FILE, b"x", "Content-Range: bytes 1-1/3")))[0] == 400
    assert (await get(node.http_address, FILE, method="PUT"))[0] == 411
    assert files(tmp_path) == set()


async def test_encoded_content_is_stored_unchanged(node: StorageNode, tmp_path: Path) -> None:
    """A body with a Content-Encoding of gzip is stored as any other."""
    await talk(node.http_address, put(FILE, b"not gzip", "Content-Encoding: gzip"))
    assert (tmp_path / FILE[1:]).read_bytes() == b"not gzip"


async def test_pipelined_requests_are_answered_in_order(node: StorageNode, tmp_path: Path) -> None:
    """Small and large replies keep their order and their boundaries on one connection."""
    (tmp_path / "dev1" / "large").write_bytes(b"L" * 300_000)
    (tmp_path / "dev1" / "small").write_bytes(b"s")
    asked = ["large", "small"] * 5
    requests = [f"GET /dev1/{name} HTTP/1.1\r\nHost: n\r\n" for name in asked]
    requests[-1] += "Connection: close\r\n"
    answer = await talk(node.http_address, "".join(each + "\r\n" for each in requests).encode())
    for name in asked:
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        length = 300_000 if name == "large" else 1
        assert rest[:length] == name[0].upper().encode() * length if name == "large" else rest[:1] == b"s"
        answer = rest[length:]
    assert answer == b""


@pytest.mark.slow
async def test_large_files_on_uvloop(tmp_path: Path) -> None:
    """The released process sends a large file and its parts byte for byte, also to a slow reader."""
    data = os.urandom(5_000_000)
    async with process(tmp_path) as (_, address):
        assert parse(await talk(address, put(FILE, data)))[0] == 200
        assert (await get(address, FILE))[2] == data
        assert (await get(address, FILE, "Range: bytes=70000-4000000"))[2] == data[70000:4000001]
        reader, writer = await asyncio.open_connection(*address, limit=4096)
        writer.write(f"GET {FILE} HTTP/1.0\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.3)  # the peer's buffers are full now
        assert await reader.readexactly(len(data)) == data
        writer.close()


async def test_a_port_in_use_is_reported(node: StorageNode, tmp_path: Path) -> None:
    """The second node names the port in use and its purpose, HTTP."""
    second = StorageNode(tmp_path, http=node.http_address, side_channel=None)
    with pytest.raises(PortTaken, match=f"{node.http_address[1]} is taken; the storage node's HTTP wants it"):
        await second.start()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=JUNK)
@pytest.mark.slow
def test_garbage_gets_a_reply_without_internals(tmp_path: Path, junk: bytes) -> None:
    """Any bytes get a status or a closed connection, never a traceback or a 500."""

    async def say() -> None:
        async with running(tmp_path, Limits(header_time=0.2)) as node:
            answer = await talk(node.http_address, junk)
            assert not answer or answer.startswith(b"HTTP/1.")
            assert b"Traceback" not in answer
            assert not answer.startswith(b"HTTP/1.1 500")
            assert (await get(node.http_address, "/dev1/usage"))[0] == 200

    asyncio.run(say())
