"""S3: names and listings. Each docstring is the sentence that its test checks."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.acceptance.s3_fixture import REGION, S3Fixture, refusal


def fill(client: Any, bucket: str, *keys: str) -> None:
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=b"")


def keys_of(answer: dict[str, Any]) -> list[str]:
    return [each["Key"] for each in answer.get("Contents", [])]


def prefixes_of(answer: dict[str, Any]) -> list[str]:
    return [each["Prefix"] for each in answer.get("CommonPrefixes", [])]


def test_any_key(s3_client: Any, s3_bucket: str) -> None:
    """L1: any UTF-8 key of 1 to 1,024 bytes is stored and found, in byte order, unless it climbs above the root."""
    keys = [
        " ",
        "a//b",
        "/a",
        "a/",
        ".",
        "a/..",
        "https://x",
        "a\x01\x7f",
        "é" * 512,
        "\U0010fffe",
        '"',
        "&<>'",
        "+",
        "%2F",
    ]
    fill(s3_client, s3_bucket, *keys)
    for key in keys:
        assert s3_client.head_object(Bucket=s3_bucket, Key=key)["ContentLength"] == 0
    assert keys_of(s3_client.list_objects_v2(Bucket=s3_bucket)) == sorted(keys, key=str.encode)
    assert refusal(s3_client.put_object, Bucket=s3_bucket, Key="é" * 512 + "x", Body=b"") == ("KeyTooLongError", 400)
    assert refusal(s3_client.put_object, Bucket=s3_bucket, Key="\U0010ffff", Body=b"")[1] == 400


def test_three_independent_keys(s3_client: Any, s3_bucket: str) -> None:
    """L2: a, a/ and a/b are three independent keys."""
    keys = ("a", "a/", "a/b")
    fill(s3_client, s3_bucket, *keys)
    for key in keys:
        s3_client.delete_object(Bucket=s3_bucket, Key=key)
        assert keys_of(s3_client.list_objects_v2(Bucket=s3_bucket)) == [each for each in keys if each > key]


def test_encoded_listings(s3: S3Fixture, s3_bucket: str) -> None:
    """L3: with encoding-type=url keys and prefixes are encoded: blank as +, + as %2B, / as it is; tokens are not."""
    client = s3.client()
    fill(client, s3_bucket, "foo+1/bar", "foo/bar/xyzzy", "quux ab/thud", "asdf+b", "é")
    answer = client.list_objects(Bucket=s3_bucket, Delimiter="/", EncodingType="url")
    assert keys_of(answer) == ["asdf%2Bb", "%C3%A9"]
    assert prefixes_of(answer) == ["foo%2B1/", "foo/", "quux+ab/"]
    body = s3.send("GET", f"/{s3_bucket}?encoding-type=url&prefix=a%20%2B&marker=b%20c&delimiter=%20").body
    for element in ("Prefix>a+%2B<", "Marker>b+c<", "Delimiter>+<", "EncodingType>url<"):
        assert element.encode() in body
    body = s3.send("GET", f"/{s3_bucket}?list-type=2&encoding-type=url&start-after=a%20&max-keys=1").body
    assert b"<StartAfter>a+</StartAfter>" in body
    assert refusal(client.list_objects, Bucket=s3_bucket, EncodingType="base64")[1] == 400


def test_control_characters_without_encoding(s3: S3Fixture, s3_bucket: str) -> None:
    """L4: without encoding a control character is a character reference, never substituted, never an error."""
    fill(s3.client(), s3_bucket, "a\x01b\nc")
    body = s3.send("GET", f"/{s3_bucket}").body
    assert b"<Key>a&#x1;b&#xA;c</Key>" in body
    assert keys_of(s3.client().list_objects_v2(Bucket=s3_bucket)) == ["a\x01b\nc"]


def test_elements_of_both_versions(s3: S3Fixture, s3_bucket: str) -> None:
    """L5: list-type=2 is version 2, any other value version 1, with their elements."""
    client = s3.client()
    fill(client, s3_bucket, "a/1", "b", "c")
    one = client.list_objects(Bucket=s3_bucket, MaxKeys=1)
    assert (one["Marker"], one["IsTruncated"], "NextMarker" in one) == ("", True, False)
    assert one["Contents"][0]["Owner"]["ID"] == client.list_buckets()["Owner"]["ID"]
    assert client.list_objects(Bucket=s3_bucket, MaxKeys=1, Delimiter="/")["NextMarker"] == "a/"
    two = client.list_objects_v2(Bucket=s3_bucket, MaxKeys=2, StartAfter="a/1", Delimiter="/")
    assert (two["KeyCount"], two["StartAfter"], two["Name"]) == (2, "a/1", s3_bucket)
    assert "Owner" not in two["Contents"][0]
    owned = client.list_objects_v2(Bucket=s3_bucket, FetchOwner=True)
    assert owned["Contents"][0]["Owner"]["ID"] == one["Contents"][0]["Owner"]["ID"]
    first = client.list_objects_v2(Bucket=s3_bucket, MaxKeys=1, StartAfter="a")
    after = client.list_objects_v2(Bucket=s3_bucket, StartAfter="a", ContinuationToken=first["NextContinuationToken"])
    assert (keys_of(after), "StartAfter" in after) == (["b", "c"], False)
    assert after["ContinuationToken"] == first["NextContinuationToken"]
    assert b"<Marker>" in s3.send("GET", f"/{s3_bucket}?list-type=3").body
    assert client.list_objects_v2(Bucket=s3_bucket, ContinuationToken="")["KeyCount"] == 3
    assert "Delimiter" not in client.list_objects(Bucket=s3_bucket, Delimiter="")


def test_max_keys(s3: S3Fixture, s3_bucket: str) -> None:
    """L6: max-keys counts keys and prefixes, at most 1,000; 0 is empty and not truncated; text is InvalidArgument."""
    client = s3.client()
    fill(client, s3_bucket, "a/1", "a/2", "b", "c")
    page = client.list_objects_v2(Bucket=s3_bucket, MaxKeys=2, Delimiter="/")
    assert (keys_of(page), prefixes_of(page), page["IsTruncated"]) == (["b"], ["a/"], True)
    none = client.list_objects(Bucket=s3_bucket, MaxKeys=0)
    assert (keys_of(none), none["IsTruncated"]) == ([], False)
    assert client.list_objects(Bucket=s3_bucket, MaxKeys=5000)["MaxKeys"] == 1000
    for text in ("-1", "blah", "1e3"):
        assert s3.send("GET", f"/{s3_bucket}?max-keys={text}").refusal == ("InvalidArgument", 400)


@pytest.mark.parametrize("version", [1, 2])
def test_pages_inside_prefixes(s3: S3Fixture, s3_bucket: str, version: int) -> None:
    """L7: a start inside a common prefix does not swallow it; a page that ends with one continues after all of it."""
    client = s3.client()
    fill(client, s3_bucket, "a/1", "a/2", "a/3", "b/1", "c")
    if version == 1:
        found = client.list_objects(Bucket=s3_bucket, Delimiter="/", Marker="a/2")
    else:
        found = client.list_objects_v2(Bucket=s3_bucket, Delimiter="/", StartAfter="a/2")
    assert (prefixes_of(found), keys_of(found)) == (["a/", "b/"], ["c"])
    name = "list_objects" if version == 1 else "list_objects_v2"
    pages = list(client.get_paginator(name).paginate(Bucket=s3_bucket, Delimiter="/", PaginationConfig={"PageSize": 1}))
    assert [prefixes_of(each) + keys_of(each) for each in pages] == [["a/"], ["b/"], ["c"]]
    assert refusal(client.list_objects_v2, Bucket=s3_bucket, ContinuationToken="nonsense") == ("InvalidArgument", 400)


@pytest.mark.parametrize(
    ("delimiter", "prefix", "keys", "prefixes"),
    [
        ("::", "", ["a:b", "d"], ["a::", "c::"]),
        ("a", "", ["d"], ["a", "c::d::a"]),
        ("/", "", ["a:b", "a::b", "c::d::a", "d"], []),
        ("::", "c::", [], ["c::d::"]),
        (" ", "d", ["d"], []),
    ],
)
def test_delimiters(
    s3: S3Fixture, s3_bucket: str, delimiter: str, prefix: str, keys: list[str], prefixes: list[str]
) -> None:
    """L8: a delimiter may be any string, and is looked for only after the prefix."""
    fill(s3.client(), s3_bucket, "a:b", "a::b", "c::d::a", "d")
    found = s3.client().list_objects_v2(Bucket=s3_bucket, Delimiter=delimiter, Prefix=prefix)
    assert (keys_of(found), prefixes_of(found)) == (sorted(keys), prefixes)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("aa", False),
        ("a" * 64, False),
        ("a" * 63, True),
        ("192.168.5.123", False),
        ("foo_bar", False),
        ("foo-", False),
        ("-foo", False),
        ("foo..bar", False),
        ("foo.-bar", False),
        ("foo-.bar", False),
        ("Foo", False),
        ("foo.bar-1", True),
        ("0foo", True),
    ],
)
def test_names_of_buckets(s3: S3Fixture, name: str, allowed: bool) -> None:
    """L9: names of buckets follow the rules of DNS, else InvalidBucketName 400."""
    configuration = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
    if not allowed:
        assert refusal(s3.client().create_bucket, Bucket=name, **configuration) == ("InvalidBucketName", 400)
        return
    assert s3.client().create_bucket(Bucket=name, **configuration)["Location"] == f"/{name}"
    s3.client().delete_bucket(Bucket=name)


def test_a_domain_with_another_name(s3: S3Fixture) -> None:
    """L9: domains made elsewhere, whatever their names, stay reachable path-style."""
    assert s3.client().head_bucket(Bucket="d")["BucketRegion"] == REGION


def test_where_a_bucket_is(s3_client: Any, s3_bucket: str) -> None:
    """L10: GetBucketLocation is the region; HeadBucket has it, too; any region in a signature is accepted."""
    assert s3_client.get_bucket_location(Bucket=s3_bucket)["LocationConstraint"] == REGION
    assert s3_client.head_bucket(Bucket=s3_bucket)["BucketRegion"] == REGION
    assert refusal(s3_client.head_bucket, Bucket="absent-bucket")[1] == 404


def test_a_bucket_that_there_is(s3: S3Fixture, s3_bucket: str) -> None:
    """L11: CreateBucket again is BucketAlreadyOwnedByYou for its owner, BucketAlreadyExists for others."""
    again = {"Bucket": s3_bucket, "CreateBucketConfiguration": {"LocationConstraint": REGION}}
    s3.client().put_object(Bucket=s3_bucket, Key="k", Body=b"")
    assert refusal(s3.client().create_bucket, **again) == ("BucketAlreadyOwnedByYou", 409)
    other = s3.client(key=s3.run(s3.store.create_key(f"other-{s3_bucket}", "*=rwa")))
    assert refusal(other.create_bucket, **again) == ("BucketAlreadyExists", 409)
    assert keys_of(s3.client().list_objects_v2(Bucket=s3_bucket)) == ["k"]


def test_when_buckets_were_created(s3: S3Fixture, s3_bucket: str) -> None:
    """ListBuckets tells when each was created, in pages if asked for."""
    (found,) = s3.client().list_buckets(Prefix=s3_bucket)["Buckets"]
    s3.client().put_object(Bucket=s3_bucket, Key="k", Body=b"")
    stored = s3.client().head_object(Bucket=s3_bucket, Key="k")["LastModified"]
    assert abs((found["CreationDate"] - stored).total_seconds()) < 300
    pages = s3.client().get_paginator("list_buckets").paginate(PaginationConfig={"PageSize": 1})
    names = [each["Name"] for page in pages for each in page["Buckets"]]
    assert names == [each["Name"] for each in s3.client().list_buckets()["Buckets"]]


def test_missing_buckets(s3_client: Any) -> None:
    """Operations on a bucket that does not exist are NoSuchBucket 404."""
    bucket = {"Bucket": "absent-bucket"}
    for call, more in (
        (s3_client.list_objects, {}),
        (s3_client.list_objects_v2, {}),
        (s3_client.delete_bucket, {}),
        (s3_client.put_object, {"Key": "k", "Body": b""}),
        (s3_client.get_object, {"Key": "k"}),
        (s3_client.delete_object, {"Key": "k"}),
        (s3_client.get_bucket_tagging, {}),
        (s3_client.get_bucket_location, {}),
    ):
        assert refusal(call, **bucket, **more) == ("NoSuchBucket", 404)


def test_what_a_listed_object_has(s3: S3Fixture, s3_bucket: str) -> None:
    """A listed object has the entity tag, length, time and class that HEAD has."""
    client = s3.client()
    client.put_object(Bucket=s3_bucket, Key="k", Body=b"hello")
    head = client.head_object(Bucket=s3_bucket, Key="k")
    (listed,) = client.list_objects_v2(Bucket=s3_bucket)["Contents"]
    assert (listed["ETag"], listed["Size"], listed["LastModified"]) == (head["ETag"], 5, head["LastModified"])
    assert listed["StorageClass"] == "STANDARD"
    assert re.search(rb"<LastModified>[0-9T:-]+\.000Z<", s3.send("GET", f"/{s3_bucket}").body)
