"""TLS at the gateway with real clients, behind nginx and without: versions, HTTP/2, exchange of the certificate."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
import structlog.testing

from tawara.gateway.certificates import TlsFiles
from tawara.gateway.server import Gateway
from tawara.metadata import certificates
from tawara.model.errors import ConfigurationError
from tests.acceptance.gateway_fixture import AUTHORISED, SECRET, StoreFixture, store_fixture
from tests.certificates import write_pair

WAYS = pytest.mark.parametrize("nginx", [True, False], ids=["nginx", "python"])
BODY = os.urandom(200_000)


def ask(
    one: StoreFixture, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """One request to a server whose certificate is the one in the file; blocking."""
    assert one.tls is not None
    context = ssl.create_default_context(cafile=str(one.tls.chain))
    connection = http.client.HTTPSConnection(*one.gateway.address, timeout=30, context=context)
    try:
        connection.request(method, path, body=body, headers=headers or {})  # type: ignore[arg-type]
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def negotiated(one: StoreFixture, context: ssl.SSLContext) -> tuple[str | None, str | None, bytes | None]:
    """Version, protocol, and certificate of a new connection."""
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(one.gateway.address, timeout=10)) as connection:
        return connection.version(), connection.selected_alpn_protocol(), connection.getpeercert(binary_form=True)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@WAYS
async def test_requests(tmp_path: Path, nginx: bool) -> None:
    """Files go in and out by TLS, whole and in part; a request without TLS gets no file; TLS 1.1 is refused."""
    async with store_fixture(tmp_path, nginx=nginx, tls=TlsFiles(*write_pair(tmp_path, "a"))) as one:
        for size in (1000, 200_000):
            path = f"/d/{size}"
            assert (await asyncio.to_thread(ask, one, "PUT", path, BODY[:size], AUTHORISED))[0] == 201
            assert await asyncio.to_thread(ask, one, "GET", path) == (200, BODY[:size])
            part = await asyncio.to_thread(ask, one, "GET", path, None, {"Range": "bytes=5-9"})
            assert part == (206, BODY[5:10])
        try:
            answer = await one.raw(b"GET /d/1000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        except ConnectionError:
            answer = b""
        assert BODY[:1000] not in answer and (not answer or answer.startswith(b"HTTP/1.1 400 ") or not nginx)
        version, _, _ = await asyncio.to_thread(negotiated, one, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        assert version == "TLSv1.3"
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(negotiated, one, old)


@WAYS
async def test_another_certificate(tmp_path: Path, nginx: bool) -> None:
    """Changed files take effect for new connections; files that cannot be used are logged and change nothing."""
    async with store_fixture(tmp_path, nginx=nginx, tls=TlsFiles(*write_pair(tmp_path, "a", days=10))) as one:
        watch = one.gateway._certificate
        assert watch is not None

        def shown() -> bytes | None:
            return negotiated(one, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))[2]

        first = await asyncio.to_thread(shown)
        write_pair(tmp_path, "b")
        shutil.copy(tmp_path / "b.key", tmp_path / "a.key")  # its certificate follows
        with structlog.testing.capture_logs() as logs:
            await watch.look()
            await watch.look()
        assert [each["event"] for each in logs if "certificate" in each["event"]] == ["certificate_not_reloaded"]
        assert await asyncio.to_thread(shown) == first
        shutil.copy(tmp_path / "b.crt", tmp_path / "a.crt")
        await watch.look()
        async with asyncio.timeout(20):  # until the last of nginx's old workers has stopped to accept
            while first in [await asyncio.to_thread(shown) for _ in range(4)]:
                await asyncio.sleep(0.05)
        assert (await asyncio.to_thread(ask, one, "GET", "/"))[0] == 200
        now = await one.metadata.clock.seconds()
        (recorded,) = await one.metadata.read(certificates.load, now=now)
        assert recorded.listener == "{}:{}".format(*one.gateway.address)
        assert recorded.left(now) > 80 * 86400


async def test_a_pair_that_cannot_be_used(tmp_path: Path) -> None:
    """The gateway does not start with it, and says why."""
    chain, _ = write_pair(tmp_path, "a")
    _, key = write_pair(tmp_path, "b")
    async with store_fixture(tmp_path, nginx=False, hosts=1) as one:
        other = Gateway(
            one.metadata, one.view, one.gateway._nodes, one.wakeups,
            listen=("127.0.0.1", 0), secret=SECRET, tls=TlsFiles(chain, key),
        )  # fmt: skip
        with pytest.raises(ConfigurationError, match="does not belong to the certificate"):
            await other.start()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_http2(tmp_path: Path) -> None:
    """Behind nginx clients may speak HTTP/2: PUT with and without a length, GET, and errors."""
    async with store_fixture(tmp_path, nginx=True, tls=TlsFiles(*write_pair(tmp_path, "a"))) as one:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2", "http/1.1"])
        assert (await asyncio.to_thread(negotiated, one, context))[1] == "h2"
        source = tmp_path / "source"
        source.write_bytes(BODY)
        url = "https://{}:{}/d/k".format(*one.gateway.address)

        def curl(*arguments: str, given: bytes = b"") -> bytes:
            command = ["curl", "-sS", "--http2", "--cacert", str(tmp_path / "a.crt"), "-H"]
            command += [f"Authorization: Bearer {SECRET}", "-w", "%{http_version} %{http_code}", *arguments, url]
            return subprocess.run(command, input=given, check=True, capture_output=True, timeout=30).stdout

        if b"HTTP2" not in subprocess.run(["curl", "--version"], capture_output=True, check=True).stdout:
            pytest.skip("this curl has no HTTP/2")
        assert await asyncio.to_thread(curl, "-T", str(source)) == b"2 201"
        assert await asyncio.to_thread(curl) == BODY + b"2 200"
        assert await asyncio.to_thread(lambda: curl("-T", "-", given=BODY[:5000])) == b"2 204"
        assert await asyncio.to_thread(curl) == BODY[:5000] + b"2 200"
        assert await asyncio.to_thread(curl, "-r", "1-3") == BODY[1:4] + b"2 206"
        assert (await asyncio.to_thread(curl, "-X", "POST")).endswith(b"2 405")
