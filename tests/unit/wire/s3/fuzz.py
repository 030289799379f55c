"""Random heads and bodies of S3 requests: everything pure that reads them reads each, or refuses it by an S3Fault.

    python -m tests.unit.wire.s3.fuzz [--heads 1000000] [--bodies 100000] [--seed 0]

Requests that clients send are cut, joined, repeated and changed at random. Anything but an S3Fault of 4xx (or
NotImplemented) is a failure and is printed with its input; so is memory that grows from the first half to the second.
"""

from __future__ import annotations

import argparse
import base64
import random
import resource
import sys
import time
from collections.abc import Callable

from tawara.model.object_checksums import ChecksumAlgorithm
from tawara.wire.s3 import (
    attributes,
    checksum_fields,
    copy_source,
    lists,
    object_fields,
    payload,
    post_policy,
    preconditions,
    tags,
    xml_in,
)
from tawara.wire.s3.canonical import canonical_request
from tawara.wire.s3.chunks import ChunkDecoder
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.form import FormReader
from tawara.wire.s3.head import HeaderFields, RequestHead, parse_target
from tawara.wire.s3.operations import operation_of
from tawara.wire.s3.payload import Framing
from tawara.wire.s3.presigned_v2 import presigned_v2_of, verify_v2
from tawara.wire.s3.signature import authentication_of, check_time, verify

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "\x00")
SIGNED = (
    b"AWS4-HMAC-SHA256 Credential=AKID/20261201/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-date,"
    b" Signature=" + b"0" * 64
)
TARGETS = (
    b"/b/k",
    b"/b?list-type=2&prefix=a%20b&delimiter=%2F&max-keys=10&continuation-token=a2I=&encoding-type=url",
    b"/b?delete&uploads&marker=x&fetch-owner=true&start-after=%ff",
    b"/b/k?uploadId=x&partNumber=1&versionId=null&response-content-type=text/html&tagging&attributes",
    b"/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20261201%2Fr%2Fs3%2Faws4_request"
    b"&X-Amz-Date=20261201T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=" + b"0" * 64,
    b"/b/k?AWSAccessKeyId=A&Signature=eA%3D%3D&Expires=1796143680&response-content-type=text/x",
    b"http://h/b/%E2%82%AC//../x#y",
)
FIELDS = {
    b"host": (b"h", b"b.store.example:80", b"[::1]:7"),
    b"authorization": (SIGNED, b"AWS a:b", b"AWS4-ECDSA-P256-SHA256 x", b""),
    b"x-amz-date": (b"20261201T000000Z", b"99999999T999999Z", b"Tue, 01 Dec 2026 00:00:00 GMT"),
    b"x-amz-content-sha256": (b"UNSIGNED-PAYLOAD", b"0" * 64, b"STREAMING-UNSIGNED-PAYLOAD-TRAILER", b"STREAMING-x"),
    b"content-length": (b"5", b"-1", b"", b"9" * 30),
    b"x-amz-decoded-content-length": (b"5", b"5.0"),
    b"content-md5": (b"XUFAKrxLKna5cZ2REBfFkg==", b"x"),
    b"content-encoding": (b"gzip, aws-chunked", b","),
    b"x-amz-trailer": (b"x-amz-checksum-crc32", b",,"),
    b"x-amz-checksum-crc32": (b"NhCmhg==", b"\xff"),
    b"x-amz-sdk-checksum-algorithm": (b"CRC32", b"crc"),
    b"x-amz-copy-source": (b"/b/k%20?versionId=null", b"%00", b"b/" + b"k" * 1100),
    b"x-amz-copy-source-range": (b"bytes=0-4", b"bytes=9-1"),
    b"x-amz-tagging": (b"a=b&c", b"=&=" * 60),
    b"x-amz-meta-a_.b": (b"v", b"\xe9", b"x" * 3000),
    b"x-amz-object-attributes": (b"ETag,Checksum", b"x"),
    b"x-amz-metadata-directive": (b"REPLACE", b"x"),
    b"if-match": (b'"e"', b"*", b",,"),
    b"if-modified-since": (b"Tue, 01 Dec 2026 00:00:00 GMT", b"99"),
    b"range": (b"bytes=0-1", b"bytes=-"),
    b"expires": (b"Tue, 01 Dec 2026 00:00:00 GMT", b"x\ny"),
}
BODIES = (
    b"<Delete><Object><Key>a</Key><ETag>e</ETag><LastModifiedTime>2026-12-01T00:00:00Z</LastModifiedTime></Object>"
    b"</Delete>",
    b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>",
    b'<?xml version="1.0"?><Tagging xmlns="x"><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>',
    b"<CreateBucketConfiguration><LocationConstraint>x</LocationConstraint></CreateBucketConfiguration>",
    b'<!DOCTYPE x [<!ENTITY a "&b;&b;"><!ENTITY b "c">]><Delete>&a;</Delete>',
    b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n",
    b"5;chunk-signature=" + b"0" * 64 + b"\r\nhello\r\n0;chunk-signature=" + b"0" * 64 + b"\r\n\r\n",
    b'--XX\r\nContent-Disposition: form-data; name="key"\r\n\r\nk\r\n--XX\r\nContent-Disposition: form-data;'
    b' name="file"; filename="a"\r\nContent-Type: image/png\r\n\r\ndata\r\n--XX--\r\n',
    b'{"expiration": "2026-12-01T00:00:00Z", "conditions": [{"bucket": "b"}, ["starts-with", "$key", ""],'
    b' ["content-length-range", 0, 5]]}',
)
PIECES = (
    b"\r\n",
    b"\0",
    b"\xff",
    b"%",
    b"%2f",
    b"&",
    b"=",
    b"/",
    b"..",
    b"<",
    b">",
    b"</",
    b"\xe2\x82\xac",
    b"9" * 20,
    b";",
    b'"',
)


def mutate(rng: random.Random, data: bytes, others: tuple[bytes, ...]) -> bytes:
    """Change bytes a little, mostly: cut, repeat, insert, flip, or join with another."""
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                data = data[:at] + data[at + rng.randrange(1, 9) :]
            case 1:
                data = data[:at] + rng.choice(PIECES) + data[at:]
            case 2:
                data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
            case 3:
                data = data[:at] + data[at : at + 20] * rng.randrange(1, 30) + data[at:]
            case 4:
                data = data[:at] + rng.choice(others)[rng.randrange(20) :]
            case _:
                data = data[:at]
    return data[:20_000]


def random_head(rng: random.Random) -> tuple[str, bytes, list[tuple[bytes, bytes]]]:
    """Method, target and header fields of a request."""
    fields = []
    for name, values in FIELDS.items():
        if rng.random() < 0.4:
            fields.append(
                (mutate(rng, name, (name,)) if rng.random() < 0.05 else name, mutate(rng, rng.choice(values), values))
            )
    return rng.choice(METHODS), mutate(rng, rng.choice(TARGETS), TARGETS), fields


def read_head(method: str, target: bytes, lines: list[tuple[bytes, bytes]]) -> None:
    """Let everything read a head; each reader by itself, since the first refusal would hide the others."""
    fields = HeaderFields(lines)
    try:
        head = RequestHead(method, parse_target(target, fields.get("host"), ("store.example",)), fields)
    except S3Fault as fault:
        judge(fault)
        return
    readers: tuple[Callable[[], object], ...] = (
        lambda: operation_of(head),
        lambda: _authenticate(head),
        lambda: lists.parse_list_query(head.target),
        lambda: lists.parse_bucket_query(head.target, "r"),
        lambda: payload.object_length(fields, payload.framing_of(fields)),
        lambda: checksum_fields.declared_checksum(fields),
        lambda: checksum_fields.declared_upload(fields),
        lambda: checksum_fields.content_md5(fields),
        lambda: object_fields.answer_fields(object_fields.parse_object_fields(fields)),
        lambda: object_fields.parse_overrides(head.target, signed=True),
        lambda: copy_source.parse_copy_source(fields.get(copy_source.FIELD) or ""),
        lambda: copy_source.parse_directive(fields, "x-amz-metadata-directive"),
        lambda: copy_source.parse_source_range(fields.get("x-amz-copy-source-range") or "", 9),
        lambda: tags.parse_tag_field(fields),
        lambda: attributes.parse_attributes(fields),
        lambda: preconditions.check_write(fields, "e"),
        lambda: preconditions.conditions_of(fields),
    )
    for read in readers:
        try:
            read()
        except S3Fault as fault:
            judge(fault)


def _authenticate(head: RequestHead) -> None:
    presigned = presigned_v2_of(head)
    if presigned is not None:
        verify_v2(head, presigned, "secret")
    found = authentication_of(head)
    if found is None:
        return
    canonical_request(head.method, head.target.path, head.target.query, head.fields, found.signed, found.payload)
    try:
        check_time(found, 1_796_083_200)
    except S3Fault as fault:
        judge(fault)
    verify(head, found, b"key", ["h"])


def read_body(rng: random.Random, body: bytes) -> None:
    """Let everything read a body, in pieces of any size where it comes in pieces."""
    size = rng.choice((1, 7, 100, 65_536))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]

    def chunks(framing: Framing) -> None:
        decoder = ChunkDecoder(framing, 5, chain=None, trailers=frozenset({"x-amz-checksum-crc32"}))
        for piece in pieces:
            list(decoder.feed(piece))
        decoder.finish()

    def form() -> None:
        reader = FormReader("multipart/form-data; boundary=XX")
        for piece in pieces:
            reader.feed(piece)
        reader.end()

    readers: tuple[Callable[[], object], ...] = (
        lambda: xml_in.parse_deletions(body),
        lambda: xml_in.parse_part_list(body, ChecksumAlgorithm.CRC32),
        lambda: xml_in.parse_tagging(body, 10),
        lambda: xml_in.parse_location(body),
        lambda: chunks(Framing.UNSIGNED_TRAILER),
        form,
        lambda: post_policy.parse_policy(base64.b64encode(body).decode()),
        lambda: post_policy.parse_policy(body.decode("latin-1")),
    )
    for read in readers:
        try:
            read()
        except S3Fault as fault:
            judge(fault)


def judge(fault: S3Fault) -> None:
    """Raise AssertionError unless a fault is one of the client's."""
    assert 300 <= fault.status < 500 or fault.code is FaultCode.NOT_IMPLEMENTED, fault
    fault.body(resource="/", request_id="r", host_id="h")


def run(heads: int, bodies: int, seed: int) -> None:
    """Try so many heads and bodies. Raises what a reader raised besides S3Fault, after its input is printed."""
    rng = random.Random(seed)
    for _ in range(heads):
        head = random_head(rng)
        try:
            read_head(*head)
        except Exception:
            print(head, file=sys.stderr)
            raise
    for _ in range(bodies):
        body = mutate(rng, rng.choice(BODIES), BODIES)
        try:
            read_body(rng, body)
        except Exception:
            print(body, file=sys.stderr)
            raise


def main() -> None:
    """Run both halves, and compare the memory after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=1_000_000)
    parser.add_argument("--bodies", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    peaks = []
    began = time.perf_counter()
    for half in range(2):
        run(options.heads // 2, options.bodies // 2, options.seed * 2 + half)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(
        f"{options.heads:,} heads and {options.bodies:,} bodies in {time.perf_counter() - began:.0f} s: each was read,"
        f" or refused with 4xx; peak memory after each half {peaks[0]:.0f} and {peaks[1]:.0f} MiB"
    )
    if peaks[1] > peaks[0] + 8:
        sys.exit("The memory grew")


if __name__ == "__main__":
    main()
