"""S3: authentication, header fields and operations. Each docstring is the sentence that its test checks."""

from __future__ import annotations

import http.client
import random
import re
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.acceptance.s3_fixture import REGION, S3Answer, S3Fixture, refusal
from tests.unit.wire.s3 import fuzz
from tests.unit.wire.s3.oracle import model
from tests.unit.wire.s3.test_s3_operations import ELSEWHERE, SAME_REQUEST, serialized

IMPLEMENTED = frozenset(
    {
        *("ListBuckets", "CreateBucket", "HeadBucket", "DeleteBucket", "GetBucketLocation"),
        *("GetBucketTagging", "PutBucketTagging", "DeleteBucketTagging"),
        *("ListObjects", "ListObjectsV2", "GetObject", "HeadObject", "PutObject", "CopyObject", "GetObjectAttributes"),
        *("DeleteObject", "DeleteObjects", "GetObjectTagging", "PutObjectTagging", "DeleteObjectTagging"),
        *("CreateMultipartUpload", "UploadPart", "UploadPartCopy", "ListParts", "ListMultipartUploads"),
        *("CompleteMultipartUpload", "AbortMultipartUpload"),
    }
)


@pytest.fixture
def hello(s3: S3Fixture, s3_bucket: str) -> str:
    """The path of an object."""
    s3.client().put_object(Bucket=s3_bucket, Key="k", Body=b"hello")
    return f"/{s3_bucket}/k"


def presigned(s3: S3Fixture, path: str, *, method: str = "GET", expires: int = 60, at: datetime | None = None) -> str:
    """A URL that is signed at `at` (default: now), by botocore's signer."""
    access_key, _, secret = s3.key.partition(":")
    request = AWSRequest(method, s3.endpoint() + path)
    with clock(at):
        S3SigV4QueryAuth(Credentials(access_key, secret), "s3", REGION, expires=expires).add_auth(request)
    url: str = request.prepare().url
    return url


@contextmanager
def clock(at: datetime | None) -> Iterator[None]:
    """Let botocore sign at `at`; None: now."""
    with pytest.MonkeyPatch.context() as patch:
        if at is not None:
            patch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: at.replace(tzinfo=None))
        yield


def fetch(url: str, method: str = "GET", headers: dict[str, str] | None = None) -> S3Answer:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers or {})) as answer:
            return S3Answer(answer.status, answer.headers, answer.read())
    except HTTPError as error:
        with closing(error):
            return S3Answer(error.code, error.headers, error.read())


@pytest.mark.parametrize("key", ["a b", "a%20b", "a+b", "é/~*'()!", "a//b", "a%2fb", "..x"])
def test_canonical_paths(s3_client: Any, s3_bucket: str, key: str) -> None:
    """A1: the canonical URI is the path as it came, decoded and encoded once: keys with escapes in them verify."""
    s3_client.put_object(Bucket=s3_bucket, Key=key, Body=b"hello")
    assert s3_client.get_object(Bucket=s3_bucket, Key=key)["Body"].read() == b"hello"


@pytest.mark.parametrize(
    "query", ["prefix=a%20b&delimiter=%2F", "max-keys=3&prefix=~%2A", "prefix=a&prefix=b", "prefix"]
)
def test_canonical_queries(s3: S3Fixture, s3_bucket: str, query: str) -> None:
    """A2: names and values of the query are decoded and encoded, sorted, a name without a value is an empty one."""
    assert s3.send("GET", f"/{s3_bucket}?{query}").status == 200


def test_signed_header_fields(s3: S3Fixture, hello: str) -> None:
    """A3: every x-amz-* field that is sent must be signed, else AccessDenied; others need not be."""
    answer = s3.send("PUT", hello, {"+x-amz-meta-a": "b"}, b"data")
    assert answer.refusal == ("AccessDenied", 403)
    assert b"x-amz-meta-a" in answer.body
    more = {"content-length": "4", "accept-encoding": "identity", "user-agent": "u", "x-amz-meta-b": " c   d "}
    assert s3.send("PUT", hello, more, b"data").status == 200
    assert s3.send("HEAD", hello).headers["x-amz-meta-b"] in ("c   d", "c d")
    assert s3.send("GET", hello, {"+X-Other": "x"}).body == b"data"


def test_skewed_clocks(s3: S3Fixture, hello: str) -> None:
    """A5: a signature in the header of over 15 minutes ago or ahead is RequestTimeTooSkewed, with the server's time."""
    for minutes, refused in ((-16, True), (16, True), (-10, False)):
        at = datetime.now(UTC) + timedelta(minutes=minutes)
        with clock(at):
            answer = s3.send("GET", hello)
        assert answer.refusal == (("RequestTimeTooSkewed", 403) if refused else ("", 200))
        assert (b"<ServerTime>" in answer.body) == refused


def test_times_of_presigned_urls(s3: S3Fixture, hello: str) -> None:
    """A5: a presigned URL lives from its date to that and X-Amz-Expires, of 1 to 604,800 seconds, whatever the skew."""
    now = datetime.now(UTC)
    assert fetch(presigned(s3, hello, at=now - timedelta(hours=2), expires=10_000)).body == b"hello"
    assert fetch(presigned(s3, hello, at=now - timedelta(hours=2), expires=60)).refusal == ("AccessDenied", 403)
    assert fetch(presigned(s3, hello, at=now + timedelta(hours=1))).refusal == ("AccessDenied", 403)
    for seconds in (0, -7, 609_901):
        answer = fetch(presigned(s3, hello, expires=seconds))
        assert answer.refusal == ("AuthorizationQueryParametersError", 400)
    assert fetch(presigned(s3, hello, method="PUT", at=now - timedelta(days=1)), "PUT").status == 403


def test_digests_of_bodies(s3: S3Fixture, hello: str) -> None:
    """A6: the digest in x-amz-content-sha256 is verified at the end of the body; UNSIGNED-PAYLOAD is allowed."""
    wrong = "0" * 64
    assert s3.send("PUT", hello, {}, b"data", payload=wrong).refusal == ("XAmzContentSHA256Mismatch", 400)
    assert s3.send("GET", hello).body == b"hello"
    assert s3.send("PUT", hello, {}, b"data", payload="UNSIGNED-PAYLOAD").status == 200
    assert s3.send("PUT", hello, {}, b"data", payload="nonsense").refusal == ("InvalidArgument", 400)
    headers = {"+Authorization": _authorization(s3), "+x-amz-date": datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")}
    assert s3.send("PUT", hello, headers, b"data", signs=False).refusal == ("InvalidRequest", 400)


def _authorization(s3: S3Fixture) -> str:
    scope = f"{datetime.now(UTC):%Y%m%d}/{REGION}/s3/aws4_request"
    credential = f"{s3.key.partition(':')[0]}/{scope}"
    return f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host;x-amz-date, Signature={'0' * 64}"


def test_presigned_puts(s3: S3Fixture, hello: str) -> None:
    """A7: a presigned PUT with a signed content type or metadata must have them as signed."""
    bucket = hello.split("/")[1]
    url = s3.client().generate_presigned_url(
        "put_object", Params={"Bucket": bucket, "Key": "p", "ContentType": "text/x-a", "Metadata": {"a": "b"}}
    )
    good = {"Content-Type": "text/x-a", "x-amz-meta-a": "b"}
    assert fetch(url, "PUT", good | {"Content-Type": "text/x-b"}).refusal == ("SignatureDoesNotMatch", 403)
    assert fetch(url, "PUT", good | {"x-amz-meta-a": "c"}).refusal == ("SignatureDoesNotMatch", 403)
    assert fetch(url, "PUT", good).status == 200
    assert s3.client().head_object(Bucket=bucket, Key="p")["Metadata"] == {"a": "b"}


def test_presigned_urls_of_version_two(s3: S3Fixture, hello: str) -> None:
    """boto3 presigns by version 2 for us-east-1: such URLs read and write; a changed one is SignatureDoesNotMatch."""
    bucket = hello.split("/")[1]
    client = s3.client(region="us-east-1")
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    assert "AWSAccessKeyId=" in url
    assert fetch(url).body == b"hello"
    assert fetch(url.replace("/k?", "/other?")).refusal == ("SignatureDoesNotMatch", 403)
    assert fetch(f"{url}&attributes").refusal == ("AccessDenied", 403)
    url = client.generate_presigned_url("delete_object", Params={"Bucket": bucket, "Key": "k"})
    assert fetch(url).refusal == ("SignatureDoesNotMatch", 403)
    assert fetch(url, "DELETE").status == 204


@pytest.mark.parametrize(
    ("authorization", "refused"),
    [
        ("", ("AccessDenied", 403)),
        ("AWS HAHAHA", ("InvalidRequest", 400)),
        ("AWS AKID:signature", ("InvalidRequest", 400)),
        ("nonsense", ("InvalidArgument", 400)),
        ("AWS4-HMAC-SHA256 Credential=x", ("AuthorizationHeaderMalformed", 400)),
        ("AWS4-ECDSA-P256-SHA256 Credential=x", ("NotImplemented", 501)),
    ],
)
def test_malformed_authorizations(s3: S3Fixture, hello: str, authorization: str, refused: tuple[str, int]) -> None:
    """A8: an unknown key is InvalidAccessKeyId, a malformed header AuthorizationHeaderMalformed, version 2 refused."""
    headers = {"+Authorization": authorization, "+x-amz-date": datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")}
    assert s3.send("GET", hello, headers, signs=False).refusal == refused


def test_wrong_signatures(s3: S3Fixture, hello: str) -> None:
    """A8: a bad signature is SignatureDoesNotMatch with StringToSign and CanonicalRequest; an unknown key is named."""
    access_key = s3.key.partition(":")[0]
    wrong = s3.client(key=f"{access_key}:wrong")
    assert refusal(wrong.list_buckets) == ("SignatureDoesNotMatch", 403)
    assert refusal(s3.client(key=f"TW{'A' * 18}:x").list_buckets) == ("InvalidAccessKeyId", 403)
    answer = fetch(presigned(s3, hello).replace("X-Amz-Signature=", "X-Amz-Signature=00")[:-2])
    assert answer.refusal == ("SignatureDoesNotMatch", 403)
    assert b"<StringToSign>AWS4-HMAC-SHA256" in answer.body
    assert b"<CanonicalRequest>GET" in answer.body


def test_session_tokens(s3: S3Fixture, hello: str) -> None:
    """A9: a session token is refused: none are given out."""
    assert s3.send("GET", hello, {"x-amz-security-token": "token"}).refusal == ("InvalidToken", 400)
    url = urlsplit(presigned(s3, hello))
    query = urlencode([*parse_qsl(url.query), ("X-Amz-Security-Token", "token")])
    assert fetch(f"{s3.endpoint()}{url.path}?{query}").refusal == ("InvalidToken", 400)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"+Expect": "200-ok"}, 200),
        ({"+Expect": ""}, 200),
        ({"Content-MD5": ""}, 400),
        ({"Content-Type": ""}, 200),
        ({"+Content-Length": "-1"}, 400),
        ({"+Content-Length": ""}, 400),
        ({"+Content-Length": "x"}, 400),
        ({"+User-Agent": ""}, 200),
        ({"+Date": "Tue, 07 Jul 2099 21:53:04 GMT"}, 200),
        ({"x-amz-acl": "public-ready"}, 400),
        ({"x-amz-acl": "public-read"}, 501),
        ({"x-amz-storage-class": "GLACIER"}, 400),
        ({"Cache-Control": "x" * 3000}, 400),
    ],
)
def test_header_fields_of_a_put(s3: S3Fixture, hello: str, headers: dict[str, str], status: int) -> None:
    """Odd values of header fields are passed over, or refused with 4xx; what would have to be kept is never dropped."""
    assert s3.send("PUT", hello, headers, b"" if "+Content-Length" in headers else b"data").status == status


def test_preflights(s3: S3Fixture, hello: str) -> None:
    """P3: OPTIONS needs no signature: without an Origin it is 400, and no bucket allows other origins: 403."""
    for headers, refused in (({}, ("BadRequest", 400)), ({"Origin": "https://a.example"}, ("AccessForbidden", 403))):
        assert fetch(s3.endpoint() + hello, "OPTIONS", headers).refusal == refused


def test_anonymous_requests(s3: S3Fixture, hello: str) -> None:
    """T15: anonymous requests are AccessDenied, whatever they ask for."""
    bucket = hello.rpartition("/")[0]
    for method, path in (
        *(("GET", "/"), ("GET", bucket), ("GET", hello), ("HEAD", hello), ("PUT", hello), ("DELETE", hello)),
        *(("PUT", "/new-bucket"), ("DELETE", bucket), ("POST", f"{bucket}?delete"), ("GET", f"{bucket}?location")),
    ):
        connection = http.client.HTTPConnection(*s3.server.address, timeout=30)
        with closing(connection):
            connection.request(method, path, b"" if method in ("PUT", "POST") else None)
            assert connection.getresponse().status == 403
    assert s3.send("GET", hello).body == b"hello"


@pytest.mark.parametrize("name", [name for name in model().operation_names if name not in ELSEWHERE])
def test_each_operation(s3: S3Fixture, name: str) -> None:
    """P6: each operation of AWS's model is implemented, or answers NotImplemented 501 naming itself, in its own XML."""
    request = serialized(model().operation_model(name))
    query = request["query_string"]
    if not isinstance(query, str):
        query = urlencode({each: str(value) for each, value in query.items()})
    path = request["url_path"].replace("namenamename", "absent-bucket")
    target = path + (("&" if "?" in path else "?") + query if query else "")
    body = request["body"] if isinstance(request["body"], bytes) else b""
    answer = s3.send(request["method"], target, {key: str(value) for key, value in request["headers"].items()}, body)
    wanted = SAME_REQUEST.get(name, name)
    if wanted in IMPLEMENTED:
        assert answer.code != "NotImplemented"
        assert answer.status < 500
    else:
        assert answer.refusal == ("NotImplemented", 501)
        assert wanted.encode() in answer.body


def test_random_requests(s3: S3Fixture) -> None:
    """T17: random bytes as requests, with any body, get a 4xx or a closed connection, never a 500."""
    rng = random.Random(4)
    for _ in range(60):
        method, target, fields = fuzz.random_head(rng)
        lines = b"".join(name + b": " + value.replace(b"\n", b" ") + b"\r\n" for name, value in fields)
        body = fuzz.mutate(rng, rng.choice(fuzz.BODIES), fuzz.BODIES)
        request = method.encode() + b" " + target + b" HTTP/1.1\r\n" + lines + b"\r\n" + body
        with closing(socket.create_connection(s3.server.address, 30)) as connection:
            with suppress(ConnectionError):  # the server may close before all is sent
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                answer = connection.recv(100)
                # A request line without a version is one of HTTP/0.9, whose answer has no head.
                refused = re.match(rb"HTTP/1\.[01] (4\d\d|501)|<\?xml .*>\s*<Error><Code>BadRequest<", answer)
                assert not answer or refused, (request, answer)
    assert s3.client().list_buckets()["Buckets"]
