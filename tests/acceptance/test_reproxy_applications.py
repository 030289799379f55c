"""An old application behind the gateway, which answers with X-Reproxy-URL as behind Perlbal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance.test_applications import DATA, HOST, Behind, behind

SIZE = str(len(DATA))


@pytest.fixture
async def old(tmp_path: Path) -> AsyncIterator[Behind]:
    """A gateway with such an application."""
    async with behind(tmp_path, reproxy=True) as one:
        yield one


async def urls(old: Behind, key: bytes = b"k") -> list[str]:
    """The URLs of a file's replicas, as a tracker gives them."""
    stored = await old.store.stored(key)
    found = [old.store.view.current.url(devid, stored.fid) for devid in stored.devids]
    return [each for each in found if each is not None]


async def test_the_file_is_sent(old: Behind) -> None:
    """The file is sent with the application's fields, with ranges, from any replica; clients do not see the URLs."""
    own = await urls(old)
    old.application.fields = {
        "X-REPROXY-URL": " ".join(own[:1]),
        "X-REPROXY-EXPECTED-SIZE": SIZE,
        "Content-Type": "text/x-own",
        "Cache-Control": "private",
        "Link": "</x>",
        "Set-Cookie": "a=b",
    }
    for host in (HOST, "any.example"):
        answer = await old.get("/photos/x", host=host)
        assert (answer.status, answer.body) == (200, DATA)
        for name in ("Content-Type", "Cache-Control", "Link", "Set-Cookie"):
            assert answer.headers.get_all(name) == [old.application.fields[name]]
        assert not any("reproxy" in name.lower() for name in answer.headers)
        part = await old.get("/photos/x", host=host, Range="bytes=5-9")
        assert (part.status, part.body) == (206, DATA[5:10])
    assert old.application.requests[-1].headers["X-Proxy-Capabilities"] == "reproxy-file"
    for devid in (2, 3):
        await old.store.stop_node(devid)
    assert (await old.get()).body == DATA


async def test_only_the_stores_own_devices(old: Behind) -> None:
    """URLs of other servers, of no file or of another size are refused with 503, and no other server is asked."""
    own = await urls(old)
    foreign = f"http://127.0.0.1:{old.application.port}/dev1/0/000/000/{(await old.store.stored(b'k')).fid:010d}.fid"
    missing = own[0].replace("0000000001.fid", "0000000099.fid")
    for given, size in (
        (foreign, SIZE),
        (f"http://127.0.0.1:{old.application.port}/", SIZE),
        (missing, SIZE),
        (f"{foreign} {missing}", ""),
        (own[0], "7"),
        (own[0], "x"),
        ("", SIZE),
        ("http://[/dev1/ file:///etc/passwd", SIZE),
    ):
        old.application.fields = {"X-Reproxy-URL": given, "X-Reproxy-Expected-Size": size}
        before = len(old.application.requests)
        answer = await old.get()
        assert (answer.status, len(old.application.requests)) == (503, before + 1), given
    old.application.fields = {"X-Reproxy-URL": f"{foreign} {own[0]}"}
    assert (await old.get()).body == DATA


async def test_answers_are_repeated(old: Behind) -> None:
    """With X-Reproxy-Cache-For further requests for the address get the file, with the named fields, for a while."""
    own = await urls(old)
    old.application.fields = {
        "X-Reproxy-URL": own[0],
        "X-Reproxy-Cache-For": "60; Cache-Control X-Other",
        "Cache-Control": "max-age=5",
        "Set-Cookie": "secret=1",
    }
    first = await old.get("/a?b")
    assert (first.body, first["Set-Cookie"]) == (DATA, "secret=1")
    for _ in range(3):
        answer = await old.get("/a?b", Range="bytes=0-3")
        assert (answer.status, answer.body) == (206, DATA[:4])
        assert (answer["Cache-Control"], answer["Set-Cookie"]) == ("max-age=5", None)
    assert len(old.application.requests) == 1
    old.application.fields["X-Reproxy-Cache-For"] = "1"
    await old.get("/a?c")
    await old.store.ask("POST", "/a?b", b"x", {"Host": HOST})
    assert len(old.application.requests) == 3
    async with asyncio.timeout(30):
        while len(old.application.requests) == 3:  # until the second is over
            await old.get("/a?c")


async def test_other_answers_pass(old: Behind) -> None:
    """Bodies of both directions, statuses and repeated fields are those of the application; internal fields are not."""
    answer = await old.store.ask("POST", "/x?y=%20+", b"z" * 700_000, {"Host": HOST, "X-Tawara-Step": "decide"})
    assert (answer.status, answer.body) == (200, b"echo " + b"z" * 700_000)
    asked = old.application.requests[-1]
    assert (asked.raw_path, asked.headers["Host"]) == ("/x?y=%20+", HOST)
    assert not any(name.lower().startswith("x-tawara-") for name in asked.headers)
    old.application.names("/_tawara/d/k")
    assert (await old.get()).body == DATA
    for place in ("@remote_1", "/.tawara/whole/1/dev1/0/000/000/0000000001.fid", "/d/k"):
        old.application.fields = {"X-Accel-Redirect": place, "X-Tawara-Url-1": "http://127.0.0.1:1/", "X-Own": "1"}
        answer = await old.get()
        assert (answer.status, answer.body, answer["X-Own"]) == (200, b"", "1")
        assert answer["X-Accel-Redirect"] is None
    head = await old.get(method="HEAD")
    assert (head.status, head.body) == (200, b"")
