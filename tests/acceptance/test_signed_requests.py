"""Storage nodes that require signed requests: on the wire, and a whole store in which all requests are signed."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pymogilefs.client import Client

from tawara.model.assembling import ByteRange
from tawara.model.errors import Exit, NodeUnreachable
from tawara.model.fid import path as path_of
from tawara.node.server import StorageNode
from tawara.node.signatures import SignatureCheck
from tawara.nodes.client import NodeClient
from tawara.nodes.signing import RequestSigner
from tawara.store import key_file
from tawara.wire.installation_key import InstallationKey
from tawara.wire.signatures import FIELD, NodeRight, sign, signed_url, signing_key
from tests.acceptance.daemons import separate_daemons
from tests.acceptance.gateway_fixture import store_fixture
from tests.acceptance.store import TAWARA

FID = path_of(1, 301)
LARGE = b"x" * 300_000
"""More than the fast path takes."""


@dataclass
class SignedNode:
    """A storage node that requires signatures, and the key with which they are made."""

    node: StorageNode
    key: InstallationKey

    def url(self, path: str = FID) -> str:
        host, port = self.node.http_address
        return f"http://{host}:{port}{path}"

    def sign(self, right: NodeRight, path: str = FID, *, seconds: int = 60) -> str:
        return sign(signing_key(self.key), right, path, int(time.time()) + seconds)

    def client(self) -> NodeClient:
        return NodeClient(signer=RequestSigner(lambda: [self.key], wall=time.time, client_seconds=60))

    async def ask(self, method: str, target: str = FID, body: bytes | None = None, **fields: str) -> tuple[int, bytes]:
        """Send a request as it is; return status and body."""

        def run() -> tuple[int, bytes]:
            connection = http.client.HTTPConnection(*self.node.http_address, timeout=10)
            try:
                headers = {name.replace("_", "-"): value for name, value in fields.items()}
                connection.request(method, target, body=body, headers=headers)
                response = connection.getresponse()
                return response.status, response.read()
            finally:
                connection.close()

        return await asyncio.to_thread(run)


@pytest.fixture(params=["fast", "complete"])
async def node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SignedNode]:
    """A node that requires signatures of all requests, on one of the two servers."""
    (tmp_path / "dev1").mkdir()
    key = key_file.new_key()
    check = SignatureCheck(lambda: [key], reads=True, wall=time.time)
    node = StorageNode(
        tmp_path, http=("127.0.0.1", 0), side_channel=None, fast_path=request.param == "fast", signatures=check
    )
    await node.start()
    yield SignedNode(node, key)
    await node.stop()


async def test_unsigned_requests(node: SignedNode) -> None:
    """Nothing is stored, read or deleted without a signature; a sentence says what is missing. Usage stays public."""
    async with node.client() as client:
        await client.put(node.url(), b"kept", length=4)
    for method, body in (
        ("PUT", b"x"),
        ("PUT", LARGE),
        ("DELETE", None),
        ("GET", None),
        ("MKCOL", None),
        ("POST", b"{}"),
    ):
        status, text = await node.ask(method, body=body)
        assert status == 403, method
        assert b"not signed by a tracker or gateway" in text
    assert (await node.ask("HEAD"))[0] == 403
    assert (await node.ask("GET", f"//dev1/.//{FID[6:]}"))[0] == 403
    assert (await node.ask("GET", "/dev1/fids-0"))[0] == 403
    assert (await node.ask("GET", "/dev1/usage"))[0] == 200
    assert (await node.ask("PUT", "/dev1/usage", b"x"))[0] == 403
    async with node.client() as client:
        assert await client.read(node.url(), limit=10) == b"kept"
    async with NodeClient() as client:
        for body in (b"x", LARGE):
            with pytest.raises(NodeUnreachable, match=r"store\.sign_urls.*not signed by a tracker"):
                await client.put(node.url(), body, length=len(body))
        with pytest.raises(NodeUnreachable, match="not signed by a tracker"):
            await client.delete(node.url())
        with pytest.raises(NodeUnreachable, match=r"store\.sign_urls"):
            await client.size(node.url())
    late = RequestSigner(lambda: [node.key], wall=lambda: time.time() - 1000, client_seconds=60)
    async with NodeClient(signer=late) as client:
        with pytest.raises(NodeUnreachable, match=r"expired .* compare the machines' clocks"):
            await client.read(node.url(), limit=10)


async def test_all_requests_of_a_process(node: SignedNode) -> None:
    """A client with the key does everything that a store does with a node."""
    async with node.client() as client:
        assert await client.make_directory(node.url("/dev1/0/000/000/"))
        await client.put(node.url(), b"hello", length=5)
        await client.put(node.url(), LARGE, length=len(LARGE), replace=True)
        assert await client.size(node.url()) == len(LARGE)
        assert await client.read(node.url(), limit=len(LARGE)) == LARGE
        async with client.get(node.url(), byte_range=(1, 2)) as download:
            assert b"".join([piece async for piece in download]) == b"xx"
        await client.usage(node.url("/dev1/usage"))
        assert b"301" in await client.read_small(node.url("/dev1/fids-0"))
        made = node.url(path_of(1, 302))
        assert (await client.assemble(made, [ByteRange(301, 0, 10)])).length == 10
        assert await client.delete(made)
        assert await client.delete(node.url())
        assert await client.size(node.url()) is None


async def test_urls_of_clients(node: SignedNode) -> None:
    """A URL with the signature in its query is used unchanged, for its method and its path only."""
    for body in (b"small", LARGE):
        fid = path_of(1, len(body))
        write = signed_url(fid, node.sign(NodeRight.WRITE, fid))
        read = signed_url(fid, node.sign(NodeRight.READ, fid))
        assert (await node.ask("PUT", write, body))[0] == 200
        assert (await node.ask("GET", read))[1] == body
        assert (await node.ask("GET", write))[0] == 403
        assert (await node.ask("DELETE", write))[0] == 403
        assert (await node.ask("POST", write, b"{}"))[0] == 403
        assert (await node.ask("PUT", write, b"other", Tawara_Replace="yes"))[0] == 403
        assert (await node.ask("PUT", f"{FID}?{write.partition('?')[2]}", b"x"))[0] == 403
        assert (await node.ask("GET", read))[1] == body
    status, text = await node.ask("PUT", signed_url(FID, node.sign(NodeRight.WRITE, seconds=-70)), b"x")
    assert status == 403
    assert b"expired 7" in text
    # A header field counts before the query, so that a proxy's signature is not replaced by a client's.
    signature = node.sign(NodeRight.READ, fid)
    assert (await node.ask("GET", read, Tawara_Signature="r1.x"))[0] == 403
    assert (await node.ask("GET", fid, Tawara_Signature=signature))[0] == 200
    assert FIELD == "Tawara-Signature"


async def test_nginx_signs(tmp_path: Path) -> None:
    """nginx reads replicas at storage nodes with signatures, also the next one when the first is gone."""
    async with store_fixture(tmp_path, nginx=True, local=False, signed=True, reproxy=True) as gateway:
        assert (await gateway.put("/d/k?class=three", LARGE)).status == 201
        wanted: tuple[tuple[dict[str, str], bytes], ...] = (({}, LARGE), ({"Range": "bytes=1-3"}, b"xxx"))
        for headers, expected in wanted:
            assert (await gateway.ask("GET", "/d/k", headers=headers)).body == expected
        fid = (await gateway.stored(b"k")).fid
        for devid in (1, 2):
            gateway.replica(devid, fid).unlink()
        for _ in range(4):
            assert (await gateway.ask("GET", "/d/k")).body == LARGE
        assert gateway.gateway.streamed == 0
        urls = (await gateway.ask("GET", "/d/k", headers={"X-Proxy-Capabilities": "reproxy-file"}))["X-REPROXY-URL"]
        assert urls is not None
        (found,) = [url for url in urls.split() if "127.0.0.3" in url]
        assert await asyncio.to_thread(_get, found) == LARGE


# --- a whole store ----------------------------------------------------------------------------------------------------


def _until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def _get(url: str, **fields: str) -> bytes:
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
        body: bytes = response.read()
        return body


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", ".", "--set=node.require_signatures=all"], "works with store.sign_urls = true only"),
        (["node", "--set=node.require_signatures=writes"], "keys.key does not exist"),
        (["tracker", "--set=store.sign_urls=true"], "keys.key does not exist"),
    ],
)
def test_what_cannot_be_started(tmp_path: Path, arguments: list[str], said: str) -> None:
    """A process that could not sign or check signatures does not start, and says what is missing."""
    (tmp_path / "devices").mkdir()
    if arguments[0] != "up":
        (tmp_path / "tawara.toml").write_text('[node]\nlisten = "127.0.0.1:0"\nside_channel = ""\n')
    done = subprocess.run([*TAWARA, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == Exit.USAGE, done.stderr
    assert said in done.stderr


@pytest.mark.timeout(240)
def test_a_store_that_signs_everything(tmp_path: Path) -> None:
    """With all nodes requiring signatures of all requests, files are stored, replicated, read, checked, rebuilt and
    deleted, by the command line, a client of MogileFS and the gateway behind nginx; and no log has a signature.
    """
    key_file.write(tmp_path / "keys.key", [key_file.new_key()])
    with separate_daemons(tmp_path, f"sqlite://{tmp_path}/tawara.db", processes=1) as store:
        path = tmp_path / "tawara.toml"
        text = path.read_text().replace("[store]\n", "[store]\nsign_urls = true\n")
        path.write_text(text.replace("[node]\n", '[node]\nrequire_signatures = "all"\n'))
        store.start()
        (tmp_path / "file").write_bytes(LARGE)
        store.run("put", str(tmp_path / "file"), "d/by-command")
        Client([store.tracker], "d").store_file(io.BytesIO(b"hello"), "by-client")
        upload = urllib.request.Request(f"http://{store.gateway}/d/by-gateway", LARGE, method="PUT")
        upload.add_header("Authorization", f"Bearer {(tmp_path / 'secret.key').read_text().strip()}")
        urllib.request.urlopen(upload, timeout=30).close()

        def replicas(key: str) -> list[dict[str, str]]:
            found = json.loads(store.run("info", f"d/{key}", "--json", ends_with=(0, 6, 7)))["replicas"]
            return [each for each in found if each["state"] == "ok"]

        store.run("cp", "d/by-command", "d/by-copy")
        for key in ("by-command", "by-client", "by-gateway", "by-copy"):
            _until(lambda key=key: len(replicas(key)) == 2)  # type: ignore[misc]
        store.run("get", "d/by-copy", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == LARGE
        body = Client([store.tracker], "d").get_file("by-client")
        assert body.read() == b"hello"
        body.close()
        assert _get(f"http://{store.gateway}/d/by-command") == LARGE
        assert _get(f"http://{store.gateway}/d/by-client", Range="bytes=1-2") == b"el"
        for replica in replicas("by-command"):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                _get(replica["url"])
        store.run("fsck", "start", "--wait", "--every-byte")
        store.run("drill", "--look", "-c", str(path), ends_with=(0, 1))
        one = f"http://{store.node(1)}/dev1"
        keys = f"--key-file={tmp_path}/keys.key"

        def rebuilt() -> int:
            report = store.run(
                "rebuild", f"sqlite://{tmp_path}/b.db", one, keys, "--dry-run", "--json", ends_with=(0, 1)
            )
            files: int = json.loads(report)["files"]
            return files

        _until(lambda: rebuilt() == 4)
        places = [each["url"].partition("/dev")[2] for each in replicas("by-gateway")]
        store.run("rm", "d/by-gateway")
        _until(lambda: not any(each.is_file() for place in places for each in tmp_path.glob(f"h*/dev{place}")))
        store.daemons["node2"].kill()  # so that nginx has something to write into its log
        for _ in range(3):
            assert _get(f"http://{store.gateway}/d/by-command") == LARGE
        logs = [each for each in tmp_path.rglob("*.log*") if each.is_file()]
        assert any(each.name == "error.log" and each.stat().st_size for each in logs)
        for each in logs:
            assert not re.search(rb"[rwoda]17\d{8}\.[\w-]{20}", each.read_bytes()), each
