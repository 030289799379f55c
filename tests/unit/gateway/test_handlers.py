"""The steps of a request behind nginx: which handler responds, what it does, and what it returns to nginx."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.test_utils import make_mocked_request

from tawara.gateway import responses
from tawara.gateway.application_files import ApplicationFileHandler
from tawara.gateway.authenticator import Authenticator
from tawara.gateway.get_handler import GetHandler
from tawara.gateway.http_server import Handler, handlers, respond
from tawara.gateway.nginx import NginxFront
from tawara.gateway.nginx_protocol import GatewayStep
from tawara.gateway.nginx_replicas import NginxReplicas
from tawara.gateway.put_handlers import StreamedPutHandler
from tawara.gateway.reproxy_applications import ReproxyHandler
from tawara.gateway.requests import HttpRequest, RequestParser
from tawara.gateway.serve_handler import ServeHandler
from tawara.gateway.spool import Spool, SpoolFull
from tawara.http1.reply import Reply
from tawara.metadata.contract import Metadata
from tawara.model.limits import Limits
from tawara.nodes.client import NodeClient
from tests.unit.store.fake_store import FakeStore

AUTHORISED = {"Authorization": "Bearer the secret"}
CHALLENGE = 'Bearer realm="tawara", Basic realm="tawara", charset="UTF-8"'


@dataclass
class FakeFront:
    """A fake nginx that has received some bodies."""

    spool: Spool
    full: bool = False
    checked: list[int] = field(default_factory=list)

    async def check_spool(self, size: int) -> None:
        self.checked.append(size)
        if self.full:
            raise SpoolFull

    async def has_body(self, body: Path) -> bool:
        return body.exists()


class Gateway:
    """The handlers over an in-memory store."""

    def __init__(self, directory: Path, *, reproxy: bool = False) -> None:
        self.fake = FakeStore()
        self.front = FakeFront(Spool(directory))
        self.front.spool.make()
        fake, limits = self.fake, Limits(upload=1000)
        authenticator = Authenticator(None, secret="the secret", public_reads=True)
        parser = RequestParser(fake.view, authenticator, upload=limits.upload)
        get = GetHandler(
            fake.view,
            cast(NodeClient, fake.nodes),
            fake.store,
            NginxReplicas(None),
            reproxy=reproxy,
            limits=limits,
            rng=random.Random(1),
        )
        put = StreamedPutHandler(parser, fake.writer, limits)
        serve = ServeHandler(cast(Metadata, fake.metadata), fake.store, parser, get, put)
        files = ApplicationFileHandler((), parser, get)
        self.behind: Mapping[GatewayStep, Handler] = handlers(
            serve,
            parser,
            fake.writer,
            cast(NginxFront, self.front),
            limits,
            files,
            ReproxyHandler((), cast(Metadata, fake.metadata), fake.view, limits),
        )
        self.alone: Mapping[GatewayStep, Handler] = handlers(serve, parser, fake.writer, None, limits, files)

    async def ask(
        self,
        step: GatewayStep,
        method: str = "PUT",
        path: str = "/d/k",
        headers: Mapping[str, str] = AUTHORISED,
        *,
        payload: StreamReader = EMPTY_PAYLOAD,
        alone: bool = False,
    ) -> Reply:
        request = make_mocked_request(method, path, dict(headers), payload=payload)
        response = await respond((self.alone if alone else self.behind)[step], request)
        assert isinstance(response, Reply)
        return response


@pytest.fixture
async def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


async def test_a_body_is_admitted_only_with_the_secret_and_space(gateway: Gateway) -> None:
    """Before the body is received the request is checked, and the spool is asked for the announced number of bytes."""
    headers = AUTHORISED | {"X-Tawara-Length": "7"}
    assert (await gateway.ask(GatewayStep.ADMIT, "GET", headers=headers)).status == 204
    assert gateway.front.checked == [7]
    assert (await gateway.ask(GatewayStep.ADMIT, headers={"X-Tawara-Length": "7"})).status == 401
    assert (await gateway.ask(GatewayStep.ADMIT, headers=AUTHORISED)).status == 411
    assert (await gateway.ask(GatewayStep.ADMIT, headers=AUTHORISED | {"X-Tawara-Length": "1001"})).status == 413
    assert (await gateway.ask(GatewayStep.ADMIT, headers=AUTHORISED | {"X-Tawara-Coding": "chunked"})).status == 204
    gateway.fake.metadata.name(b"k", 9)
    assert (await gateway.ask(GatewayStep.ADMIT, headers=headers | {"If-None-Match": "*"})).status == 412
    gateway.front.full = True
    assert (await gateway.ask(GatewayStep.ADMIT, headers=headers)).status == 507
    assert gateway.fake.metadata.next_fid == 1


async def test_a_received_body_is_stored(gateway: Gateway) -> None:
    """The file that nginx names is stored: 201 and a URL for a new key, 204 when it is overwritten."""
    (gateway.front.spool.bodies / "0000000001").write_bytes(b"hello")
    headers = AUTHORISED | {"X-Tawara-Body": "bodies/0000000001"}
    first = await gateway.ask(GatewayStep.STORE, headers=headers)
    assert (first.status, first.fields["Location"]) == (201, "/d/k")
    assert (await gateway.ask(GatewayStep.STORE, headers=headers)).status == 204
    assert set(gateway.fake.nodes.bodies.values()) == {b"hello"}
    gateway.fake.writer.close()


@pytest.mark.parametrize("name", ["", "/etc/passwd", "bodies/../0000000001", "bodies/x", "0000000001"])
async def test_only_bodies_of_the_spool_are_stored(gateway: Gateway, name: str) -> None:
    """No file outside the spool can be named as a body, and the secret is required again."""
    (gateway.front.spool.directory / "0000000001").write_bytes(b"private")
    assert (await gateway.ask(GatewayStep.STORE, headers=AUTHORISED | {"X-Tawara-Body": name})).status == 400
    assert (await gateway.ask(GatewayStep.STORE, headers={"X-Tawara-Body": "bodies/0000000001"})).status == 401
    assert gateway.fake.nodes.bodies == {}


async def test_a_disconnected_client_gets_no_response(gateway: Gateway) -> None:
    """When nginx removed the body because its client disconnected, the connection is closed without a response."""
    with pytest.raises(ConnectionResetError):
        await gateway.ask(GatewayStep.STORE, headers=AUTHORISED | {"X-Tawara-Body": "bodies/0000000002"})
    gateway.fake.writer.close()


async def test_a_body_that_could_not_be_received(gateway: Gateway) -> None:
    """If nginx could not receive a body, the response is 507, for requests with the secret only."""
    length = {"X-Tawara-Length": "7"}
    assert (await gateway.ask(GatewayStep.UNRECEIVED, headers=AUTHORISED | length)).status == 507
    assert (await gateway.ask(GatewayStep.UNRECEIVED, headers={})).status == 401


async def test_the_admission_response_for_nginx(gateway: Gateway) -> None:
    """nginx gets 204, or 403 with the status, error text and challenge for the client."""
    assert responses.verdict(Reply(204)).status == 204
    refused = responses.verdict(await gateway.ask(GatewayStep.ADMIT, headers={}))
    assert refused.status == 403
    assert refused.fields["X-Tawara-Status"] == "401"
    assert refused.fields["X-Tawara-Error"]
    assert refused.fields["X-Tawara-Challenge"] == CHALLENGE


async def test_a_get_is_answered_by_nginx(gateway: Gateway) -> None:
    """Behind nginx, the response to a GET names every replica at its storage node."""
    gateway.fake.metadata.name(b"k", 9)
    answer = await gateway.ask(GatewayStep.DECIDE, "GET", headers={})
    assert answer.status == 204
    assert answer.fields["X-Accel-Redirect"] == "@remote_1"
    urls = {answer.fields["X-Tawara-Url-1"], answer.fields["X-Tawara-Url-2"]}
    assert urls == {f"http://10.0.0.{n}:7500/dev{n}/0/000/000/0000000009.fid" for n in (1, 2)}
    assert (await gateway.ask(GatewayStep.DECIDE, "GET", "/d/none", headers={})).status == 404


async def test_methods(gateway: Gateway) -> None:
    """Every method of the gateway is allowed, and no other; only PUT has a body; DELETE needs the secret and a key."""
    options = await gateway.ask(GatewayStep.DECIDE, "OPTIONS", headers={})
    assert (options.status, options.fields["Allow"]) == (204, "GET, HEAD, PUT, DELETE, OPTIONS")
    refused = await gateway.ask(GatewayStep.DECIDE, "POST")
    assert (refused.status, refused.fields["Allow"]) == (405, "GET, HEAD, PUT, DELETE, OPTIONS")
    assert (await gateway.ask(GatewayStep.DECIDE, "DELETE", "/.tawara/health")).status == 405
    assert (await gateway.ask(GatewayStep.DECIDE, "GET", "/.tawara/other", headers={})).status == 404
    gateway.fake.metadata.name(b"k", 9)
    assert (await gateway.ask(GatewayStep.DECIDE, "DELETE", headers={})).status == 401
    assert (await gateway.ask(GatewayStep.DECIDE, "DELETE", "/d/")).status == 400
    assert b"k" in gateway.fake.metadata.files
    assert (await gateway.ask(GatewayStep.DECIDE, "DELETE")).status == 204
    assert b"k" not in gateway.fake.metadata.files


async def test_a_listing(gateway: Gateway) -> None:
    """A listing needs the secret, and returns the URL of its next page with the same prefix and limit."""
    for number in range(3):
        gateway.fake.metadata.name(b"a&%d" % number, number)
    assert (await gateway.ask(GatewayStep.DECIDE, "GET", "/d/", headers={})).status == 401
    page = await gateway.ask(GatewayStep.DECIDE, "GET", "/d/?prefix=a%26&limit=2")
    assert b'"next":"/d/?prefix=a%26&limit=2&after=a%261"' in page.body
    assert (await gateway.ask(GatewayStep.DECIDE, "GET", "/d/?limit=x")).status == 400


async def test_steps_exist_only_behind_nginx(gateway: Gateway) -> None:
    """Without nginx every request is complete, whatever step a client's header names."""
    assert set(gateway.alone) == {GatewayStep.DECIDE}
    assert set(gateway.behind) == set(GatewayStep) - {GatewayStep.BODY}


async def test_an_internal_error_has_no_detail(gateway: Gateway) -> None:
    """A defect gives 500 without details."""

    async def broken(_: HttpRequest) -> Reply:
        raise ValueError("secret detail")

    response = await respond(broken, make_mocked_request("GET", "/"))
    assert isinstance(response, Reply)
    assert (response.status, response.body) == (500, b"Internal Server Error\n")


async def test_reproxy(tmp_path: Path) -> None:
    """Storage nodes are named to a proxy only if that is enabled and the proxy requests it."""
    for allowed in (False, True):
        gateway = Gateway(tmp_path, reproxy=allowed)
        gateway.fake.metadata.name(b"k", 9)
        headers = {"X-Proxy-Capabilities": "reproxy-file"}
        answer = await gateway.ask(GatewayStep.DECIDE, "GET", headers=headers)
        assert ("X-REPROXY-URL" in answer.fields) == allowed
        assert "X-REPROXY-URL" not in (await gateway.ask(GatewayStep.DECIDE, "GET", headers={})).fields


async def test_a_range_without_bytes_says_so(gateway: Gateway) -> None:
    """A range beyond the end is 416 with the length of the file, and a text."""
    gateway.fake.metadata.name(b"k", 9)
    headers = AUTHORISED | {"Range": "bytes=99999-"}
    answer = await gateway.ask(GatewayStep.DECIDE, "GET", headers=headers)
    assert answer.status == 416
    assert answer.fields["Content-Range"].startswith("bytes */")
    assert b"No byte of the file is in the range" in answer.body
