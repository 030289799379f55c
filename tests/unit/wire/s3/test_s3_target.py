"""Targets of S3 requests: bucket and key in path style and virtual-host style, queries, what is refused."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.reserved_keys import RESERVED, is_reserved
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.head import HeaderFields, S3Target, bucket_of_host, parse_query, parse_target
from tests.unit.wire.s3.oracle import call, read

keys = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=60).filter(
    lambda key: not is_reserved(key.encode()) and ".." not in key
)


def refused(raw: bytes) -> FaultCode:
    with pytest.raises(S3Fault) as raised:
        parse_target(raw)
    return raised.value.code


@given(key=keys)
def test_any_key_in_path_style(key: str) -> None:
    """Any UTF-8 key is read as it was meant, byte for byte: repeated, leading and trailing slashes are kept."""
    target = parse_target(b"/photos/" + quote(key, safe="/").encode())
    assert (target.bucket, target.key) == ("photos", key.encode())
    assert target.path == f"/photos/{key}".encode()


@given(key=keys)
def test_any_key_in_virtual_host_style(key: str) -> None:
    """Where the host names the bucket, the whole path is the key, and the canonical path is without the bucket."""
    target = parse_target(b"/" + quote(key, safe="/").encode(), "Photos.Store.example:7081", ("store.example",))
    assert (target.bucket, target.key, target.path) == ("photos", key.encode(), f"/{key}".encode())


@pytest.mark.parametrize(
    "key", ["a//b", "/a", "a/", ".", "a/./b", "https://x", "a\x01b\x7f", "a+b c", "%41", "é", "?#&="]
)
@pytest.mark.parametrize("style", ["path", "virtual"])
def test_keys_as_botocore_sends_them(key: str, style: str) -> None:
    """L1: any UTF-8 key of 1 to 1,024 bytes, in byte order, as botocore sends it."""
    head = call("get_object", Bucket="photos", Key=key, style=style).head()
    assert (head.target.bucket, head.target.key) == ("photos", key.encode())


def test_a_directory_and_its_marker_are_three_keys() -> None:
    """L2: `a`, `a/` and `a/b` are three independent keys."""
    assert {parse_target(b"/b/" + key).key for key in (b"a", b"a/", b"a/b")} == {b"a", b"a/", b"a/b"}


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", FaultCode.INVALID_URI),
        (b"*", FaultCode.INVALID_URI),
        (b"/b/%zz", FaultCode.INVALID_URI),
        (b"/b/%", FaultCode.INVALID_URI),
        (b"/b/%ff", FaultCode.INVALID_URI),
        (b"/b/\xff", FaultCode.INVALID_URI),
        (b"/b/%00", FaultCode.INVALID_URI),
        (b"/b/../../etc", FaultCode.INVALID_URI),
        (b"/b/%2e%2e/%2e%2e/etc", FaultCode.INVALID_URI),
        (b"/b/k?x=%ff", FaultCode.INVALID_URI),
        (b"/b/k?" + b"x&" * 101, FaultCode.INVALID_URI),
        (b"//k", FaultCode.INVALID_BUCKET_NAME),
        (b"/b/" + b"k" * 1025, FaultCode.KEY_TOO_LONG),
        (b"/b/" + RESERVED + b"p1", FaultCode.INVALID_ARGUMENT),
    ],
)
def test_what_is_refused(raw: bytes, code: FaultCode) -> None:
    """A target that is no path of UTF-8, climbs above the root, or names no possible key is refused with its code."""
    assert refused(raw) is code


def test_the_longest_key() -> None:
    """A key may have 1,024 bytes."""
    assert len(parse_target(b"/b/" + b"k" * 1024).key) == 1024


def test_a_host_of_another_name_is_path_style() -> None:
    """Only hosts below a configured name carry a bucket; the name itself, addresses and look-alikes do not."""
    for host in (
        "store.example",
        "store.example:7081",
        "127.0.0.1:7081",
        "[::1]:7081",
        "xstore.example",
        None,
        ".store.example",
    ):
        assert parse_target(b"/b/k", host, ("store.example",)).bucket == "b"


def test_the_bucket_of_a_host() -> None:
    """A host below a configured name carries the bucket, in lower case and without the port."""
    assert bucket_of_host("Photos.Store.example:7081", ("store.example",)) == "photos"
    assert bucket_of_host("a.b.store.example", ("other.example", "store.example")) == "a.b"
    assert bucket_of_host(None, ("store.example",)) is None


@given(raw=st.binary(max_size=200), host=st.one_of(st.none(), st.text(max_size=30)))
def test_any_bytes_as_target(raw: bytes, host: str | None) -> None:
    """Any bytes as target are parsed or refused with 4xx."""
    try:
        assert isinstance(parse_target(raw, host, ("store.example",)), S3Target)
    except S3Fault as fault:
        assert 400 <= fault.status < 500


@given(lines=st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=8))
def test_any_bytes_as_header_fields(lines: list[tuple[bytes, bytes]]) -> None:
    """Any bytes as header fields have names and values."""
    fields = HeaderFields(lines)
    for name in fields.names():
        assert isinstance(fields.get(name), str)


def test_queries() -> None:
    """Parameters are decoded, a plus is a blank, a name without a value has an empty one."""
    assert parse_query(b"acl&prefix=a+b%2Bc&x=") == (("acl", ""), ("prefix", "a b+c"), ("x", ""))


def test_the_absolute_form_is_understood() -> None:
    """A target in absolute form names the same as its path."""
    assert parse_target(b"http://store.example/b/k").key == b"k"


def test_fields_of_several_lines() -> None:
    """The lines of one field are joined by commas, names are compared without case."""
    assert HeaderFields([(b"X-A", b" 1 "), (b"x-a", b"2")]).get("x-a") == "1,2"
    assert read("GET", "http://store.example/b", {"X-B": "é"}).fields.get("x-b") == "é"
