"""WebDAV as the clients of Windows, macOS and GNOME speak it: their requests byte by byte, on one connection each.

The requests are written after published traces of these clients; only host, credentials and lock token are filled in.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.acceptance.dav_fixture import DavFixture, dav_fixture


@dataclass
class Response:
    """One response."""

    status: int
    fields: dict[str, str]
    body: bytes


@dataclass
class Conversation:
    """Requests on one connection, which the server keeps open."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    filled_in: dict[str, str]
    """What stands for `{name}` in a request."""
    token: str = field(default="")
    """The lock token of the last response that had one."""

    async def say(self, request: str, body: str | bytes = b"") -> Response:
        """Send a request: its head, in which lines end with LF, and its body; return the response."""
        content = body.encode() if isinstance(body, str) else body
        head = request.strip("\n")
        for name, value in (self.filled_in | {"token": self.token, "length": str(len(content))}).items():
            head = head.replace(f"{{{name}}}", value)
        self.writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + content)
        response = await asyncio.wait_for(self._receive(has_body=not head.startswith("HEAD ")), 30)
        if lock := response.fields.get("lock-token"):
            self.token = lock.strip("<>")
        return response

    async def _receive(self, *, has_body: bool) -> Response:
        status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        code = int(status.split()[1])
        body = b""
        if has_body and code != 204:
            if "content-length" in fields:
                body = await self.reader.readexactly(int(fields["content-length"]))
            elif fields.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readline(), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readline()
        assert code != 207 or "location" not in fields, "Finder follows it"
        return Response(code, fields, body)


@pytest.fixture(params=[True, False], ids=["nginx", "alone"])
async def dav(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DavFixture]:
    """A store that serves WebDAV, behind nginx and without it."""
    async with dav_fixture(tmp_path, nginx=request.param) as running:
        yield running


@pytest.fixture
async def conversation(dav: DavFixture) -> AsyncIterator[Conversation]:
    """A connection, and the credentials of a user of domain `d`."""
    reader, writer = await asyncio.open_connection(*dav.server.address)
    credentials = base64.b64encode((await dav.store.create_key("user", "d=rw")).encode()).decode()
    yield Conversation(
        reader, writer, {"host": "{}:{}".format(*dav.server.address), "auth": f"Authorization: Basic {credentials}"}
    )
    writer.close()


MINIREDIR = """\
Connection: Keep-Alive
User-Agent: Microsoft-WebDAV-MiniRedir/10.0.22631
translate: f
Host: {host}"""
WIN32 = """\
<?xml version="1.0" encoding="utf-8" ?><D:propertyupdate xmlns:D="DAV:" xmlns:Z="urn:schemas-microsoft-com:"><D:set>\
<D:prop><Z:Win32CreationTime>Tue, 01 Dec 2026 10:00:00 GMT</Z:Win32CreationTime><Z:Win32LastAccessTime>Tue, 01 Dec \
2026 10:00:00 GMT</Z:Win32LastAccessTime><Z:Win32LastModifiedTime>Tue, 01 Dec 2026 10:00:00 GMT\
</Z:Win32LastModifiedTime><Z:Win32FileAttributes>00000020</Z:Win32FileAttributes></D:prop></D:set></D:propertyupdate>"""
WIN32_LOCK = """\
<?xml version="1.0" encoding="utf-8" ?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>\
<D:locktype><D:write/></D:locktype><D:owner><D:href>DESKTOP-1\\anna</D:href></D:owner></D:lockinfo>"""


async def windows(conversation: Conversation, request: str, body: str | bytes = b"", *lines: str) -> Response:
    """A request of Windows' redirector; `request`: method and path, `lines`: further lines of the head."""
    named = "\n".join(["{auth}", "Content-Length: {length}", *lines])
    return await conversation.say(f"{request} HTTP/1.1\n{MINIREDIR}\n{named}", body)


async def test_windows_connects(conversation: Conversation) -> None:
    """`net use` asks the root without credentials, is then asked for Basic, and shows the domain and its free space."""
    options = await conversation.say(f"OPTIONS / HTTP/1.1\n{MINIREDIR}")
    assert (options.status, options.fields["dav"], options.fields["ms-author-via"]) == (200, "1, 2", "DAV")
    assert {"PROPFIND", "LOCK", "PROPPATCH"} <= set(options.fields["allow"].split(", "))
    asked = await conversation.say(f"PROPFIND /d HTTP/1.1\n{MINIREDIR}\nDepth: 0\nContent-Length: 0")
    assert (asked.status, asked.fields["www-authenticate"]) == (401, 'Basic realm="tawara", charset="UTF-8"')
    for path in ("/d", "/"):
        found = await windows(conversation, f"PROPFIND {path}", b"", "Depth: 0")
        assert (found.status, found.fields["content-type"]) == (207, "application/xml; charset=utf-8")
        assert b"<D:resourcetype><D:collection/></D:resourcetype>" in found.body
    space = (
        '<?xml version="1.0" encoding="utf-8" ?><D:propfind xmlns:D="DAV:"><D:prop><D:quota-available-bytes/>'
        "<D:quota-used-bytes/></D:prop></D:propfind>"
    )
    found = await windows(conversation, "PROPFIND /d", space, "Depth: 0", 'Content-Type: text/xml; charset="utf-8"')
    assert re.search(rb"<D:quota-available-bytes>[1-9]\d*</D:quota-available-bytes>", found.body)
    for probe in ("desktop.ini", "AutoRun.inf", "folder.jpg"):
        assert (await windows(conversation, f"PROPFIND /d/{probe}", b"", "Depth: 0")).status == 404


async def test_windows_stores_a_file(conversation: Conversation, dav: DavFixture) -> None:
    """Explorer makes an empty file, locks it, sets its times, writes it, and finds times and attributes again."""
    path = "/d/New%20Text%20Document.txt"
    xml = 'Content-Type: text/xml; charset="utf-8"'
    with_token = "If: (<{token}>)"
    assert (await windows(conversation, f"PROPFIND {path}", b"", "Depth: 0")).status == 404
    assert (await windows(conversation, f"PUT {path}")).status == 201
    locked = await windows(conversation, f"LOCK {path}", WIN32_LOCK, xml, "Timeout: Second-3600")
    assert locked.status == 200
    assert b"<D:href>DESKTOP-1\\anna</D:href>" in locked.body.replace(b"ns0:", b"D:")
    assert (await windows(conversation, f"PROPPATCH {path}", WIN32)).status == 423
    patched = await windows(conversation, f"PROPPATCH {path}", WIN32, xml, with_token)
    assert (patched.status, b"200 OK" in patched.body, b"403" in patched.body) == (207, True, False)
    head = await windows(conversation, f"HEAD {path}")
    assert (head.status, head.fields["content-length"]) == (200, "0")
    assert (await windows(conversation, f"PUT {path}", b"Dear reader", with_token)).status == 204
    assert (await windows(conversation, f"LOCK {path}", b"", "Timeout: Second-3600", with_token)).status == 200
    assert (await windows(conversation, f"PROPPATCH {path}", WIN32, xml, with_token)).status == 207
    assert (await windows(conversation, f"UNLOCK {path}", b"", "Lock-Token: <{token}>")).status == 204
    listed = await windows(conversation, "PROPFIND /d", b"", "Depth: 1")
    assert f"<D:href>{path}</D:href>".encode() in listed.body
    assert b"<D:getcontentlength>11</D:getcontentlength>" in listed.body
    assert re.search(rb"Win32FileAttributes[^<>]*>00000020</", listed.body)
    assert (await windows(conversation, f"GET {path}")).body == b"Dear reader"
    assert (await dav.store.stored(b"New Text Document.txt")).length == 11


async def test_windows_makes_and_renames_a_folder(conversation: Conversation) -> None:
    """Explorer makes `New folder`, renames it without overwriting, and deletes it."""
    new, renamed = "/d/New%20folder", "/d/letters"
    assert (await windows(conversation, f"MKCOL {new}")).status == 201
    assert (await windows(conversation, f"PROPPATCH {new}", WIN32)).status == 207
    assert (await windows(conversation, f"PUT {new}/a.txt", b"1")).status == 201
    moved = await windows(conversation, f"MOVE {new}", b"", f"Destination: http://{{host}}{renamed}", "Overwrite: F")
    assert moved.status == 201
    listed = await windows(conversation, f"PROPFIND {renamed}", b"", "Depth: 1")
    assert (f"{renamed}/a.txt".encode() in listed.body, b"00000020" in listed.body) == (True, True)
    assert (await windows(conversation, f"MKCOL {new}")).status == 201
    refused = await windows(conversation, f"MOVE {new}", b"", f"Destination: http://{{host}}{renamed}", "Overwrite: F")
    assert refused.status == 412
    assert (await windows(conversation, f"DELETE {renamed}")).status == 204
    assert (await windows(conversation, f"PROPFIND {renamed}", b"", "Depth: 0")).status == 404


FINDER = """\
Host: {host}
Accept: */*
User-Agent: WebDAVFS/3.0.0 (03008000) Darwin/23.6.0 (arm64)
{auth}"""
FINDER_STAT = """\
<?xml version="1.0" encoding="utf-8"?>
<D:propfind xmlns:D="DAV:">
<D:prop>
<D:getlastmodified/>
<D:getcontentlength/>
<D:creationdate/>
<D:resourcetype/>
</D:prop>
</D:propfind>
"""
FINDER_SPACE = """\
<?xml version="1.0" encoding="utf-8"?>
<D:propfind xmlns:D="DAV:">
<D:prop>
<D:quota-available-bytes/>
<D:quota-used-bytes/>
<D:quota/>
<D:quotaused/>
</D:prop>
</D:propfind>
"""
FINDER_LOCK = """\
<?xml version="1.0" encoding="utf-8"?>
<D:lockinfo xmlns:D="DAV:">
<D:lockscope><D:exclusive/></D:lockscope>
<D:locktype><D:write/></D:locktype>
<D:owner>
<D:href>http://www.apple.com/webdav_fs/</D:href>
</D:owner>
</D:lockinfo>
"""


async def finder(conversation: Conversation, request: str, body: str | bytes = b"", *lines: str) -> Response:
    """A request of macOS' Finder; `request`: method and path, `lines`: further lines of the head."""
    xml = ["Content-Type: text/xml"] if body else []
    return await conversation.say(
        "\n".join([f"{request} HTTP/1.1", FINDER, *xml, *lines, "Content-Length: {length}"]), body
    )


async def test_finder_mounts(conversation: Conversation) -> None:
    """Finder mounts for writing, since the server has class 2; probes of files that do not exist get a short 404."""
    options = await conversation.say("OPTIONS /d/ HTTP/1.1\nHost: {host}\nUser-Agent: WebDAVFS/3.0.0\nAccept: */*")
    assert (options.status, options.fields["dav"]) == (200, "1, 2")
    stat = await finder(conversation, "PROPFIND /d/", FINDER_STAT, "Depth: 0")
    assert stat.status == 207
    assert b"<D:resourcetype><D:collection/></D:resourcetype>" in stat.body
    space = await finder(conversation, "PROPFIND /d/", FINDER_SPACE, "Depth: 0")
    assert re.search(rb"<D:quota-available-bytes>[1-9]\d*</D:quota-available-bytes>", space.body)
    assert b"<D:quota/>" in space.body.partition(b"HTTP/1.1 200 OK")[2], "not known, so not found"
    for probe in (".DS_Store", "._.", ".Spotlight-V100", ".metadata_never_index", "Contents"):
        missing = await finder(conversation, f"PROPFIND /d/{probe}", FINDER_STAT, "Depth: 0")
        assert (missing.status, len(missing.body) < 100) == (404, True)


async def test_finder_copies_a_file(conversation: Conversation, dav: DavFixture) -> None:
    """Finder makes an empty file, locks it, and sends the bytes in chunks; its second file holds the resource fork."""
    for name, content in (("Photo.jpg", b"x" * 100_000), ("._Photo.jpg", b"\x00\x05\x16\x07" * 1024)):
        path = f"/d/{name}"
        assert (await finder(conversation, f"PROPFIND {path}", FINDER_STAT, "Depth: 0")).status == 404
        assert (await finder(conversation, f"PUT {path}")).status == 201
        assert (
            await finder(conversation, f"LOCK {path}", FINDER_LOCK, "Depth: 0", "Timeout: Second-600")
        ).status == 200
        half = len(content) // 2
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in (content[:half], content[half:]))
        put = await conversation.say(
            f"PUT {path} HTTP/1.1\n{FINDER}\nIf: (<{{token}}>)\nTransfer-Encoding: Chunked\n"
            f"X-Expected-Entity-Length: {len(content)}",
            chunks + b"0\r\n\r\n",
        )
        assert put.status == 204
        stat = await finder(conversation, f"PROPFIND {path}", FINDER_STAT, "Depth: 0")
        assert b"<D:getcontentlength>%d</D:getcontentlength>" % len(content) in stat.body
        locked = await finder(conversation, f"LOCK {path}", b"", "Depth: 0", "Timeout: Second-600", "If: (<{token}>)")
        assert locked.status == 200
        assert (await finder(conversation, f"UNLOCK {path}", b"", "Lock-Token: <{token}>")).status == 204
        assert (await dav.store.stored(name.encode())).length == len(content)
    ranged = await finder(conversation, "GET /d/Photo.jpg", b"", "Range: bytes=0-4095")
    assert (ranged.status, ranged.body) == (206, b"x" * 4096)
    replaced = await finder(conversation, "MOVE /d/._Photo.jpg", b"", "Destination: http://{host}/d/._Bild.jpg")
    assert replaced.status == 201


async def test_finder_breaks_off(conversation: Conversation, dav: DavFixture) -> None:
    """A chunked PUT that ends in the middle stores nothing: the file keeps its bytes."""
    assert (await finder(conversation, "PUT /d/kept", b"before")).status == 201
    fid = (await dav.store.stored(b"kept")).fid
    head = conversation.filled_in["auth"]
    conversation.writer.write(
        f"PUT /d/kept HTTP/1.1\r\nHost: x\r\n{head}\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nafter\r\n".encode()
    )
    conversation.writer.write_eof()
    await asyncio.wait_for(conversation.reader.read(), 30)
    assert (await dav.store.stored(b"kept")).fid == fid


GVFS = """\
Host: {host}
User-Agent: gvfs/1.54.4
Accept-Language: en-us, en;q=0.9
{auth}"""
GVFS_STAT = """\
<?xml version="1.0" encoding="utf-8" ?>
 <D:propfind xmlns:D="DAV:">
  <D:prop>
<D:creationdate/>
<D:displayname/>
<D:getcontentlength/>
<D:getcontenttype/>
<D:getetag/>
<D:getlastmodified/>
<D:resourcetype/>
  </D:prop>
 </D:propfind>"""


async def gvfs(conversation: Conversation, request: str, body: str | bytes = b"", *lines: str) -> Response:
    """A request of GNOME's gvfs; `request`: method and path, `lines`: further lines of the head."""
    kind = ["Content-Type: application/xml"] if isinstance(body, str) else []
    return await conversation.say(
        "\n".join([f"{request} HTTP/1.1", GVFS, *kind, *lines, "Content-Length: {length}"]), body
    )


async def test_gvfs_mounts(conversation: Conversation) -> None:
    """gvfs asks each collection above the mounted one for its type, up to `/`, which lists the domains of the key."""
    assert (await conversation.say(f"OPTIONS /d/a/b HTTP/1.1\n{GVFS}")).fields["dav"] == "1, 2"
    assert [(await gvfs(conversation, f"MKCOL {path}")).status for path in ("/d/a", "/d/a/b")] == [201, 201]
    for path in ("/d/a/b", "/d/a", "/d", "/"):
        found = await gvfs(conversation, f"PROPFIND {path}", GVFS_STAT, "Depth: 0")
        assert (found.status, b"<D:collection/>" in found.body) == (207, True)
    assert b"<D:href>/d/</D:href>" in (await gvfs(conversation, "PROPFIND /", GVFS_STAT, "Depth: 1")).body


async def test_gvfs_edits(conversation: Conversation) -> None:
    """gvfs writes a file only if it is the one that it read, by its tag; it renames with and without overwriting."""
    put = await gvfs(conversation, "PUT /d/letter.txt", b"one", "Expect: 100-continue", "If-None-Match: *")
    if put.status == 100:
        put = await conversation._receive(has_body=True)
    assert put.status == 201
    found = await gvfs(conversation, "PROPFIND /d/letter.txt", GVFS_STAT, "Depth: 0")
    etag = re.search(rb"<D:getetag>([^<]*)</D:getetag>", found.body)
    assert etag is not None
    assert b"<D:getcontenttype>text/plain" in found.body
    tag = etag[1].decode().replace("&quot;", '"')
    assert (await gvfs(conversation, "PUT /d/letter.txt", b"two", f"If-Match: {tag}")).status == 204
    assert (await gvfs(conversation, "PUT /d/letter.txt", b"three", f"If-Match: {tag}")).status == 412
    assert (await gvfs(conversation, "GET /d/letter.txt")).body == b"two"
    assert (await gvfs(conversation, "PUT /d/other.txt", b"4")).status == 201
    destination = "Destination: https://drive.example/d/other.txt"
    assert (await gvfs(conversation, "MOVE /d/letter.txt", b"", destination, "Overwrite: F")).status == 412
    assert (await gvfs(conversation, "MOVE /d/letter.txt", b"", destination, "Overwrite: T")).status == 204
    assert (await gvfs(conversation, "GET /d/other.txt")).body == b"two"
