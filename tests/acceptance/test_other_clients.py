"""Requests as other clients and servers of MogileFS send them: needless slashes and dots, whole files as ranges."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.gateway_fixture import store_fixture
from tests.acceptance.node_process import FILE, get, parse, put, running, talk

BODY = b"0123456789"


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "complete server"])
async def test_needless_slashes_and_dots(tmp_path: Path, fast_path: bool) -> None:
    """A storage node ignores empty names and `.` in a path, for each method and on the side channel."""
    async with running(tmp_path, fast_path=fast_path) as node:
        address = node.http_address
        for path in ("//dev1/usage", "/dev1//usage", "/dev1/./usage", "http://node//dev1/usage"):
            for _ in range(2):  # the device is known at the second time
                status, _, body = await get(address, path)
                assert (status, b"\nused: " in body) == (200, True), path
        odd = FILE.replace("/0/", "/.//0/./")
        assert parse(await talk(address, put(odd, BODY)))[0] == 200
        assert (await get(address, FILE))[2] == BODY
        assert (await get(address, "//dev1//usage", method="DELETE"))[0] == 403
        assert (await get(address, odd, method="DELETE"))[0] == 204
        assert (await get(address, "/dev1/.././secret"))[0] == 400


WHOLE = ["bytes 0-9/10", "bytes 0-9/*"]
PARTS = ["bytes 0-4/10", "bytes 0-9/11", "bytes 1-10/11", "bytes 0-8/9", "bytes 0-10/*", "bytes */10", "items 0-9/10"]


@pytest.mark.parametrize("field", [*WHOLE, *PARTS])
async def test_content_range_at_a_storage_node(tmp_path: Path, field: str) -> None:
    """A PUT whose Content-Range is the whole file is accepted, a partial one is refused."""
    async with running(tmp_path) as node:
        for path in ("/dev1/small", "/dev1/chunked"):
            said = put(path, BODY, f"Content-Range: {field}")
            if path == "/dev1/chunked":
                said = said.replace(b"Content-Length: 10", b"Transfer-Encoding: chunked")
                said = said.removesuffix(BODY) + b"a\r\n" + BODY + b"\r\n0\r\n\r\n"
            status = parse(await talk(node.http_address, said))[0]
            assert (status, (tmp_path / path[1:]).exists()) == ((200, True) if field in WHOLE else (400, False))


@pytest.mark.parametrize("nginx", [True, False], ids=["nginx", "python"])
async def test_content_range_at_a_gateway(tmp_path: Path, nginx: bool) -> None:
    """The same at the gateway."""
    async with store_fixture(tmp_path, nginx=nginx) as one:
        for number, field in enumerate([*WHOLE, *PARTS]):
            key = f"k{number}"
            answer = await one.put(f"/d/{key}?class=one", BODY, Content_Range=field)
            assert answer.status == (201 if field in WHOLE else 400), field
            assert (await one.find(key.encode()) is not None) == (field in WHOLE)
