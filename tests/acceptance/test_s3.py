"""The S3 listener with boto3 at its defaults, over http and behind TLS, and with raw requests."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import re
import socket
import urllib.request
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError

from tawara.metadata import cluster
from tawara.model.cluster import HashType
from tawara.model.limits import Limits
from tests.acceptance.gateway_fixture import AUTHORISED
from tests.acceptance.s3_fixture import REGION, S3Fixture, refusal, s3_fixture
from tests.acceptance.store import free_ports, store

HELLO = hashlib.md5(b"hello").hexdigest()


@pytest.fixture(params=["http", "https"])
def client(s3: S3Fixture, request: pytest.FixtureRequest) -> Any:
    """A boto3 client at its defaults."""
    return s3.client(request.param)


@pytest.fixture
def bucket(client: Any, request: pytest.FixtureRequest) -> str:
    """A new bucket."""
    name = f"b{abs(hash(request.node.nodeid)):x}"
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name


@pytest.mark.parametrize("size", [0, 5, 300_000])
def test_an_object_comes_back(client: Any, bucket: str, size: int) -> None:
    """C1, C2, O1: what boto3 stores at its defaults, over http and https, it reads back, with the MD5 as ETag."""
    data = bytes(range(250)) * (size // 250) + b"x" * (size % 250)
    stored = client.put_object(Bucket=bucket, Key="a/b c+é", Body=data, ContentType="text/x-test")
    assert stored["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    found = client.get_object(Bucket=bucket, Key="a/b c+é")
    assert found["Body"].read() == data
    assert (found["ETag"], found["ContentLength"], found["ContentType"]) == (stored["ETag"], size, "text/x-test")
    head = client.head_object(Bucket=bucket, Key="a/b c+é")
    for name in ("ETag", "ContentLength", "ContentType", "LastModified"):
        assert head[name] == found[name]
    assert abs(found["LastModified"] - datetime.now(UTC)) < timedelta(minutes=5)


def test_an_upload_of_a_file_object(client: Any, bucket: str, tmp_path: Path) -> None:
    """Files below the size of multipart uploads are transferred by upload_file and download_file."""
    (tmp_path / "in").write_bytes(b"x" * 3_000_000)
    client.upload_file(str(tmp_path / "in"), bucket, "k")
    client.download_file(bucket, "k", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"x" * 3_000_000


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums_are_verified(client: Any, bucket: str, algorithm: str) -> None:
    """C7: a body with the client's checksum is kept and the checksum answered."""
    stored = client.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm=algorithm)
    assert stored[f"Checksum{algorithm}"]
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"hello"


def test_a_wrong_checksum_keeps_nothing(client: Any, bucket: str) -> None:
    """C7: a wrong checksum is BadDigest 400, and nothing is kept."""
    assert refusal(client.put_object, Bucket=bucket, Key="k", Body=b"hello", ChecksumCRC32="AAAAAA==") == (
        "BadDigest",
        400,
    )
    assert refusal(client.put_object, Bucket=bucket, Key="k", Body=b"hello", ContentMD5="A" * 22 + "==") == (
        "BadDigest",
        400,
    )
    assert refusal(client.get_object, Bucket=bucket, Key="k") == ("NoSuchKey", 404)


def test_keys_of_all_kinds(client: Any, bucket: str) -> None:
    """L1, L2: keys are independent, whatever their slashes, dots and characters, and listed in byte order."""
    keys = ["/a", "a", "a/", "a//b", "a/./b", "https://x", "a\x01b", "a b+c", "%41", "é", "𐀀"]
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in keys:
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    listed = client.list_objects_v2(Bucket=bucket)
    assert [each["Key"] for each in listed["Contents"]] == sorted(keys, key=str.encode)


def test_pages(client: Any, bucket: str) -> None:
    """L6, L7: pages of both versions list every key and common prefix once."""
    for key in ("a/1", "a/2", "b", "c/1", "d"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    for name in ("list_objects", "list_objects_v2"):
        pages = list(
            client.get_paginator(name).paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 1})
        )
        keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
        prefixes = [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", [])]
        assert (keys, prefixes) == (["b", "d"], ["a/", "c/"])
    assert client.list_objects_v2(Bucket=bucket, MaxKeys=0)["KeyCount"] == 0
    assert refusal(client.list_objects_v2, Bucket=bucket, MaxKeys=-1) == ("InvalidArgument", 400)


def test_buckets(client: Any, bucket: str) -> None:
    """L9, L10, L11: buckets are made, listed, located and removed when empty."""
    assert bucket in [each["Name"] for each in client.list_buckets()["Buckets"]]
    assert client.get_bucket_location(Bucket=bucket)["LocationConstraint"] == REGION
    assert client.head_bucket(Bucket=bucket)["BucketRegion"] == REGION
    again = {"Bucket": bucket, "CreateBucketConfiguration": {"LocationConstraint": REGION}}
    assert refusal(client.create_bucket, **again) == ("BucketAlreadyOwnedByYou", 409)
    bad = {"Bucket": "Bad_Name", "CreateBucketConfiguration": {"LocationConstraint": REGION}}
    assert refusal(client.create_bucket, **bad) == ("InvalidBucketName", 400)
    client.put_object(Bucket=bucket, Key="k", Body=b"")
    assert refusal(client.delete_bucket, Bucket=bucket) == ("BucketNotEmpty", 409)
    client.delete_object(Bucket=bucket, Key="k")
    client.delete_bucket(Bucket=bucket)
    assert refusal(client.head_bucket, Bucket=bucket)[1] == 404
    assert refusal(client.list_objects_v2, Bucket=bucket) == ("NoSuchBucket", 404)


def test_deleting(client: Any, bucket: str) -> None:
    """O10, K4: deletes of absent keys succeed, conditions hold, many keys go at once."""
    client.put_object(Bucket=bucket, Key="k", Body=b"hello")
    assert refusal(client.delete_object, Bucket=bucket, Key="k", IfMatch='"x"') == ("PreconditionFailed", 412)
    client.delete_object(Bucket=bucket, Key="k", IfMatch=f'"{HELLO}"')
    client.delete_object(Bucket=bucket, Key="k")
    keys = [f"many/{number}" for number in range(20)]
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    objects = [{"Key": key} for key in [*keys, "absent"]]
    objects[0]["ETag"] = '"x"'
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    assert {each["Key"] for each in answer["Deleted"]} == {*keys[1:], "absent"}
    assert [(each["Key"], each["Code"]) for each in answer["Errors"]] == [(keys[0], "PreconditionFailed")]
    assert [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]] == keys[:1]


def test_conditional_writes(client: Any, bucket: str) -> None:
    """K1: If-None-Match and If-Match are judged at the commit: 412, and 404 where there is no object."""
    put = {"Bucket": bucket, "Key": "k", "Body": b"hello"}
    assert refusal(client.put_object, **put, IfMatch=f'"{HELLO}"') == ("NoSuchKey", 404)
    client.put_object(**put, IfNoneMatch="*")
    assert refusal(client.put_object, **put, IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert refusal(client.put_object, **put, IfMatch='"x"') == ("PreconditionFailed", 412)
    client.put_object(**put, IfMatch=f'"{HELLO}"')


def test_conditional_reads(client: Any, bucket: str) -> None:
    """K7: reads answer 304 and 412, and a range with If-Match, as every large download has it, gets its part."""
    client.put_object(Bucket=bucket, Key="k", Body=b"hello")
    get = {"Bucket": bucket, "Key": "k"}
    assert refusal(client.get_object, **get, IfNoneMatch=f'"{HELLO}"') == ("304", 304)
    assert refusal(client.get_object, **get, IfMatch='"x"') == ("PreconditionFailed", 412)
    part = client.get_object(**get, IfMatch=f'"{HELLO}"', Range="bytes=1-3")
    assert (part["Body"].read(), part["ContentRange"]) == (b"ell", "bytes 1-3/5")
    assert not [name for name in part["ResponseMetadata"]["HTTPHeaders"] if name.startswith("x-amz-checksum")]


def test_ranges_and_parts(client: Any, bucket: str) -> None:
    """O7: one range is 206, beyond the end InvalidRange 416, several are the whole object; part 1 is the whole."""
    client.put_object(Bucket=bucket, Key="k", Body=b"hello")
    get = {"Bucket": bucket, "Key": "k"}
    assert client.get_object(**get, Range="bytes=-2")["Body"].read() == b"lo"
    assert client.get_object(**get, Range="bytes=0-1,3-4")["Body"].read() == b"hello"
    assert refusal(client.get_object, **get, Range="bytes=5-") == ("InvalidRange", 416)
    assert client.get_object(**get, PartNumber=1)["Body"].read() == b"hello"
    assert refusal(client.get_object, **get, PartNumber=2) == ("InvalidPartNumber", 416)
    assert refusal(client.get_object, **get, PartNumber=1, Range="bytes=0-1") == ("InvalidRequest", 400)
    assert client.head_object(**get, Range="bytes=1-2")["ContentLength"] == 2


def test_presigned_urls(s3: S3Fixture, bucket: str, client: Any) -> None:
    """O6, A7: presigned URLs read, with another media type, and write; a changed one is refused."""
    del client
    plain = s3.client()
    plain.put_object(Bucket=bucket, Key="k", Body=b"hello")
    url = plain.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "k", "ResponseContentType": "text/html"}
    )
    with urllib.request.urlopen(url) as answer:
        assert (answer.read(), answer.headers["Content-Type"]) == (b"hello", "text/html")
    with pytest.raises(HTTPError) as raised:
        urllib.request.urlopen(url.replace("text%2Fhtml", "text%2Fplain"))
    with closing(raised.value) as refused:
        assert (refused.code, b"SignatureDoesNotMatch" in refused.read()) == (403, True)
    url = plain.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "new"})
    urllib.request.urlopen(urllib.request.Request(url, b"data", {"Content-Type": ""}, method="PUT")).close()
    assert plain.get_object(Bucket=bucket, Key="new")["Body"].read() == b"data"


def test_metadata_and_checksums_come_back(client: Any, bucket: str) -> None:
    """C1, C4, C11, O5: header fields, user metadata and the client's checksum are stored and answered."""
    more = {
        "CacheControl": "no-store",
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "ContentDisposition": "inline",
    }
    metadata = {"my_key": "v", "a.b": "w"}
    stored = client.put_object(Bucket=bucket, Key="k", Body=b"hello", Metadata=metadata, **more)
    for answer in (
        client.get_object(Bucket=bucket, Key="k"),
        client.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED"),
    ):
        assert {name: answer[name] for name in more} == more
        assert answer["Metadata"] == metadata
        assert answer["ChecksumCRC32"] == stored["ChecksumCRC32"]
        assert answer["ChecksumType"] == "FULL_OBJECT"
    part = client.get_object(Bucket=bucket, Key="k", Range="bytes=1-3")
    assert (part["Body"].read(), part["Metadata"]) == (b"ell", metadata)
    assert "ChecksumCRC32" not in part


def test_the_etag_in_a_class_with_another_checksum(s3: S3Fixture) -> None:
    """O1: the ETag of what S3 stores is its MD5, also where the class keeps another checksum."""
    s3.run(s3.store.metadata.write(cluster.create_class, "d", "crc", mindevcount=1, hashtype=HashType.CRC32C))
    s3.run(s3.store.view.renew())
    client = s3.client()
    assert client.put_object(Bucket="d", Key="crc", Body=b"hello", StorageClass="crc")["ETag"] == f'"{HELLO}"'
    assert client.head_object(Bucket="d", Key="crc")["ETag"] == f'"{HELLO}"'
    assert client.list_objects_v2(Bucket="d", Prefix="crc")["Contents"][0]["ETag"] == f'"{HELLO}"'
    client.put_object(Bucket="d", Key="crc", Body=b"", StorageClass="crc", IfMatch=f'"{HELLO}"')


def test_copies(client: Any, bucket: str) -> None:
    """O3, O4, K5: copies keep or replace metadata, judge conditions on both sides, and have the source's ETag."""
    more = {"Metadata": {"a": "b"}, "CacheControl": "no-store", "ContentType": "text/x-test"}
    client.put_object(Bucket=bucket, Key="s +é", Body=b"hello", **more)
    copy = {"Bucket": bucket, "CopySource": {"Bucket": bucket, "Key": "s +é"}}
    made = client.copy_object(**copy, Key="t")["CopyObjectResult"]
    assert made["ETag"] == f'"{HELLO}"'
    found = client.get_object(Bucket=bucket, Key="t")
    assert (found["Body"].read(), found["ETag"], found["Metadata"]) == (b"hello", made["ETag"], {"a": "b"})
    assert (found["CacheControl"], found["ContentType"]) == ("no-store", "text/x-test")
    assert found["ChecksumCRC32"]
    client.copy_object(**copy, Key="t", MetadataDirective="REPLACE", Metadata={"c": "d"})
    found = client.head_object(Bucket=bucket, Key="t")
    assert found["Metadata"] == {"c": "d"}
    assert "CacheControl" not in found
    assert refusal(client.copy_object, **copy, Key="s +é") == ("InvalidRequest", 400)
    client.copy_object(**copy, Key="s +é", MetadataDirective="REPLACE", Metadata={"new": "1"})
    assert client.head_object(Bucket=bucket, Key="s +é")["Metadata"] == {"new": "1"}
    assert refusal(client.copy_object, **copy, Key="t", CopySourceIfMatch='"x"') == ("PreconditionFailed", 412)
    assert refusal(client.copy_object, **copy, Key="t", IfNoneMatch="*") == ("PreconditionFailed", 412)
    absent = {"Bucket": bucket, "Key": "t", "CopySource": f"{bucket}/absent"}
    assert refusal(client.copy_object, **absent) == ("NoSuchKey", 404)


def test_copies_need_both_rights(s3: S3Fixture) -> None:
    """A copy needs the right to read its source and to write its target."""
    s3.client().put_object(Bucket="d", Key="in/k", Body=b"hello")
    reader = s3.client(key=s3.run(s3.store.create_key("reader-of-in", "d/in/=r")))
    writer = s3.client(key=s3.run(s3.store.create_key("writer-of-out", "d/out/=w")))
    both = s3.client(key=s3.run(s3.store.create_key("both", "d/in/=r", "d/out/=w")))
    copy = {"Bucket": "d", "Key": "out/k", "CopySource": "d/in/k"}
    assert refusal(reader.copy_object, **copy) == ("AccessDenied", 403)
    assert refusal(writer.copy_object, **copy) == ("AccessDenied", 403)
    assert both.copy_object(**copy)["CopyObjectResult"]["ETag"] == f'"{HELLO}"'
    s3.run(s3.store.put("/d/in/by-http"))
    made = both.copy_object(Bucket="d", Key="out/2", CopySource="d/in/by-http")["CopyObjectResult"]["ETag"]
    assert made == s3.client().head_object(Bucket="d", Key="out/2")["ETag"]
    assert made != s3.client().head_object(Bucket="d", Key="in/by-http")["ETag"]


def test_attributes_of_an_object(client: Any, bucket: str) -> None:
    """O8: GetObjectAttributes answers what was asked for, the ETag without quotes."""
    client.put_object(Bucket=bucket, Key="k", Body=b"hello")
    names = ["ETag", "Checksum", "ObjectSize", "StorageClass", "ObjectParts"]
    found = client.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=names)
    assert (found["ETag"], found["ObjectSize"], found["StorageClass"]) == (HELLO, 5, "STANDARD")
    assert found["Checksum"]["ChecksumType"] == "FULL_OBJECT"
    assert "ObjectParts" not in found
    assert "ETag" not in client.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectSize"])


def test_who_may(s3: S3Fixture, bucket: str, client: Any) -> None:
    """A8, L10: unknown keys, wrong secrets and keys without the right are refused; HeadBucket has the region on 403."""
    del client
    key_id = s3.key.partition(":")[0]
    assert refusal(s3.client(key="TW" + "A" * 18 + ":x").list_buckets) == ("InvalidAccessKeyId", 403)
    assert refusal(s3.client(key=f"{key_id}:wrong").list_buckets) == ("SignatureDoesNotMatch", 403)
    reader = s3.client(key=s3.run(s3.store.create_key(f"reader-{bucket}", f"{bucket}/in/=r")))
    s3.client().put_object(Bucket=bucket, Key="in/k", Body=b"hello")
    assert reader.get_object(Bucket=bucket, Key="in/k")["Body"].read() == b"hello"
    assert [each["Name"] for each in reader.list_buckets()["Buckets"]] == [bucket]
    assert len(reader.list_objects_v2(Bucket=bucket, Prefix="in/")["Contents"]) == 1
    assert refusal(reader.list_objects_v2, Bucket=bucket) == ("AccessDenied", 403)
    assert refusal(reader.put_object, Bucket=bucket, Key="in/k", Body=b"") == ("AccessDenied", 403)
    assert refusal(reader.delete_bucket, Bucket=bucket) == ("AccessDenied", 403)
    answer = reader.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "in/k"}]})
    assert [each["Code"] for each in answer["Errors"]] == ["AccessDenied"]
    with pytest.raises(ClientError) as raised:
        reader.head_bucket(Bucket="d")
    assert raised.value.response["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"] == REGION


def test_strangers(s3: S3Fixture) -> None:
    """T15: requests without a signature are AccessDenied, whatever the HTTP listener allows."""
    with closing(http.client.HTTPConnection(urlsplit(s3.endpoint()).netloc)) as connection:
        for method, path in (("GET", "/"), ("GET", "/d/k"), ("PUT", "/d/k"), ("DELETE", "/d")):
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
            assert (answer.status, b"<Code>AccessDenied</Code>" in body) == (403, True)
            assert f"<RequestId>{answer.headers['x-amz-request-id']}</RequestId>".encode() in body


def test_the_same_files_everywhere(s3: S3Fixture) -> None:
    """What HTTP stores S3 reads, and the other way round; a file without MD5 has an ETag that is none."""
    client = s3.client()
    s3.run(s3.store.put("/d/by-http"))
    found = client.get_object(Bucket="d", Key="by-http")
    assert found["Body"].read() == b"hello"
    assert "-" in found["ETag"]
    listed = client.list_objects_v2(Bucket="d", Prefix="by-http")["Contents"][0]
    assert listed["ETag"] == found["ETag"]
    client.put_object(Bucket="d", Key="by-s3", Body=b"data", StorageClass="one")
    assert s3.run(s3.store.ask("GET", "/d/by-s3", headers=AUTHORISED)).body == b"data"
    assert client.head_object(Bucket="d", Key="by-s3")["StorageClass"] == "one"
    assert refusal(client.put_object, Bucket="d", Key="k", Body=b"", StorageClass="GLACIER") == (
        "InvalidStorageClass",
        400,
    )


@pytest.mark.parametrize(("style", "sent"), [("virtual", None), ("path", None), ("path", "10.0.0.7")])
def test_names_of_the_server(s3: S3Fixture, style: str, sent: str | None) -> None:
    """A1, A4: BUCKET.NAME names a bucket for a configured name; a front end may change the name to another."""
    port = s3.server.address[1]
    name = f"named-{style}-{sent or ''}".strip("-")
    s3.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.client().put_object(Bucket=name, Key="k", Body=b"hello")
    client = s3.client(s3={"addressing_style": style}, endpoint_url=f"http://store.example:{port}")
    parts = urlsplit(client.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "k"}))
    assert parts.netloc.startswith("named-") == (style == "virtual")
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("GET", f"{parts.path}?{parts.query}", headers={"Host": sent or parts.netloc})
        answer = connection.getresponse()
        assert (answer.read(), answer.status) == (b"hello", 200)


def test_what_is_not_kept_is_refused(client: Any, bucket: str) -> None:
    """P5, P6: what would have to be stored and is not is NotImplemented, never dropped; so are other operations."""
    put = {"Bucket": bucket, "Key": "k", "Body": b""}
    for more in (
        {"ServerSideEncryption": "aws:kms"},
        {"ACL": "public-read"},
    ):
        assert refusal(client.put_object, **put, **more) == ("NotImplemented", 501)
    assert refusal(client.get_bucket_policy, Bucket=bucket) == ("NotImplemented", 501)


def test_another_owner(client: Any, bucket: str) -> None:
    """O9: x-amz-expected-bucket-owner of another account is AccessDenied."""
    assert refusal(client.head_bucket, Bucket=bucket, ExpectedBucketOwner="1" * 64)[1] == 403
    owner = client.list_buckets()["Owner"]["ID"]
    client.head_bucket(Bucket=bucket, ExpectedBucketOwner=owner)


def raw(s3: S3Fixture, data: bytes) -> bytes:
    """Send bytes; the beginning of the answer."""
    return s3.run(_raw(s3, data))


async def _raw(s3: S3Fixture, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*s3.server.address)
    try:
        writer.write(data)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(4096), 10)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /b/%ff HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /../x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /b/\xff\xfe HTTP/1.1\r\nHost: h\r\n\r\n",
        b"PUT /b/k HTTP/1.1\r\nHost: h\r\nAuthorization: AWS4-HMAC-SHA256 \xff\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /b?" + b"x&" * 2000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /b?delete HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"FROB /b/k HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
def test_malformed_requests(s3: S3Fixture, head: bytes) -> None:
    """T17: malformed requests are answered with 4xx."""
    assert re.match(rb"HTTP/1\.[01] 4", raw(s3, head))


def test_a_store_with_the_s3_listener(tmp_path: Path) -> None:
    """`tawara up` with s3.listen serves keys of `tawara key create`; without the setting nothing listens."""
    (port,) = free_ports(1)
    with store(tmp_path / "store", f"--set=s3.listen=127.0.0.1:{port}") as one:
        made = one.run("key", "create", "app", "--domain", "*=rwa", "--json", "-c", str(one.directory / "tawara.toml"))
        key = json.loads(made.stdout)
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id=key["id"],
            aws_secret_access_key=key["secret"],
        )
        client.create_bucket(Bucket="photos")
        client.create_bucket(Bucket="photos")
        client.put_object(Bucket="photos", Key="cat.jpg", Body=b"meow")
        assert client.get_object(Bucket="photos", Key="cat.jpg")["Body"].read() == b"meow"
        assert one.run("get", "photos/cat.jpg", "-").stdout == "meow"
        one.stop()


def test_too_many_uploads_at_once(tmp_path: Path) -> None:
    """T14: beyond the limit of uploads at once the answer is SlowDown 503, which clients retry; the others go on."""
    with s3_fixture(tmp_path, Limits(s3_uploads=1), nginx=False) as s3:
        port = s3.server.address[1]
        url = s3.client().generate_presigned_url("put_object", Params={"Bucket": "d", "Key": "slow"})
        parts = urlsplit(url)
        with closing(socket.create_connection(("127.0.0.1", port), 10)) as slow:
            head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 5\r\n"
            slow.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert slow.recv(100).startswith(b"HTTP/1.1 100")
            put = {"Bucket": "d", "Key": "other", "Body": b"x"}
            assert refusal(s3.client().put_object, **put) == ("SlowDown", 503)
            slow.sendall(b"hello")
            assert slow.recv(100).startswith(b"HTTP/1.1 200")
        s3.client().put_object(**put)


@pytest.mark.parametrize("nginx", [True, False], ids=["nginx", "python"])
def test_a_stalled_body(tmp_path: Path, nginx: bool) -> None:
    """T14: a body that does not arrive is RequestTimeout 400, or nginx closes; clients retry both. Nothing is kept."""
    with s3_fixture(tmp_path, Limits(stalled_body=0.5), nginx=nginx) as s3:
        url = s3.client().generate_presigned_url("put_object", Params={"Bucket": "d", "Key": "k"})
        parts = urlsplit(url)
        with closing(socket.create_connection(("127.0.0.1", s3.server.address[1]), 10)) as slow:
            head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 5\r\n\r\n"
            slow.sendall(f"{head}hel".encode())
            answer = b"".join(iter(partial(slow.recv, 4096), b""))
        if answer or not nginx:
            assert answer.startswith(b"HTTP/1.1 400")
            assert b"<Code>RequestTimeout</Code>" in answer
        assert refusal(s3.client().head_object, Bucket="d", Key="k")[1] == 404
