"""Access keys at the gateway, behind nginx and without: what each may do, and how fast a revocation is seen."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog.testing

from tawara.metadata import access_keys
from tests.acceptance.gateway_fixture import AUTHORISED, KEYS, Answer, StoreFixture, store_fixture

CHALLENGE = 'Bearer realm="tawara"{}, Basic realm="tawara", charset="UTF-8"'


@pytest.fixture(params=[True, False], ids=["nginx", "python"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreFixture]:
    """A gateway on one of the two paths, without public reads, with two files."""
    async with store_fixture(tmp_path, nginx=request.param, public_reads=False) as one:
        for key in ("k", "raw/1"):
            assert (await one.put(f"/d/{key}")).status == 201
        yield one


def bearer(pair: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair}"}


def basic(pair: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


async def statuses(gateway: StoreFixture, headers: dict[str, str]) -> str:
    """The statuses of requests below and outside of `raw/`, in this order."""
    answers: list[Answer] = []
    for method, path, body in (
        ("GET", "/d/k", None),
        ("GET", "/d/raw/1", None),
        ("HEAD", "/d/raw/1", None),
        ("GET", "/d/", None),
        ("GET", "/d/?prefix=raw/", None),
        ("PUT", "/d/k", b"new"),
        ("PUT", "/d/raw/1", b"new"),
        ("DELETE", "/d/raw/none", None),
        ("GET", "/other/k", None),
    ):
        answers.append(await gateway.ask(method, path, body, headers))
    return " ".join(str(each.status) for each in answers)


RIGHTS: tuple[tuple[list[str], str], ...] = (
    (["*=rwa"], "200 200 200 200 200 204 204 404 404"),
    (["d=rw"], "200 200 200 200 200 204 204 404 403"),
    (["d=r"], "200 200 200 200 200 403 403 403 403"),
    (["d=l"], "403 403 403 200 200 403 403 403 403"),
    (["d=w"], "403 403 403 403 403 204 204 404 403"),
    (["d=a", "other=r"], "403 403 403 403 403 403 403 403 404"),
    (["d/raw/=rw"], "403 200 200 403 200 403 204 404 403"),
    (["d/raw/=w", "d*=l"], "403 403 403 200 200 403 204 404 403"),
    ([], "403 403 403 403 403 403 403 403 403"),
)


async def test_rights(gateway: StoreFixture) -> None:
    """A key does what its grants allow, and gets 403 for everything else, whether that exists or not."""
    for number, (grants, expected) in enumerate(RIGHTS):
        pair = await gateway.create_key(f"app{number}", *grants)
        assert await statuses(gateway, bearer(pair)) == expected, grants


async def test_both_schemes(gateway: StoreFixture) -> None:
    """A key is sent as a bearer token or by Basic; a refusal says what is missing, and nothing about the key."""
    pair = await gateway.create_key("app", "d=r")
    key_id, secret = pair.split(":")
    for headers in (bearer(pair), basic(pair), AUTHORISED):
        assert (await gateway.ask("GET", "/d/k", headers=headers)).body == b"hello"
    for method, body in (("GET", None), ("PUT", b"x")):
        answer = await gateway.ask(method, "/d/k", body)
        assert (answer.status, answer["WWW-Authenticate"]) == (401, CHALLENGE.format(""))
    wrong = [key_id, f"{key_id}:", f"{key_id}:{secret}x", f"{key_id}:{secret[:-1]}", f":{secret}", f"{secret}:{key_id}"]
    wrong += [f"TW{'A' * 18}:{secret}", f"{key_id.lower()}:{secret}", secret, f"{'x' * 3000}:{secret}"]
    for offered in wrong:
        for headers in (bearer(offered), basic(offered)):
            for method, body in (("GET", None), ("PUT", b"x")):
                answer = await gateway.ask(method, "/d/k", body, headers)
                assert (answer.status, answer.body) == (401, b"Not authorised\n"), headers
                assert answer["WWW-Authenticate"] == CHALLENGE.format(', error="invalid_token"')
    refused = await gateway.ask("PUT", "/d/k", b"x", bearer(pair))
    assert (refused.status, refused.body) == (403, b"The access key has no grant for this\n")
    assert refused["WWW-Authenticate"] in (None, "")


async def test_a_revoked_key_is_refused_within_a_second(gateway: StoreFixture) -> None:
    """While a client reads and writes continuously, its key is revoked, and a second later every request is refused."""
    pair = await gateway.create_key("app", "d=rw")
    refused: dict[str, float] = {}
    accepted: dict[str, float] = {}

    async def client(method: str, body: bytes | None) -> None:
        while method not in refused:
            began = time.monotonic()
            answer = await gateway.ask(method, "/d/k", body, bearer(pair))
            if answer.status == 401:
                refused[method] = began
            else:
                assert answer.status in (200, 204)
                accepted[method] = began

    clients = [asyncio.create_task(client(*each)) for each in (("GET", None), ("PUT", b"x"))]
    await asyncio.sleep(0.3)
    await gateway.metadata.write(access_keys.revoke, "app", now=await gateway.metadata.clock.seconds())
    revoked = time.monotonic()
    await asyncio.wait_for(asyncio.gather(*clients), 10)
    assert max(accepted.values()) < revoked + 1
    assert (await gateway.ask("GET", "/d/k", headers=basic(pair))).status == 401


async def test_an_expired_key_is_refused(gateway: StoreFixture) -> None:
    """A key is refused from the second of its expiry on."""
    pair = await gateway.create_key("app", "d=r", expires="2")
    assert (await gateway.ask("GET", "/d/k", headers=bearer(pair))).status == 200
    await asyncio.sleep(2.1)
    assert (await gateway.ask("GET", "/d/k", headers=bearer(pair))).status == 401


async def test_public_reads(tmp_path: Path) -> None:
    """Where reads are public, a file needs no key; listing and writing need one with the right."""
    async with store_fixture(tmp_path, nginx=False) as gateway:
        await gateway.put("/d/k")
        pair = await gateway.create_key("app", "d=l")
        assert (await gateway.ask("GET", "/d/k", headers=bearer(pair))).status == 200
        listed = await gateway.ask("GET", "/d/?prefix=", headers=bearer(pair))
        assert [each["key"] for each in json.loads(listed.body)["files"]] == ["k"]
        assert (await gateway.ask("GET", "/d/", headers=bearer("x:y"))).status == 401


async def test_a_gateway_without_the_key_file(tmp_path: Path) -> None:
    """A key whose secret cannot be opened is answered 503, and the log names key and file; the one key still works."""
    async with store_fixture(tmp_path, nginx=True, public_reads=False) as gateway:
        pair = await gateway.create_key("app", "d=rw")
        (tmp_path / KEYS).unlink()
        with structlog.testing.capture_logs() as logs:
            for method, body in (("GET", None), ("PUT", b"x")):
                answer = await gateway.ask(method, "/d/k", body, bearer(pair))
                assert answer.status == 503
                assert b"key file" in answer.body
        assert {"access_key_unreadable"} <= {each["event"] for each in logs}
        assert pair.split(":")[1] not in str(logs)
        assert (await gateway.put("/d/k")).status == 201
        assert (await gateway.ask("GET", "/d/k", headers=bearer("TWAAAAAAAAAAAAAAAAAA:x"))).status == 401
