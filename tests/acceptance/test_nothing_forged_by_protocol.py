"""Internal header fields and paths from outside, on the listeners of S3 and WebDAV, as in test_nothing_forged.py."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tawara.gateway.dav.server import DavServer
from tawara.gateway.nginx_protocol import FURTHER_STEPS, GatewayStep
from tawara.gateway.protocol_listener import FurtherProtocol
from tawara.gateway.s3.server import S3Server
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.nodes.client import NodeClient
from tawara.store.access_keys import AccessKeys
from tawara.store.key_file import KeyFile
from tests.acceptance.gateway_fixture import KEYS, SECRET, StoreFixture, store_fixture
from tests.acceptance.test_nothing_forged import BODIES, BODY, PATHS, SPELLINGS, lines

REGION = "us-east-1"


@dataclass
class Listening:
    """One listener of a store with one file, and who may use it."""

    store: StoreFixture
    server: S3Server | DavServer
    key: str
    """ID:SECRET."""

    def authorised(self, method: str, path: str) -> tuple[bytes, bytes]:
        """Return target and header fields of a request that is allowed."""
        if isinstance(self.server, DavServer):
            return path.encode(), f"Authorization: Bearer {SECRET}\r\n".encode()
        key_id, _, secret = self.key.partition(":")
        request = AWSRequest(method, f"http://x{path}")
        S3SigV4QueryAuth(Credentials(key_id, secret), "s3", REGION).add_auth(request)
        return request.url.removeprefix("http://x").encode(), b""

    async def ask(self, method: bytes, target: bytes, fields: bytes, body: bytes = b"") -> tuple[int, bytes]:
        """Return the status of the answer, 0 without one, and the whole answer."""
        length = b"Content-Length: %d\r\n" % len(body) if method == b"PUT" else b""
        head = b"%s %s HTTP/1.1\r\nHost: x\r\n%s%sConnection: close\r\n\r\n" % (method, target, length, fields)
        reader, writer = await asyncio.open_connection(*self.server.address)
        try:
            writer.write(head + body)
            answer = await asyncio.wait_for(reader.read(), 30)
        except ConnectionError:
            return 0, b""
        finally:
            writer.close()
        status = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
        head, _, _ = answer.lower().partition(b"\r\n\r\n")
        for internal in (b"x-tawara", b"x-accel", b"tawara-signature", b"x-reproxy"):
            assert internal not in head, answer
        return int(status[1]) if status else 0, answer


@pytest.fixture(params=["s3-nginx", "s3-python", "dav-nginx", "dav-python"])
async def listening(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Listening]:
    """A listener of a store whose reads are not public."""
    protocol, _, way = request.param.partition("-")
    made: list[S3Server | DavServer] = []

    def protocols(
        metadata: Metadata, view: ClusterView, nodes: NodeClient, wakeups: Wakeups
    ) -> Sequence[FurtherProtocol]:
        keys, listen = AccessKeys(metadata, KeyFile(tmp_path / KEYS)), ("127.0.0.1", 0)
        made.append(
            S3Server(metadata, view, nodes, wakeups, listen=listen, access_keys=keys, region=REGION)
            if protocol == "s3"
            else DavServer(metadata, view, nodes, wakeups, listen=listen, access_keys=keys, secret=SECRET)
        )
        return made

    nginx = way == "nginx"
    async with store_fixture(tmp_path, public_reads=False, nginx=nginx, hosts=2, protocols=protocols) as one:
        assert (await one.put("/d/k", BODY)).status == 201
        yield Listening(one, made[0], await one.create_key("one", "*=rw"))


async def test_fields_from_a_client(listening: Listening) -> None:
    """Without authorization no field opens, stores or deletes a file; with it a request does what it says, or fails."""
    before, stored = listening.store.on_disk(), 0
    target, authorised = listening.authorised("GET", "/d/k")
    for spelling in SPELLINGS:
        for number, step in enumerate(FURTHER_STEPS):
            fields = lines(spelling, step, BODIES[number % len(BODIES)])
            for method, sent in ((b"GET", b""), (b"PUT", b"x"), (b"DELETE", b"")):
                status, answer = await listening.ask(method, b"/d/k", fields, sent)
                assert status in (0, 400, 401, 403, 431), answer
                assert BODY not in answer
        status, answer = await listening.ask(b"GET", target, authorised + lines(spelling, "store", BODIES[0]))
        # Without nginx, which ends the connection, aiohttp answers 400.
        assert (status, BODY in answer) in ((200, True), (400, False), (0, False)), answer
    assert listening.store.on_disk() == before
    for spelling in SPELLINGS:
        for step, body in zip((GatewayStep.STORE, GatewayStep.ADMIT, GatewayStep.SMALL_PUT), BODIES, strict=True):
            target, authorised = listening.authorised("PUT", f"/d/{stored}")
            fields = authorised + lines(spelling, step, body)
            status, answer = await listening.ask(b"PUT", target, fields, b"my own")
            assert status in (0, 200, 201, 400), answer
            target, authorised = listening.authorised("GET", f"/d/{stored}")
            status, answer = await listening.ask(b"GET", target, authorised)
            assert status == 404 or answer.endswith(b"\r\n\r\nmy own"), answer
            stored += status == 200
    assert stored > 10


async def test_paths_from_a_client(listening: Listening) -> None:
    """No internal path sends a file or names nginx's own locations, with or without authorization."""
    file = f"/dev1/0/000/000/{(await listening.store.stored(b'k')).fid:010d}.fid"  # on the gateway's own machine
    for path in PATHS:
        plain = path.format(file=file)
        targets = [(plain.encode(), b"")]
        if plain.startswith("/") and "?" not in plain:
            targets.append(listening.authorised("GET", plain))
        for target, fields in targets:
            for method in (b"GET", b"HEAD", b"PUT"):
                status, answer = await listening.ask(method, target, fields, b"x")
                assert status in (0, 400, 401, 403, 404, 405, 409), (method, target, answer)
                assert BODY not in answer
    target, fields = listening.authorised("GET", "/d/k")
    assert (await listening.ask(b"GET", target, fields))[0] == 200
