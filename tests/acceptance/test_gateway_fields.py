"""Header fields through the gateway: those of a file are the same on every way, and none is forged from outside."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tawara.gateway import nginx as nginx_module
from tawara.gateway import reading
from tawara.gateway.acceleration import ReplicaLocation
from tawara.gateway.nginx_parameters import NginxFeatures
from tawara.gateway.nginx_protocol import SLOTS, HeaderField
from tawara.model.files import StoredFile
from tests.acceptance.gateway_fixture import AUTHORISED, Answer, StoreFixture, store_fixture

BODY = os.urandom(100_000)
WAYS: dict[str, dict[str, bool]] = {
    "nginx": {"nginx": True},
    "complete server": {"nginx": True, "fast_path": False},
    "python": {"nginx": False},
}


@pytest.fixture(params=list(WAYS.values()), ids=list(WAYS))
async def gateway(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[StoreFixture]:
    """A gateway whose files have every response field that there is a slot for."""
    own = reading.entity_headers

    def all_fields(stored: StoredFile) -> dict[str, str]:
        return own(stored) | {name: f"value {number}" for number, name in enumerate(SLOTS)}

    monkeypatch.setattr(reading, "entity_headers", all_fields)
    async with store_fixture(tmp_path, **request.param) as one:
        yield one


def fields(answer: Answer) -> dict[str, list[str]]:
    """Return the fields of an answer, without those of the connection."""
    names = {name.lower() for name in answer.headers} - {"date", "server", "connection", "keep-alive"}
    return {name: answer.headers.get_all(name) or [] for name in names}


@pytest.mark.parametrize("devid", [1, 2], ids=["local", "remote"])
@pytest.mark.parametrize("dead", [False, True], ids=["first", "fail-over"])
async def test_fields_of_a_file(gateway: StoreFixture, devid: int, dead: bool) -> None:
    """HEAD and GET, whole and in part, have the same fields, each once, wherever the file is read from."""
    await gateway.put("/d/k.txt?class=three", BODY)
    fid = (await gateway.stored(b"k.txt")).fid
    for other in {1, 2, 3} - {devid}:
        gateway.replica(other, fid).unlink()
        if not dead:  # nginx then has to ask for the only replica
            await gateway.metadata.write(_forget, fid, other)
    head = fields(await gateway.ask("HEAD", "/d/k.txt"))
    assert all(head[name.lower()] == [f"value {number}"] for number, name in enumerate(SLOTS))
    for _ in range(4 if dead else 1):
        got = await gateway.ask("GET", "/d/k.txt")
        part = await gateway.ask("GET", "/d/k.txt", headers={"Range": "bytes=10-19"})
        assert (got.body == BODY, part.body == BODY[10:20]) == (True, True)
        assert fields(got) == head
        only_in_parts = {"content-length": ["10"], "content-range": ["bytes 10-19/100000"]}
        assert fields(part) == head | only_in_parts


async def _forget(tx: object, fid: int, devid: int) -> None:
    await tx.run("DELETE FROM file_on WHERE fid = ? AND devid = ?", fid, devid)  # type: ignore[attr-defined]


async def test_conditional_ranges_pass_no_byte_through_python(tmp_path: Path) -> None:
    """A ranged download with If-Match, as S3 clients make it, is sent by nginx alone, from a disk and from a node."""
    size, piece = 64 << 20, 8 << 20
    body = os.urandom(1 << 20) * 64
    async with store_fixture(tmp_path, nginx=True, hosts=2) as one:
        etag = (await one.put("/d/k", body))["ETag"]
        assert etag is not None
        for missing in (1, 2):
            fid = (await one.stored(b"k")).fid
            replica = one.replica(missing, fid)
            replica.rename(replica.with_suffix(".away"))
            for start in range(0, size, piece):
                asked = {
                    "Range": f"bytes={start}-{start + piece - 1}",
                    "If-Match": etag,
                    "If-Unmodified-Since": "Wed, 01 Jan 2200 00:00:00 GMT",
                }
                got = await one.ask("GET", "/d/k", headers=asked)
                assert (got.status, got.body == body[start : start + piece]) == (206, True)
            replica.with_suffix(".away").rename(replica)
        assert one.gateway.streamed == 0
        assert (await one.ask("GET", "/d/k", headers={"If-Match": '"x"', "Range": "bytes=0-1"})).status == 412


async def test_conditions_survive_the_failure_of_all_replicas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python, which is asked after every replica failed, judges the client's conditions, not those left by nginx."""
    async with store_fixture(tmp_path, nginx=True, hosts=2) as one:
        etag = (await one.put("/d/k", BODY))["ETag"] or ""
        stored = await one.stored(b"k")
        own = one.gateway._get
        assert own is not None

        async def replaced(*asked: Any) -> list[ReplicaLocation]:
            """The file is overwritten, and its replicas deleted, between the decision and the transfer."""
            if await one.find(b"k") == stored:
                locations = await replicas(one.view.current, stored, stored.devids)
                await one.put("/d/k", b"another content")
                for devid in stored.devids:
                    one.replica(devid, stored.fid).unlink()
                return locations
            return await replicas(*asked)

        replicas = own._nginx_replicas.of
        monkeypatch.setattr(own._nginx_replicas, "of", replaced)
        got = await one.ask("GET", "/d/k", headers={"If-Match": etag, "Range": "bytes=0-1"})
        assert got.status == 412


async def test_an_nginx_without_headers_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nginx cannot clear conditions, Python sends what nginx would judge by itself, with the same answer."""
    monkeypatch.setattr(nginx_module, "features_of", lambda _: NginxFeatures())
    async with store_fixture(tmp_path, nginx=True, hosts=1) as one:
        etag = (await one.put("/d/k?class=one", BODY))["ETag"] or ""
        got = await one.ask("GET", "/d/k", headers={"If-Match": etag, "Range": "bytes=0-9"})
        assert (got.status, got.body, one.gateway.streamed) == (206, BODY[:10], 10)
        assert (await one.ask("GET", "/d/k", headers={"Range": "bytes=0-9"})).body == BODY[:10]
        assert one.gateway.streamed == 10


FORGED = {
    **{str(name): "store" for name in HeaderField},
    "X-Accel-Redirect": "@put",
    "X-Tawara-Place-2": "@put",
    "X-Tawara-Url-1": "http://127.0.0.1:1/",
}


async def test_nothing_is_forged(gateway: StoreFixture) -> None:
    """Internal header fields and paths have no effect when they come from a client."""
    await gateway.put("/d/k.txt?class=one", BODY)
    head = await gateway.ask("HEAD", "/d/k.txt")
    got = await gateway.ask("GET", "/d/k.txt", headers=FORGED)
    assert (got.status, got.body == BODY, fields(got)) == (200, True, fields(head))
    assert (await gateway.ask("DELETE", "/d/k.txt", headers=FORGED)).status == 401
    device = (await gateway.stored(b"k.txt")).devids[0]
    path = f"/dev{device}/0/000/000/{(await gateway.stored(b'k.txt')).fid:010d}.fid"
    for internal in ("/.tawara/whole/1", "/.tawara/part/1", "/.tawara/whole/2"):
        assert (await gateway.ask("GET", internal + path, headers=AUTHORISED)).status == 404
