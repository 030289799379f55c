"""Internal header fields and paths from outside, as raw bytes in every spelling; and no secret in a log.

What nginx and the gateway tell each other has no effect when a client sends it: not twice, not in another case, not
with underscores or blanks, not continued on a second line.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tawara.gateway import nginx_protocol as nginx
from tawara.gateway.nginx_protocol import GatewayStep, HeaderField
from tests.acceptance.gateway_fixture import SECRET, StoreFixture, store_fixture
from tests.acceptance.store import store

BODY = b"the file of another user"
FIELDS = {
    **dict.fromkeys(map(str, HeaderField), "@put"),
    **{name: "http://127.0.0.1:1/" for number in (1, 2) for name in (nginx.url(number), nginx.signature(number))},
    nginx.place(2): "@put",
    HeaderField.LENGTH: "1",
    HeaderField.STATUS: "204",
    "X-Accel-Redirect": "@put",
    "X-Accel-Buffering": "no",
    "Tawara-Signature": "r1.x",
    "X-REPROXY-URL": "http://127.0.0.1:1/",
}
"""Internal fields, with values that would do harm."""
BODIES = ("../../tawara.db", "../../../keys.key", "/etc/passwd")
"""Paths of files that a forged body of a PUT may name."""
WAYS = {"nginx": {"nginx": True}, "complete server": {"nginx": True, "fast_path": False}, "python": {"nginx": False}}
AUTHORISED = f"Authorization: Bearer {SECRET}\r\n".encode()


@pytest.fixture(params=list(WAYS.values()), ids=list(WAYS))
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreFixture]:
    """A gateway with one file, whose reads are not public."""
    async with store_fixture(tmp_path, public_reads=False, **request.param) as one:
        assert (await one.put("/d/k?class=three", BODY)).status == 201
        yield one


SPELLINGS = (
    b"%(name)s: %(value)s\r\n",
    b"%(name)s: %(value)s\r\n%(name)s: other\r\n",
    b"%(lower)s: %(value)s\r\n%(upper)s: %(value)s\r\n",
    b"%(under)s: %(value)s\r\n",
    b"%(dots)s: %(value)s\r\n",
    b"%(name)s : %(value)s\r\n",
    b"%(name)s\t: %(value)s\r\n",
    b" %(name)s: %(value)s\r\n",
    b"X: y\r\n %(name)s: %(value)s\r\n",
    b"%(name)s:\r\n %(value)s\r\n",
    b"X: y\n%(name)s: %(value)s\n",
    b"X: y\r%(name)s: %(value)s\r\n",
    b"X: y\0\r\n%(name)s: %(value)s\r\n",
)
"""The ways in which a client may try to pass a field through nginx."""


def lines(spelling: bytes, step: str, body: str) -> bytes:
    """All internal fields in one spelling."""
    found = b""
    for name, value in (FIELDS | {HeaderField.STEP: step, HeaderField.BODY: body}).items():
        encoded = name.encode()
        found += spelling % {
            b"name": encoded,
            b"lower": encoded.lower(),
            b"upper": encoded.upper(),
            b"under": encoded.replace(b"-", b"_"),
            b"dots": encoded.replace(b"-", b"."),
            b"value": value.encode(),
        }
    return found


async def ask(gateway: StoreFixture, method: bytes, path: bytes, fields: bytes, body: bytes = b"") -> tuple[int, bytes]:
    """Return the status of the answer, 0 without one, and the whole answer."""
    length = b"Content-Length: %d\r\n" % len(body) if method == b"PUT" else b""
    head = b"%s %s HTTP/1.1\r\nHost: x\r\n%s%sConnection: close\r\n\r\n" % (method, path, length, fields)
    try:
        answer = await gateway.raw(head + body)
    except ConnectionError:
        return 0, b""
    status = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    for internal in (b"x-tawara", b"x-accel", b"tawara-signature", b"x-reproxy"):
        assert internal not in answer.lower(), answer
    return int(status[1]) if status else 0, answer


async def test_fields_from_a_client(gateway: StoreFixture) -> None:
    """Without authorization no field opens, stores or deletes a file; with it a request does what it says, or fails."""
    before, stored = gateway.on_disk(), 0
    for spelling in SPELLINGS:
        for number, step in enumerate(GatewayStep):
            fields = lines(spelling, step, BODIES[number % len(BODIES)])
            for method, sent in ((b"GET", b""), (b"PUT", b"x"), (b"DELETE", b"")):
                status, answer = await ask(gateway, method, b"/d/k", fields, sent)
                assert status in (0, 400, 401, 431), answer
                assert BODY not in answer
            status, answer = await ask(gateway, b"GET", b"/d/k", AUTHORISED + fields)
            assert (status, BODY in answer) in ((200, True), (400, False), (0, False)), answer
    assert gateway.on_disk() == before
    for spelling in SPELLINGS:
        for step, body in zip((GatewayStep.STORE, GatewayStep.ADMIT, GatewayStep.SMALL_PUT), BODIES, strict=True):
            key = f"/d/{stored}".encode()
            status, answer = await ask(gateway, b"PUT", key, AUTHORISED + lines(spelling, step, body), b"my own")
            assert status in (0, 201, 400), answer
            status, answer = await ask(gateway, b"GET", key, AUTHORISED)
            assert status == 404 or answer.endswith(b"\r\n\r\nmy own"), answer
            stored += status == 200
    assert stored > 10


PATHS = (
    "/.tawara/nginx/admit",
    "/.tawara/nginx/400",
    "/.tawara/whole/1{file}",
    "/.tawara/part/1{file}",
    "/.tawara/whole/2{file}",
    "//.tawara/whole/1{file}",
    "/./.tawara/whole/1{file}",
    "/d/../.tawara/whole/1{file}",
    "/%2Etawara/whole/1{file}",
    "/%2etawara%2fwhole%2f1{file}",
    "/.tawara%2Fwhole/1{file}",
    "/.TAWARA/whole/1{file}",
    "/.tawara/./whole/1{file}",
    "/.tawara/whole/1/..{file}",
    "/.tawara/whole/1{file}?x",
    "http://x/.tawara/whole/1{file}",
    "@remote_1",
    "/@remote_1",
    "/@put",
    "/@exhausted",
    "{file}",
    "/devices{file}",
)


async def test_paths_from_a_client(gateway: StoreFixture) -> None:
    """No internal path sends a file or names nginx's own locations, with or without authorization."""
    file = f"/dev1/0/000/000/{(await gateway.stored(b'k')).fid:010d}.fid"  # on the gateway's own machine
    for path in PATHS:
        for fields in (b"", AUTHORISED):
            for method in (b"GET", b"HEAD", b"PUT", b"DELETE"):
                target = path.format(file=file).encode()
                status, answer = await ask(gateway, method, target, fields, b"x")
                # In a key, `..` is an ordinary name.
                allowed = (200, 201, 204) if target.startswith(b"/d/") and fields else ()
                assert status in (0, 400, 401, 404, 405, *allowed), (method, target, answer)
                assert BODY not in answer
    assert (await ask(gateway, b"GET", b"/d/k", AUTHORISED))[0] == 200


async def test_a_storage_node(tmp_path: Path) -> None:
    """A node does what the path says, whatever fields come with the request, and serves nothing beside the devices."""
    async with store_fixture(tmp_path, nginx=False) as one:
        assert (await one.put("/d/k?class=one", BODY)).status == 201
        stored = await one.stored(b"k")
        devid = stored.devids[0]
        host, port = one.nodes[devid - 1].http_address
        file = f"/dev{devid}/0/000/000/{stored.fid:010d}.fid".encode()

        async def raw(method: bytes, path: bytes, fields: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"%s %s HTTP/1.1\r\nHost: x\r\n%sConnection: close\r\n\r\n" % (method, path, fields))
            try:
                return await asyncio.wait_for(reader.read(), 10)
            except ConnectionError:
                return b""
            finally:
                writer.close()

        for spelling in SPELLINGS:
            answer = await raw(b"GET", file, lines(spelling, GatewayStep.STORE, BODIES[0]))
            assert answer.endswith(BODY) or answer[9:12] == b"400" or not answer, answer
            assert b"x-accel" not in answer.lower()
        for path in PATHS:
            target = path.format(file=file.decode()).encode()
            answer = await raw(b"GET", target, b"")
            assert BODY not in answer or target == file
        assert one.replica(devid, stored.fid).read_bytes() == BODY


# --- secrets ----------------------------------------------------------------------------------------------------------


def broken(secret: bytes, pair: bytes) -> Sequence[bytes]:
    """Requests with secrets that cannot be answered, or only after an error."""
    bearer, basic = b"Authorization: Bearer " + secret, b"Authorization: Basic " + base64.b64encode(pair)
    start = b"GET /files/k HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    put = b"PUT /files/new HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    return (
        start + bearer + b"\r\n\r\n",
        start + basic + b"\r\n\r\n",
        start + bearer + b"\0\r\n\r\n",
        start + bearer + b"\r\n" + basic + b"\r\n\r\n",
        start + bearer + b"\r\n " + secret + b"\r\n\r\n",
        start + bearer + b" : x\r\n" + secret + b": \r\n\r\n",
        start + secret + b"\r\n\r\n",
        start + secret + b" : x\r\n\r\n",
        start + b"A: " + b"a" * 20_000 + b"\r\n" + bearer + b"\r\n\r\n",
        start + b"Content-Length: x\r\n" + bearer + b"\r\n\r\n",
        put + bearer + b"\r\nTransfer-Encoding: chunked\r\n\r\nzz" + secret + b"\r\n",
        put + bearer + b"\r\nTransfer-Encoding: gzip\r\n\r\n",
        put + bearer + b"\r\nContent-Length: 100000\r\n\r\n" + secret,
        put + bearer + b"\r\nContent-Length: 5\r\nContent-MD5: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\nhello",
        b"BREW /files/k HTTP/1.1\r\nHost: x\r\n" + basic + b"\r\n\r\n",
        b"GET /files/k HTTP/7.1\r\n" + bearer + b"\r\n\r\n",
        bearer + b"\r\n\r\n",
    )


def presign(key_id: str, secret: str, method: str) -> bytes:
    """Return path and query of a presigned URL of the file."""
    request = AWSRequest(method, "http://x/files/k")
    S3SigV4QueryAuth(Credentials(key_id, secret), "s3", "us-east-1").add_auth(request)
    return str(request.url).removeprefix("http://x").encode()


def presigned(get: bytes, put: bytes) -> Sequence[bytes]:
    """Requests with presigned URLs that cannot be answered, or only after an error; the first is a valid one."""
    end = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    return (
        b"GET " + get + end + b"\r\n",
        b"GET " + get + b" HTTP/7.1\r\n\r\n",
        b"GET " + get + b"\0" + end + b"\r\n",
        b"GET /.." + get + end + b"\r\n",
        b"GET " + get + end + b"A: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET " + get + b"&x=" + b"a" * 20_000 + end + b"\r\n",
        b"BREW " + get + end + b"\r\n",
        b"PUT " + put + end + b"Content-Length: 100000\r\n\r\nhello",
        b"PUT " + put + end + b"Content-Length: x\r\n\r\nhello",
        b"PUT " + put + end + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PUT " + put + end + b"x-amz-decoded-content-length: 5\r\nContent-Length: 10\r\n\r\n5\r\nhello\r\n",
    )


@pytest.mark.parametrize("flags", [["-v"], ["-v", "--no-nginx"]], ids=["nginx", "python"])
@pytest.mark.timeout(180)
def test_no_secret_is_logged(tmp_path: Path, flags: list[str]) -> None:
    """After requests of every kind, also broken ones, neither logs nor command lines nor environments have a secret.

    A second after the command that revokes the key the gateway refuses it.
    """
    with store(tmp_path / "store", *flags) as up:
        made = up.run(*f"key create app --domain *=rw --json -c {up.directory}/tawara.toml".split()).stdout
        found = re.search(r'"id": "(\w+)", "secret": "(\w+)"', made)
        assert found is not None
        pair = f"{found[1]}:{found[2]}".encode()
        get, put = (presign(found[1], found[2], method) for method in ("GET", "PUT"))
        one, key_file = up.key.encode(), (up.directory / "keys.key").read_bytes().split()[-1]

        async def send(request: bytes, address: str = up.gateway) -> bytes:
            host, _, port = address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(request)
            if request.startswith(b"PUT") and b"Content-Length: 100000" in request:
                writer.close()  # in the middle of the body
                return b""
            try:
                return await asyncio.wait_for(reader.read(), 1)
            except TimeoutError:
                return b""
            except ConnectionError:
                return b""
            finally:
                writer.close()

        async def day() -> None:
            store_it = b"PUT /files/k HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n"
            answer = await send(store_it + b"Authorization: Bearer " + pair + b"\r\n\r\nhello")
            assert b" 201 " in answer
            for secret in (pair, one, pair + b"wrong"):
                for request in broken(secret, secret):
                    answer = await send(request)
                    assert secret not in answer
            for request in broken(pair, pair):
                await send(request, up.webdav)
            for request in presigned(get, put):
                assert get not in (answer := await send(request, up.s3)), answer
            for replica in up.directory.glob("devices/dev*/0/**/*.fid"):
                replica.unlink()  # so that reading fails
            for request in broken(pair, pair)[:2]:
                assert b" 503 " in await send(request)
                assert b" 503 " in await send(request, up.webdav)
            assert b" 503 " in await send(presigned(get, put)[0], up.s3)

        asyncio.run(day())
        up.run(*f"key revoke app -c {up.directory}/tawara.toml".split())
        time.sleep(1.0)
        assert b" 401 " in asyncio.run(send(broken(pair, pair)[0].replace(b"GET", b"DELETE")))
        secrets = {pair.partition(b":")[2], one, key_file, base64.b64encode(pair), base64.b64encode(one)}
        secrets |= {url[url.index(b"X-Amz-Signature=") :] for url in (get, put)}
        first = re.findall(rb"= (\w+)$", (up.directory / "access-key").read_bytes(), re.MULTILINE)
        secrets.add(first[1])
        places = [
            up.log,
            *(path for path in up.directory.rglob("*") if path.is_file() and path.suffix in (".log", ".conf")),
        ]
        for pid in up.processes():
            places += [Path(f"/proc/{pid}/cmdline"), Path(f"/proc/{pid}/environ")]
        assert up.log.stat().st_size
        for place in places:
            content = place.read_bytes()
            for secret in secrets:
                assert secret not in content, (place, content[max(0, content.index(secret) - 500) :][:1500])
        for path in up.directory.rglob("*"):
            if path.is_file() and path.stat().st_mode & 0o077:
                content = path.read_bytes()
                assert not any(secret in content for secret in secrets), path
