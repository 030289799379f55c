"""WebDAV's requests in detail: what litmus does not ask for."""

from __future__ import annotations

import asyncio
import base64
import http.client
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tawara.metadata import cluster
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


async def test_names_in_another_unicode_form(dav: DavFixture, user: DavUser) -> None:
    """What others stored composed is found, written, locked, moved and deleted decomposed, as macOS sends it."""
    composed, decomposed = "%C3%BC", "u%CC%88"
    assert (await dav.store.put(f"/d/{composed}/{composed}", b"12345")).status == 201
    path = f"/d/{decomposed}/{decomposed}"
    assert (await user.ask("GET", path)).body == b"12345"
    assert await user.members(f"/d/{decomposed}/") == [f"/d/{composed}/{composed}"]
    locked = await user.ask("LOCK", path, LOCK)
    assert locked.status == 200
    assert await user.status("PUT", f"/d/{composed}/{composed}", b"1") == 423
    tagged = f"<http://host{path}> ({locked['Lock-Token']})"
    assert await user.status("PUT", path, b"123", If=tagged) == 204
    assert (await dav.store.stored("ü/ü".encode())).length == 3
    assert await dav.store.find("u\u0308/u\u0308".encode()) is None
    assert await user.status("UNLOCK", path, Lock_Token=locked["Lock-Token"] or "") == 204
    assert await user.status("PUT", f"/d/{decomposed}/new{decomposed}", b"1") == 201
    assert await dav.store.find("ü/newu\u0308".encode()) is not None, "a new name is stored as sent"
    assert await user.status("MOVE", path, Destination=f"/d/{decomposed}/moved") == 201
    assert await user.status("DELETE", f"/d/{decomposed}") == 204
    assert await user.members("/d/") == []
    reader = DavUser(dav, await dav.store.create_key("decomposed", "d/u\u0308/=rw"))
    assert (await dav.store.put(f"/d/{composed}/secret", b"1")).status == 201
    assert await reader.status("GET", f"/d/{decomposed}/secret") == 403


async def test_a_file_and_a_collection_of_one_name(dav: DavFixture, user: DavUser) -> None:
    """Where others stored a file `a` and keys below `a/`, the collection is shown, and its deletion leaves the file."""
    for key in ("/d/a", "/d/a/b"):
        assert (await dav.store.put(key, b"12345")).status == 201
    assert await user.members("/d/") == ["/d/a/"]
    assert (await user.ask("GET", "/d/a")).body != b"12345"
    assert await user.status("PUT", "/d/a", b"1") == 405
    assert await user.status("DELETE", "/d/a") == 204
    assert await user.members("/d/") == ["/d/a"]


async def test_moving_between_domains_and_out_of_collections(dav: DavFixture) -> None:
    """A move to another domain takes content, type and properties along; a collection outlasts its last member."""
    await dav.store.metadata.write(cluster.create_domain, "e")
    await dav.store.view.refresh()
    user = DavUser(dav, await dav.store.create_key("both", "d=rw", "e=rw"))
    assert await user.members("/") == ["/d/", "/e/"]
    for key in ("/d/box/a.txt", "/d/box/in/b.txt"):
        assert (await dav.store.put(key, b"12345", Content_Type="text/x-mine")).status == 201
    assert await user.status("MOVE", "/d/box", Destination="/e/box") == 201
    assert (await user.members("/d/"), await user.members("/e/box/")) == ([], ["/e/box/a.txt", "/e/box/in/"])
    moved = await user.ask("GET", "/e/box/in/b.txt")
    assert (moved.body, moved["Content-Type"]) == (b"12345", "text/x-mine")
    assert await user.status("MOVE", "/e/box/in/b.txt", Destination="/e/b.txt") == 201
    assert await user.members("/e/box/in/") == []
    assert await user.status("COPY", "/e/box", Depth="0", Destination="/e/empty") == 201
    assert await user.members("/e/empty/") == []
    stranger = DavUser(dav, await dav.store.create_key("one", "e=rw"))
    assert await stranger.status("MOVE", "/e/b.txt", Destination="/d/b.txt") == 403


async def test_depth_infinity_is_refused(user: DavUser) -> None:
    """PROPFIND of everything below a collection is refused with the condition that clients know."""
    for headers in ({}, {"Depth": "infinity"}):
        refused = await user.ask("PROPFIND", "/d/", headers=headers)
        assert (refused.status, b"<D:propfind-finite-depth/>" in refused.body) == (403, True)


async def test_a_slash_at_the_end_of_a_file(dav: DavFixture, user: DavUser) -> None:
    """A file that is stored under a path with a slash at its end is a file, not the marker of a collection."""
    assert await user.status("PUT", "/d/x/", b"1") == 201
    assert await user.members("/d/") == ["/d/x"]
    assert await dav.store.find(b"x/") is None
    assert await user.status("PUT", "/d/x/y", b"1") == 409
    assert await user.status("MKCOL", "/d/c") == 201
    assert await user.status("PUT", "/d/c", b"1") == 405


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
