"""S3: checksums and the aws-chunked framing of bodies. Each docstring is the sentence that its test checks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import zlib
from typing import Any

import pytest

from tawara.metadata import cluster
from tawara.model.cluster import HashType
from tawara.model.object_checksums import ChecksumAlgorithm, new_digest
from tests.acceptance.s3_fixture import S3Answer, S3Fixture, refusal

UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
BODY = b"hello, " * 3000


def value_of(algorithm: ChecksumAlgorithm, data: bytes) -> str:
    digest = new_digest(algorithm)
    digest.update(data)
    return base64.b64encode(digest.digest()).decode()


def crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4)).decode()


def framed(data: bytes, size: int, trailer: bytes = b"") -> bytes:
    """`data` in frames of `size` bytes, without signatures."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces) + b"0\r\n" + trailer + b"\r\n"


def put_framed(s3: S3Fixture, bucket: str, data: bytes, body: bytes, **fields: str | None) -> S3Answer:
    """PUT a framed body; header fields have underscores for hyphens, None leaves one out."""
    headers = {
        "Content-Encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(len(data)),
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    headers |= {name.replace("_", "-"): value for name, value in fields.items()}  # type: ignore[misc]
    payload = headers.pop("payload", UNSIGNED_TRAILER)
    return s3.send("PUT", f"/{bucket}/k", headers, body, payload=payload)


def read_back(s3: S3Fixture, bucket: str) -> bytes:
    found: bytes = s3.client().get_object(Bucket=bucket, Key="k")["Body"].read()
    return found


def test_a_checksum_by_default(s3_client: Any, s3_bucket: str) -> None:
    """C1: clients send a CRC by default and ask for it on GET: it is accepted, verified, stored and answered."""
    stored = s3_client.put_object(Bucket=s3_bucket, Key="k", Body=BODY)
    assert stored["ChecksumCRC32"] == crc32(BODY)
    assert stored["ChecksumType"] == "FULL_OBJECT"
    found = s3_client.get_object(Bucket=s3_bucket, Key="k")
    assert found["ChecksumCRC32"] == crc32(BODY)
    assert found["Body"].read() == BODY


def test_the_trailer_over_https(s3: S3Fixture, s3_bucket: str) -> None:
    """C2: over https the checksum comes as a trailer after frames, over http as a header field."""
    seen: list[dict[str, Any]] = []
    for scheme in ("http", "https"):
        client = s3.client(scheme)
        client.meta.events.register("before-send.s3.PutObject", lambda request, **_: seen.append(request.headers))
        client.put_object(Bucket=s3_bucket, Key="k", Body=BODY)
        assert client.get_object(Bucket=s3_bucket, Key="k")["Body"].read() == BODY
    assert "x-amz-checksum-crc32" in {name.lower() for name in seen[0]}
    assert seen[1]["X-Amz-Content-SHA256"] in (UNSIGNED_TRAILER, UNSIGNED_TRAILER.encode())


@pytest.mark.parametrize("sign", ["payload", "Content_Encoding", "x_amz_decoded_content_length"])
def test_how_frames_are_recognised(s3: S3Fixture, s3_bucket: str, sign: str) -> None:
    """C3: framing is recognised by the payload's word or by the decoded length, also without the coding."""
    given: dict[str, str | None] = {"payload": UNSIGNED_TRAILER if sign == "payload" else "UNSIGNED-PAYLOAD"}
    if sign != "Content_Encoding":
        given["Content_Encoding"] = None
    answer = put_framed(s3, s3_bucket, BODY, framed(BODY, 8192), **given, x_amz_trailer=None)
    assert answer.status == 200, answer.body
    assert read_back(s3, s3_bucket) == BODY


def test_the_coding_that_is_stored(s3: S3Fixture, s3_bucket: str) -> None:
    """C4: aws-chunked is taken out of Content-Encoding before it is stored, other codings stay."""
    for sent, stored in (("aws-chunked", None), ("gzip,aws-chunked", "gzip"), ("aws-chunked, br", "br")):
        answer = put_framed(s3, s3_bucket, BODY, framed(BODY, 8192), Content_Encoding=sent, x_amz_trailer=None)
        assert answer.status == 200
        assert s3.client().head_object(Bucket=s3_bucket, Key="k").get("ContentEncoding") == stored


@pytest.mark.parametrize("trailer", [False, True])
@pytest.mark.parametrize("size", [1000, 65_536])
def test_signed_frames(s3: S3Fixture, s3_bucket: str, size: int, trailer: bool) -> None:
    """C5: frames of any size whose signatures form a chain are accepted, with a signed trailer or without."""
    answer = _put_signed_frames(s3, s3_bucket, size, trailer=trailer)
    assert answer.status == 200, answer.body
    assert read_back(s3, s3_bucket) == BODY


@pytest.mark.parametrize("broken", [b"hello", b"chunk-signature="])
def test_a_frame_with_a_wrong_signature(s3: S3Fixture, s3_bucket: str, broken: bytes) -> None:
    """C5: a frame whose data or signature was changed is SignatureDoesNotMatch, and nothing is kept."""
    changed = b"HELLO" if broken == b"hello" else b"chunk-signature=00"
    answer = _put_signed_frames(s3, s3_bucket, 8192, change=(broken, changed))
    assert answer.status in (400, 403)
    assert refusal(s3.client().head_object, Bucket=s3_bucket, Key="k")[1] == 404


def _put_signed_frames(
    s3: S3Fixture, bucket: str, size: int, *, trailer: bool = False, change: tuple[bytes, bytes] | None = None
) -> S3Answer:
    """PUT BODY in signed frames. The signature of the head, which begins the chain, is that of an equal request."""
    from datetime import UTC, datetime

    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    from tests.acceptance.s3_fixture import REGION

    word = SIGNED + ("-TRAILER" if trailer else "")
    headers = {"Content-Encoding": "aws-chunked", "x-amz-decoded-content-length": str(len(BODY))}
    if trailer:
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"

    class Signer(S3SigV4Auth):  # type: ignore[misc]
        def payload(self, request: AWSRequest) -> str:
            return word

    access_key, _, secret = s3.key.partition(":")
    request = AWSRequest("PUT", f"{s3.endpoint()}/{bucket}/k", headers=headers)
    signer = Signer(Credentials(access_key, secret), "s3", REGION)
    signer.add_auth(request)
    time = request.headers["X-Amz-Date"]
    signature = request.headers["Authorization"].rpartition("Signature=")[2]
    key = f"AWS4{secret}".encode()
    for part in (time[:8], REGION, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    scope = f"{time[:8]}/{REGION}/s3/aws4_request"
    empty = hashlib.sha256(b"").hexdigest()
    body = b""
    for piece in [*(BODY[at : at + size] for at in range(0, len(BODY), size)), b""]:
        digest = hashlib.sha256(piece).hexdigest()
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{time}\n{scope}\n{signature}\n{empty}\n{digest}"
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        body += b"%x;chunk-signature=%b\r\n%b" % (len(piece), signature.encode(), piece)
        body += b"\r\n" if piece or not trailer else b""
    if trailer:
        line = f"x-amz-checksum-crc32:{crc32(BODY)}\n"
        digest = hashlib.sha256(line.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256-TRAILER\n{time}\n{scope}\n{signature}\n{digest}"
        last = hmac.digest(key, text.encode(), "sha256").hex()
        body += f"{line.strip()}\r\nx-amz-trailer-signature:{last}\r\n\r\n".encode()
    assert datetime.now(UTC).strftime("%Y%m%d")[:4] == time[:4]
    if change is not None:
        body = body.replace(*change, 1)
    sent = {f"+{name}": value for name, value in request.headers.items()}
    return s3.send("PUT", f"/{bucket}/k", sent, body, signs=False)


def test_signatures_by_ecdsa(s3: S3Fixture, s3_bucket: str) -> None:
    """C5: SigV4A is NotImplemented."""
    word = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"
    assert put_framed(s3, s3_bucket, BODY, b"", payload=word).refusal == ("NotImplemented", 501)


def test_the_decoded_length(s3: S3Fixture, s3_bucket: str) -> None:
    """C6: the decoded length must equal x-amz-decoded-content-length, else IncompleteBody; without it 411."""
    body = framed(BODY, 8192)
    for length in (len(BODY) - 1, len(BODY) + 1):
        answer = put_framed(s3, s3_bucket, BODY, body, x_amz_decoded_content_length=str(length), x_amz_trailer=None)
        assert answer.refusal == ("IncompleteBody", 400)
    answer = put_framed(s3, s3_bucket, BODY, body, x_amz_decoded_content_length=None)
    assert answer.refusal == ("MissingContentLength", 411)
    assert refusal(s3.client().head_object, Bucket=s3_bucket, Key="k")[1] == 404


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"ChecksumCRC32": "AAAAAA=="}, "BadDigest"),
        ({"ChecksumSHA256": base64.b64encode(bytes(32)).decode()}, "BadDigest"),
        ({"ContentMD5": base64.b64encode(bytes(16)).decode()}, "BadDigest"),
        ({"ChecksumCRC32": "no"}, "InvalidRequest"),
        ({"ChecksumCRC32": crc32(BODY), "ChecksumCRC32C": "AAAAAA=="}, "InvalidRequest"),
        ({"ContentMD5": "no"}, "InvalidDigest"),
        ({"ContentMD5": "YWJyYWNhZGFicmE="}, "InvalidDigest"),
    ],
)
def test_wrong_checksums(s3_client: Any, s3_bucket: str, fields: dict[str, str], code: str) -> None:
    """C7: a wrong checksum is BadDigest, a malformed one or two algorithms InvalidRequest, and nothing is kept."""
    assert refusal(s3_client.put_object, Bucket=s3_bucket, Key="k", Body=BODY, **fields) == (code, 400)
    assert refusal(s3_client.head_object, Bucket=s3_bucket, Key="k")[1] == 404


def test_a_wrong_checksum_in_the_trailer(s3: S3Fixture, s3_bucket: str) -> None:
    """C7: a wrong checksum in the trailer is BadDigest, too, and what was stored before stays."""
    s3.client().put_object(Bucket=s3_bucket, Key="k", Body=b"before")
    good, bad = (f"x-amz-checksum-crc32:{each}\r\n".encode() for each in (crc32(BODY), "AAAAAA=="))
    assert put_framed(s3, s3_bucket, BODY, framed(BODY, 9000, bad)).refusal == ("BadDigest", 400)
    assert read_back(s3, s3_bucket) == b"before"
    assert put_framed(s3, s3_bucket, BODY, framed(BODY, 9000, good)).status == 200
    assert read_back(s3, s3_bucket) == BODY


@pytest.mark.parametrize("algorithm", list(ChecksumAlgorithm))
def test_each_algorithm(s3: S3Fixture, s3_bucket: str, algorithm: ChecksumAlgorithm) -> None:
    """C8: all algorithms of the current model are verified, stored and answered."""
    path = f"/{s3_bucket}/k"
    value = value_of(algorithm, BODY)
    stored = s3.send("PUT", path, {algorithm.field: value}, BODY)
    assert (stored.status, stored.headers[algorithm.field]) == (200, value)
    found = s3.send("HEAD", path, {"x-amz-checksum-mode": "ENABLED"})
    assert (found.headers[algorithm.field], found.headers["x-amz-checksum-type"]) == (value, "FULL_OBJECT")
    wrong = value_of(algorithm, b"other")
    assert s3.send("PUT", path, {algorithm.field: wrong}, BODY).refusal == ("BadDigest", 400)


def test_no_checksum_of_the_whole_with_a_part(s3_client: Any, s3_bucket: str) -> None:
    """C11: a 206 never has the checksum of the whole object."""
    s3_client.put_object(Bucket=s3_bucket, Key="k", Body=BODY)
    part = s3_client.get_object(Bucket=s3_bucket, Key="k", Range="bytes=7-13", ChecksumMode="ENABLED")
    assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert part["Body"].read() == BODY[7:14]
    assert not [name for name in part["ResponseMetadata"]["HTTPHeaders"] if name.startswith("x-amz-checksum")]


def test_the_checksum_of_a_class(s3: S3Fixture) -> None:
    """C12: of an object that came without a checksum, the CRC64NVME or CRC32C that its class keeps is answered."""
    for algorithm in (ChecksumAlgorithm.CRC64NVME, ChecksumAlgorithm.CRC32C):
        kept = HashType[algorithm.value]
        s3.run(s3.store.metadata.write(cluster.create_class, "d", kept.name, mindevcount=1, hashtype=kept))
        headers = {"x-amz-storage-class": kept.name}
        assert s3.send("PUT", f"/d/{kept.name}", headers, BODY, payload="UNSIGNED-PAYLOAD").status == 200
        client = s3.client()
        told = client.get_object_attributes(Bucket="d", Key=kept.name, ObjectAttributes=["Checksum"])["Checksum"]
        assert told == {f"Checksum{algorithm}": value_of(algorithm, BODY), "ChecksumType": "FULL_OBJECT"}
        found = client.get_object(Bucket="d", Key=kept.name)
        assert found[f"Checksum{algorithm}"] == value_of(algorithm, BODY)
        assert found["Body"].read() == BODY
