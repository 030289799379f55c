"""Listings: their parameters, and pages as botocore parses them."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tawara.model.listing_page import ListedKey, ListingPage
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.lists import (
    MOST_ENTRIES,
    S3Owner,
    encode_key,
    parse_bucket_query,
    parse_list_query,
    render_buckets,
    render_objects,
)
from tawara.wire.s3.tokens import decode_token, encode_token
from tests.unit.wire.s3.oracle import call, read

OWNER = S3Owner("id", "admin")
MD5 = bytes(16)
few = settings(max_examples=25, deadline=None)
"""botocore takes 10 ms to parse an answer."""
keys = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
URL = "http://store.example/b"


def listed(key: str) -> ListedKey:
    return ListedKey(key.encode(), fid=26, length=5, classid=0, stored_at=1_000_000_000, md5=MD5)


def answered(operation: str, page: ListingPage, **parameters: Any) -> dict[str, Any]:
    """Let botocore list: we parse its request and render the page, and it parses the answer."""
    query = parse_list_query(call(operation, b"<ListBucketResult/>", Bucket="b", **parameters).head().target)
    body = render_objects("b", query, page, class_name=lambda _: "STANDARD", owner=OWNER)
    return call(operation, body, Bucket="b", **parameters).result


@few
@given(names=st.lists(keys, unique=True, max_size=5), prefixes=st.lists(keys, unique=True, max_size=3))
def test_any_keys_are_parsed_back(names: list[str], prefixes: list[str]) -> None:
    """L3: with encoding-type=url, which boto3 asks for, every key comes back as it was stored."""
    page = ListingPage(tuple(map(listed, names)), tuple(each.encode() for each in prefixes), truncated=False)
    found = answered("list_objects_v2", page)
    assert [each["Key"] for each in found.get("Contents", [])] == names
    assert [each["Prefix"] for each in found.get("CommonPrefixes", [])] == prefixes
    assert found["KeyCount"] == len(names) + len(prefixes)


@few
@given(key=keys)
def test_what_is_encoded(key: str) -> None:
    """L3: Prefix, Delimiter, StartAfter and Marker are encoded as the keys are."""
    page = ListingPage((), (), truncated=False)
    found = answered("list_objects_v2", page, Prefix=key, Delimiter=key, StartAfter=key)
    assert (found["Prefix"], found["Delimiter"], found["StartAfter"]) == (key, key, key)
    found = answered("list_objects", page, Prefix=key, Delimiter=key, Marker=key)
    # botocore leaves the prefix of version 1 encoded.
    assert (unquote_plus(found["Prefix"]), found["Delimiter"], found["Marker"]) == (key, key, key)


def test_how_keys_are_encoded() -> None:
    """L3: a blank becomes `+`, `+` becomes `%2B`, `/` stays, UTF-8 is percent-encoded."""
    assert encode_key("a b+c/é\n".encode()) == "a+b%2Bc/%C3%A9%0A"


def test_a_listed_object() -> None:
    """An object is listed with its time, quoted entity tag, length and storage class."""
    found = answered("list_objects_v2", ListingPage((listed("k"),), (), truncated=False))["Contents"][0]
    assert (found["ETag"], found["Size"], found["StorageClass"]) == (f'"{MD5.hex()}"', 5, "STANDARD")
    assert "Owner" not in found


def test_the_etag_of_a_file_without_md5() -> None:
    """O1: a file without MD5 has fid and length in hex with a dash, which no client takes for an MD5."""
    page = ListingPage((ListedKey(b"k", 26, 5, 0, None, None),), (), truncated=False)
    assert answered("list_objects_v2", page)["Contents"][0]["ETag"] == '"1a-5"'


def test_elements_of_version_two() -> None:
    """L5: version 2 has KeyCount, StartAfter unless a token displaces it, the owner only with fetch-owner."""
    page = ListingPage((listed("k"),), (b"p/",), truncated=True)
    found = answered("list_objects_v2", page, StartAfter="a", Delimiter="/", FetchOwner=True, MaxKeys=2)
    assert (found["KeyCount"], found["StartAfter"], found["MaxKeys"], found["IsTruncated"]) == (2, "a", 2, True)
    assert found["Contents"][0]["Owner"] == {"ID": "id", "DisplayName": "admin"}
    token = found["NextContinuationToken"]
    assert decode_token(token) == (b"p/", True)
    found = answered("list_objects_v2", page, StartAfter="a", ContinuationToken=token)
    assert found["ContinuationToken"] == token
    assert "StartAfter" not in found


def test_elements_of_version_one() -> None:
    """L5: version 1 echoes Marker always, has NextMarker only with a delimiter, and always the owner."""
    page = ListingPage((listed("k"),), (), truncated=True)
    found = answered("list_objects", page, Delimiter="/")
    assert (found["Marker"], found["NextMarker"]) == ("", "k")
    assert found["Contents"][0]["Owner"]["ID"] == "id"
    assert "NextMarker" not in answered("list_objects", page)
    assert "KeyCount" not in found


@pytest.mark.parametrize(("query", "version"), [("list-type=2", 2), ("list-type=1", 1), ("list-type=x", 1), ("", 1)])
def test_versions(query: str, version: int) -> None:
    """L5: `list-type=2` is version 2, any other value version 1."""
    assert parse_list_query(read("GET", f"{URL}?{query}", {}).target).version == version


@pytest.mark.parametrize(
    ("text", "most"), [("", MOST_ENTRIES), ("0", 0), ("7", 7), ("1000", 1000), ("1001", 1000), ("2147483647", 1000)]
)
def test_how_many(text: str, most: int) -> None:
    """L6: max-keys is capped at 1,000, and 0 is an empty page."""
    assert parse_list_query(read("GET", f"{URL}?max-keys={text}", {}).target).most == most


@pytest.mark.parametrize(
    "query",
    [
        "max-keys=-1",
        "max-keys=x",
        "max-keys=1e3",
        "max-keys=99999999999",
        "encoding-type=b64",
        "list-type=2&continuation-token=!",
    ],
)
def test_wrong_parameters(query: str) -> None:
    """L6: a negative max-keys, text, an unknown encoding or a token that is none are InvalidArgument."""
    with pytest.raises(S3Fault) as raised:
        parse_list_query(read("GET", f"{URL}?{query}", {}).target)
    assert raised.value.code is FaultCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("query", "after"),
    [
        ("marker=a/", (b"a/", True)),
        ("marker=a/b", (b"a/b", False)),
        ("marker=a/b/", (b"a/b/", False)),
        ("prefix=a/&marker=a/b/", (b"a/b/", True)),
        ("prefix=x&marker=a/", (b"a/", False)),
        ("list-type=2&start-after=a/b", (b"a/b", False)),
        (f"list-type=2&start-after=z&continuation-token={encode_token(b'a/', is_prefix=True)}", (b"a/", True)),
        (f"list-type=2&continuation-token={encode_token(b'a/', is_prefix=False)}", (b"a/", False)),
        ("", (None, False)),
    ],
)
def test_where_a_page_begins(query: str, after: tuple[bytes | None, bool]) -> None:
    """L7: inside a common prefix it is not swallowed; a page that ended with a prefix continues after the whole one."""
    found = parse_list_query(read("GET", f"{URL}?delimiter=/&{query}", {}).target)
    assert (found.after, found.after_prefix) == after


@given(last=st.binary(max_size=1024), is_prefix=st.booleans())
def test_tokens(last: bytes, is_prefix: bool) -> None:
    """L7: a token is opaque and says where to continue."""
    assert decode_token(encode_token(last, is_prefix=is_prefix)) == (last, is_prefix)


@given(token=st.text(max_size=3000))
def test_any_text_as_token(token: str) -> None:
    """Any text as token is decoded or InvalidArgument."""
    try:
        decode_token(token)
    except S3Fault as fault:
        assert fault.code is FaultCode.INVALID_ARGUMENT
    except UnicodeEncodeError:
        pytest.fail("the token was not refused")


def test_keys_without_utf8() -> None:
    """A key of other clients that is no UTF-8 is listed without failing."""
    page = ListingPage((ListedKey(b"\xff\xfe", 1, 1, 0, None, None),), (), truncated=False)
    assert answered("list_objects_v2", page)["Contents"]
    query = parse_list_query(read("GET", URL, {}).target)
    body = render_objects("b", query, page, class_name=lambda _: "STANDARD")
    assert "\ufffd\ufffd".encode() in body


def test_an_empty_token() -> None:
    """L7: an empty continuation token begins at the first key, and is echoed."""
    target = read("GET", "http://store.example/b?list-type=2&continuation-token=", {}).target
    query = parse_list_query(target)
    assert (query.after, query.token) == (None, "")


def test_pages_of_buckets() -> None:
    """ListBuckets in pages, of a prefix or a region, names every bucket once."""
    buckets = [(name, 0) for name in ("a", "b1", "b2", "b3", "c")]
    names: list[str] = []
    token: dict[str, Any] = {}
    while True:
        captured = call("list_buckets", MaxBuckets=2, Prefix="b", BucketRegion="eu-tawara-1", **token)
        query = parse_bucket_query(captured.head().target, "eu-tawara-1")
        answer = call("list_buckets", render_buckets(S3Owner("1", "n"), buckets, query)).result
        assert answer["Prefix"] == "b"
        names += [each["Name"] for each in answer["Buckets"]]
        if "ContinuationToken" not in answer:
            break
        token = {"ContinuationToken": answer["ContinuationToken"]}
    assert names == ["b1", "b2", "b3"]
    captured = call("list_buckets", BucketRegion="us-west-2")
    query = parse_bucket_query(captured.head().target, "eu-tawara-1")
    assert call("list_buckets", render_buckets(S3Owner("1", "n"), buckets, query)).result["Buckets"] == []
    for wrong in ("max-buckets=0", "max-buckets=x", "max-buckets=10001", "continuation-token=!"):
        with pytest.raises(S3Fault) as raised:
            parse_bucket_query(read("GET", f"http://store.example/?{wrong}", {}).target, "")
        assert raised.value.code is FaultCode.INVALID_ARGUMENT
