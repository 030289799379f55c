"""An application behind the gateway's nginx: it authorises, and nginx sends the file that it names."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from tawara.gateway import nginx_protocol
from tawara.gateway.nginx_parameters import NginxFeatures
from tawara.model.applications import Application, number_applications
from tawara.model.limits import Limits
from tests.acceptance.gateway_fixture import AUTHORISED, Answer, StoreFixture, store_fixture

HOST = "photos.example"
DATA = os.urandom(200_000)
QUICK = Limits(node_connect=0.5, node_answer=1.0)


@dataclass
class FakeApplication:
    """An HTTP server that answers as a test says, and remembers the requests."""

    fields: dict[str, str] = field(default_factory=dict)
    requests: list[web.Request] = field(default_factory=list)
    port: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        """Answer any request; without fields by an echo of its body."""
        self.requests.append(request)
        body = await request.read()
        return web.Response(body=b"" if self.fields else b"echo " + body, headers=self.fields)

    def names(self, path: str, **fields: str) -> None:
        """Let it name a file from now on; header names have underscores for hyphens."""
        self.fields = {"X-Accel-Redirect": path, **{name.replace("_", "-"): text for name, text in fields.items()}}


@dataclass
class Behind:
    """A gateway with an application behind it, at a host name and at a path."""

    store: StoreFixture
    application: FakeApplication

    async def get(self, path: str = "/any", host: str = HOST, method: str = "GET", **fields: str) -> Answer:
        """Send a request to the application's host name."""
        named = {name.replace("_", "-"): text for name, text in fields.items()}
        return await self.store.ask(method, path, headers={"Host": host, **named})


@asynccontextmanager
async def fake_application() -> AsyncIterator[FakeApplication]:
    """A started application."""
    one = FakeApplication()
    application = web.Application(client_max_size=1 << 24)
    application.router.add_route("*", "/{path:.*}", one.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one.port = runner.addresses[0][1]
    try:
        yield one
    finally:
        await runner.cleanup()


def at(port: int, *, reproxy: bool = False) -> list[Application]:
    """The application at a host name, and below a path."""
    upstream = f"127.0.0.1:{port}"
    return number_applications([(HOST, upstream, ["d"], reproxy), ("/photos/", upstream, ["d"], reproxy)])


@asynccontextmanager
async def behind(directory: Path, *, local: bool = True, reproxy: bool = False) -> AsyncIterator[Behind]:
    """A gateway whose reads are not public, with a file on every host, and an application."""
    async with (
        fake_application() as application,
        store_fixture(
            directory,
            nginx=True,
            public_reads=False,
            limits=QUICK,
            applications=at(application.port, reproxy=reproxy),
            local=local,
        ) as store,
    ):
        assert (await store.put("/d/k?class=three", DATA, Content_Type="image/png")).status == 201
        yield Behind(store, application)


@pytest.fixture(params=[True, False], ids=["own disk", "nodes"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Behind]:
    """The file is read from the gateway's own disk, or from storage nodes."""
    async with behind(tmp_path, local=request.param) as one:
        yield one


async def test_the_file_is_sent_with_the_applications_fields(gateway: Behind) -> None:
    """The client gets the file's bytes with the fields of the application's answer, each once, at host and path."""
    gateway.application.names(
        "/_tawara/d/k",
        Content_Type="text/x-own",
        Content_Disposition='attachment; filename="a.png"',
        Cache_Control="private, max-age=60",
        Set_Cookie="seen=1",
        Link="</style.css>; rel=preload",
        Vary="Cookie",
    )
    for answer in (await gateway.get(), await gateway.get("/photos/a?b", host="any.example")):
        assert (answer.status, answer.body) == (200, DATA)
        for name, value in gateway.application.fields.items():
            if name != "X-Accel-Redirect":
                assert answer.headers.get_all(name) == [value], name
        assert answer["ETag"] and answer["Last-Modified"] and answer["Accept-Ranges"] == "bytes"
        assert not any(name.lower().startswith(("x-tawara", "x-accel")) for name in answer.headers)
    asked = gateway.application.requests[-1]
    assert (asked.raw_path, asked.headers["Host"], asked.headers["X-Forwarded-For"]) == (
        "/photos/a?b",
        "any.example",
        "127.0.0.1",
    )


async def test_the_type_of_the_file(gateway: Behind) -> None:
    """Without a Content-Type of the application's the file has that of its upload."""
    gateway.application.fields = {"X-Accel-Redirect": "/_tawara/d/k", "Content-Type": ""}
    for method in ("GET", "HEAD"):
        answer = await gateway.get(method=method)
        assert (answer.status, answer.headers.get_all("Content-Type")) == (200, ["image/png"])
        assert answer["Content-Length"] == str(len(DATA))


async def test_ranges_and_conditions(gateway: Behind) -> None:
    """Ranges and conditions of the client's request hold for the file, whatever the method of the request was."""
    gateway.application.names("/_tawara/d/k", Content_Type="image/png")
    part = await gateway.get(Range="bytes=100-199")
    assert (part.status, part.body, part["Content-Range"]) == (206, DATA[100:200], f"bytes 100-199/{len(DATA)}")
    etag = part["ETag"] or ""
    assert (await gateway.get(If_None_Match=etag)).status == 304
    assert (await gateway.get(If_Match='"other"')).status == 412
    assert (await gateway.get(Range="bytes=0-9", If_Range='"other"')).body == DATA
    assert (await gateway.get(Range=f"bytes={len(DATA)}-")).status == 416
    assert (await gateway.get(If_Match=etag, Range="bytes=-5")).body == DATA[-5:]
    posted = await gateway.store.ask("POST", "/login", b"a=b", {"Host": HOST})
    assert (posted.status, posted.body) == (200, DATA)


async def test_a_dead_node_is_not_seen(gateway: Behind) -> None:
    """While a replica is left the client gets the file; without one 503, which is not cached."""
    gateway.application.names("/_tawara/d/k", Content_Type="image/png", Cache_Control="max-age=9")
    await gateway.store.stop_node(2)
    for _ in range(6):
        assert (await gateway.get()).body == DATA
    stored = await gateway.store.stored(b"k")
    await gateway.store.stop_node(3)
    for _ in range(3):
        assert (await gateway.get(Range="bytes=5-")).body == DATA[5:]
    gateway.store.replica(1, stored.fid).unlink()
    answer = await gateway.get(Range="bytes=5-")
    assert (answer.status, answer["Cache-Control"]) == (503, None)


async def test_an_overwrite_is_seen_at_once(gateway: Behind) -> None:
    """The next request after an overwrite has the new bytes."""
    gateway.application.names("/_tawara/d/k")
    for number in range(10):
        body = b"%d" % number * 1000
        assert (await gateway.store.put("/d/k?class=three", body)).status == 204
        assert (await gateway.get()).body == body


async def test_keys_with_unusual_characters(gateway: Behind) -> None:
    """Any key can be named, percent-encoded as in the gateway's own addresses."""
    for path in ("/d/a%20b%3F%23%25%2B+c/%C3%A9", "/d/a//b/", "/d/@remote_1"):
        assert (await gateway.store.put(path, path.encode())).status == 201
        gateway.application.names(f"/_tawara{path}")
        answer = await gateway.get()
        assert (answer.status, answer.body) == (200, path.encode())


async def test_what_the_application_may_not_send(gateway: Behind) -> None:
    """Missing files and other domains are 404, without the application's cache time; its other answers pass."""
    for path in ("/_tawara/d/missing", "/_tawara/other/k", "/_tawara/d/", "/_tawara/"):
        gateway.application.names(path, Cache_Control="max-age=9", Content_Disposition="attachment")
        answer = await gateway.get()
        assert answer.status == 404, path
        assert (answer["Cache-Control"], answer["Content-Disposition"]) == (None, None)
    gateway.application.names("/_tawara/d/../e/k")
    assert (await gateway.get()).status in (404, 500)
    gateway.application.fields = {}
    answer = await gateway.store.ask("POST", "/x?y=1", b"z" * 500_000, {"Host": HOST})
    assert (answer.status, answer.body) == (200, b"echo " + b"z" * 500_000)
    assert (await gateway.get("/photos", host="any.example")).status == 308
    assert (await gateway.store.ask("GET", "/d/k", headers=AUTHORISED)).body == DATA


async def test_places_cannot_be_named(gateway: Behind) -> None:
    """An application cannot name a replica or another server directly, by any internal field."""
    stored = await gateway.store.stored(b"k")
    path = f"/dev1/0/000/000/{stored.fid:010d}.fid"
    url = f"http://127.0.0.1:{gateway.application.port}/"
    fields = {
        **{nginx_protocol.url(number): url for number in (1, 2)},
        nginx_protocol.place(2): "@remote_2",
        "X-Tawara-Device": "dev1",
        "X-Tawara-Target": "/d/k",
        "X-Tawara-Step": "file",
    }
    places = ["@remote_1", "@remote_2", "@after_local", "@file_stream", "@file_exhausted"]
    places += [nginx_protocol.local_place(number, path, partial=part) for number in (1, 2) for part in (True, False)]
    for place in places:
        gateway.application.fields = {"X-Accel-Redirect": place, **fields}
        for host in (HOST, "any.example"):
            before = len(gateway.application.requests)
            answer = await gateway.get("/photos/x", host=host)
            assert (answer.status, len(gateway.application.requests)) == (404, before + 1), (place, host)
            assert DATA not in answer.body


async def test_clients_cannot_name_files(gateway: Behind) -> None:
    """The internal paths are 404 from outside, in any spelling, at each host name; so are the internal fields."""
    forged = {"X-Accel-Redirect": "/_tawara/d/k", "X-Tawara-Step": "file", "X-Tawara-Application": "1"}
    for path in ("/_tawara/d/k", "//_tawara/d/k", "/photos/../_tawara/d/k", "/%5Ftawara/d/k", "/_tawara/./d/k"):
        for host in (HOST, "any.example"):
            answer = await gateway.store.ask("GET", path, headers={"Host": host, **forged})
            assert answer.body != DATA, path
            assert answer.status in (200, 400, 401, 404), path
            assert answer.status != 200 or answer.body == b"echo "  # an application's own path


@pytest.mark.parametrize("host", [HOST, "any.example"], ids=["host", "path"])
async def test_sent_by_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Where nginx cannot replace the client's conditions, the gateway's process sends the file with the same fields."""
    monkeypatch.setattr("tawara.gateway.nginx.features_of", lambda _: NginxFeatures())
    async with behind(tmp_path) as gateway:
        etag = (await gateway.store.ask("HEAD", "/d/k", headers=AUTHORISED))["ETag"] or ""
        gateway.application.names("/_tawara/d/k", Content_Type="text/x-own", Link="</x>", Cache_Control="no-store")
        answer = await gateway.get("/photos/x", host=host, If_Match=etag, Range="bytes=5-14")
        assert (answer.status, answer.body) == (206, DATA[5:15])
        for name in ("Content-Type", "Link", "Cache-Control"):
            assert answer.headers.get_all(name) == [gateway.application.fields[name]]
        assert gateway.store.gateway.streamed == 10


async def test_an_application_that_is_down(tmp_path: Path) -> None:
    """The client gets 503; the gateway's own addresses work."""
    async with store_fixture(tmp_path, nginx=True, applications=at(1)) as store:
        answer = await store.ask("GET", "/", headers={"Host": HOST})
        assert (answer.status, answer.body) == (503, b"The application does not answer\n")
        assert (await store.ask("GET", "/.tawara/health")).status == 200
