"""WebDAV's requests in detail: what litmus does not ask for."""

from __future__ import annotations

import asyncio
import base64
import http.client
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tawara.model.files import StoredFile
from tests.acceptance.dav_fixture import DavFixture, dav_fixture
from tests.acceptance.gateway_fixture import Answer

LOCK = (
    b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>'
    b"<D:locktype><D:write/></D:locktype></D:lockinfo>"
)


class DavUser:
    """Requests with one access key."""

    def __init__(self, dav: DavFixture, credentials: str) -> None:
        self.dav = dav
        self.fields = {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}

    async def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""

        def request() -> Answer:
            connection = http.client.HTTPConnection(*self.dav.server.address, timeout=30)
            try:
                connection.request(method, path, body=body, headers=self.fields | dict(headers or {}))
                response = connection.getresponse()
                return Answer(response.status, response.headers, response.read())
            finally:
                connection.close()

        return await asyncio.to_thread(request)

    async def status(self, method: str, path: str, body: bytes | None = None, **headers: str) -> int:
        """The status of one request; header names are given with underscores for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return (await self.ask(method, path, body, named)).status

    async def members(self, path: str) -> list[str]:
        """The paths that PROPFIND with depth 1 shows, without the collection itself."""
        answer = await self.ask("PROPFIND", path, headers={"Depth": "1"})
        assert answer.status == 207, answer
        return [each.text or "" for each in ElementTree.fromstring(answer.body).iter("{DAV:}href")][1:]


@pytest.fixture
async def dav(tmp_path: Path) -> AsyncIterator[DavFixture]:
    """A store that serves WebDAV."""
    async with dav_fixture(tmp_path) as running:
        yield running


@pytest.fixture
async def user(dav: DavFixture) -> DavUser:
    """A user who may do everything in domain `d`."""
    return DavUser(dav, await dav.store.create_key("user", "d=rw"))


async def test_access_keys_decide(dav: DavFixture, user: DavUser) -> None:
    """Nothing but OPTIONS works without a key, and a key does what its grants allow; the root shows its domains."""
    anonymous = DavUser(dav, "")
    anonymous.fields = {}
    for method in ("GET", "PROPFIND", "PUT", "LOCK", "DELETE"):
        refused = await anonymous.ask(method, "/d/k", b"")
        assert (refused.status, refused["WWW-Authenticate"]) == (401, 'Basic realm="tawara", charset="UTF-8"')
    about = await anonymous.ask("OPTIONS", "/")
    assert (about.status, about["DAV"], about["MS-Author-Via"]) == (200, "1, 2", "DAV")
    reader = DavUser(dav, await dav.store.create_key("reader", "d/open/=r"))
    stranger = DavUser(dav, await dav.store.create_key("stranger", "other=rw"))
    assert await user.status("MKCOL", "/d/open") == 201
    assert await user.status("PUT", "/d/open/a", b"1") == 201
    assert await reader.status("GET", "/d/open/a") == 200
    assert await reader.status("PUT", "/d/open/a", b"2") == 403
    assert await reader.status("PROPFIND", "/d/", Depth="1") == 403
    assert await reader.members("/d/open/") == ["/d/open/a"]
    assert await reader.status("COPY", "/d/open/a", Destination="/d/open/b") == 403
    assert await reader.members("/") == ["/d/"]
    assert await stranger.members("/") == []


async def test_collections_over_other_protocols_keys(dav: DavFixture, user: DavUser) -> None:
    """Keys stored elsewhere show as collections; names that no path can have are hidden; the collection stays."""
    for key in ("/d/p/q/r.txt", "/d/p//x", "/d/p/./y", "/d/p/z%26%E4%BF%B5"):
        assert (await dav.store.put(key, b"12345")).status == 201
    assert await user.members("/d/") == ["/d/p/"]
    assert await user.members("/d/p/") == ["/d/p/y", "/d/p/z&%E4%BF%B5", "/d/p/q/"]
    assert await user.status("DELETE", "/d/p/q/r.txt") == 204
    assert await user.members("/d/p/q") == []
    assert await dav.store.find(b"p/q/") is not None
    assert await user.status("DELETE", "/d/p") == 204
    assert await user.members("/d/") == []
    assert await dav.store.find(b"p//x") is None


async def test_a_collection_is_moved_in_one_step(dav: DavFixture, user: DavUser) -> None:
    """A moved collection has all its files with the same bytes on the devices; nothing is copied."""
    for number in range(20):
        assert (await dav.store.put(f"/d/from/{number % 3}/{number}", b"x")).status == 201
    before = await dav.store.stored(b"from/1/1")
    assert await user.status("MOVE", "/d/from/", Destination="http://elsewhere.example/d/to") == 201
    after: StoredFile = await dav.store.stored(b"to/1/1")
    assert (after.fid, after.devids) == (before.fid, before.devids)
    assert sorted(await user.members("/d/to/")) == ["/d/to/0/", "/d/to/1/", "/d/to/2/"]
    assert await user.status("PROPFIND", "/d/from", Depth="0") == 404
    assert await user.status("MOVE", "/d/to/", Destination="/d/to/inside") == 403
    assert await user.status("DELETE", "/d/") == 403


async def test_copies_share_no_fid(dav: DavFixture, user: DavUser) -> None:
    """A copied collection has its own files, with content, type and properties."""
    set_title = b'<propertyupdate xmlns="DAV:"><set><prop><t xmlns="urn:x">T</t></prop></set></propertyupdate>'
    assert (await dav.store.put("/d/a/b.txt", b"12345", Content_Type="text/x-mine")).status == 201
    assert await user.status("PROPPATCH", "/d/a/b.txt", set_title) == 207
    assert await user.status("COPY", "/d/a", Destination="/d/c") == 201
    copy, source = await dav.store.stored(b"c/b.txt"), await dav.store.stored(b"a/b.txt")
    assert copy.fid != source.fid
    read = await user.ask("GET", "/d/c/b.txt")
    assert (read.body, read["Content-Type"]) == (b"12345", "text/x-mine")
    title = b'<propfind xmlns="DAV:"><prop><t xmlns="urn:x"/></prop></propfind>'
    found = ElementTree.fromstring((await user.ask("PROPFIND", "/d/c/b.txt", title, {"Depth": "0"})).body)
    assert next(found.iter("{urn:x}t")).text == "T"


async def test_locks_protect(dav: DavFixture, user: DavUser) -> None:
    """A lock refuses writes without its token, names itself in the refusal, and belongs to the account."""
    locked = await user.ask("LOCK", "/d/new", LOCK, {"Timeout": "Second-60"})
    assert locked.status == 201
    token = locked["Lock-Token"]
    assert token
    assert b"<D:timeout>Second-60</D:timeout>" in locked.body or b"<D:timeout>Second-59</D:timeout>" in locked.body
    refused = await user.ask("PUT", "/d/new", b"1")
    assert refused.status == 423
    assert b"<D:lock-token-submitted><D:href>/d/new</D:href></D:lock-token-submitted>" in refused.body
    other = DavUser(dav, await dav.store.create_key("other", "d=rw"))
    assert await other.status("PUT", "/d/new", b"1", If=f"({token})") == 423
    assert await other.status("UNLOCK", "/d/new", Lock_Token=token) == 423
    assert await user.status("PUT", "/d/new", b"1", If=f"({token})") == 204
    assert await user.status("PUT", "/d/new", b"1", If=f'({token} ["wrong"])') == 412
    assert await user.status("UNLOCK", "/d/other", Lock_Token=token) == 404
    assert await user.status("UNLOCK", "/d/new", Lock_Token=token) == 204
    assert await user.status("PUT", "/d/new", b"2") == 204


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("PROPFIND", "/d/", None, {}, 403),
        ("PROPFIND", "/d/", b"<x", {"Depth": "0"}, 400),
        ("PROPFIND", "/d/", b"x" * 1_100_000, {"Depth": "0"}, 413),
        ("PROPFIND", "/none/", None, {"Depth": "0"}, 403),
        ("PROPFIND", "/d/%ff", None, {"Depth": "0"}, 400),
        ("MKCOL", "/d/a/b", None, {}, 409),
        ("MKCOL", "/d/x", b"body", {}, 415),
        ("PUT", "/d/a/b", b"1", {}, 409),
        ("PUT", "/d/a/", b"1", {"If": "(nonsense"}, 400),
        ("COPY", "/d/none", None, {"Destination": "/d/x"}, 404),
        ("COPY", "/d/none", None, {}, 400),
        ("LOCK", "/d/x", LOCK, {"Depth": "1"}, 400),
        ("LOCK", "/d/x", b"", {}, 412),
        ("UNLOCK", "/d/x", None, {}, 400),
        ("POST", "/d/x", b"", {}, 405),
        ("PROPPATCH", "/", b"", {}, 400),
    ],
)
async def test_wrong_requests(
    user: DavUser, method: str, path: str, body: bytes | None, headers: dict[str, str], status: int
) -> None:
    """What cannot be done is refused with the status that RFC 4918 asks for, and changes nothing."""
    assert (await user.ask(method, path, body, headers)).status == status
    assert await user.members("/d/") == []


async def test_quota_is_told_on_request(user: DavUser) -> None:
    """A collection says how many bytes can be stored and are, when it is asked for that (RFC 4331)."""
    asked = b'<propfind xmlns="DAV:"><prop><quota-available-bytes/><quota-used-bytes/></prop></propfind>'
    found = ElementTree.fromstring((await user.ask("PROPFIND", "/d/", asked, {"Depth": "0"})).body)
    free, used = (next(found.iter(f"{{DAV:}}quota-{each}-bytes")).text for each in ("available", "used"))
    assert int(free or "") > int(used or "") > 0
