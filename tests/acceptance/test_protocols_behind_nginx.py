"""S3 and WebDAV behind nginx: who transfers the bytes, what a refused body costs, and the fields of an object."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tawara.gateway import nginx as nginx_module
from tawara.gateway.certificates import TlsFiles
from tawara.gateway.nginx_parameters import NginxFeatures
from tawara.model.trusted_peers import parse_networks
from tests.acceptance.dav_fixture import DavFixture, dav_fixture
from tests.acceptance.gateway_fixture import StoreFixture
from tests.acceptance.s3_fixture import REGION, S3Fixture, s3_fixture
from tests.certificates import write_pair

BODY = os.urandom(300_000)
FIELDS = {
    "CacheControl": "no-store",
    "ContentEncoding": "gzip",
    "ContentType": "text/x-test",
    "Metadata": {"my_key": "v w", "a.b": "=?&;%41 +", "plain": "100%"},
}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Fixture]:
    """A store on two hosts; the first is the gateway's own machine."""
    with s3_fixture(tmp_path_factory.mktemp("s3"), hosts=2) as found:
        yield found


def spool(store: StoreFixture) -> list[str]:
    """The bodies that nginx holds."""
    assert store.front is not None
    return os.listdir(store.front.spool.bodies)


def test_bytes_pass_by_python(s3: S3Fixture) -> None:
    """Objects, whole and in part, conditional and with metadata, are sent by nginx, from a disk and from a node."""
    client = s3.client()
    etag = client.put_object(Bucket="d", Key="k", Body=BODY, **FIELDS)["ETag"]
    fid = s3.run(s3.store.stored(b"k")).fid
    before = s3.server.streamed
    for missing in (1, 2):
        replica = s3.store.replica(missing, fid)
        replica.rename(replica.with_suffix(".away"))
        for asked, part in (({}, BODY), ({"Range": "bytes=7-99"}, BODY[7:100]), ({"PartNumber": 1}, BODY)):
            found = client.get_object(Bucket="d", Key="k", IfMatch=etag, **asked)
            assert found["Body"].read() == part
            assert {name: found[name] for name in FIELDS if name != "Metadata"} == {
                name: value for name, value in FIELDS.items() if name != "Metadata"
            }
            assert found["Metadata"]["my_key"] == "v w"
            assert found["Metadata"]["plain"] == "100%"
        replica.with_suffix(".away").rename(replica)
    assert s3.server.streamed == before


@pytest.mark.parametrize("features", [None, NginxFeatures()], ids=["bundled", "plain"])
def test_fields_of_an_object(tmp_path: Path, features: NginxFeatures | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """T4: GET has the fields of HEAD and those of a range, by nginx or Python, whatever nginx was built with."""
    if features is not None:
        monkeypatch.setattr(nginx_module, "features_of", lambda _: features)
    with s3_fixture(tmp_path) as s3:
        client = s3.client()
        client.put_object(Bucket="d", Key="k", Body=BODY, ChecksumAlgorithm="CRC32", **FIELDS)
        asked = {"Bucket": "d", "Key": "k", "ChecksumMode": "ENABLED"}
        head, found = client.head_object(**asked), client.get_object(**asked)
        part = client.get_object(**asked, Range="bytes=10-19")
        assert (found["Body"].read() == BODY, part["Body"].read()) == (True, BODY[10:20])
        expected = fields(head)
        assert expected["x-amz-meta-my_key"] == "v w"
        assert fields(found) == expected
        checksums = {name for name in expected if name.startswith("x-amz-checksum")}
        assert len(checksums) == 2
        assert fields(part) == {name: expected[name] for name in expected if name not in checksums} | {
            "content-length": "10",
            "content-range": "bytes 10-19/300000",
        }
        for name in ("k", "absent"):
            s3.store.replica(1, s3.run(s3.store.stored(b"k")).fid).unlink(missing_ok=True)
            with pytest.raises(ClientError) as raised:
                client.get_object(Bucket="d", Key=name)
            assert raised.value.response["Error"]["Code"] == ("ServiceUnavailable" if name == "k" else "NoSuchKey")


def fields(answer: Any) -> dict[str, str]:
    """The header fields of an answer, without those of the connection and of the single request."""
    ignored = {"date", "server", "connection", "x-amz-request-id", "x-amz-id-2", "x-content-type-options"}
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    return {name: value for name, value in headers.items() if name not in ignored}


def signed(s3: S3Fixture, key: str, body: bytes, digest: str, **headers: str) -> AWSRequest:
    """A signed PUT, with further fields that the signature covers."""
    key_id, _, secret = s3.key.partition(":")
    named = {name.replace("_", "-"): value for name, value in headers.items()} | {"x-amz-content-sha256": digest}
    request = AWSRequest("PUT", f"{s3.endpoint()}/d/{key}", data=body, headers=named)
    request.context["payload_signing_enabled"] = True
    SigV4Auth(Credentials(key_id, secret), "s3", REGION).add_auth(request)
    return request


def send(s3: S3Fixture, request: AWSRequest, body: bytes) -> tuple[int, bytes]:
    """Send a request as it was signed; return status and body of the answer."""
    with closing(http.client.HTTPConnection(urlsplit(s3.endpoint()).netloc, timeout=30)) as connection:
        connection.request("PUT", urlsplit(request.url).path, body=body, headers=dict(request.headers.items()))
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.parametrize("size", [1000, 300_000], ids=["small", "file"])
def test_a_body_is_verified(s3: S3Fixture, size: int) -> None:
    """A6, C7: a body that nginx received is kept only with the SHA-256, MD5 and checksum that its head announces."""
    body, sha256 = BODY[:size], hashlib.sha256(BODY[:size]).hexdigest()
    key = f"verified-{size}"
    wrong = base64.b64encode(bytes(16)).decode()
    for expected, headers, digest in (
        (b"XAmzContentSHA256Mismatch", {}, "0" * 64),
        (b"BadDigest", {"Content_MD5": wrong}, sha256),
        (b"BadDigest", {"x_amz_checksum_crc32": "AAAAAA=="}, "UNSIGNED-PAYLOAD"),
    ):
        status, answer = send(s3, signed(s3, key, body, digest, **headers), body)
        assert (status, expected in answer) == (400, True), answer
    assert s3.run(s3.store.find(key.encode())) is None
    assert send(s3, signed(s3, key, body, sha256), body)[0] == 200
    assert s3.client().get_object(Bucket="d", Key=key)["Body"].read() == body
    assert spool(s3.store) == []


def test_fields_that_nginx_keeps_for_itself(s3: S3Fixture) -> None:
    """T3: signatures that cover Content-Length, Expect and Connection are verified behind nginx."""
    for size in (5, 300_000):
        body = BODY[:size]
        headers = {"Content_Length": str(size), "Expect": "100-continue", "Connection": "close"}
        request = signed(s3, f"own-{size}", body, "UNSIGNED-PAYLOAD", **headers)
        with closing(socket.create_connection(s3.server.address, 10)) as connection:
            lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
            host = f"Host: {urlsplit(s3.endpoint()).netloc}\r\n"
            assert "content-length;" in request.headers["Authorization"]
            connection.sendall(f"PUT /d/own-{size} HTTP/1.1\r\n{host}{lines}\r\n".encode() + body)
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert b"HTTP/1.1 200 OK" in answer, answer


@pytest.mark.parametrize("framing", ["", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"], ids=["plain", "framed"])
def test_a_body_that_is_not_admitted(s3: S3Fixture, framing: str) -> None:
    """T19: a large body without a valid signature is answered at once with XML, and not received."""
    head = f"PUT /d/refused HTTP/1.1\r\nHost: x\r\nContent-Length: {1 << 40}\r\nx-amz-content-sha256: {framing}\r\n"
    with closing(socket.create_connection(s3.server.address, 30)) as connection:
        connection.sendall(f"{head}\r\n".encode() + BODY)
        answer = connection.recv(65_536)
        while b"</Error>" not in answer and (more := connection.recv(65_536)):
            answer += more
    assert b"HTTP/1.1 403" in answer, answer
    assert b"<Code>AccessDenied</Code>" in answer


# --- names and TLS ----------------------------------------------------------------------------------------------------

WAYS = pytest.mark.parametrize("nginx", [True, False], ids=["nginx", "python"])


def fetch(s3: S3Fixture, url: str, **headers: str) -> tuple[int, bytes]:
    """Send a GET of a URL to the listener, whatever name the URL has; return status and body of the answer."""
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(*s3.server.address, timeout=30)) as connection:
        named = {"Host": parts.netloc} | {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", f"{parts.path}?{parts.query}", headers=named)
        answer = connection.getresponse()
        return answer.status, answer.read()


@WAYS
def test_names_from_a_front_end(tmp_path: Path, nginx: bool) -> None:
    """A4: the name in X-Forwarded-Host is what the client signed, and names a bucket, if a trusted peer sends it."""
    networks = {"trusted": parse_networks("127.0.0.1"), "distrusted": parse_networks("127.0.0.2")}
    for name, trusted in networks.items():
        (directory := tmp_path / name).mkdir()
        with s3_fixture(directory, nginx=nginx, server={"trusted": trusted}) as s3:
            s3.client().create_bucket(Bucket="photos", CreateBucketConfiguration={"LocationConstraint": REGION})
            s3.client().put_object(Bucket="photos", Key="k", Body=b"hello")
            get = {"ClientMethod": "get_object", "Params": {"Bucket": "photos", "Key": "k"}}
            for style, front in (("path", "front.example"), ("virtual", "store.example")):
                client = s3.client(s3={"addressing_style": style}, endpoint_url=f"https://{front}")
                url = client.generate_presigned_url(**get)
                status, body = fetch(s3, url, Host="10.0.0.7", X_Forwarded_Host=urlsplit(url).netloc)
                assert (status == 200, body == b"hello") == (name == "trusted", name == "trusted"), body


@WAYS
def test_ipv6(tmp_path: Path, nginx: bool) -> None:
    """A listener with an IPv6 address is signed for with brackets and port."""
    with s3_fixture(tmp_path, nginx=nginx, server={"listen": ("::1", 0)}) as s3:
        client = s3.client(endpoint_url=f"http://[::1]:{s3.server.address[1]}")
        client.put_object(Bucket="d", Key="k", Body=b"hello")
        assert client.get_object(Bucket="d", Key="k")["Body"].read() == b"hello"


@WAYS
def test_tls(tmp_path: Path, nginx: bool) -> None:
    """C2: the gateway's certificate is that of S3, too: bodies with trailing checksums, and downloads, over TLS."""
    tls = TlsFiles(*write_pair(tmp_path, "a"))
    with s3_fixture(tmp_path, nginx=nginx, tls=tls) as s3:
        endpoint = f"https://127.0.0.1:{s3.server.address[1]}"
        client = s3.client(endpoint_url=endpoint, verify=tls.chain)
        for size in (1000, len(BODY)):
            client.put_object(Bucket="d", Key="k", Body=BODY[:size])
            assert client.get_object(Bucket="d", Key="k")["Body"].read() == BODY[:size]


# --- WebDAV -----------------------------------------------------------------------------------------------------------


class DavClient:
    """Requests with one access key."""

    def __init__(self, dav: DavFixture, credentials: str) -> None:
        self._address = dav.server.address
        self._fields = {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}

    async def ask(self, method: str, path: str, body: bytes | None = None, range: str = "") -> tuple[int, bytes]:
        """Send one request; return status and body of the answer."""
        return await asyncio.to_thread(self._ask, method, path, body, {"Range": range} if range else {})

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        named = self._fields | headers
        with closing(http.client.HTTPConnection(*self._address, timeout=30)) as connection:
            connection.request(method, path, body=body, headers=named)
            answer = connection.getresponse()
            return answer.status, answer.read()


async def test_webdav_bytes_pass_by_python(tmp_path: Path) -> None:
    """Files of any size go in and out by nginx; a locked one is refused with its XML, before and after the body."""

    async with dav_fixture(tmp_path) as dav:
        ask = DavClient(dav, await dav.store.create_key("dav", "d=rw")).ask

        for size in (1000, len(BODY)):
            assert (await ask("PUT", f"/d/{size}", BODY[:size]))[0] == 201
            assert await ask("GET", f"/d/{size}") == (200, BODY[:size])
            assert (await ask("GET", f"/d/{size}", range="bytes=5-9"))[1] == BODY[5:10]
            lock = (
                b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>'
                b"<D:locktype><D:write/></D:locktype></D:lockinfo>"
            )
            assert (await ask("LOCK", f"/d/{size}", lock))[0] == 200
            status, answer = await ask("PUT", f"/d/{size}", BODY[:size])
            assert (status, b"lock-token-submitted" in answer) == (423, True), answer
        assert dav.server.streamed == 0
        assert spool(dav.store) == []
