"""Uploads in parts through the S3 listener with boto3 at its defaults, over http and behind TLS."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from tawara.metadata import files, multipart
from tawara.model.errors import NodeUnreachable
from tawara.wire.s3.xml_out import DECLARATION
from tests.acceptance.s3_fixture import REGION, S3Fixture, refusal, s3_fixture

MIB = 1024 * 1024
PART = 5 * MIB


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Fixture]:
    """One store for all tests of the module."""
    with s3_fixture(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture(scope="module")
def clients(s3: S3Fixture) -> dict[str, Any]:
    """Boto3 clients at their defaults, without TLS and with it."""
    return {scheme: s3.client(scheme) for scheme in ("http", "https")}


@pytest.fixture
def plain(clients: dict[str, Any]) -> Any:
    """A client without TLS."""
    return clients["http"]


@pytest.fixture
def bucket(plain: Any, request: pytest.FixtureRequest) -> str:
    """A new bucket."""
    name = f"b{abs(hash(request.node.nodeid)):x}"
    plain.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name


class Parts:
    """An upload in parts, with what its calls need."""

    def __init__(self, client: Any, bucket: str, key: str = "k", **created: Any) -> None:
        self.client = client
        self.named = {"Bucket": bucket, "Key": key}
        self.created = client.create_multipart_upload(**self.named, **created)
        self.named["UploadId"] = self.created["UploadId"]
        self.listed: list[dict[str, Any]] = []

    def add(self, number: int, body: bytes, **given: Any) -> dict[str, Any]:
        """Upload a part, and list it for the completion."""
        answer: dict[str, Any] = self.client.upload_part(**self.named, PartNumber=number, Body=body, **given)
        checksums = {name: value for name, value in answer.items() if name.startswith("Checksum")}
        self.listed = [each for each in self.listed if each["PartNumber"] != number]
        self.listed.append({"PartNumber": number, "ETag": answer["ETag"], **checksums})
        return answer

    def complete(self, **given: Any) -> Any:
        """Complete the upload with the parts listed."""
        return self.client.complete_multipart_upload(**self.named, MultipartUpload={"Parts": self.listed}, **given)

    def refused(self, **given: Any) -> tuple[str, int]:
        """Code and status of the error with which the completion is refused."""
        parts = {"MultipartUpload": {"Parts": self.listed}}
        return refusal(self.client.complete_multipart_upload, **self.named, **parts, **given)


def etag_of(*bodies: bytes) -> str:
    """The entity tag of an object made of these parts."""
    digests = b"".join(hashlib.md5(each).digest() for each in bodies)
    return f'"{hashlib.md5(digests).hexdigest()}-{len(bodies)}"'


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_large_files_at_the_defaults(clients: dict[str, Any], scheme: str, bucket: str, tmp_path: Path) -> None:
    """upload_file and download_file of 64 MiB at boto3's defaults: parts of 8 MiB, ranges with If-Match, the bytes."""
    client = clients[scheme]
    data = b"".join(bytes([number]) * MIB for number in range(64))
    (tmp_path / "in").write_bytes(data)
    client.upload_file(str(tmp_path / "in"), bucket, "k", ExtraArgs={"Metadata": {"a": "b"}, "ContentType": "text/x"})
    head = client.head_object(Bucket=bucket, Key="k")
    assert head["ETag"] == etag_of(*(data[at : at + 8 * MIB] for at in range(0, len(data), 8 * MIB)))
    assert (head["ContentLength"], head["Metadata"], head["ContentType"]) == (64 * MIB, {"a": "b"}, "text/x")
    client.download_file(bucket, "k", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == data
    assert [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_part_numbers(plain: Any, bucket: str) -> None:
    """M1: numbers are 1 to 10,000, gaps are allowed, and the last upload of a number wins."""
    upload = Parts(plain, bucket)
    for number in (0, 10_001):
        assert refusal(plain.upload_part, **upload.named, PartNumber=number, Body=b"x") == ("InvalidArgument", 400)
    upload.add(10_000, b"the end")
    upload.add(7, b"x" * PART)
    upload.add(7, b"y" * PART)
    upload.listed.sort(key=lambda each: each["PartNumber"])
    assert upload.complete()["ETag"] == etag_of(b"y" * PART, b"the end")
    assert plain.get_object(Bucket=bucket, Key="k")["Body"].read() == b"y" * PART + b"the end"


def test_lists_of_parts_that_are_refused(plain: Any, bucket: str) -> None:
    """M2: order, entity tags and sizes are checked, and the upload can be completed after each refusal."""
    upload = Parts(plain, bucket)
    upload.add(1, b"x" * PART)
    upload.add(2, b"small")
    upload.add(3, b"last")
    good = upload.listed
    upload.listed = good[::-1]
    assert upload.refused() == ("InvalidPartOrder", 400)
    upload.listed = [good[0], good[0]]
    assert upload.refused() == ("InvalidPartOrder", 400)
    upload.listed = [good[0], {**good[1], "ETag": good[2]["ETag"]}]
    assert upload.refused() == ("InvalidPart", 400)
    upload.listed = [good[0], {**good[1], "PartNumber": 9}]
    assert upload.refused() == ("InvalidPart", 400)
    upload.listed = good
    assert upload.refused() == ("EntityTooSmall", 400)
    upload.listed = []
    assert upload.refused() == ("MalformedXML", 400)
    upload.listed = [{**good[0], "ETag": good[0]["ETag"].strip('"')}, good[2]]
    assert upload.complete()["ETag"] == etag_of(b"x" * PART, b"last")
    assert plain.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x" * PART + b"last"


def test_completing_again(plain: Any, bucket: str) -> None:
    """K6: a repeated completion answers the same, and its conditions are not judged again."""
    upload = Parts(plain, bucket)
    upload.add(1, b"hello")
    first = upload.complete(IfNoneMatch="*")
    again = upload.complete(IfNoneMatch="*")
    assert (first["ETag"], first["Location"]) == (again["ETag"], again["Location"])
    assert first["ETag"] == etag_of(b"hello")
    assert refusal(plain.upload_part, **upload.named, PartNumber=1, Body=b"x") == ("NoSuchUpload", 404)
    assert refusal(plain.abort_multipart_upload, **upload.named) == ("NoSuchUpload", 404)
    assert refusal(plain.list_parts, **upload.named) == ("NoSuchUpload", 404)


def test_conditions(plain: Any, bucket: str) -> None:
    """K1: If-None-Match and If-Match are judged at the completion, which can be tried again with others."""
    plain.put_object(Bucket=bucket, Key="k", Body=b"there")
    upload = Parts(plain, bucket)
    upload.add(1, b"hello")
    assert upload.refused(IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert upload.refused(IfMatch='"0"') == ("PreconditionFailed", 412)
    assert upload.complete(IfMatch=plain.head_object(Bucket=bucket, Key="k")["ETag"])["ETag"] == etag_of(b"hello")
    absent = Parts(plain, bucket, "absent")
    absent.add(1, b"x")
    assert absent.refused(IfMatch="*") == ("NoSuchKey", 404)
    assert absent.complete(IfNoneMatch="*")["ETag"] == etag_of(b"x")


def test_aborting(plain: Any, bucket: str) -> None:
    """M4: after an abort the upload does not exist, nor do its parts."""
    upload = Parts(plain, bucket)
    upload.add(1, b"hello")
    assert plain.abort_multipart_upload(**upload.named)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refusal(plain.abort_multipart_upload, **upload.named) == ("NoSuchUpload", 404)
    assert upload.refused() == ("NoSuchUpload", 404)
    assert refusal(plain.get_object, Bucket=bucket, Key="k") == ("NoSuchKey", 404)
    assert refusal(plain.list_parts, Bucket=bucket, Key="k", UploadId="x") == ("NoSuchUpload", 404)
    other = Parts(plain, bucket, "other")
    assert refusal(plain.list_parts, Bucket=bucket, Key="k", UploadId=other.named["UploadId"]) == ("NoSuchUpload", 404)
    plain.delete_bucket(Bucket=bucket)


def test_listing_parts_and_uploads(s3: S3Fixture, plain: Any, bucket: str) -> None:
    """M4: parts are listed by number and uploads by key and age, in pages as objects are, with common prefixes."""
    uploads = [Parts(plain, bucket, key) for key in ("b", "a/1", "a/2", "b", "c d")]
    for number, body in ((3, b"three"), (1, b"one"), (2, b"two")):
        uploads[0].add(number, body)
    pages = list(plain.get_paginator("list_parts").paginate(**uploads[0].named, PaginationConfig={"PageSize": 2}))
    parts = [each for page in pages for each in page["Parts"]]
    assert [(each["PartNumber"], each["Size"]) for each in parts] == [(1, 3), (2, 3), (3, 5)]
    assert parts[0]["ETag"] == f'"{hashlib.md5(b"one").hexdigest()}"'
    assert (len(pages), pages[0]["StorageClass"], pages[0]["IsTruncated"]) == (2, "STANDARD", True)
    for size in (1, 2, 1000):
        pages = list(
            plain.get_paginator("list_multipart_uploads").paginate(
                Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": size}
            )
        )
        found = [(each["Key"], each["UploadId"]) for page in pages for each in page.get("Uploads", [])]
        ids = [each.named["UploadId"] for each in uploads]
        assert found == [("b", ids[0]), ("b", ids[3]), ("c d", ids[4])]
        assert [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", [])] == ["a/"]
    other = s3.client(key=s3.run(s3.store.create_key("other", "*=rw")))
    mine = other.list_multipart_uploads(Bucket=bucket)["Uploads"][0]
    assert (mine["Initiator"]["DisplayName"], mine["Initiator"]) == ("admin", mine["Owner"])
    inside = plain.list_multipart_uploads(Bucket=bucket, Prefix="a/", KeyMarker="a/1")
    assert [each["Key"] for each in inside["Uploads"]] == ["a/2"]


@pytest.mark.parametrize(
    ("algorithm", "kind", "scheme"),
    [
        ("CRC32", "COMPOSITE", "https"),
        ("CRC32C", "FULL_OBJECT", "http"),
        ("CRC64NVME", "FULL_OBJECT", "https"),
        ("SHA256", "COMPOSITE", "http"),
    ],
)
def test_checksums(clients: dict[str, Any], bucket: str, algorithm: str, kind: str, scheme: str) -> None:
    """C9, C10: parts echo their checksums, and the object has a composite one or that of all its bytes."""
    client = clients[scheme]
    given = {"ChecksumAlgorithm": algorithm, "ChecksumType": kind}
    upload = Parts(client, bucket, **given)
    assert (upload.created["ChecksumAlgorithm"], upload.created["ChecksumType"]) == (algorithm, kind)
    name = f"Checksum{algorithm}"
    parts = [b"x" * PART, b"hello"]
    for number, body in enumerate(parts, 1):
        assert upload.add(number, body, ChecksumAlgorithm=algorithm)[name]
    done = upload.complete()
    head = client.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (done[name], done["ChecksumType"]) == (head[name], head["ChecksumType"]) == (head[name], kind)
    assert head[name].endswith("-2") == (kind == "COMPOSITE")
    found = client.get_object(Bucket=bucket, Key="k")
    assert found["Body"].read() == b"".join(parts)  # botocore compares the checksum if it is of all bytes
    if kind == "FULL_OBJECT":
        whole = client.put_object(Bucket=bucket, Key="whole", Body=b"".join(parts), ChecksumAlgorithm=algorithm)
        assert whole[name] == head[name]


def test_expectations(plain: Any, bucket: str) -> None:
    """C10: a completion that expects another checksum, type or size is refused, and keeps nothing."""
    upload = Parts(plain, bucket, ChecksumAlgorithm="CRC32")
    upload.add(1, b"hello", ChecksumAlgorithm="CRC32")
    assert upload.refused(MpuObjectSize=6) == ("InvalidRequest", 400)
    assert upload.refused(ChecksumType="FULL_OBJECT") == ("InvalidRequest", 400)
    assert upload.refused(ChecksumCRC32="AAAAAA==-1") == ("BadDigest", 400)
    wrong = {"PartNumber": 1, "Body": b"x", "ChecksumAlgorithm": "SHA1"}
    assert refusal(plain.upload_part, **upload.named, **wrong) == ("InvalidRequest", 400)
    good = upload.listed
    upload.listed = [{**good[0], "ChecksumCRC32": "AAAAAA=="}]
    assert upload.refused() == ("InvalidPart", 400)
    upload.listed = [{"PartNumber": 1, "ETag": good[0]["ETag"]}]
    assert upload.refused() == ("InvalidRequest", 400)
    upload.listed = good
    assert refusal(plain.head_object, Bucket=bucket, Key="k")[1] == 404
    assert upload.complete(MpuObjectSize=5, ChecksumType="COMPOSITE")["ChecksumType"] == "COMPOSITE"
    for given in ({"ChecksumAlgorithm": "SHA1", "ChecksumType": "FULL_OBJECT"}, {"ChecksumType": "COMPOSITE"}):
        assert refusal(plain.create_multipart_upload, Bucket=bucket, Key="k", **given) == ("InvalidRequest", 400)


@pytest.mark.parametrize("declared", [{}, {"ChecksumAlgorithm": "SHA256"}], ids=["plain", "with checksum"])
def test_copied_parts(plain: Any, bucket: str, declared: dict[str, str]) -> None:
    """M5: a part is copied from a range of an object, both ends included; beyond its end is InvalidRange."""
    source = bytes(range(250)) * 25_000
    plain.put_object(Bucket=bucket, Key="s/ö", Body=source)
    upload = Parts(plain, bucket, **declared)
    ranges = [(0, PART - 1), (10, 1009)]
    for number, (first, last) in enumerate(ranges, 1):
        copied = plain.upload_part_copy(
            **upload.named,
            PartNumber=number,
            CopySource={"Bucket": bucket, "Key": "s/ö"},
            CopySourceRange=f"bytes={first}-{last}",
        )["CopyPartResult"]
        assert copied["ETag"] == f'"{hashlib.md5(source[first : last + 1]).hexdigest()}"'
        assert bool(copied.get("ChecksumSHA256")) == bool(declared)
        checksums = {name: value for name, value in copied.items() if name.startswith("Checksum")}
        upload.listed.append({"PartNumber": number, "ETag": copied["ETag"], **checksums})
    for text, code in ((f"bytes=0-{len(source)}", ("InvalidRange", 416)), ("0-1", ("InvalidArgument", 400))):
        given = {"PartNumber": 3, "CopySource": f"{bucket}/s/ö", "CopySourceRange": text}
        assert refusal(plain.upload_part_copy, **upload.named, **given) == code
    upload.complete()
    wanted = b"".join(source[first : last + 1] for first, last in ranges)
    assert plain.get_object(Bucket=bucket, Key="k")["Body"].read() == wanted


def test_large_copies_at_the_defaults(plain: Any, bucket: str) -> None:
    """boto3's copy of a large object, which copies it in parts, gives the same bytes."""
    source = bytes(range(256)) * 40_000
    plain.put_object(Bucket=bucket, Key="source", Body=source)
    plain.copy({"Bucket": bucket, "Key": "source"}, bucket, "copy")
    assert plain.get_object(Bucket=bucket, Key="copy")["Body"].read() == source


def test_reading_parts(plain: Any, bucket: str) -> None:
    """O7: partNumber reads the bytes of a part that was listed, with the number of parts; others are 416."""
    upload = Parts(plain, bucket, ChecksumAlgorithm="CRC32")
    bodies = {2: b"x" * PART, 5: b"hello"}
    for number, body in bodies.items():
        upload.add(number, body, ChecksumAlgorithm="CRC32")
    upload.complete()
    for number, body in bodies.items():
        found = plain.get_object(Bucket=bucket, Key="k", PartNumber=number)
        assert (found["Body"].read(), found["PartsCount"]) == (body, 2)
        head = plain.head_object(Bucket=bucket, Key="k", PartNumber=number)
        assert (head["ContentLength"], head["PartsCount"]) == (len(body), 2)
    assert refusal(plain.get_object, Bucket=bucket, Key="k", PartNumber=1) == ("InvalidPartNumber", 416)
    attributes = plain.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts", "Checksum"])
    assert attributes["ObjectParts"]["TotalPartsCount"] == 2
    listed = attributes["ObjectParts"]["Parts"]
    assert [(each["PartNumber"], each["Size"]) for each in listed] == [(2, PART), (5, 5)]
    assert all(each["ChecksumCRC32"] for each in listed)
    page = plain.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts"], MaxParts=1, PartNumberMarker=2
    )["ObjectParts"]
    assert ([each["PartNumber"] for each in page["Parts"]], page["IsTruncated"]) == ([5], False)


def test_an_empty_object(plain: Any, bucket: str) -> None:
    """An upload whose only part is empty makes an empty object."""
    upload = Parts(plain, bucket)
    upload.add(1, b"")
    assert upload.complete()["ETag"] == etag_of(b"")
    assert plain.get_object(Bucket=bucket, Key="k")["Body"].read() == b""


def test_completions_at_once(s3: S3Fixture, plain: Any, bucket: str) -> None:
    """T10: clients that complete an upload at once all get the same answer, and one object is made."""
    upload = Parts(plain, bucket)
    upload.add(1, b"x" * PART)
    upload.add(2, b"y")
    with ThreadPoolExecutor(6) as threads:
        answers = [each.result() for each in [threads.submit(upload.complete) for _ in range(6)]]
    assert {each["ETag"] for each in answers} == {etag_of(b"x" * PART, b"y")}
    assert len(plain.list_objects_v2(Bucket=bucket)["Contents"]) == 1
    made = [
        each
        for each in s3.run(s3.store.metadata.read(files.list_fids, 0, 500))
        if each.etag == answers[0]["ETag"].strip('"') and each.key == b"k"
    ]
    assert len(made) == 1


@contextmanager
def slow_completions(s3: S3Fixture, released: threading.Event, error: Exception | None = None) -> Iterator[None]:
    """Let the listener join parts only when `released` is set, and fail then if there is an `error`."""
    dispatcher = s3.server._dispatcher
    assert dispatcher is not None
    completions = dispatcher._completions
    assembler = completions._context.assembler
    patience, assemble = completions._patience, assembler.assemble

    async def wait(*arguments: Any) -> Any:
        while not released.is_set():
            await asyncio.sleep(0.01)
        if error is not None:
            raise error
        return await assemble(*arguments)

    completions._patience = 0.05
    assembler.assemble = wait  # type: ignore[assignment]
    try:
        yield
    finally:
        completions._patience = patience
        assembler.assemble = assemble  # type: ignore[method-assign]


def test_a_slow_completion(s3: S3Fixture, plain: Any, bucket: str) -> None:
    """M3: a completion that takes long is answered with 200 and blanks, and then with the result."""
    upload = Parts(plain, bucket)
    upload.add(1, b"hello")
    url = urlsplit(plain.generate_presigned_url("complete_multipart_upload", Params=upload.named))
    etag = upload.listed[0]["ETag"]
    body = (
        f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    )
    released = threading.Event()
    with slow_completions(s3, released), closing(http.client.HTTPConnection(url.netloc, timeout=30)) as connection:
        connection.request("POST", f"{url.path}?{url.query}", body)
        response = connection.getresponse()
        declaration = response.read(len(DECLARATION))
        assert (response.status, declaration, response.read(3)) == (200, DECLARATION.encode(), b"   ")
        released.set()
        rest = response.read()
    result = ElementTree.fromstring(declaration + rest)
    assert result.findtext("{*}ETag") == etag_of(b"hello")
    assert upload.complete()["ETag"] == etag_of(b"hello")


def test_a_slow_completion_that_fails(s3: S3Fixture, plain: Any, bucket: str) -> None:
    """M3: an error after the 200 is in the body, where SDKs find it; the upload can be completed again."""
    upload = Parts(plain, bucket)
    upload.add(1, b"hello")
    released = threading.Event()
    with slow_completions(s3, released, NodeUnreachable("no node")):
        timer = threading.Timer(0.5, released.set)
        timer.start()
        assert upload.refused()[0] == "ServiceUnavailable"
        timer.join()
    assert upload.complete()["ETag"] == etag_of(b"hello")


def test_a_part_that_arrives_after_the_abort(s3: S3Fixture, plain: Any, bucket: str) -> None:
    """A part whose upload was aborted while its body arrived is refused, and leaves nothing."""
    upload = Parts(plain, bucket)
    url = urlsplit(plain.generate_presigned_url("upload_part", Params={**upload.named, "PartNumber": 1}))
    with closing(socket.create_connection(s3.server.address, 30)) as late:
        head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: 5\r\n"
        late.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert late.recv(100).startswith(b"HTTP/1.1 100")
        plain.abort_multipart_upload(**upload.named)
        late.sendall(b"hello")
        assert late.recv(100).startswith(b"HTTP/1.1 404")
    dmid = s3.store.view.current.domains[bucket].dmid
    upload_id = upload.named["UploadId"]
    assert s3.run(s3.store.metadata.read(multipart.list_parts, dmid, upload_id, None, 10)) == []
