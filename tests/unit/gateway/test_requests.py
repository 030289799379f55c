"""Parsing and authorising requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pytest
from aiohttp import HttpVersion, web
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.test_utils import make_mocked_request

from tawara.gateway.authenticator import Authenticator
from tawara.gateway.requests import MethodNotAllowed, RequestParser, UnsupportedCoding, VersionNotSupported
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.model.access.grants import Right
from tawara.model.errors import DeniedError, InvalidKey, NoKey, TawaraError, UnregClass, UnregDomain
from tawara.model.node_errors import LengthRequired, MalformedRequest, TooLarge
from tawara.wire.http import Conditions, Target
from tests.unit.store.fake_store import FakeMetadata, cluster

AUTHORISED = {"Authorization": "Bearer the secret"}


def parser(*, secret: str = "the secret", public_reads: bool = True) -> RequestParser:
    view = ClusterView(cast(Metadata, FakeMetadata()))
    view.current = cluster()
    authenticator = Authenticator(None, secret=secret, public_reads=public_reads)
    return RequestParser(view, authenticator, upload=1000)


def asked(
    path: str = "/d/k",
    headers: Mapping[str, str] = AUTHORISED,
    *,
    method: str = "PUT",
    version: tuple[int, int] = (1, 1),
) -> web.BaseRequest:
    return make_mocked_request(method, path, dict(headers), version=HttpVersion(*version), payload=EMPTY_PAYLOAD)


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("Bearer the secret", True),
        ("bearer  the secret ", True),
        ("Bearer the secret2", False),
        ("Bearer the secre", False),
        ("Basic the secret", False),
        ("the secret", False),
        ("Bearer", False),
        ("", False),
        ("Bearer \xff", False),
    ],
)
async def test_the_secret(value: str, allowed: bool) -> None:
    """A write needs the whole secret as a bearer token."""
    request = asked(headers={"Authorization": value})
    if allowed:
        await parser().authorise(request, Target("d", b"k"), Right.WRITE)
    else:
        with pytest.raises(DeniedError):
            await parser().authorise(request, Target("d", b"k"), Right.WRITE)


async def test_an_empty_secret_refuses_writes() -> None:
    """A gateway without a secret refuses every write, also one with an empty token."""
    with pytest.raises(DeniedError):
        await parser(secret="").authorise(asked(headers={"Authorization": "Bearer "}), Target("d", b"k"), Right.WRITE)


async def test_reads() -> None:
    """A file is public only with public_reads; a listing never is."""
    request = asked(headers={}, method="GET")
    await parser().authorise(request, Target("d", b"k"), Right.READ)
    for closed, target in ((parser(), Target("d")), (parser(public_reads=False), Target("d", b"k"))):
        with pytest.raises(DeniedError):
            await closed.authorise(request, target, Right.READ)


@pytest.mark.parametrize(
    ("path", "headers", "error"),
    [
        ("/d/k", {"Authorization": "Bearer no"}, DeniedError),
        ("/.tawara/health", AUTHORISED, MethodNotAllowed),
        ("/", AUTHORISED, MethodNotAllowed),
        ("/none/k", AUTHORISED, UnregDomain),
        ("/none/k", {}, DeniedError),
        ("/d/", AUTHORISED, NoKey),
        ("/d/%ff", AUTHORISED, InvalidKey),
        ("/d/k?class=none", AUTHORISED, UnregClass),
        ("/d/k", AUTHORISED | {"Content-Encoding": "gzip"}, UnsupportedCoding),
        ("/d/k", AUTHORISED | {"Content-MD5": "x"}, MalformedRequest),
        ("/d/k", AUTHORISED | {"Content-Range": "bytes 0-4/10"}, MalformedRequest),
    ],
)
async def test_a_put_that_is_refused(path: str, headers: dict[str, str], error: type[TawaraError]) -> None:
    """Each fault of a PUT has its own error; without the secret the response does not show which domains exist."""
    with pytest.raises(error):
        await parser().put(asked(path, headers))


async def test_a_put() -> None:
    """Class, type, digest, conditions and length of a PUT are read from the URL and the header."""
    headers = {
        "Content-Type": "image/png",
        "Content-MD5": "XUFAKrxLKna5cZ2REBfFkg==",
        "Content-Range": "bytes 0-4/5",
        "If-None-Match": "*",
        "Content-Encoding": "identity",
    }
    wanted = await parser().put(asked("/d/a%20b?class=one", AUTHORISED | headers))
    assert (wanted.domain.name, wanted.key, wanted.storage_class.name) == ("d", b"a b", "one")
    assert isinstance(wanted.conditions, Conditions)
    assert (wanted.content_type, wanted.length, wanted.conditions.if_none_match) == ("image/png", 5, "*")
    assert wanted.md5 == bytes.fromhex("5d41402abc4b2a76b9719d911017c592")


async def test_the_length_of_a_body() -> None:
    """A body has a length or is chunked, is not too large, and matches Content-Range."""
    wanted = await parser().put(asked(headers=AUTHORISED | {"Content-Range": "bytes 0-4/5"}))
    whole = await parser().put(asked())
    assert parser().body_length(5, None, wanted) == 5
    assert parser().body_length(None, "chunked", wanted) is None
    assert parser().body_length(1000, None, whole) == 1000
    for length, coding, request, error in (
        (6, None, wanted, MalformedRequest),
        (1001, None, whole, TooLarge),
        (None, None, whole, LengthRequired),
    ):
        with pytest.raises(error):
            parser().body_length(length, coding, request)


def test_versions() -> None:
    """Only HTTP/1.0 and 1.1 are served."""
    for version in ((1, 0), (1, 1)):
        assert parser().target(asked(version=version)) == Target("d", b"k")
    for version in ((0, 9), (2, 0)):
        with pytest.raises(VersionNotSupported):
            parser().target(asked(version=version))
