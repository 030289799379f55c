"""S3: uploads by browser forms. Each docstring is the sentence that its test checks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import urllib.request
import zlib
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.acceptance.s3_fixture import S3Answer, S3Fixture, refusal

HELLO = hashlib.md5(b"hello").hexdigest()


def form(fields: Sequence[tuple[str, str]], data: bytes = b"hello", filename: str = "a.txt") -> bytes:
    """A form as browsers and the library `requests` send it."""
    body = b"".join(
        f'--XX\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields
    )
    head = f'--XX\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'.encode()
    return body + head + data + b"\r\n--XX--\r\n"


def post(s3: S3Fixture, bucket: str, body: bytes) -> S3Answer:
    connection = http.client.HTTPConnection(*s3.server.address, timeout=30)
    with closing(connection):
        connection.request("POST", f"/{bucket}", body, {"Content-Type": "multipart/form-data; boundary=XX"})
        answer = connection.getresponse()
        return S3Answer(answer.status, answer.headers, answer.read())


def signed_fields(
    s3: S3Fixture, conditions: Any, *fields: tuple[str, str], expiration: Any = None, policy: Any = None
) -> list[tuple[str, str]]:
    """Fields with a policy that is signed by version 2, as many uploaders do; None leaves a part of it out."""
    until = expiration or (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {"expiration": until, "conditions": conditions} if policy is None else policy
    encoded = base64.b64encode(json.dumps(document).encode())
    access_key, _, secret = s3.key.partition(":")
    signature = base64.b64encode(hmac.digest(secret.encode(), encoded, "sha1")).decode()
    return [*fields, ("AWSAccessKeyId", access_key), ("signature", signature), ("policy", encoded.decode())]


def usual(bucket: str, *more: Any) -> list[Any]:
    return [{"bucket": bucket}, ["starts-with", "$key", "foo"], ["content-length-range", 0, 1024], *more]


def test_a_form_of_boto3(s3: S3Fixture, s3_bucket: str) -> None:
    """A7: a form that boto3 signs stores the file with the fields of the form, under its name."""
    made = s3.client().generate_presigned_post(
        s3_bucket,
        "up/${filename}",
        Fields={"x-amz-meta-a": "é", "Content-Type": "text/x-test", "success_action_status": "201", "tagging": TAGGING},
        Conditions=[
            ["starts-with", "$x-amz-meta-a", ""],
            {"Content-Type": "text/x-test"},
            {"success_action_status": "201"},
            ["starts-with", "$tagging", ""],
        ],
    )
    answer = post(s3, s3_bucket, form(list(made["fields"].items()), b"x" * 200_000, "C:\\cat.jpg"))
    assert answer.status == 201
    assert b"<Key>up/cat.jpg</Key>" in answer.body
    found = s3.client().head_object(Bucket=s3_bucket, Key="up/cat.jpg")
    assert (found["ContentLength"], found["ContentType"], found["TagCount"]) == (200_000, "text/x-test", 1)
    assert answer.headers["ETag"] == found["ETag"] == f'"{hashlib.md5(b"x" * 200_000).hexdigest()}"'
    assert answer.headers["Location"].endswith(f"/{s3_bucket}/up/cat.jpg")


TAGGING = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"


def test_a_form_of_version_two(s3: S3Fixture, s3_bucket: str) -> None:
    """A7: forms signed by version 2 are accepted, 204; names of fields are compared without case."""
    conditions = [{"bUcKeT": s3_bucket}, ["StArTs-WiTh", "$KeY", "foo"], {"AcL": "private"}]
    fields = signed_fields(s3, conditions, ("kEy", "foo.txt"), ("aCl", "private"), ("x-ignore-foo", "bar"))
    assert post(s3, s3_bucket, form(fields)).status == 204
    found = s3.client().get_object(Bucket=s3_bucket, Key="foo.txt")
    assert (found["Body"].read(), found["ETag"]) == (b"hello", f'"{HELLO}"')


def test_a_redirection(s3: S3Fixture, s3_bucket: str) -> None:
    """A7: success_action_redirect answers 303 to that URL, with bucket, key and entity tag."""
    url = "https://app.example/done"
    fields = signed_fields(
        s3,
        usual(s3_bucket, ["eq", "$success_action_redirect", url]),
        ("key", "foo"),
        ("success_action_redirect", url),
    )
    answer = post(s3, s3_bucket, form(fields))
    assert answer.status == 303
    assert answer.headers["Location"] == f"{url}?bucket={s3_bucket}&key=foo&etag=%22{HELLO}%22"


@pytest.mark.parametrize(
    ("conditions", "fields", "answer"),
    [
        ([{"x": "y"}], [("key", "foo")], ("AccessDenied", 403)),
        ([["eq", "$x-amz-meta-foo", ""]], [("key", "foo"), ("x-amz-meta-foo", "b")], ("AccessDenied", 403)),
        ([["starts-with", "$x-amz-meta-foo", "bar"]], [("key", "foo")], ("AccessDenied", 403)),
        ([], [("key", "foo"), ("x-amz-meta-foo", "b")], ("AccessDenied", 403)),
        ([], [("key", "other")], ("AccessDenied", 403)),
        ([], [], ("InvalidArgument", 400)),
        ([["content-length-range", 0, 4]], [("key", "foo")], ("EntityTooLarge", 400)),
        ([["content-length-range", 6, 100]], [("key", "foo")], ("EntityTooSmall", 400)),
        ([["content-length-range", 0]], [("key", "foo")], ("InvalidPolicyDocument", 400)),
        ([["content-length-range", -1, 0]], [("key", "foo")], ("InvalidPolicyDocument", 400)),
        ([{}], [("key", "foo")], ("InvalidPolicyDocument", 400)),
    ],
)
def test_conditions(
    s3: S3Fixture, s3_bucket: str, conditions: list[Any], fields: list[tuple[str, str]], answer: tuple[str, int]
) -> None:
    """A7: every field must be covered by a condition that holds, the length be in its range; else nothing is kept."""
    wanted = [{"bucket": s3_bucket}, ["starts-with", "$key", "foo"], *conditions]
    if not fields:
        wanted = [{"bucket": s3_bucket}]
    assert post(s3, s3_bucket, form(signed_fields(s3, wanted, *fields))).refusal == answer
    assert s3.client().list_objects_v2(Bucket=s3_bucket)["KeyCount"] == 0


def test_policies(s3: S3Fixture, s3_bucket: str) -> None:
    """A7: a policy that is expired, of another bucket or signed by another is refused, a malformed one is 400."""
    key = ("key", "foo")
    good = usual(s3_bucket)
    cases: list[tuple[list[tuple[str, str]], tuple[str, int]]] = [
        (signed_fields(s3, good, key, expiration="2020-01-01T00:00:00Z"), ("AccessDenied", 403)),
        (signed_fields(s3, usual("other-bucket"), key), ("AccessDenied", 403)),
        (signed_fields(s3, good, key, expiration="2030-01-01 00:00:00"), ("InvalidPolicyDocument", 400)),
        (signed_fields(s3, good, key, policy={"conditions": good}), ("InvalidPolicyDocument", 400)),
        (signed_fields(s3, good, key, policy={"expiration": "2099-01-01T00:00:00Z"}), ("InvalidPolicyDocument", 400)),
        (signed_fields(s3, good, key)[:-1], ("InvalidArgument", 400)),
        ([each for each in signed_fields(s3, good, key) if each[0] != "signature"], ("InvalidArgument", 400)),
        ([key], ("AccessDenied", 403)),
    ]
    fields = dict(signed_fields(s3, good, key))
    cases.append((list((fields | {"signature": "AAAA"}).items()), ("SignatureDoesNotMatch", 403)))
    cases.append((list((fields | {"AWSAccessKeyId": "foo"}).items()), ("InvalidAccessKeyId", 403)))
    for given, answer in cases:
        assert post(s3, s3_bucket, form(given)).refusal == answer
    assert refusal(s3.client().head_object, Bucket=s3_bucket, Key="foo")[1] == 404


def test_checksums_of_forms(s3: S3Fixture, s3_bucket: str) -> None:
    """A7, C7: a checksum in the form is verified: BadDigest, and nothing is kept; a right one is stored."""
    value = base64.b64encode(zlib.crc32(b"hello").to_bytes(4)).decode()
    fields = signed_fields(s3, usual(s3_bucket), ("key", "foo"), ("x-amz-checksum-crc32", value))
    assert post(s3, s3_bucket, form(fields, b"HELLO")).refusal == ("BadDigest", 400)
    assert refusal(s3.client().head_object, Bucket=s3_bucket, Key="foo")[1] == 404
    assert post(s3, s3_bucket, form(fields)).status == 204
    head = s3.client().head_object(Bucket=s3_bucket, Key="foo", ChecksumMode="ENABLED")
    assert head["ChecksumCRC32"] == value


def test_forms_that_end_early(s3: S3Fixture, s3_bucket: str) -> None:
    """A7: a form that ends within its file, has none, or is none, is 400, and nothing is kept."""
    body = form(signed_fields(s3, usual(s3_bucket), ("key", "foo")))
    for cut in (body[:-12], body[: len(body) // 2], b"", b"no form"):
        assert post(s3, s3_bucket, cut).status == 400
    assert refusal(s3.client().head_object, Bucket=s3_bucket, Key="foo")[1] == 404


def test_who_may_post(s3: S3Fixture, s3_bucket: str) -> None:
    """A form needs an access key that may store: else AccessDenied."""
    reader = s3.client(key=s3.run(s3.store.create_key(f"form-reader-{s3_bucket}", f"{s3_bucket}=r")))
    made = reader.generate_presigned_post(s3_bucket, "k")
    assert post(s3, s3_bucket, form(list(made["fields"].items()))).refusal == ("AccessDenied", 403)
    assert urlsplit(made["url"]).path == f"/{s3_bucket}"
    assert urllib.request.Request(made["url"]).type == "http"
