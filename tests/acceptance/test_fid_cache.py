"""nginx's cache of files of other machines: never stale, shared by the gateways in one forwarding."""

from __future__ import annotations

import asyncio
import http.client
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tawara.disks.reading import FileRequest
from tawara.gateway.nginx import NginxFront
from tawara.gateway.server import Gateway
from tawara.model.cache_owners import cache_owner
from tawara.model.cache_settings import CacheSettings
from tawara.model.limits import Limits
from tawara.node import file_requests
from tawara.node import http as node_http
from tawara.nodes.client import NodeClient
from tests.acceptance.gateway_fixture import AUTHORISED, SECRET, StoreFixture, store_fixture
from tests.acceptance.store import free_ports

SETTINGS = CacheSettings(size=64 << 20, file=1 << 20)
DATA = os.urandom(65_536)
QUICK = Limits(node_connect=0.5)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each path was read from a storage node."""
    counted: Counter[str] = Counter()

    def count(target: str, body: bool) -> object:
        counted[target] += body
        return FileRequest(target, body)

    for module in (file_requests, node_http):
        monkeypatch.setattr(module, "FileRequest", count)
    return counted


def read(address: tuple[str, int], path: str, times: int = 1, headers: dict[str, str] | None = None) -> list[bytes]:
    """The bodies of some GETs on one connection; each is complete."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        bodies = []
        for _ in range(times):
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            bodies.append(response.read())
            assert response.status in (200, 206), (response.status, bodies[-1])
        return bodies
    finally:
        connection.close()


async def test_a_remote_file_is_read_twice_at_most(tmp_path: Path, fetched: Counter[str]) -> None:
    """Many reads of a file on another machine reach a node at most twice, and after an overwrite again; any ranges."""
    async with store_fixture(tmp_path, nginx=True, local=False, cache=SETTINGS) as store:
        assert (await store.put("/d/k?class=one", DATA)).status == 201
        assert set(await asyncio.to_thread(read, store.gateway.address, "/d/k", 100)) == {DATA}
        assert 1 <= fetched.total() <= 2
        before = fetched.total()
        for field, part in (("bytes=0-9", DATA[:10]), ("bytes=-7", DATA[-7:]), ("bytes=60000-", DATA[60_000:])):
            answer = await store.ask("GET", "/d/k", headers={"Range": field})
            assert (answer.status, answer.body, answer["Accept-Ranges"]) == (206, part, "bytes")
            assert answer["Content-Range"] and answer["Content-Length"] == str(len(part))
        whole = await store.ask("GET", "/d/k", headers={"Range": "bytes=0-1,5-6"})
        assert (whole.status, whole.body) == (200, DATA)
        etag = whole["ETag"] or ""
        assert (await store.ask("GET", "/d/k", headers={"If-None-Match": etag})).status == 304
        assert (await store.ask("GET", "/d/k", headers={"If-Match": etag, "Range": "bytes=1-2"})).body == DATA[1:3]
        assert fetched.total() == before
        for name in ("ETag", "Last-Modified", "Content-Type", "X-Content-Type-Options"):
            assert len(whole.headers.get_all(name) or ()) == 1
        await store.stop_node((await store.stored(b"k")).devids[0])
        assert await asyncio.to_thread(read, store.gateway.address, "/d/k") == [DATA]


async def test_an_uncached_range(tmp_path: Path, fetched: Counter[str]) -> None:
    """The first reads, which fill the cache, may be ranges; large files are not cached, and their ranges are passed."""
    async with store_fixture(tmp_path, nginx=True, local=False, cache=replace(SETTINGS, file=65_536)) as store:
        for size in (65_536, 65_537):
            data = os.urandom(size)
            assert (await store.put(f"/d/{size}?class=one", data)).status == 201
            fetched.clear()
            for _ in range(4):
                answer = await store.ask("GET", f"/d/{size}", headers={"Range": "bytes=100-199"})
                assert (answer.status, answer.body) == (206, data[100:200])
            assert fetched.total() == (2 if size == 65_536 else 4)


async def test_an_overwrite_is_read_at_once(tmp_path: Path) -> None:
    """The very next read after an overwrite has the new bytes, however often the old ones were read."""
    async with store_fixture(tmp_path, nginx=True, local=False, cache=SETTINGS) as store:

        def overwrite_and_read() -> None:
            writer = http.client.HTTPConnection(*store.gateway.address, timeout=30)
            for number in range(60):
                body = b"%d " % number * 100
                writer.request("PUT", "/d/k?class=one", body, AUTHORISED)
                assert writer.getresponse().read() == b""
                assert read(store.gateway.address, "/d/k", 3) == [body] * 3
            writer.close()

        await asyncio.to_thread(overwrite_and_read)


async def test_a_broken_replica_is_not_cached(tmp_path: Path) -> None:
    """A file that breaks off, and an error, are not kept: the next read has the whole file."""
    async with store_fixture(tmp_path, nginx=True, local=False, cache=SETTINGS) as store:
        assert (await store.put("/d/k?class=one", DATA)).status == 201
        stored = await store.stored(b"k")
        replica = store.replica(stored.devids[0], stored.fid)
        replica.rename(replica.with_suffix(".away"))
        for _ in range(3):
            assert (await store.ask("GET", "/d/k")).status == 503
        replica.with_suffix(".away").rename(replica)
        assert await asyncio.to_thread(read, store.gateway.address, "/d/k", 3) == [DATA] * 3


# --- several gateways -------------------------------------------------------------------------------------------------


@dataclass
class Ring:
    """Three gateways of one store that share their caches."""

    store: StoreFixture
    gateways: list[Gateway]
    fronts: list[NginxFront]
    peers: Sequence[str]

    def owner(self, fid: int) -> int:
        """The number of the gateway that caches a fid."""
        return self.peers.index(cache_owner(self.peers, fid))


@asynccontextmanager
async def ring(directory: Path, *, hot_rate: float = 1e9, signed: bool = False) -> AsyncIterator[Ring]:
    """Three started gateways."""
    peers = [f"127.0.0.1:{port}" for port in free_ports(3)]
    settings = replace(SETTINGS, peers=peers, secret="the secret of the gateways", hot_rate=hot_rate)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(store_fixture(directory, nginx=False, local=False, signed=signed))
        one = Ring(store, [], [], peers)
        client = await stack.enter_async_context(NodeClient(signer=store.signer))
        for number, peer in enumerate(peers):
            front = NginxFront(directory / f"nginx {number}", workers=1)
            gateway = Gateway(
                store.metadata,
                store.view,
                client,
                store.wakeups,
                listen=("127.0.0.1", 0),
                secret=SECRET,
                nginx=front,
                limits=QUICK,
                cache=replace(settings, listen=peer),
            )
            stack.push_async_callback(gateway.stop)
            await gateway.start()
            one.gateways.append(gateway)
            one.fronts.append(front)
        for gateway in one.gateways:
            await gateway.look_for_peers()
        yield one


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
async def test_one_forwarding(tmp_path: Path, fetched: Counter[str], signed: bool) -> None:
    """Three gateways read a file from a node twice in all: each asks the one that caches it."""
    async with ring(tmp_path, signed=signed) as one:
        for number in range(6):
            assert (await one.store.put(f"/d/{number}?class=one", DATA + b"%d" % number)).status == 201
        fetched.clear()
        for number in range(6):
            for gateway in one.gateways * 3:
                assert await asyncio.to_thread(read, gateway.address, f"/d/{number}") == [DATA + b"%d" % number]
        assert len(fetched) == 6
        assert max(fetched.values()) <= 2, fetched
        answer = await asyncio.to_thread(read, one.gateways[0].address, "/d/5", 1, {"Range": "bytes=9-19"})
        assert answer == [DATA[9:20]]


async def test_a_killed_owner(tmp_path: Path, fetched: Counter[str]) -> None:
    """When the gateway that caches a file is gone, the others send it without an error, and one of them caches it."""
    async with ring(tmp_path) as one:
        assert (await one.store.put("/d/k?class=one", DATA)).status == 201
        fid = (await one.store.stored(b"k")).fid
        owner = one.owner(fid)
        others = [gateway for number, gateway in enumerate(one.gateways) if number != owner]
        for gateway in others:
            await asyncio.to_thread(read, gateway.address, "/d/k", 3)
        await one.fronts[owner].stop()
        for gateway in others:  # not noticed yet
            assert await asyncio.to_thread(read, gateway.address, "/d/k", 3) == [DATA] * 3
            await gateway.look_for_peers()
        fetched.clear()
        for gateway in others * 2:
            assert await asyncio.to_thread(read, gateway.address, "/d/k", 10) == [DATA] * 10
        assert fetched.total() <= 2


async def test_a_hot_file_is_kept_by_every_gateway(tmp_path: Path, fetched: Counter[str]) -> None:
    """Three gateways read a hot file from nodes at most three times; then each has it without any other."""
    async with ring(tmp_path, hot_rate=1.0) as one:
        assert (await one.store.put("/d/k?class=one", DATA)).status == 201
        fetched.clear()
        reads = [asyncio.to_thread(read, gateway.address, "/d/k", 50) for gateway in one.gateways]
        assert all(set(bodies) == {DATA} for bodies in await asyncio.gather(*reads))
        assert fetched.total() <= 3
        stored = await one.store.stored(b"k")
        owner = one.owner(stored.fid)
        await one.fronts[owner].stop()
        await one.store.stop_node(stored.devids[0])
        for number, gateway in enumerate(one.gateways):
            if number != owner:
                assert await asyncio.to_thread(read, gateway.address, "/d/k", 3) == [DATA] * 3


async def test_only_gateways_read_the_cache(tmp_path: Path) -> None:
    """Without the secret neither a cached file nor any other address can be read from a gateway's cache."""
    async with ring(tmp_path) as one:
        assert (await one.store.put("/d/k?class=one", DATA)).status == 201
        stored = await one.store.stored(b"k")
        for gateway in one.gateways:
            await asyncio.to_thread(read, gateway.address, "/d/k", 3)
        devid = stored.devids[0]
        node = "{}:{}".format(*one.store.nodes[devid - 1].http_address)
        path = f"/{stored.fid}-{stored.length}/{node}/dev{devid}/0/000/000/{stored.fid:010d}.fid"
        host, _, port = one.peers[one.owner(stored.fid)].partition(":")

        def ask(target: str, headers: dict[str, str]) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            connection.request("GET", target, headers=headers)
            response = connection.getresponse()
            try:
                return response.status, response.read()
            finally:
                connection.close()

        right = {"Tawara-Signature": "the secret of the gateways"}
        assert await asyncio.to_thread(ask, path, right) == (200, DATA)
        for headers in ({}, {"Tawara-Signature": ""}, {"Tawara-Signature": "the secret of the gateway"}):
            assert (await asyncio.to_thread(ask, path, headers))[0] == 403
        for target in ("/", "/1-1/localhost:80/dev1/1.fid", f"{path}/../../x", f"/1-1/{node}/etc/passwd"):
            assert (await asyncio.to_thread(ask, target, right))[0] in (400, 404)
