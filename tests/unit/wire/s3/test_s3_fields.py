"""Header fields of S3: metadata, checksums, conditions, copy sources, overrides, attributes."""

from __future__ import annotations

import base64
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.object_checksums import ChecksumAlgorithm, ChecksumType
from tawara.wire.http import Validators
from tawara.wire.s3 import attributes, checksum_fields, copy_source, object_fields, preconditions
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.head import HeaderFields
from tawara.wire.s3.xml_in import KeyDeletion, parse_deletions, parse_length, parse_modified_at
from tests.unit.wire.s3.oracle import call, read

TAG = "d41d8cd98f00b204e9800998ecf8427e"


def fields(**values: str) -> HeaderFields:
    """Header fields, named with `_` for `-`."""
    return HeaderFields((name.replace("_", "-").encode(), value.encode()) for name, value in values.items())


def refusal(function: Any, *args: Any, **kwargs: Any) -> S3Fault:
    with pytest.raises(S3Fault) as raised:
        function(*args, **kwargs)
    return raised.value


# --- metadata ---------------------------------------------------------------------------------------------------------


def test_what_botocore_stores() -> None:
    """O5: fields and user metadata are stored as sent, names of metadata in lower case, with underscores and dots."""
    captured = call(
        "put_object",
        Bucket="b",
        Key="k",
        Body=b"",
        ContentType="text/plain",
        CacheControl="max-age=5",
        ContentDisposition='attachment; filename="a.txt"',
        ContentEncoding="gzip",
        ContentLanguage="de",
        Expires="Wed, 21 Oct 2026 07:28:00 GMT",
        Metadata={"My_Key": "v", "a.b": "w"},
    )
    found = object_fields.parse_object_fields(captured.head().fields)
    assert found.content_type == "text/plain"
    assert found.metadata == {"my_key": "v", "a.b": "w"}
    assert found.fields == {
        "cache-control": "max-age=5",
        "content-disposition": 'attachment; filename="a.txt"',
        "content-encoding": "gzip",
        "content-language": "de",
        "expires": "Wed, 21 Oct 2026 07:28:00 GMT",
    }


def test_what_botocore_reads() -> None:
    """Fields and metadata that were stored are answered so that botocore reads them back."""
    stored = object_fields.ObjectFields("text/plain", {"cache-control": "no-store"}, {"a.b": "c"})
    result = call("head_object", headers=dict(object_fields.answer_fields(stored)), Bucket="b", Key="k").result
    assert (result["ContentType"], result["CacheControl"], result["Metadata"]) == (
        "text/plain",
        "no-store",
        {"a.b": "c"},
    )


@pytest.mark.parametrize(
    ("coding", "stored"),
    [
        ("aws-chunked", None),
        ("gzip,aws-chunked", "gzip"),
        ("aws-chunked, gzip", "gzip"),
        ("AWS-Chunked,zstd, br", "zstd, br"),
        ("gzip", "gzip"),
    ],
)
def test_aws_chunked_is_not_stored(coding: str, stored: str | None) -> None:
    """C4: aws-chunked is taken out of Content-Encoding before it is stored, other codings stay."""
    found = object_fields.parse_object_fields(fields(content_encoding=coding))
    assert found.fields.get("content-encoding") == stored


def test_metadata_are_bounded() -> None:
    """O5: user metadata have 2 KiB in all."""
    object_fields.parse_object_fields(fields(x_amz_meta_a="v" * 2047))
    assert (
        refusal(object_fields.parse_object_fields, fields(x_amz_meta_a="v" * 2048)).code is FaultCode.METADATA_TOO_LARGE
    )
    two = fields(x_amz_meta_a="v" * 1024, x_amz_meta_b="v" * 1024)
    assert refusal(object_fields.parse_object_fields, two).code is FaultCode.METADATA_TOO_LARGE


@given(value=st.text(max_size=40))
def test_metadata_values_survive(value: str) -> None:
    """O5: values that are not ASCII are answered as encoded words (RFC 2047), and no value makes a second field."""
    encoded = object_fields.encode_field(value)
    assert encoded.isascii()
    assert "\n" not in encoded
    assert "\r" not in encoded


def test_non_ascii_metadata() -> None:
    """O5: a value of UTF-8 is stored as text, and answered in RFC 2047's form."""
    found = object_fields.parse_object_fields(fields(x_amz_meta_a="Grüße"))
    assert found.metadata == {"a": "Grüße"}
    word = dict(object_fields.answer_fields(found))["x-amz-meta-a"]
    assert word == f"=?UTF-8?B?{base64.b64encode('Grüße'.encode()).decode()}?="


def test_overrides_are_for_signed_requests() -> None:
    """O6: response-* parameters replace fields of signed reads only, and cannot inject a field."""
    url = "http://store.example/b/k?response-content-type=text/html&response-cache-control=no-cache"
    target = read("GET", url, {}).target
    found = object_fields.parse_overrides(target, signed=True)
    assert found == {"content-type": "text/html", "cache-control": "no-cache"}
    assert dict(object_fields.answer_fields(object_fields.ObjectFields("a/b"), found))["content-type"] == "text/html"
    assert refusal(object_fields.parse_overrides, target, signed=False).code is FaultCode.INVALID_REQUEST
    injected = read("GET", "http://store.example/b/k?response-content-type=a%0d%0ab:c", {}).target
    assert refusal(object_fields.parse_overrides, injected, signed=True).code is FaultCode.INVALID_ARGUMENT


# --- checksums --------------------------------------------------------------------------------------------------------


def test_the_checksum_that_botocore_sends() -> None:
    """C1: botocore sends a CRC32 by default, over http as a header field."""
    found = checksum_fields.declared_checksum(call("put_object", Bucket="b", Key="k", Body=b"x").head().fields)
    assert found is not None
    assert (found.algorithm, found.in_trailer) == (ChecksumAlgorithm.CRC32, False)
    assert found.value == zlib.crc32(b"x").to_bytes(4)


@pytest.mark.parametrize("algorithm", ChecksumAlgorithm)
def test_all_algorithms(algorithm: ChecksumAlgorithm) -> None:
    """C8: all ten algorithms of the model are read, with values of their own length only."""
    value = bytes(range(algorithm.digest_size))
    text = base64.b64encode(value).decode()
    found = checksum_fields.declared_checksum(HeaderFields([(algorithm.field.encode(), text.encode())]))
    assert found == checksum_fields.DeclaredChecksum(algorithm, value)
    longer = base64.b64encode(value + b"x").decode()
    for wrong in (longer, "", "!", text[:-1], "é"):
        lines = HeaderFields([(algorithm.field.encode(), wrong.encode())])
        assert refusal(checksum_fields.declared_checksum, lines).code is FaultCode.INVALID_REQUEST


def test_the_algorithms_are_those_of_the_model() -> None:
    """C8: the algorithms are exactly those of botocore's model."""
    from tests.unit.wire.s3.oracle import model

    assert {each.value for each in ChecksumAlgorithm} == set(model().shape_for("ChecksumAlgorithm").enum)


@pytest.mark.parametrize(
    "lines",
    [
        {"x_amz_checksum_crc32": "NhCmhg==", "x_amz_checksum_crc32c": "NhCmhg=="},
        {"x_amz_checksum_crc32": "NhCmhg==", "x_amz_trailer": "x-amz-checksum-sha1"},
        {"x_amz_trailer": "x-amz-checksum-crc32,x-amz-checksum-sha1"},
        {"x_amz_checksum_crc32": "NhCmhg==", "x_amz_sdk_checksum_algorithm": "SHA1"},
        {"x_amz_sdk_checksum_algorithm": "CRC31"},
    ],
)
def test_contradicting_checksums(lines: dict[str, str]) -> None:
    """C7: two algorithms at once, or an unknown one, are InvalidRequest."""
    assert refusal(checksum_fields.declared_checksum, fields(**lines)).code is FaultCode.INVALID_REQUEST


def test_a_wrong_checksum_is_bad_digest() -> None:
    """C7: a wrong checksum is BadDigest 400, a malformed Content-MD5 InvalidDigest."""
    fault = refusal(checksum_fields.check_digest, ChecksumAlgorithm.CRC32, b"1234", b"1235")
    assert (fault.code.code, fault.status) == ("BadDigest", 400)
    checksum_fields.check_digest(ChecksumAlgorithm.CRC32, b"1234", b"1234")
    assert checksum_fields.content_md5(fields(content_md5=base64.b64encode(b"m" * 16).decode())) == b"m" * 16
    for wrong in ("", "x", base64.b64encode(b"m" * 15).decode()):
        assert refusal(checksum_fields.content_md5, fields(content_md5=wrong)).code is FaultCode.INVALID_DIGEST


COMPOSITE, FULL = ChecksumType.COMPOSITE, ChecksumType.FULL_OBJECT


@pytest.mark.parametrize(
    ("algorithm", "asked", "found"),
    [
        ("CRC64NVME", None, FULL),
        ("CRC64NVME", "FULL_OBJECT", FULL),
        ("CRC64NVME", "COMPOSITE", None),
        ("CRC32", None, COMPOSITE),
        ("CRC32", "FULL_OBJECT", FULL),
        ("CRC32C", "COMPOSITE", COMPOSITE),
        ("SHA1", None, COMPOSITE),
        ("SHA256", "FULL_OBJECT", None),
        ("SHA256", "COMPOSITE", COMPOSITE),
    ],
)
def test_the_type_of_an_uploads_checksum(algorithm: str, asked: str | None, found: ChecksumType | None) -> None:
    """C9: SHA-* are composite, CRC64NVME over the full object only, CRC32 and CRC32C composite unless asked."""
    lines = {"x_amz_checksum_algorithm": algorithm} | ({"x_amz_checksum_type": asked} if asked else {})
    if found is None:
        assert refusal(checksum_fields.declared_upload, fields(**lines)).code is FaultCode.INVALID_REQUEST
    else:
        assert checksum_fields.declared_upload(fields(**lines)) == (ChecksumAlgorithm(algorithm), found)


def test_an_upload_without_checksum() -> None:
    """An upload may declare no checksum; a type alone, or an unknown one, is refused."""
    assert checksum_fields.declared_upload(fields()) is None
    assert refusal(checksum_fields.declared_upload, fields(x_amz_checksum_type="COMPOSITE")).status == 400
    both = fields(x_amz_checksum_type="HALF", x_amz_checksum_algorithm="CRC32")
    assert refusal(checksum_fields.declared_upload, both).status == 400


def test_no_whole_checksum_on_a_part() -> None:
    """C11: a full-object checksum is never answered with a part of the object, and only when asked for."""
    asked = call("get_object", Bucket="b", Key="k").head().fields
    assert checksum_fields.answers_checksum(asked, partial=False, composite=False)
    assert not checksum_fields.answers_checksum(asked, partial=True, composite=False)
    assert checksum_fields.answers_checksum(asked, partial=True, composite=True)
    assert not checksum_fields.answers_checksum(fields(), partial=False, composite=False)


# --- conditions -------------------------------------------------------------------------------------------------------


def test_writing_only_what_is_not_there() -> None:
    """K1: `If-None-Match: *` is 412 PreconditionFailed if the key has a current version."""
    lines = call("put_object", Bucket="b", Key="k", Body=b"", IfNoneMatch="*").head().fields
    preconditions.check_write(lines, None)
    fault = refusal(preconditions.check_write, lines, TAG)
    assert (fault.code.code, fault.status) == ("PreconditionFailed", 412)
    preconditions.check_write(fields(if_none_match='"other"'), TAG)
    assert refusal(preconditions.check_write, fields(if_none_match=f'"other", "{TAG}"'), TAG).status == 412


@pytest.mark.parametrize("match", [f'"{TAG}"', TAG, "*"])
def test_overwriting_only_what_is_known(match: str) -> None:
    """K1: `If-Match` is 412 if the tag differs, and 404 NoSuchKey if there is no object, for `*` too."""
    preconditions.check_write(fields(if_match=match), TAG)
    assert refusal(preconditions.check_write, fields(if_match=match), None).code is FaultCode.NO_SUCH_KEY
    if match != "*":
        assert refusal(preconditions.check_write, fields(if_match=match), TAG[::-1]).status == 412


def test_deleting_only_what_is_known() -> None:
    """K4: DeleteObject with an If-Match, time or size that differs is 412, nothing is deleted."""
    stored = (TAG, 1_000_000_000, 5)
    for etag in (f'"{TAG}"', "*", TAG, None):
        preconditions.check_delete(KeyDeletion(b"k", etag=etag, modified_at=1_000_000_000, length=5), *stored)
    for deletion in (
        KeyDeletion(b"k", etag='"other"'),
        KeyDeletion(b"k", modified_at=1_000_000_001),
        KeyDeletion(b"k", length=6),
    ):
        assert refusal(preconditions.check_delete, deletion, *stored).code is FaultCode.PRECONDITION_FAILED


def test_conditions_of_many_deletions() -> None:
    """K4: entity tag, time and size of each key in DeleteObjects are read as botocore writes them."""
    time = datetime(2026, 12, 1, tzinfo=UTC)
    key = {"Key": "k", "ETag": '"x"', "LastModifiedTime": time, "Size": 5}
    captured = call("delete_objects", Bucket="b", Delete={"Objects": [key]})
    assert parse_deletions(captured.body).deletions == (
        KeyDeletion(b"k", etag='"x"', modified_at=int(time.timestamp()), length=5),
    )
    head = call("delete_object", Bucket="b", Key="k", IfMatchLastModifiedTime=time, IfMatchSize=5).head().fields
    assert parse_modified_at(head.get("x-amz-if-match-last-modified-time")) == int(time.timestamp())
    assert parse_length(head.get("x-amz-if-match-size")) == 5
    for parse, text in ((parse_modified_at, "yesterday"), (parse_length, "-1")):
        assert refusal(parse, text).code is FaultCode.INVALID_ARGUMENT


CURRENT = Validators(f'"{TAG}"', 1_000_000_000)
BEFORE, AFTER = "Sat, 08 Sep 2001 00:00:00 GMT", "Mon, 10 Sep 2001 00:00:00 GMT"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ({"if_match": TAG}, 200),
        ({"if_match": '"x"'}, 412),
        ({"if_none_match": f'"{TAG}"'}, 304),
        ({"if_none_match": TAG}, 304),
        ({"if_none_match": '"x"'}, 200),
        ({"if_modified_since": AFTER}, 304),
        ({"if_modified_since": BEFORE}, 200),
        ({"if_unmodified_since": BEFORE}, 412),
        ({"if_match": TAG, "if_unmodified_since": BEFORE}, 200),
        ({"if_none_match": '"x"', "if_modified_since": AFTER}, 200),
    ],
)
def test_conditions_of_reads_and_copies(lines: dict[str, str], status: int) -> None:
    """K7, K5: reads answer 304 or 412 in RFC 9110's order; of a copy's source each failure is 412."""
    conditions = preconditions.conditions_of(fields(**lines))
    if status == 200:
        preconditions.check_read(conditions, CURRENT)
    else:
        assert refusal(preconditions.check_read, conditions, CURRENT).status == status
    source = fields(**{f"x_amz_copy_source_{name}": value for name, value in lines.items()})
    if status == 200:
        preconditions.check_copy_source(source, CURRENT)
    else:
        assert refusal(preconditions.check_copy_source, source, CURRENT).status == 412


# --- copies and attributes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/b/k", ("b", "k", None)),
        ("b/k", ("b", "k", None)),
        ("b/a+b%20c%2Bd", ("b", "a+b c+d", None)),
        ("b//a", ("b", "/a", None)),
        ("/b/a%3Fx?versionId=7", ("b", "a?x", "7")),
        ("b/%C3%A9", ("b", "é", None)),
    ],
)
def test_copy_sources(text: str, found: tuple[str, str, str | None]) -> None:
    """O4: the source is URL-encoded, its leading slash optional, `+` in it is a plus, and it may name a version."""
    bucket, key, version = found
    assert copy_source.parse_copy_source(text) == copy_source.CopySource(bucket, key.encode(), version)


@pytest.mark.parametrize("key", ["a b+c", "é/ü?x=y#", "a//b", "%41"])
def test_copy_sources_of_botocore(key: str) -> None:
    """O4: the source that botocore writes is read as it was meant."""
    head = call(
        "copy_object", b"<CopyObjectResult/>", Bucket="b", Key="t", CopySource={"Bucket": "s", "Key": key}
    ).head()
    assert copy_source.parse_copy_source(head.fields.get(copy_source.FIELD) or "").key == key.encode()


@given(text=st.text(max_size=60))
def test_any_text_as_copy_source(text: str) -> None:
    """Any text as copy source is read or refused with 4xx."""
    for function in (copy_source.parse_copy_source, lambda value: copy_source.parse_source_range(value, 10)):
        try:
            function(text)
        except S3Fault as fault:
            assert 400 <= fault.status < 500
        except UnicodeEncodeError:
            assert any("\ud800" <= each <= "\udfff" for each in text)


def test_copies_onto_themselves() -> None:
    """O3: a copy onto itself without a change is InvalidRequest, an unknown directive InvalidArgument."""
    assert refusal(copy_source.check_self_copy, same=True, changed=False).code is FaultCode.INVALID_REQUEST
    copy_source.check_self_copy(same=True, changed=True)
    copy_source.check_self_copy(same=False, changed=False)
    name = "x-amz-metadata-directive"
    assert copy_source.parse_directive(fields(), name) is copy_source.Directive.COPY
    assert (
        copy_source.parse_directive(fields(x_amz_metadata_directive="REPLACE"), name) is copy_source.Directive.REPLACE
    )
    wrong = fields(x_amz_metadata_directive="REPLACED")
    assert refusal(copy_source.parse_directive, wrong, name).code is FaultCode.INVALID_ARGUMENT


def test_ranges_of_copied_parts() -> None:
    """M5: the range of a copied part is inclusive at both ends, and InvalidRange beyond the source's end."""
    assert copy_source.parse_source_range("bytes=2-9", 10) == (2, 8)
    assert refusal(copy_source.parse_source_range, "bytes=2-10", 10).code is FaultCode.INVALID_RANGE
    for wrong in ("bytes=2-", "bytes=-2", "2-3", "bytes=3-2", ""):
        assert refusal(copy_source.parse_source_range, wrong, 10).code is FaultCode.INVALID_ARGUMENT


def test_attributes_asked_for() -> None:
    """O8: x-amz-object-attributes is required; only known attributes may be asked for."""
    head = call("get_object_attributes", b"<x/>", Bucket="b", Key="k", ObjectAttributes=["ETag", "ObjectSize"]).head()
    assert attributes.parse_attributes(head.fields) == {attributes.Attribute.ETAG, attributes.Attribute.SIZE}
    for lines in (fields(), fields(x_amz_object_attributes="ETag,Colour"), fields(x_amz_object_attributes=",")):
        assert refusal(attributes.parse_attributes, lines).code is FaultCode.INVALID_ARGUMENT
