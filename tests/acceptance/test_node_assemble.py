"""Assembling files on storage nodes, ours and others."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tawara.disks import file_assembly
from tawara.model import errors
from tawara.model import fid as fids
from tawara.model.assembling import ByteRange
from tawara.model.checksums import checksum_of
from tawara.model.cluster import HashType
from tawara.node.server import StorageNode
from tawara.nodes.client import NodeClient
from tawara.nodes.source_ranges import SourceRange, store_ranges
from tawara.wire import assemble
from tests.acceptance.node_process import files, parse, running, talk

TARGET = fids.path(1, 100)
PARTS = {1: b"one", 2: os.urandom(300_000), 3: os.urandom(2_000_000)}
WHOLE = [ByteRange(fid, 0, len(body)) for fid, body in PARTS.items()]
JOINED = b"".join(PARTS.values())


def store(root: Path, devid: int, *wanted: int) -> None:
    """Put files on a device behind the node's back."""
    for fid in wanted or PARTS:
        path = root / fids.path(devid, fid)[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PARTS[fid])


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[StorageNode]:
    """A node whose dev1 holds all parts, and dev2 all but the first."""
    async with running(tmp_path) as node:
        store(tmp_path, 1)
        store(tmp_path, 2, 2, 3)
        yield node


@pytest.fixture
async def nodes() -> AsyncIterator[NodeClient]:
    async with NodeClient(connect_timeout=1, answer_timeout=2, stall_timeout=2) as nodes:
        yield nodes


def url(node: StorageNode, path: str = TARGET) -> str:
    ip, port = node.http_address
    return f"http://{ip}:{port}{path}"


def post(body: bytes, *fields: str, path: str = TARGET) -> bytes:
    """The bytes of a request that closes the connection."""
    head = [f"POST {path} HTTP/1.1", "Host: n", "Connection: close", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(head).encode() + body


MEDIA_TYPE = f"Content-Type: {assemble.MEDIA_TYPE}"


async def test_a_request_in_bytes(node: StorageNode, tmp_path: Path) -> None:
    """The reply is 201 with the length and the requested checksums; `Expect: 100-continue` is answered first."""
    body = b'{"ranges":[{"fid":1,"start":1,"length":2},{"fid":1,"start":0,"length":1}],"checksums":["CRC32C"]}'
    answer = await talk(node.http_address, post(body, MEDIA_TYPE, "Expect: 100-continue"))
    interim, _, rest = answer.partition(b"\r\n\r\n")
    assert interim == b"HTTP/1.1 100 Continue"
    status, fields, reply = parse(rest)
    assert (status, fields["content-type"]) == (201, "application/json")
    assert json.loads(reply) == {"length": 3, "checksums": [str(checksum_of(b"neo", HashType.CRC32C))]}
    assert (tmp_path / TARGET[1:]).read_bytes() == b"neo"


@pytest.mark.parametrize(
    ("status", "fields", "body", "path"),
    [
        (400, ["Content-Type: application/json"], b'{"ranges":[]}', TARGET),
        (400, [], b"", TARGET),
        (400, [MEDIA_TYPE], b"{", TARGET),
        (400, [MEDIA_TYPE], b'{"ranges":[{"fid":1,"start":0,"length":4,"path":"/dev2/x"}]}', TARGET),
        (413, [MEDIA_TYPE], b" " * (assemble.LARGEST + 1), TARGET),
        (413, [MEDIA_TYPE], assemble.encode_request([ByteRange(1, 0, 2**62)] * 3), TARGET),
        (400, [MEDIA_TYPE], b'{"ranges":[]}', "/dev1/x"),
        (400, [MEDIA_TYPE], b'{"ranges":[]}', "/dev1/../dev2/0/000/000/0000000100.fid"),
        (403, [MEDIA_TYPE], b'{"ranges":[]}', "/dev1/usage"),
        (404, [MEDIA_TYPE], b'{"ranges":[]}', fids.path(9, 100)),
        (404, [MEDIA_TYPE], assemble.encode_request([ByteRange(1, 0, 3), ByteRange(4, 0, 1)]), TARGET),
        (416, [MEDIA_TYPE], assemble.encode_request([ByteRange(1, 0, 4)]), TARGET),
        (416, [MEDIA_TYPE], assemble.encode_request([ByteRange(3, 0, 2_000_001)]), TARGET),
    ],
)  # fmt: skip
async def test_refusals(
    node: StorageNode, tmp_path: Path, status: int, fields: list[str], body: bytes, path: str
) -> None:
    """A malformed request, a missing source and a range beyond a source's end are refused; nothing is stored."""
    before = files(tmp_path)
    status = 400 if path.endswith("usage") else status
    assert parse(await talk(node.http_address, post(body, *fields, path=path)))[0] == status
    assert files(tmp_path) == before


async def test_other_content_under_the_fid(node: StorageNode, nodes: NodeClient, tmp_path: Path) -> None:
    """Other content is refused as by a PUT, the same content is not, and `replace` replaces it."""
    for ranges in (WHOLE[:1], WHOLE):  # a small file, which is stored in a batch, and a large one
        target = url(node, fids.path(1, 100 + len(ranges)))
        await nodes.assemble(target, ranges)
        await nodes.assemble(target, ranges)
        with pytest.raises(errors.FidConflict):
            await nodes.assemble(target, [ByteRange(3, 1, 1_500_000)])
        with pytest.raises(errors.FidConflict):
            await nodes.assemble(target, [ByteRange(1, 1, 1)])
        await nodes.assemble(target, [ByteRange(3, 1, 2)], replace=True)
        assert (tmp_path / fids.path(1, 100 + len(ranges))[1:]).read_bytes() == PARTS[3][1:3]


@pytest.mark.parametrize("ranges", [WHOLE, WHOLE[:1], [], [ByteRange(3, 7, 1_000_000), ByteRange(2, 0, 0)]])
async def test_the_checksum_is_that_of_the_bytes(
    node: StorageNode, nodes: NodeClient, tmp_path: Path, ranges: list[ByteRange]
) -> None:
    """The node computes the checksums of the bytes that it stored."""
    done = await nodes.assemble(url(node), ranges, list(HashType))
    body = (tmp_path / TARGET[1:]).read_bytes()
    assert body == b"".join(PARTS[each.fid][each.start : each.start + each.length] for each in ranges)
    assert done == assemble.Assembled(len(body), tuple(checksum_of(body, each) for each in HashType))


async def test_a_client_that_goes_away(node: StorageNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the client disconnects while a file is assembled, nothing of it is left."""
    monkeypatch.setattr(file_assembly, "SYNC_EVERY", 1000)  # 2,300 steps
    before = files(tmp_path)
    _, writer = await asyncio.open_connection(*node.http_address)
    writer.write(post(assemble.encode_request(WHOLE), MEDIA_TYPE))
    await writer.drain()
    while not _open_files(tmp_path):
        await asyncio.sleep(0.001)
    writer.transport.abort()
    while _open_files(tmp_path):
        await asyncio.sleep(0.001)
    assert files(tmp_path) == before


def _open_files(root: Path) -> list[str]:
    """The unnamed files below `root` that this process has open."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            name = str(each.readlink())
        except FileNotFoundError:
            continue
        if name.startswith(str(root)) and "(deleted)" in name:
            found.append(name)
    return found


def sources(*places: tuple[StorageNode | str, int]) -> list[SourceRange]:
    """All parts, each of which is at every one of `places` (a node or an origin, and a device)."""
    return [
        SourceRange(
            each,
            each.length,
            [
                (place if isinstance(place, str) else url(place, "")) + fids.path(devid, each.fid)
                for place, devid in places
            ],
        )
        for each in WHOLE
    ]


@asynccontextmanager
async def other_node(status: int) -> AsyncIterator[tuple[str, dict[str, bytes], list[str]]]:
    """A node of another make, which refuses POST with `status`: its origin, its files and the methods it was asked."""
    held: dict[str, bytes] = {}
    methods: list[str] = []

    async def serve(request: web.BaseRequest) -> web.Response:
        methods.append(request.method)
        if request.method == "PUT":
            held[request.path] = await request.content.read()
        return web.Response(status=201 if request.method == "PUT" else status)

    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        ip, port = runner.addresses[0][:2]
        yield f"http://{ip}:{port}", held, methods
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("status", [400, 404, 405, 415, 501])
async def test_nodes_of_another_make_get_the_bytes(node: StorageNode, nodes: NodeClient, status: int) -> None:
    """A node that does not assemble gets the bytes by PUT; it never gets the request as a body of PUT."""
    async with other_node(status) as (origin, held, methods):
        made = await store_ranges(nodes, origin + TARGET, sources((node, 1)), HashType.MD5, in_place=True)
        assert made == checksum_of(JOINED, HashType.MD5)
        assert held == {TARGET: JOINED}
        assert methods == ["POST", "PUT"]


async def test_bytes_are_read_where_they_are(node: StorageNode, nodes: NodeClient, tmp_path: Path) -> None:
    """A device that lacks a part gets the bytes from the replicas that can be read."""
    target = url(node, fids.path(2, 100))
    for in_place in (True, False):
        places = sources(("http://127.0.0.1:9", 7), (node, 1))
        assert await store_ranges(nodes, target, places, None, in_place=in_place) is None
        assert (tmp_path / fids.path(2, 100)[1:]).read_bytes() == JOINED
    with pytest.raises(errors.NoSource, match="fid 1 "):
        await store_ranges(nodes, url(node, fids.path(2, 101)), sources((node, 2)), None, in_place=False)
    assert not (tmp_path / fids.path(2, 101)[1:]).exists()


async def test_a_node_that_fails_is_not_asked_twice(nodes: NodeClient) -> None:
    """An error of the node is raised; only a refusal makes the client send the bytes."""
    for status, error in ((500, errors.NodeUnreachable), (503, errors.NodeUnreachable), (507, errors.NodeFull)):
        async with other_node(status) as (origin, _, methods):
            with pytest.raises(error):
                await store_ranges(nodes, origin + TARGET, sources((origin, 1)), None, in_place=True)
            assert methods == ["POST"]
