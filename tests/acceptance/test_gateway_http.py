"""The gateway over the wire: one suite for all its modes, behind nginx on both servers, and streaming."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote

import pytest
import structlog.testing

from tawara.metadata import queues
from tawara.model.limits import Limits
from tawara.wire.http import path_of
from tests.acceptance.gateway_fixture import AUTHORISED, SECRET, StoreFixture, store_fixture

PATHS = pytest.mark.parametrize(
    "nginx", [pytest.param(True, id="nginx", marks=pytest.mark.slow), pytest.param(False, id="python")]
)


@pytest.fixture(
    params=[*(pytest.param(way, marks=pytest.mark.slow) for way in ("nginx", "nginx, complete server")), "python"]
)
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreFixture]:
    """A gateway: its fast path or its complete server behind nginx, or without nginx."""
    async with store_fixture(tmp_path, nginx=request.param != "python", fast_path=request.param == "nginx") as one:
        yield one


# --- reading ----------------------------------------------------------------------------------------------------------

BODY = b"0123456789"
EARLIER, LATER = formatdate(1_000_000, usegmt=True), formatdate(4_000_000_000, usegmt=True)
MISS = '"not-this"'

CASES: list[tuple[dict[str, str], int, bytes]] = [
    # request fields (TAG and DATE stand for the file's own), status, body of a GET
    ({}, 200, BODY),
    ({"Range": "bytes=0-0"}, 206, b"0"),
    ({"Range": "bytes=2-4"}, 206, b"234"),
    ({"Range": "bytes=7-"}, 206, b"789"),
    ({"Range": "bytes=7-99"}, 206, b"789"),
    ({"Range": "bytes=-3"}, 206, b"789"),
    ({"Range": "bytes=-99"}, 206, BODY),
    ({"Range": "bytes=0-9"}, 206, BODY),
    ({"Range": "bytes=10-"}, 416, b""),
    ({"Range": "bytes=99-100"}, 416, b""),
    ({"Range": "bytes=-0"}, 416, b""),
    ({"Range": "bytes=5-2"}, 200, BODY),
    ({"Range": "bytes=a-b"}, 200, BODY),
    ({"Range": "bytes="}, 200, BODY),
    ({"Range": "lines=1-2"}, 200, BODY),
    ({"Range": "bytes=0-1,4-5"}, 200, BODY),
    ({"Range": "bytes=99999999999999999999999-"}, 416, b""),
    ({"If-None-Match": "TAG"}, 304, b""),
    ({"If-None-Match": f"{MISS}, TAG"}, 304, b""),
    ({"If-None-Match": "W/TAG"}, 304, b""),
    ({"If-None-Match": "*"}, 304, b""),
    ({"If-None-Match": MISS}, 200, BODY),
    ({"If-None-Match": MISS, "If-Modified-Since": LATER}, 200, BODY),
    ({"If-None-Match": "TAG", "Range": "bytes=0-1"}, 304, b""),
    ({"If-None-Match": MISS, "Range": "bytes=0-1"}, 206, b"01"),
    ({"If-Modified-Since": "DATE"}, 304, b""),
    ({"If-Modified-Since": LATER}, 304, b""),
    ({"If-Modified-Since": EARLIER}, 200, BODY),
    ({"If-Modified-Since": "garbage"}, 200, BODY),
    ({"If-Match": "TAG"}, 200, BODY),
    ({"If-Match": "*"}, 200, BODY),
    ({"If-Match": f"{MISS},TAG", "Range": "bytes=1-2"}, 206, b"12"),
    ({"If-Match": MISS}, 412, b""),
    ({"If-Match": "W/TAG"}, 412, b""),
    ({"If-Match": "TAG", "If-Unmodified-Since": EARLIER}, 200, BODY),
    ({"If-Unmodified-Since": "DATE"}, 200, BODY),
    ({"If-Unmodified-Since": LATER, "Range": "bytes=3-3"}, 206, b"3"),
    ({"If-Unmodified-Since": EARLIER}, 412, b""),
    ({"If-Range": "TAG", "Range": "bytes=0-1"}, 206, b"01"),
    ({"If-Range": "W/TAG", "Range": "bytes=0-1"}, 200, BODY),
    ({"If-Range": MISS, "Range": "bytes=0-1"}, 200, BODY),
    ({"If-Range": "DATE", "Range": "bytes=0-1"}, 206, b"01"),
    ({"If-Range": LATER, "Range": "bytes=0-1"}, 200, BODY),
    ({"If-Range": MISS, "Range": "bytes=99-"}, 200, BODY),
    ({"If-Range": "TAG"}, 200, BODY),
    ({"X-Tawara-Step": "store", "X-Tawara-Body": "./bodies/1", "X-Accel-Redirect": "@put"}, 200, BODY),
]


@pytest.mark.parametrize("devid", [1, 2], ids=["local", "remote"])
async def test_conditions_and_ranges(gateway: StoreFixture, devid: int) -> None:
    """For a file on any device: status, fields and body of GET and HEAD follow RFC 9110, sections 13 and 14."""
    put = await gateway.put("/d/k.txt?class=three", BODY)
    assert put.status == 201
    for other in {1, 2, 3} - {devid}:
        gateway.replica(other, (await gateway.stored(b"k.txt")).fid).unlink()
    plain = await gateway.ask("HEAD", "/d/k.txt")
    tag, date = plain["ETag"], plain["Last-Modified"]
    assert tag and date and put["ETag"] == tag
    for fields, status, body in CASES:
        asked = {name: value.replace("TAG", tag).replace("DATE", date) for name, value in fields.items()}
        got = await gateway.ask("GET", "/d/k.txt", headers=asked)
        assert (got.status, got.body if status < 400 else b"") == (status, body), asked
        if status in (200, 206):
            assert got["Content-Length"] == str(len(body)), asked
            assert got["Content-Type"] == "text/plain", asked
            assert got["Accept-Ranges"] == "bytes", asked
            assert got["X-Content-Type-Options"] == "nosniff", asked
            assert got.headers.get_all("Content-Type") == ["text/plain"], asked
        if status in (200, 206, 304):
            assert (got["ETag"], got["Last-Modified"]) == (tag, date), asked
        if status == 206:
            first = BODY.index(body)
            assert got["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/10", asked
        if status == 416:
            assert got["Content-Range"] == "bytes */10", asked
        head = await gateway.ask("HEAD", "/d/k.txt", headers=asked)
        if "Range" not in asked or status in (304, 412):  # HEAD knows no ranges
            assert head.status == status, asked
        else:
            assert (head.status, head["Content-Length"]) == (200, "10"), asked
        assert head.body == b""


async def test_types(gateway: StoreFixture) -> None:
    """The Content-Type of the PUT is returned; without one the key's extension decides."""
    await gateway.put("/d/a.jpg")
    await gateway.put("/d/b.jpg", Content_Type="text/x-own; charset=utf-8")
    await gateway.put("/d/c")
    types = [(await gateway.ask("GET", f"/d/{key}"))["Content-Type"] for key in ("a.jpg", "b.jpg", "c")]
    assert types == ["image/jpeg", "text/x-own; charset=utf-8", "application/octet-stream"]


@pytest.mark.parametrize("size", [0, 1, pytest.param(50_000_000, marks=pytest.mark.slow)], ids=str)
async def test_sizes(gateway: StoreFixture, size: int) -> None:
    """Empty, tiny and large files are returned unchanged, from every device, also when they were sent in chunks."""
    data = os.urandom(min(size, 1_000_003)) * (size // 1_000_003 + 1)
    data = data[:size]
    for body in (data, iter([data[: size // 2], data[size // 2 :]] if size > 1 else [data] if data else [])):
        answer = await gateway.put("/d/k?class=three", body, Content_Type="a/b")
        assert answer.status in (201, 204), answer.body
        stored = await gateway.stored(b"k")
        assert (stored.length, set(stored.devids)) == (size, {1, 2, 3})
        for devid in (1, 2, 3):
            assert gateway.replica(devid, stored.fid).read_bytes() == data
        got = await gateway.ask("GET", "/d/k")
        assert (got.status, got.body == data) == (200, True)


# --- keys -------------------------------------------------------------------------------------------------------------

KEYS = [
    "a", "a b", "a+b", "a/b/c", "/a", "a/", "a//b", "//", ".", "..", "a/../b", "%", "%2F", "a%20b", "?x=1", "a?b#c",
    "ä", "俵", "😀", "e\u0301", "a\tb", "a\nb", "\x7f", "\x01", "'", '"', "\\", "$uri", "{}", ";", "&=", "<b>", "#",
    ".tawara", ".tawara/health", "nginx/400", "0", "x" * 1024, "俵" * 341, " ", "  a  ", "~", "*", "a:b@c",
    "[::1]", "|^`",
]  # fmt: skip


async def test_dot_segments(gateway: StoreFixture) -> None:
    """`.` between slashes is removed, as by every other server; written `%2E` it is part of the key."""
    await gateway.put("/d/a/b", b"plain")
    await gateway.put("/d/a/%2E/b", b"dotted")
    for path, body in (("/d/./a/./b", b"plain"), ("/./d/a/b", b"plain"), ("/d/a/%2e/b", b"dotted")):
        assert (await gateway.ask("GET", path)).body == body
    assert (await gateway.stored(b"a/./b")).length == 6


async def test_keys(gateway: StoreFixture) -> None:
    """Any key is returned as it was stored, in every spelling, also in the listing, and differs from other keys."""
    for number, key in enumerate(KEYS):
        answer = await gateway.put(path_of("d", key.encode()) + "?class=one", str(number).encode())
        assert answer.status == 201, (key, answer.body)
    for number, key in enumerate(KEYS):
        written = (quote(key, safe=""), quote(key, safe="/"))
        others = [] if "." in key.split("/") else [f"/d/{each}" for each in written]
        for path in (path_of("d", key.encode()), *others):
            got = await gateway.ask("GET", path)
            assert (got.status, got.body) == (200, str(number).encode()), (key, path, got.body)
    listed: list[str] = []
    following: str | None = "/d/?limit=7"
    while following:
        page = json.loads((await gateway.ask("GET", following, headers=AUTHORISED)).body)
        listed += [file["key"] for file in page["files"]]
        following = page["next"]
    assert listed == sorted(KEYS, key=str.encode)
    for key in KEYS:
        assert (await gateway.ask("DELETE", path_of("d", key.encode()), headers=AUTHORISED)).status == 204
    assert json.loads((await gateway.ask("GET", "/d/", headers=AUTHORISED)).body)["files"] == []


@pytest.mark.parametrize(
    "path",
    ["/d/" + "a" * 1025, "/d/%ff", "/d/%00", "/d/a%0", "/d/..%2F..%2Fetc%2Fpasswd", "/d/../../etc/passwd", "/d/", "/d"],
)
async def test_invalid_keys(gateway: StoreFixture, path: str) -> None:
    """A key that is too long, not UTF-8, with a NUL, broken, above the root, or empty is refused with a plain
    message."""
    answer = await gateway.put(path)
    assert answer.status == 400
    assert answer["Content-Type"] == "text/plain"
    assert answer.body.count(b"\n") == 1 and b"<" not in answer.body


async def test_keys_that_are_not_utf8(gateway: StoreFixture) -> None:
    """A key that MogileFS stored need not be UTF-8; it can be read and deleted."""
    await gateway.put("/d/k?class=one", b"old")

    async def spoil(tx: object) -> None:
        await tx.run("UPDATE file SET dkey = CAST(? AS TEXT)", b"\xff\xfe")  # type: ignore[attr-defined]

    await gateway.metadata.write(spoil)
    assert (await gateway.ask("GET", "/d/%FF%FE")).body == b"old"
    assert (await gateway.ask("DELETE", "/d/%FF%FE", headers=AUTHORISED)).status == 204


# --- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    [None, "", "Bearer", "Bearer ", f"Basic {SECRET}", f"Bearer {SECRET}x", f"Bearer {SECRET[:-1]}", "Bearer ä"],
)
async def test_without_the_secret(gateway: StoreFixture, field: str | None) -> None:
    """PUT, DELETE and listing need the secret; without it nothing happens, and the response does not show what
    exists."""
    headers = {} if field is None else {"Authorization": field.encode().decode("latin-1")}
    await gateway.put("/d/k", b"mine")
    before = gateway.on_disk()
    for method, path in [("PUT", "/d/k"), ("DELETE", "/d/k"), ("GET", "/d/"), ("PUT", "/nowhere/k"), ("GET", "/no/")]:
        answer = await gateway.ask(method, path, b"theirs" if method == "PUT" else None, headers)
        assert (answer.status, answer.body) == (401, b"Not authorised\n"), (method, path)
        assert (answer["WWW-Authenticate"] or "").startswith('Bearer realm="tawara"')
    assert (await gateway.ask("GET", "/d/k")).body == b"mine"
    assert gateway.on_disk() == before


@PATHS
async def test_private_reads(tmp_path: Path, nginx: bool) -> None:
    """If reads are not public they need the secret too; the health check does not."""
    async with store_fixture(tmp_path, nginx=nginx, public_reads=False) as one:
        await one.put("/d/k")
        for method in ("GET", "HEAD"):
            assert (await one.ask(method, "/d/k")).status == 401
            assert (await one.ask(method, "/d/none")).status == 401
            assert (await one.ask(method, "/d/k", headers=AUTHORISED)).status == 200
        assert (await one.ask("GET", "/.tawara/health")).status == 200


# --- writing ----------------------------------------------------------------------------------------------------------


async def test_put_get_delete(gateway: StoreFixture) -> None:
    """A new key is 201 with its URL, a replaced one 204; the class's copies exist before the response."""
    first = await gateway.put("/d/k", b"one")
    assert (first.status, first["Location"]) == (201, "/d/k")
    assert len((await gateway.stored(b"k")).devids) == 2
    second = await gateway.put("/d/k", b"two")
    assert (second.status, second.body) == (204, b"")
    assert first["ETag"] != second["ETag"]
    assert (await gateway.ask("GET", "/d/k")).body == b"two"
    assert (await gateway.metadata.read(queues.backlog))["replicate"] == 0
    assert (await gateway.ask("DELETE", "/d/k", headers=AUTHORISED)).status == 204
    assert (await gateway.ask("GET", "/d/k")).status == 404
    assert (await gateway.ask("DELETE", "/d/k", headers=AUTHORISED)).status == 404
    backlog = await gateway.metadata.read(queues.backlog)
    assert (backlog["delete"], backlog["uploads"]) == (2, 0)


async def test_a_fid_in_use_on_a_device(gateway: StoreFixture) -> None:
    """Other content under an upload's fid stays; the upload gets another fid, or 503 if it cannot be repeated."""
    await gateway.put("/d/first", b"one")
    taken = (await gateway.stored(b"first")).fid + 1
    for devid in (1, 2, 3):
        gateway.replica(devid, taken).parent.mkdir(parents=True, exist_ok=True)
        gateway.replica(devid, taken).write_bytes(b"lost and found")
    answers = [await gateway.put("/d/k", b"new"), await gateway.put("/d/k", b"new")]
    assert [each.status for each in answers] == ([201, 204] if gateway.front else [503, 201])
    assert (await gateway.ask("GET", "/d/k")).body == b"new"
    assert (await gateway.stored(b"k")).fid > taken + 1000
    assert all(gateway.replica(devid, taken).read_bytes() == b"lost and found" for devid in (1, 2, 3))
    assert (await gateway.metadata.read(queues.backlog))["uploads"] == 0


async def test_conditions_of_writes(gateway: StoreFixture) -> None:
    """If-Match and If-None-Match guard PUT and DELETE: a client that would overwrite an unseen content gets 412."""
    tag = (await gateway.put("/d/k", b"one", If_None_Match="*"))["ETag"] or ""
    assert (await gateway.put("/d/k", b"two", If_None_Match="*")).status == 412
    assert (await gateway.put("/d/k", b"two", If_Match=MISS)).status == 412
    assert (await gateway.put("/d/new", b"two", If_Match="*")).status == 412
    assert (await gateway.put("/d/k", b"two", If_Unmodified_Since=EARLIER)).status == 412
    assert (await gateway.ask("DELETE", "/d/k", headers=AUTHORISED | {"If-Match": MISS})).status == 412
    assert (await gateway.ask("GET", "/d/k")).body == b"one"
    assert (await gateway.put("/d/k", b"two", If_Match=tag)).status == 204
    assert (await gateway.ask("DELETE", "/d/k", headers=AUTHORISED | {"If-Match": tag})).status == 412
    assert (await gateway.ask("DELETE", "/d/k", headers=AUTHORISED | {"If-Match": "*"})).status == 204


async def test_only_one_creation_succeeds(gateway: StoreFixture) -> None:
    """Of many concurrent PUTs that require a new key exactly one succeeds, and its content stays."""
    answers = await asyncio.gather(*(gateway.put("/d/k", b"%d" % number, If_None_Match="*") for number in range(12)))
    winners = [number for number, answer in enumerate(answers) if answer.status == 201]
    assert len(winners) == 1
    assert {answer.status for answer in answers} == {201, 412}
    assert (await gateway.ask("GET", "/d/k")).body == b"%d" % winners[0]


async def test_concurrent_puts_of_one_key(gateway: StoreFixture) -> None:
    """Each PUT is answered, one of them stays, every other one's data is queued for deletion: no orphans."""
    answers = await asyncio.gather(*(gateway.put("/d/k", b"%d" % number) for number in range(12)))
    assert sorted(answer.status for answer in answers) == [201] + [204] * 11
    stored = await gateway.stored(b"k")
    winner = next(
        number for number, answer in enumerate(answers) if (answer["ETag"] or "").startswith(f'"{stored.fid:x}-')
    )
    assert (await gateway.ask("GET", "/d/k")).body == b"%d" % winner
    backlog = await gateway.metadata.read(queues.backlog)
    assert (backlog["delete"], backlog["uploads"]) == (11, 0)
    assert (await gateway.put("/d/k", b"last")).status == 204
    assert (await gateway.ask("GET", "/d/k")).body == b"last"


async def test_content_md5(gateway: StoreFixture) -> None:
    """A body that does not match Content-MD5 is refused and leaves no key; one that does is stored."""
    good = base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    bad = base64.b64encode(b"x" * 16).decode()
    assert (await gateway.put("/d/k", Content_MD5=bad)).status == 422
    assert (await gateway.put("/d/k", Content_MD5="garbage")).status == 400
    assert await gateway.find(b"k") is None
    assert (await gateway.put("/d/k", Content_MD5=good)).status == 201
    assert (await gateway.metadata.read(queues.backlog))["uploads"] == 0


async def test_checksum_of_the_class(gateway: StoreFixture) -> None:
    """A class with a hash type gets its checksum from the bytes of the upload."""
    await gateway.put("/d/k?class=md5", b"hello")
    assert str((await gateway.stored(b"k")).checksum) == f"MD5:{hashlib.md5(b'hello').hexdigest()}"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/nowhere/k", {}, 404),
        ("/d/k?class=none", {}, 404),
        ("/d/k", {"Content-Range": "bytes 0-4/9"}, 400),
        ("/d/k", {"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_refused_puts(gateway: StoreFixture, path: str, headers: dict[str, str], status: int) -> None:
    """A PUT that cannot be stored as requested is refused with a plain message, and leaves nothing."""
    answer = await gateway.ask("PUT", path, b"hello", AUTHORISED | headers)
    assert answer.status == status
    assert answer["Content-Type"] == "text/plain"
    assert answer.body.count(b"\n") == 1 and b"<" not in answer.body
    assert gateway.on_disk() == []


async def test_a_put_without_a_length(gateway: StoreFixture) -> None:
    """A PUT without a length gets 411."""
    request = f"PUT /d/k HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nConnection: close\r\n\r\n"
    assert (await gateway.raw(request.encode())).startswith(b"HTTP/1.1 411 ")


@pytest.mark.parametrize("coding", ["length", "chunked"])
@PATHS
async def test_the_largest_upload(tmp_path: Path, nginx: bool, coding: str) -> None:
    """A body beyond the limit is refused, with or without a length, and leaves nothing."""
    async with store_fixture(tmp_path, nginx=nginx, limits=Limits(upload=1000)) as one:
        assert (await one.put("/d/k", b"x" * 1000)).status == 201
        too_much = b"x" * 1001
        answer = await one.put("/d/big", too_much if coding == "length" else iter([too_much]))
        assert answer.status == 413
        assert await one.find(b"big") is None
        assert (await one.metadata.read(queues.backlog))["uploads"] == 0


async def test_an_upload_that_breaks_off(gateway: StoreFixture) -> None:
    """A client that disconnects leaves no key, no upload and, once deletions are done, no data."""
    for framing in ("Content-Length: 100000", "Transfer-Encoding: chunked"):
        reader, writer = await asyncio.open_connection(*gateway.gateway.address)
        head = f"PUT /d/k HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n{framing}\r\n\r\n"
        writer.write(head.encode() + (b"5000\r\n" if "chunked" in framing else b"") + b"x" * 5000)
        await writer.drain()
        await asyncio.sleep(0.3)
        writer.close()
        await asyncio.wait_for(reader.read(), 10)
    async with asyncio.timeout(10):
        while (await gateway.metadata.read(queues.backlog))["uploads"]:
            await asyncio.sleep(0.05)
    assert await gateway.find(b"k") is None
    assert gateway.on_disk() == []


async def test_clients_that_disconnect_early(gateway: StoreFixture) -> None:
    """A client that sends a complete file and leaves before the response: it is stored completely or not at all."""
    with structlog.testing.capture_logs() as logs:
        for number in range(30):
            _, writer = await asyncio.open_connection(*gateway.gateway.address)
            head = f"PUT /d/{number} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nContent-Length: 5\r\n\r\n"
            writer.write(head.encode() + b"hello")
            await writer.drain()
            writer.close()
        async with asyncio.timeout(10):
            while (await gateway.metadata.read(queues.backlog))["uploads"]:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
    assert [line for line in logs if line["log_level"] == "error"] == []
    for number in range(30):
        got = await gateway.ask("GET", f"/d/{number}")
        assert (got.status, got.body) == (200, b"hello") or got.status == 404


async def test_expect_continue(gateway: StoreFixture) -> None:
    """A client that waits for 100 Continue gets it when its PUT is accepted, and then its response."""
    reader, writer = await asyncio.open_connection(*gateway.gateway.address)
    head = f"PUT /d/k HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nContent-Length: 5\r\n"
    writer.write(head.encode() + b"Expect: 100-continue\r\n\r\n")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 100 ")
    writer.write(b"hello")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 201 ")
    writer.close()


async def test_no_continue_without_the_secret(tmp_path: Path) -> None:
    """When streaming, a client without the secret never gets 100 Continue (nginx sends it, and then discards the
    body)."""
    async with store_fixture(tmp_path, nginx=False) as one:
        head = b"PUT /d/k HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        reader, writer = await asyncio.open_connection(*one.gateway.address)
        writer.write(head)
        assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 401 ")
        writer.close()


async def test_methods(gateway: StoreFixture) -> None:
    """Other methods get 405 with the allowed ones; OPTIONS lists them too."""
    for method in ("POST", "PATCH", "MKCOL", "PROPFIND"):
        answer = await gateway.ask(method, "/d/k", headers=AUTHORISED)
        assert (answer.status, answer["Allow"]) == (405, "GET, HEAD, PUT, DELETE, OPTIONS"), method
    assert (await gateway.ask("OPTIONS", "/d/k")).status == 204
    assert (await gateway.ask("GET", "/d/k", b"a body", AUTHORISED)).status == 413


async def test_root_and_health(gateway: StoreFixture) -> None:
    """The root names the service, the health check its state, and nothing else exists there."""
    root = await gateway.ask("GET", "/")
    assert json.loads(root.body)["name"] == "tawara"
    assert json.loads((await gateway.ask("GET", "/.tawara/health")).body) == {"status": "ok"}
    for path in ("/.tawara/", "/.tawara/x", "/.tawara/nginx/400", "/.tawara/nginx/admit", "/nowhere/k", "/d/none"):
        assert (await gateway.ask("GET", path)).status == 404, path


async def test_listing(gateway: StoreFixture) -> None:
    """A listing can be filtered, continued and limited; an invalid number is refused."""
    for key in ("a/1", "a/2", "a/3", "b"):
        await gateway.put(f"/d/{key}?class=one")
    page = json.loads((await gateway.ask("GET", "/d/?prefix=a/&after=a/1&limit=1", headers=AUTHORISED)).body)
    assert [file["key"] for file in page["files"]] == ["a/2"]
    assert (page["files"][0]["class"], page["files"][0]["length"], page["files"][0]["copies"]) == ("one", 5, 1)
    rest = json.loads((await gateway.ask("GET", page["next"], headers=AUTHORISED)).body)
    assert [file["key"] for file in rest["files"]] == ["a/3"]
    assert (await gateway.ask("GET", "/d/?limit=x", headers=AUTHORISED)).status == 400


@PATHS
async def test_reproxy(tmp_path: Path, nginx: bool) -> None:
    """A proxy that can fetch files itself gets the URLs, but only if that is enabled."""
    offer = {"X-Proxy-Capabilities": "reproxy-file"}
    async with store_fixture(tmp_path, nginx=nginx, reproxy=True) as one:
        await one.put("/d/k.txt")
        answer = await one.ask("GET", "/d/k.txt", headers=offer)
        urls = (answer["X-REPROXY-URL"] or "").split()
        assert len(urls) == 2 and all(url.startswith("http://127.0.0.") for url in urls)
        assert (answer["X-REPROXY-EXPECTED-SIZE"], answer["Content-Type"], answer.body) == ("5", "text/plain", b"")
        assert (await one.ask("GET", "/d/k.txt")).body == b"hello"


async def test_no_reproxy_by_default(gateway: StoreFixture) -> None:
    """Unless it is enabled, no response names storage nodes."""
    await gateway.put("/d/k")
    answer = await gateway.ask("GET", "/d/k", headers={"X-Proxy-Capabilities": "reproxy-file"})
    assert (answer["X-REPROXY-URL"], answer.body) == (None, b"hello")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl(gateway: StoreFixture, tmp_path: Path) -> None:
    """The documented commands work with the real curl."""
    source = tmp_path / "a photo.jpg"
    source.write_bytes(os.urandom(3_000_000))
    url = "http://{}:{}/d/2026/a%20photo.jpg".format(*gateway.gateway.address)

    def curl(*arguments: str) -> bytes:
        return subprocess.run(["curl", "-sSf", *arguments], check=True, capture_output=True, timeout=30).stdout

    await asyncio.to_thread(curl, "-H", f"Authorization: Bearer {SECRET}", "-T", str(source), url)
    assert await asyncio.to_thread(curl, url) == source.read_bytes()
    assert await asyncio.to_thread(curl, "-r", "5-14", url) == source.read_bytes()[5:15]
    part = tmp_path / "part"
    part.write_bytes(source.read_bytes()[:1_000_000])
    await asyncio.to_thread(curl, "-C", "-", "-o", str(part), url)
    assert part.read_bytes() == source.read_bytes()
