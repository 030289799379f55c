"""S3: objects and conditions. Each docstring is the sentence that its test checks."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.header import decode_header
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.acceptance.s3_fixture import S3Fixture, refusal

HELLO = f'"{hashlib.md5(b"hello").hexdigest()}"'
YEARS_AGO = datetime(2015, 1, 1, tzinfo=UTC)


@pytest.fixture
def hello(s3: S3Fixture, s3_bucket: str) -> dict[str, str]:
    """An object."""
    s3.client().put_object(Bucket=s3_bucket, Key="k", Body=b"hello")
    return {"Bucket": s3_bucket, "Key": "k"}


# --- conditions -------------------------------------------------------------------------------------------------------


def test_conditional_writes(s3_client: Any, hello: dict[str, str]) -> None:
    """K1: If-None-Match * is 412 for a key that there is; If-Match is 412 if it differs, 404 if there is none."""
    absent = hello | {"Key": "absent"}
    for match in ("*", HELLO):
        assert refusal(s3_client.put_object, **absent, IfMatch=match) == ("NoSuchKey", 404)
    assert refusal(s3_client.put_object, **hello, IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert refusal(s3_client.put_object, **hello, IfMatch='"other"') == ("PreconditionFailed", 412)
    s3_client.put_object(**absent, Body=b"", IfNoneMatch="*")
    s3_client.put_object(**hello, Body=b"new", IfMatch=HELLO)
    s3_client.put_object(**hello, Body=b"hello", IfMatch="*")
    s3_client.put_object(**hello, Body=b"hello", IfNoneMatch='"other"')


def test_conflicting_writers(s3: S3Fixture, s3_bucket: str) -> None:
    """K3: of writers that conflict one succeeds, the others get 412, judged at the commit."""
    clients = [s3.client() for _ in range(6)]

    def write(number: int) -> int:
        try:
            clients[number].put_object(Bucket=s3_bucket, Key="k", Body=b"%d" % number, IfNoneMatch="*")
        except ClientError as error:
            status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return status
        return 200

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(write, range(6)))
    assert sorted(statuses) == [200] + [412] * 5
    winner = b"%d" % statuses.index(200)
    assert clients[0].get_object(Bucket=s3_bucket, Key="k")["Body"].read() == winner


def test_conditional_deletions(s3_client: Any, hello: dict[str, str]) -> None:
    """K4: DeleteObject with If-Match, a time or a size that differs is 412, and nothing is deleted."""
    modified = s3_client.head_object(**hello)["LastModified"]
    for wrong in ({"IfMatch": '"other"'}, {"IfMatchLastModifiedTime": YEARS_AGO}, {"IfMatchSize": 6}):
        assert refusal(s3_client.delete_object, **hello, **wrong) == ("PreconditionFailed", 412)
    many = {"Objects": [{"Key": "k", "Size": 6}]}
    answer = s3_client.delete_objects(Bucket=hello["Bucket"], Delete=many)
    assert [each["Code"] for each in answer["Errors"]] == ["PreconditionFailed"]
    s3_client.delete_object(**hello, IfMatch=HELLO, IfMatchLastModifiedTime=modified, IfMatchSize=5)
    assert refusal(s3_client.head_object, **hello)[1] == 404
    s3_client.delete_object(**hello, IfMatch=HELLO)


def test_conditional_copies(s3: S3Fixture, hello: dict[str, str]) -> None:
    """K5: copy-source-if-* judge the source, 412 on failure; If-Match and If-None-Match judge the target."""
    client = s3.client()
    copy = {"Bucket": hello["Bucket"], "CopySource": hello, "Key": "copy"}
    for wrong in (
        {"CopySourceIfMatch": '"other"'},
        {"CopySourceIfNoneMatch": HELLO},
        {"CopySourceIfUnmodifiedSince": YEARS_AGO},
    ):
        assert refusal(client.copy_object, **copy, **wrong) == ("PreconditionFailed", 412)
    client.copy_object(**copy, CopySourceIfMatch=HELLO, CopySourceIfUnmodifiedSince=YEARS_AGO)
    client.copy_object(**copy, CopySourceIfNoneMatch='"other"')
    assert refusal(client.copy_object, **copy, IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert refusal(client.copy_object, **copy, IfMatch='"other"') == ("PreconditionFailed", 412)
    assert refusal(client.copy_object, **copy | {"Key": "absent"}, IfMatch="*") == ("NoSuchKey", 404)
    client.copy_object(**copy, IfMatch=HELLO)


def test_conditional_reads(s3_client: Any, hello: dict[str, str]) -> None:
    """K7: GET and HEAD answer 304 with ETag and Last-Modified, and 412, in the order of the RFC."""
    for call in (s3_client.get_object, s3_client.head_object):
        with pytest.raises(ClientError) as raised:
            call(**hello, IfNoneMatch=HELLO)
        answer = raised.value.response["ResponseMetadata"]
        assert answer["HTTPStatusCode"] == 304
        assert answer["HTTPHeaders"]["etag"] == HELLO
        assert "last-modified" in answer["HTTPHeaders"]
        assert refusal(call, **hello, IfMatch='"other"')[1] == 412
        assert refusal(call, **hello, IfUnmodifiedSince=YEARS_AGO)[1] == 412
        modified = call(**hello)["LastModified"]
        assert refusal(call, **hello, IfModifiedSince=modified)[1] == 304
        assert call(**hello, IfMatch=HELLO, IfUnmodifiedSince=YEARS_AGO)["ContentLength"] == 5
        assert call(**hello, IfNoneMatch='"other"', IfModifiedSince=modified)["ContentLength"] == 5
        assert call(**hello, IfModifiedSince=YEARS_AGO)["ContentLength"] == 5


# --- objects ----------------------------------------------------------------------------------------------------------


def test_entity_tags(s3_client: Any, hello: dict[str, str]) -> None:
    """O1: the ETag of a single PUT is the quoted MD5 in hex."""
    for body in (b"", b"hello", b"x" * 100_000):
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        assert s3_client.put_object(**hello, Body=body)["ETag"] == etag
        assert s3_client.get_object(**hello)["ETag"] == etag


def test_copies_of_joined_objects(s3: S3Fixture, s3_bucket: str) -> None:
    """O2: a copy of a multipart object is one object: its ETag is the MD5 of the whole, without a number of parts."""
    client, key = s3.client(), {"Bucket": s3_bucket, "Key": "joined"}
    upload = client.create_multipart_upload(**key, ChecksumAlgorithm="SHA256", Metadata={"a": "b"}, Tagging="c=d")
    part = {**key, "UploadId": upload["UploadId"]}
    made = client.upload_part(**part, PartNumber=1, Body=b"hello", ChecksumAlgorithm="SHA256")
    listed = {"PartNumber": 1, "ETag": made["ETag"], "ChecksumSHA256": made["ChecksumSHA256"]}
    joined = client.complete_multipart_upload(**part, MultipartUpload={"Parts": [listed]})
    assert joined["ETag"].endswith('-1"')
    copied = client.copy_object(Bucket=s3_bucket, Key="copy", CopySource=key)["CopyObjectResult"]
    head = client.head_object(Bucket=s3_bucket, Key="copy", ChecksumMode="ENABLED")
    assert copied["ETag"] == head["ETag"] == HELLO
    assert (head["Metadata"], head["TagCount"]) == ({"a": "b"}, 1)
    assert not [name for name in {*head, *copied} if name.startswith("Checksum")]
    assert client.head_object(**key)["ETag"] == joined["ETag"]


def test_copies_onto_themselves(s3: S3Fixture, hello: dict[str, str]) -> None:
    """O3: a copy onto itself that changes nothing is InvalidRequest; with REPLACE it is the way to change metadata."""
    client = s3.client()
    copy = {**hello, "CopySource": hello}
    assert refusal(client.copy_object, **copy) == ("InvalidRequest", 400)
    client.copy_object(
        **copy,
        MetadataDirective="REPLACE",
        Metadata={"foo": "bar"},
        ContentDisposition="attachment",
        ContentType="text/plain",
    )
    head = client.head_object(**hello)
    assert (head["Metadata"], head["ContentDisposition"], head["ContentType"]) == (
        {"foo": "bar"},
        "attachment",
        "text/plain",
    )
    assert refusal(client.copy_object, **copy, MetadataDirective="KEEP") == ("InvalidArgument", 400)


@pytest.mark.parametrize("slash", ["", "/"])
def test_sources_of_copies(s3: S3Fixture, s3_bucket: str, slash: str) -> None:
    """O4: the source of a copy is URL-encoded, its first slash optional, a + in it is a plus."""
    client = s3.client()
    client.put_object(Bucket=s3_bucket, Key="a+b c/é?x", Body=b"hello", Metadata={"m": "1"})
    source = f"{slash}{s3_bucket}/a+b%20c/%C3%A9%3Fx"
    assert s3.send("PUT", f"/{s3_bucket}/t", {"x-amz-copy-source": source}).status == 200
    found = client.get_object(Bucket=s3_bucket, Key="t")
    assert (found["Body"].read(), found["Metadata"]) == (b"hello", {"m": "1"})
    for wrong, code in ((f"{s3_bucket}/absent", "NoSuchKey"), ("absent-bucket/k", "NoSuchBucket")):
        assert refusal(client.copy_object, Bucket=s3_bucket, Key="t", CopySource=wrong) == (code, 404)
    assert refusal(client.copy_object, Bucket=s3_bucket, Key="t", CopySource="nokey")[1] == 400


def test_user_metadata(s3_client: Any, s3: S3Fixture, hello: dict[str, str]) -> None:
    """O5: user metadata has lower-case names, also with underscores and dots, 2 KiB in all, RFC 2047 on the way out."""
    s3_client.put_object(**hello, Body=b"", Metadata={"My_Key": "v", "a.b": "w", "empty": ""})
    assert s3_client.head_object(**hello)["Metadata"] == {"my_key": "v", "a.b": "w", "empty": ""}
    s3_client.put_object(**hello, Body=b"")
    assert s3_client.head_object(**hello)["Metadata"] == {}
    assert refusal(s3_client.put_object, **hello, Body=b"", Metadata={"a": "x" * 2048}) == ("MetadataTooLarge", 400)
    s3_client.put_object(**hello, Body=b"", Metadata={"a": "x" * 2047})
    path = f"/{hello['Bucket']}/k"
    assert s3.send("PUT", path, {"x-amz-meta-name": "Grüße"}).status == 200
    ((text, charset),) = decode_header(s3.send("HEAD", path).headers["x-amz-meta-name"])
    assert text.decode(charset) == "Grüße"


def test_replaced_fields_of_the_answer(s3: S3Fixture, hello: dict[str, str]) -> None:
    """O6: response-* parameters replace fields of the answer to a signed GET."""
    asked = {
        "ResponseCacheControl": "no-cache",
        "ResponseContentDisposition": "bla",
        "ResponseContentEncoding": "aaa",
        "ResponseContentLanguage": "esperanto",
        "ResponseContentType": "foo/bar",
        "ResponseExpires": datetime(2030, 1, 1, tzinfo=UTC),
    }
    headers = s3.client().get_object(**hello, **asked)["ResponseMetadata"]["HTTPHeaders"]
    assert headers["cache-control"] == "no-cache"
    assert headers["content-disposition"] == "bla"
    assert headers["content-encoding"] == "aaa"
    assert headers["content-language"] == "esperanto"
    assert headers["content-type"] == "foo/bar"
    assert "2030" in headers["expires"]
    path = f"/{hello['Bucket']}/k?response-content-type=a%0D%0Ab"
    assert s3.send("GET", path).refusal == ("InvalidArgument", 400)


@pytest.mark.parametrize(
    ("asked", "data", "answered"),
    [
        ("bytes=1-3", b"ell", "bytes 1-3/5"),
        ("bytes=3-", b"lo", "bytes 3-4/5"),
        ("bytes=-2", b"lo", "bytes 3-4/5"),
        ("bytes=-9", b"hello", "bytes 0-4/5"),
        ("bytes=0-99", b"hello", "bytes 0-4/5"),
        ("bytes=0-1,3-4", b"hello", None),
        ("lines=1-2", b"hello", None),
        ("bytes=3-1", b"hello", None),
    ],
)
def test_ranges(s3_client: Any, hello: dict[str, str], asked: str, data: bytes, answered: str | None) -> None:
    """O7: one range is 206 with its bytes; several, and what is no range, are the whole object."""
    found = s3_client.get_object(**hello, Range=asked)
    assert (found["Body"].read(), found.get("ContentRange")) == (data, answered)
    assert found["ResponseMetadata"]["HTTPStatusCode"] == (206 if answered else 200)
    assert s3_client.head_object(**hello, Range=asked)["ContentLength"] == len(data)


def test_ranges_beyond_the_end(s3_client: Any, hello: dict[str, str]) -> None:
    """O7: a range beyond the end is InvalidRange 416, as any of an empty object; only part 1 of a plain one exists."""
    assert refusal(s3_client.get_object, **hello, Range="bytes=40-50") == ("InvalidRange", 416)
    assert s3_client.get_object(**hello, PartNumber=1)["Body"].read() == b"hello"
    assert refusal(s3_client.get_object, **hello, PartNumber=2) == ("InvalidPartNumber", 416)
    assert refusal(s3_client.get_object, **hello, PartNumber=1, Range="bytes=0-1") == ("InvalidRequest", 400)
    s3_client.put_object(**hello, Body=b"")
    assert refusal(s3_client.get_object, **hello, Range="bytes=40-50") == ("InvalidRange", 416)


def test_attributes(s3: S3Fixture, hello: dict[str, str]) -> None:
    """O8: GetObjectAttributes needs its header field, answers only what was asked for, the ETag without quotes."""
    client = s3.client()
    found = client.get_object_attributes(**hello, ObjectAttributes=["ETag", "ObjectSize"])
    assert (found["ETag"], found["ObjectSize"]) == (HELLO.strip('"'), 5)
    assert not {"Checksum", "StorageClass", "ObjectParts"} & found.keys()
    assert client.get_object_attributes(**hello, ObjectAttributes=["Checksum"])["Checksum"]["ChecksumCRC32"]
    path = f"/{hello['Bucket']}/k?attributes"
    assert s3.send("GET", path).refusal == ("InvalidArgument", 400)
    assert s3.send("GET", path, {"x-amz-object-attributes": "Colour"}).refusal == ("InvalidArgument", 400)


def test_expected_owners(s3: S3Fixture, hello: dict[str, str]) -> None:
    """O9: x-amz-expected-bucket-owner and that of a copy's source are 403 AccessDenied if another one is."""
    client, other = s3.client(), "1" * 64
    owner = client.list_buckets()["Owner"]["ID"]
    assert refusal(client.get_object, **hello, ExpectedBucketOwner=other) == ("AccessDenied", 403)
    assert client.get_object(**hello, ExpectedBucketOwner=owner)["Body"].read() == b"hello"
    copy = {"Bucket": hello["Bucket"], "Key": "copy", "CopySource": hello}
    assert refusal(client.copy_object, **copy, ExpectedSourceBucketOwner=other) == ("AccessDenied", 403)
    client.copy_object(**copy, ExpectedSourceBucketOwner=owner, ExpectedBucketOwner=owner)
    stranger = s3.client(key=s3.run(s3.store.create_key(f"stranger-{hello['Bucket']}", "*=rw")))
    assert stranger.get_object(**hello, ExpectedBucketOwner=owner)["Body"].read() == b"hello"


def test_deleting_many(s3: S3Fixture, hello: dict[str, str]) -> None:
    """O10: DeleteObjects takes 1,000 keys, demands a digest, answers errors per key, and is quiet if asked."""
    client, bucket = s3.client(), hello["Bucket"]
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}, {"Key": "absent"}]})
    assert [each["Key"] for each in answer["Deleted"]] == ["k", "absent"]
    assert "Errors" not in answer
    quiet = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "absent"}], "Quiet": True})
    assert not {"Deleted", "Errors"} & quiet.keys()
    keys = [{"Key": str(number)} for number in range(1001)]
    assert refusal(client.delete_objects, Bucket=bucket, Delete={"Objects": keys}) == ("MalformedXML", 400)
    client.delete_objects(Bucket=bucket, Delete={"Objects": keys[:1000]})
    body = "<Delete><Object><Key>a</Key></Object></Delete>"
    assert s3.send("POST", f"/{bucket}?delete", body=body).refusal == ("InvalidRequest", 400)
    assert s3.send("POST", f"/{bucket}?delete", {"Content-MD5": "A" * 22 + "=="}, body).refusal == ("BadDigest", 400)


def test_a_body_without_a_length(s3: S3Fixture, hello: dict[str, str]) -> None:
    """O11: a PUT of a body without Content-Length is MissingContentLength 411; the body of a GET is ignored."""
    path = f"/{hello['Bucket']}/k"
    chunked = {"+Transfer-Encoding": "chunked"}
    answer = s3.send("PUT", path, chunked, b"5\r\nhello\r\n0\r\n\r\n", payload="UNSIGNED-PAYLOAD")
    assert answer.refusal == ("MissingContentLength", 411)
    assert s3.send("GET", path, body=b"ignored").body == b"hello"


def test_ids_of_requests(s3: S3Fixture, hello: dict[str, str]) -> None:
    """O12: every answer has x-amz-request-id and x-amz-id-2, the same id in the XML; errors of HEAD have no body."""
    path = f"/{hello['Bucket']}/"
    ids = set()
    for method, key in (("GET", "k"), ("GET", "absent"), ("HEAD", "absent"), ("DELETE", "absent"), ("GET", "")):
        answer = s3.send(method, path + key)
        ids.add(answer.headers["x-amz-request-id"])
        assert answer.headers["x-amz-id-2"]
        if answer.status >= 400 and method != "HEAD":
            assert f"<RequestId>{answer.headers['x-amz-request-id']}</RequestId>".encode() in answer.body
        if method == "HEAD":
            assert (answer.status, answer.body) == (404, b"")
    assert len(ids) == 5


def test_dates(s3: S3Fixture, hello: dict[str, str]) -> None:
    """O13: dates are those of HTTP in header fields, and ISO with .000Z in XML."""
    http_date = r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"
    assert re.fullmatch(http_date, s3.send("HEAD", f"/{hello['Bucket']}/k").headers["Last-Modified"])
    body = s3.send("GET", f"/{hello['Bucket']}").body
    assert re.search(rb"<LastModified>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z</LastModified>", body)


def test_encryption_is_refused(s3: S3Fixture, hello: dict[str, str]) -> None:
    """P5: encryption header fields are NotImplemented 501, never silently stored in the clear."""
    client = s3.client()
    for more in (
        {"ServerSideEncryption": "AES256"},
        {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "x"},
        {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32},
    ):
        if "SSECustomerKey" in more:  # botocore refuses to send keys by http
            client = s3.client("https")
        assert refusal(client.put_object, **hello, Body=b"", **more) == ("NotImplemented", 501)
    assert client.get_object(**hello)["Body"].read() == b"hello"


def test_replaced_objects(s3_client: Any, hello: dict[str, str]) -> None:
    """A PUT replaces content, header fields and metadata of an object; a deleted one is NoSuchKey."""
    s3_client.put_object(**hello, Body=b"one", CacheControl="public, max-age=14400", Metadata={"a": "1"}, Tagging="a=1")
    assert s3_client.get_object(**hello)["CacheControl"] == "public, max-age=14400"
    s3_client.put_object(**hello, Body=b"two")
    found = s3_client.get_object(**hello)
    assert (found["Body"].read(), found["Metadata"]) == (b"two", {})
    assert not {"CacheControl", "TagCount"} & found.keys()
    s3_client.delete_object(**hello)
    assert refusal(s3_client.get_object, **hello) == ("NoSuchKey", 404)
