"""A store with the S3 listener, in a thread of its own, so that blocking clients can be used; also behind TLS."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import http.client
import ipaddress
import re
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tawara.gateway.protocol_listener import FurtherProtocol
from tawara.gateway.s3.server import S3Server
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.limits import Limits
from tawara.nodes.client import NodeClient
from tawara.store.access_keys import AccessKeys
from tawara.store.key_file import KeyFile
from tests.acceptance.gateway_fixture import KEYS, StoreFixture, store_fixture

T = TypeVar("T")
REGION = "eu-tawara-1"
_SESSION = boto3.session.Session()
"""Loads the model of S3 once for all clients."""


@dataclass
class S3Fixture:
    """The running store; its loop is in another thread."""

    store: StoreFixture
    server: S3Server
    loop: asyncio.AbstractEventLoop
    tls_port: int
    certificate: Path
    key: str
    """ID:SECRET of a key that may do everything."""
    clients: list[Any] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the store's loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(30)

    def endpoint(self, scheme: str = "http") -> str:
        """URL of the listener, plain or behind TLS."""
        return (
            f"http://127.0.0.1:{self.server.address[1]}" if scheme == "http" else f"https://127.0.0.1:{self.tls_port}"
        )

    def client(self, scheme: str = "http", key: str | None = None, **config: Any) -> Any:
        """A boto3 client at its defaults, but for what is given. It is closed with the store."""
        access_key, _, secret = (key or self.key).partition(":")
        verify = str(config.pop("verify", self.certificate))
        made = _SESSION.client(
            "s3",
            endpoint_url=config.pop("endpoint_url", None) or self.endpoint(scheme),
            region_name=config.pop("region", REGION),
            aws_access_key_id=access_key,
            aws_secret_access_key=secret,
            verify=verify,
            config=Config(retries={"max_attempts": 1}, **config),
        )
        made.meta.events.register("after-call.s3.GetObject", _keep_body(self.bodies))
        self.clients.append(made)
        return made

    def close(self) -> None:
        """Close all clients, and connections with bodies that were not read."""
        for each in (*self.bodies, *self.clients):
            each.close()

    def bucket(self, name: str) -> str:
        """Create a bucket; return its name."""
        self.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name

    def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str | None] | None = None,
        body: bytes | str = b"",
        *,
        payload: str | None = None,
        signs: bool = True,
    ) -> S3Answer:
        """Send one request as it is, signed by botocore over the header fields that are given.

        `payload`: value of x-amz-content-sha256, by default the digest of the body. Fields that begin with `+` are sent
        without their `+` and are not signed.
        """
        given = {name: value for name, value in (headers or {}).items() if value is not None}
        data = body.encode() if isinstance(body, str) else body
        request = AWSRequest(method, self.endpoint() + target, data=data)
        for name, value in given.items():
            if not name.startswith("+"):
                request.headers[name] = value
        if signs:
            access_key, _, secret = self.key.partition(":")
            _Signer(payload, Credentials(access_key, secret)).add_auth(request)
        connection = http.client.HTTPConnection(*self.server.address, timeout=30)
        with closing(connection):
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in request.headers.items():
                connection.putheader(name, value if isinstance(value, bytes) else value.encode())
            for name, value in given.items():
                if name.startswith("+"):
                    connection.putheader(name[1:], value)
            names = {name.lstrip("+").lower() for name in given}
            if (data or method in ("PUT", "POST")) and not names & {"content-length", "transfer-encoding"}:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            answer = connection.getresponse()
            return S3Answer(answer.status, answer.headers, answer.read())


@dataclass(frozen=True)
class S3Answer:
    """An answer to a request as it was sent."""

    status: int
    headers: Message
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error; empty without one."""
        found = re.search(rb"<Code>(\w+)</Code>", self.body)
        return found[1].decode() if found else ""

    @property
    def refusal(self) -> tuple[str, int]:
        """Code and status."""
        return self.code, self.status


def _keep_body(bodies: list[Any]) -> Callable[..., None]:
    """Keep bodies of answers, so that none is collected, with a warning, before it is closed."""

    def keep(parsed: dict[str, Any], **_: Any) -> None:
        if "Body" in parsed:
            bodies.append(parsed["Body"])

    return keep


class _Signer(S3SigV4Auth):  # type: ignore[misc]
    """botocore's signer, with any word or digest for the body."""

    def __init__(self, payload: str | None, credentials: Credentials) -> None:
        super().__init__(credentials, "s3", REGION)
        self._payload = payload

    def payload(self, request: AWSRequest) -> str:
        return self._payload or hashlib.sha256(request.data or b"").hexdigest()


def refusal(function: Any, **parameters: Any) -> tuple[str, int]:
    """Code and status of the error that a call gets."""
    with pytest.raises(ClientError) as raised:
        function(**parameters)
    response: Any = raised.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def certificate(directory: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = directory / "certificate.pem", directory / "private.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, private


@asynccontextmanager
async def tls_front(port: int, pem: Path, private: Path) -> AsyncIterator[int]:
    """A front end that terminates TLS and passes bytes on to `port`; its own port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    open_ends: set[asyncio.StreamWriter] = set()
    serving: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        open_ends.add(writer)
        there, back = await asyncio.open_connection("127.0.0.1", port)
        open_ends.add(back)
        await asyncio.gather(copy(reader, back), copy(there, writer))
        open_ends.difference_update((writer, back))
        serving.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for each in open_ends:
            each.transport.abort()
        await asyncio.gather(*serving, return_exceptions=True)
        await asyncio.sleep(0)  # then their sockets are closed


@asynccontextmanager
async def _s3(
    directory: Path, limits: Limits, *, nginx: bool, hosts: int, server: Mapping[str, Any], **more: Any
) -> AsyncIterator[S3Fixture]:
    pem, private = certificate(directory)
    made: list[S3Server] = []

    def protocols(
        metadata: Metadata, view: ClusterView, nodes: NodeClient, wakeups: Wakeups
    ) -> Sequence[FurtherProtocol]:
        options = {"listen": ("127.0.0.1", 0), "hosts": ["store.example"], **server}
        keys = AccessKeys(metadata, KeyFile(directory / KEYS))
        made.append(S3Server(metadata, view, nodes, wakeups, access_keys=keys, region=REGION, limits=limits, **options))
        return made

    async with (
        store_fixture(directory, nginx=nginx, hosts=hosts, limits=limits, protocols=protocols, **more) as store,
        tls_front(made[0].address[1], pem, private) as tls_port,
    ):
        key = await store.create_key("admin", "*=rwa")
        yield S3Fixture(store, made[0], asyncio.get_running_loop(), tls_port, pem, key)


@contextmanager
def s3_fixture(
    directory: Path,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    *,
    nginx: bool = True,
    hosts: int = 1,
    server: Mapping[str, Any] = MappingProxyType({}),
    **more: Any,
) -> Iterator[S3Fixture]:
    """A store in a thread of its own, torn down afterwards; `server`: see S3Server, `more`: see store_fixture."""
    ready: list[S3Fixture] = []
    begun = threading.Event()
    ended: asyncio.Event | None = None

    async def serve() -> None:
        nonlocal ended
        ended = asyncio.Event()
        async with _s3(directory, limits, nginx=nginx, hosts=hosts, server=server, **more) as found:
            ready.append(found)
            begun.set()
            await ended.wait()

    def work() -> None:
        try:
            asyncio.run(serve())
        finally:
            begun.set()

    thread = threading.Thread(target=work, name="store under test")
    thread.start()
    begun.wait(60)
    assert ready, "the store did not start"
    try:
        yield ready[0]
    finally:
        ready[0].close()
        assert ended is not None
        ready[0].loop.call_soon_threadsafe(ended.set)
        thread.join(30)
