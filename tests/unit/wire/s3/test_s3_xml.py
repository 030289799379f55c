"""XML of S3: bodies that botocore sends, answers that botocore parses, and hostile documents."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from tawara.model import errors
from tawara.model.multipart import MOST_PARTS, ListedPart, ObjectPart, UploadedPart
from tawara.model.object_checksums import ChecksumAlgorithm, ChecksumType
from tawara.wire.s3 import attributes, results, xml_in, xml_out
from tawara.wire.s3.faults import FaultCode, S3Fault, fault_of
from tawara.wire.s3.head import HeaderFields
from tawara.wire.s3.lists import S3Owner, render_buckets
from tests.unit.wire.s3.oracle import call

OWNER = S3Owner("a" * 64, "admin")
MD5 = bytes(range(16))
CRC32 = results.AnsweredChecksum(ChecksumAlgorithm.CRC32, b"\1\2\3\4")
AT = 1_000_000_000
THEN = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
few = settings(max_examples=25, deadline=None)
"""botocore takes 10 ms to parse an answer."""
text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
clean = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1, max_size=30
)


def refusal(function: Any, *args: Any) -> FaultCode:
    with pytest.raises(S3Fault) as raised:
        function(*args)
    return raised.value.code


# --- bodies of requests -----------------------------------------------------------------------------------------------


@few
@given(
    keys=st.lists(clean.filter(lambda key: len(key.encode()) <= 1024 and key < "\U0010ffff"), min_size=1, max_size=5)
)
def test_deletions_of_botocore(keys: list[str]) -> None:
    """O10: the body of DeleteObjects is read as botocore writes it, blanks in keys included."""
    objects = [{"Key": key} for key in keys]
    captured = call("delete_objects", b"<DeleteResult/>", Bucket="b", Delete={"Objects": objects, "Quiet": True})
    found = xml_in.parse_deletions(captured.body)
    assert [each.key.decode() for each in found.deletions] == keys
    assert found.quiet


def test_conditions_of_deletions() -> None:
    """K4: each deletion may carry the entity tag that the object must have."""
    objects = [{"Key": "k", "ETag": '"x"', "VersionId": "v"}]
    captured = call("delete_objects", b"<DeleteResult/>", Bucket="b", Delete={"Objects": objects})
    found = xml_in.parse_deletions(captured.body)
    assert found == xml_in.DeletionList((xml_in.KeyDeletion(b"k", "v", '"x"'),), quiet=False)


def test_at_most_a_thousand_deletions() -> None:
    """O10: more than 1,000 keys, none, or an empty one are MalformedXML."""

    def body(count: int) -> bytes:
        return b"<Delete>" + b"<Object><Key>k</Key></Object>" * count + b"</Delete>"

    assert len(xml_in.parse_deletions(body(1000)).deletions) == 1000
    for wrong in (body(1001), body(0), b"<Delete><Object><Key></Key></Object></Delete>", b"<Delete><Object/></Delete>"):
        assert refusal(xml_in.parse_deletions, wrong) is FaultCode.MALFORMED_XML


def test_part_lists_of_botocore() -> None:
    """M2: the list of parts is read as botocore writes it, entity tags with or without quotes, with checksums."""
    parts = [
        {"PartNumber": 1, "ETag": '"a"', "ChecksumCRC32": "AQIDBA=="},
        {"PartNumber": 7, "ETag": "b", "ChecksumCRC32": "AQIDBA=="},
    ]
    captured = call(
        "complete_multipart_upload",
        results.render_completion("http://h/b/k", "b", b"k", "e"),
        Bucket="b",
        Key="k",
        UploadId="u",
        MultipartUpload={"Parts": parts},
    )
    value = b"\1\2\3\4"
    assert xml_in.parse_part_list(captured.body, ChecksumAlgorithm.CRC32) == (
        ListedPart(1, '"a"', value),
        ListedPart(7, "b", value),
    )
    assert xml_in.parse_part_list(captured.body, None) == (ListedPart(1, '"a"'), ListedPart(7, "b"))
    assert refusal(xml_in.parse_part_list, captured.body.replace(b"AQ", b"A"), ChecksumAlgorithm.CRC32) is (
        FaultCode.INVALID_REQUEST
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", FaultCode.MALFORMED_XML),
        (b"<CompleteMultipartUpload/>", FaultCode.MALFORMED_XML),
        (
            b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>",
            FaultCode.MALFORMED_XML,
        ),
        (
            b"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>",
            FaultCode.MALFORMED_XML,
        ),
        (
            b"<CompleteMultipartUpload><Part><PartNumber>0</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>",
            FaultCode.INVALID_ARGUMENT,
        ),
        (
            b"<CompleteMultipartUpload><Part><PartNumber>10001</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>",
            FaultCode.INVALID_ARGUMENT,
        ),
    ],
)
def test_wrong_part_lists(body: bytes, code: FaultCode) -> None:
    """M1, M2: an empty list is MalformedXML, a part number outside 1 to 10,000 InvalidArgument."""
    assert refusal(xml_in.parse_part_list, body, None) is code


def test_the_longest_part_list() -> None:
    """M2: a list of 10,000 parts with checksums is within the limits."""
    part = b"<Part><PartNumber>1</PartNumber><ETag>e</ETag><ChecksumCRC32>AQIDBA==</ChecksumCRC32></Part>"
    body = b"<CompleteMultipartUpload>" + part * MOST_PARTS + b"</CompleteMultipartUpload>"
    assert len(xml_in.parse_part_list(body, ChecksumAlgorithm.CRC32)) == MOST_PARTS


def test_locations_and_tags_of_botocore() -> None:
    """The region of CreateBucket and the tags of an object are read as botocore writes them."""
    captured = call("create_bucket", Bucket="b", CreateBucketConfiguration={"LocationConstraint": "eu-tawara-1"})
    assert xml_in.parse_location(captured.body) == "eu-tawara-1"
    assert xml_in.parse_location(call("create_bucket", Bucket="b").body) is None
    tags = [{"Key": "a b", "Value": ""}, {"Key": "é", "Value": "+-=._:/@"}]
    captured = call("put_object_tagging", Bucket="b", Key="k", Tagging={"TagSet": tags})
    assert xml_in.parse_tagging(captured.body, 10) == (("a b", ""), ("é", "+-=._:/@"))


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE x [<!ENTITY a "b">]><Delete><Object><Key>&a;</Key></Object></Delete>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><Delete/>',
        b"<Delete>&a;</Delete>",
        b"<a>" * 100_000,
        b"<Delete>" + b"<a>" * 17 + b"</a>" * 17 + b"</Delete>",
        b"<Delete>" + b"<a/>" * 50_001 + b"</Delete>",
        b"<Delete>" + b"x" * xml_in.LONGEST + b"</Delete>",
        "<Delete/>".encode("utf-16"),
        b"<Delete>\x00</Delete>",
        b"<Delete>\xff</Delete>",
        b"<Other/>",
        b"<Delete/><Delete/>",
        b"   ",
    ],
)
def test_hostile_documents(body: bytes) -> None:
    """T16: entities, depth, many nodes, length, other encodings and other roots are MalformedXML."""
    assert refusal(xml_in.parse_xml, body, "Delete") is FaultCode.MALFORMED_XML


@pytest.mark.parametrize(
    "body",
    [
        b"<Delete><Object><Key>k</Key></Object></Delete>",
        b"\n  <Delete><Object><Key>k</Key></Object></Delete>\n",
        b'<?xml version="1.0" encoding="UTF-8"?><Delete xmlns="urn:wrong"><Object><Key>k</Key></Object></Delete>',
        b'<x:Delete xmlns:x="http://s3.amazonaws.com/doc/2006-03-01/"><x:Object><x:Key>k</x:Key></x:Object></x:Delete>',
        b"<Delete><New><Thing/></New><Object><Other>1</Other><Key><![CDATA[k]]></Key></Object></Delete>",
    ],
)
def test_lenient_documents(body: bytes) -> None:
    """T16: wrong or missing namespaces, leading blanks and unknown elements are accepted."""
    assert [each.key for each in xml_in.parse_deletions(body).deletions] == [b"k"]


fragments = st.lists(
    st.sampled_from(
        [
            "<Delete>",
            "</Delete>",
            "<Object>",
            "</Object>",
            "<Key>",
            "</Key>",
            "k",
            "&#65;",
            "<!--",
            "-->",
            "<![CDATA[",
            "]]>",
            "<?x?>",
            "é",
            "<a b='c'/>",
            "<Part>",
            "</Part>",
            "<PartNumber>1</PartNumber>",
        ]
    ),
    max_size=20,
).map("".join)


@given(body=st.one_of(st.binary(max_size=100), fragments.map(str.encode)))
def test_any_bytes_as_xml(body: bytes) -> None:
    """Any bytes as XML are read or refused with 4xx."""
    readers: tuple[Any, ...] = (
        xml_in.parse_deletions,
        lambda data: xml_in.parse_part_list(data, ChecksumAlgorithm.SHA1),
        xml_in.parse_location,
        partial(xml_in.parse_tagging, most=10),
    )
    for read in readers:
        try:
            read(body)
        except S3Fault as fault:
            assert 400 <= fault.status < 500


# --- answers ----------------------------------------------------------------------------------------------------------


def answered(operation: str, body: bytes, **parameters: Any) -> dict[str, Any]:
    """What botocore makes of an answer, without its metadata."""
    result = call(operation, body, Bucket="b", **parameters).result
    result.pop("ResponseMetadata")
    return result


def test_locations() -> None:
    """L10: GetBucketLocation is empty only for us-east-1, else the region."""
    assert answered("get_bucket_location", results.render_location("us-east-1")) == {"LocationConstraint": None}
    assert answered("get_bucket_location", results.render_location("eu-tawara-1")) == {
        "LocationConstraint": "eu-tawara-1"
    }


def test_lists_of_buckets() -> None:
    """The list of buckets is parsed back, with the times of creation."""
    result = call("list_buckets", render_buckets(OWNER, [("a", AT), ("b<", AT)])).result
    assert result["Buckets"] == [{"Name": "a", "CreationDate": THEN}, {"Name": "b<", "CreationDate": THEN}]
    assert result["Owner"] == {"ID": OWNER.id, "DisplayName": "admin"}


def test_results_of_copies() -> None:
    """The result of a copy is parsed back, with a quoted entity tag and its checksum."""
    expected = {"ETag": '"e"', "LastModified": THEN, "ChecksumCRC32": "AQIDBA==", "ChecksumType": "FULL_OBJECT"}
    found = answered("copy_object", results.render_copy("e", AT, CRC32), Key="k", CopySource="s/k")
    assert found["CopyObjectResult"] == expected
    found = answered(
        "upload_part_copy",
        results.render_copy("e", AT, part=True),
        Key="k",
        CopySource="s/k",
        UploadId="u",
        PartNumber=1,
    )
    assert found["CopyPartResult"] == {"ETag": '"e"', "LastModified": THEN}


def test_results_of_deletions() -> None:
    """O10: errors are answered by key; Quiet leaves out what was deleted."""
    outcome = [results.DeletionResult(b"a"), results.DeletionResult(b"b", S3Fault(FaultCode.ACCESS_DENIED))]
    request = {"Objects": [{"Key": "a"}, {"Key": "b"}]}
    failed = [{"Key": "b", "Code": "AccessDenied", "Message": "Access Denied"}]
    loud = answered("delete_objects", results.render_deletions(outcome, quiet=False), Delete=request)
    assert loud == {"Deleted": [{"Key": "a"}], "Errors": failed}
    assert answered("delete_objects", results.render_deletions(outcome, quiet=True), Delete=request) == {
        "Errors": failed
    }


def test_results_of_uploads_in_parts() -> None:
    """Initiation, lists and completion of uploads in parts are parsed back."""
    found = answered("create_multipart_upload", results.render_initiation("b", b"k&", "u"), Key="k&")
    assert found == {"Bucket": "b", "Key": "k&", "UploadId": "u"}
    composite = results.AnsweredChecksum(ChecksumAlgorithm.CRC32, b"\1\2\3\4", 2)
    found = answered(
        "complete_multipart_upload",
        results.render_completion("http://h/b/k", "b", b"k", "e-2", composite),
        Key="k",
        UploadId="u",
    )
    assert (found["ETag"], found["ChecksumCRC32"], found["ChecksumType"]) == ('"e-2"', "AQIDBA==-2", "COMPOSITE")
    upload = results.ListedUpload(b"k/\xc3\xa9 +", "u", AT, "STANDARD")
    body = results.render_uploads(
        "b", OWNER, [upload], [b"p/"], prefix=b"", delimiter=b"/", most=1, next_marker=(b"p /", ""), encode=True
    )
    found = answered("list_multipart_uploads", body, EncodingType="url")
    assert found["Uploads"][0]["Initiated"] == THEN
    assert found["IsTruncated"]
    assert (found["NextKeyMarker"], found["NextUploadIdMarker"]) == ("p+/", "")
    assert found["CommonPrefixes"] == [{"Prefix": "p/"}]


def test_lists_of_parts() -> None:
    """M4: ListParts pages: the markers, the sizes and the declared checksum are parsed back."""
    upload = results.ListedUpload(b"k", "u", AT, "STANDARD")
    body = results.render_parts(
        upload,
        "b",
        OWNER,
        [(UploadedPart(3, 5, MD5, b"\1\2\3\4"), AT)],
        after=2,
        most=1,
        truncated=True,
        checksum=(ChecksumAlgorithm.CRC32, ChecksumType.COMPOSITE),
    )
    found = answered("list_parts", body, Key="k", UploadId="u")
    assert found["Parts"] == [
        {"PartNumber": 3, "LastModified": THEN, "ETag": f'"{MD5.hex()}"', "Size": 5, "ChecksumCRC32": "AQIDBA=="}
    ]
    assert (found["PartNumberMarker"], found["NextPartNumberMarker"], found["MaxParts"]) == (2, 3, 1)
    assert (found["ChecksumAlgorithm"], found["ChecksumType"]) == ("CRC32", "COMPOSITE")


def test_object_attributes() -> None:
    """O8: only what was asked for, the entity tag without quotes, parts of composite uploads."""
    asked = frozenset(attributes.Attribute)
    names = [each.value for each in asked]
    body = attributes.render_attributes(
        asked, etag="e-1", length=5, storage_class="STANDARD", checksum=CRC32, parts=[ObjectPart(3, 5, "AQIDBA==")]
    )
    found = answered("get_object_attributes", body, Key="k", ObjectAttributes=names)
    assert found == {
        "ETag": "e-1",
        "Checksum": {"ChecksumCRC32": "AQIDBA==", "ChecksumType": "FULL_OBJECT"},
        "ObjectParts": {
            "TotalPartsCount": 1,
            "PartNumberMarker": 0,
            "NextPartNumberMarker": 3,
            "MaxParts": 1000,
            "IsTruncated": False,
            "Parts": [{"PartNumber": 3, "Size": 5, "ChecksumCRC32": "AQIDBA=="}],
        },
        "StorageClass": "STANDARD",
        "ObjectSize": 5,
    }
    only = attributes.render_attributes(
        frozenset({attributes.Attribute.SIZE}), etag="e", length=5, storage_class="STANDARD"
    )
    assert answered("get_object_attributes", only, Key="k", ObjectAttributes=["ObjectSize"]) == {"ObjectSize": 5}


@few
@given(tags=st.lists(st.tuples(clean, clean), max_size=4))
def test_tags_are_parsed_back(tags: list[tuple[str, str]]) -> None:
    """Tags are answered so that botocore reads the same text."""
    found = answered("get_object_tagging", results.render_tagging(tags), Key="k")
    assert found["TagSet"] == [{"Key": key, "Value": value} for key, value in tags]


@pytest.mark.parametrize("code", [code for code in FaultCode if code is not FaultCode.NOT_MODIFIED])
def test_errors_are_parsed_back(code: FaultCode) -> None:
    """O12: botocore finds code, message and request id of each error, the same id as in the header field."""
    fault = S3Fault(code, details=[("Key", "<k>")])
    body = fault.body(resource="/b/k", request_id="R1", host_id="H1")
    headers = {"x-amz-request-id": "R1", "x-amz-id-2": "H1"}
    with pytest.raises(ClientError) as raised:
        call("get_object_tagging", body, status=code.status, headers=headers, Bucket="b", Key="k")
    error: Any = raised.value.response
    assert (error["Error"]["Code"], error["Error"]["Message"]) == (code.code, code.sentence)
    assert error["Error"]["Key"] == "<k>"
    assert error["ResponseMetadata"]["RequestId"] == "R1"
    assert b"<RequestId>R1</RequestId>" in body


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UnknownKey(), FaultCode.NO_SUCH_KEY),
        (errors.UnregDomain(), FaultCode.NO_SUCH_BUCKET),
        (errors.PreconditionFailed(), FaultCode.PRECONDITION_FAILED),
        (errors.DomainHasFiles(), FaultCode.BUCKET_NOT_EMPTY),
        (errors.NoDevices(), FaultCode.INSUFFICIENT_STORAGE),
        (errors.DatabaseUnavailable("host db1 refused"), FaultCode.SERVICE_UNAVAILABLE),
        (errors.Busy(), FaultCode.SLOW_DOWN),
        (errors.ChecksumMismatch(), FaultCode.BAD_DIGEST),
        (errors.InvalidKey("A key is long"), FaultCode.INVALID_ARGUMENT),
        (errors.TawaraError("secret"), FaultCode.INTERNAL_ERROR),
    ],
)
def test_errors_of_the_store(error: errors.TawaraError, code: FaultCode) -> None:
    """T14: each error of the store has its code; messages of failures inside the store are not sent."""
    fault = fault_of(error)
    assert fault.code is code
    assert "db1" not in fault.message
    assert "secret" not in fault.message


@given(value=text)
def test_escaping_loses_nothing(value: str) -> None:
    """L4: characters are never substituted: what XML forbids becomes a character reference."""
    body = xml_out.render("A", [("B", value)], namespace=None).decode()
    inner = body[body.index("<B>") + 3 : body.index("</B>")]
    restored = re.sub(r"&#x([0-9A-F]+);", lambda match: chr(int(match[1], 16)), inner)
    for name, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        restored = restored.replace(name, character)
    assert restored.replace("\ufffd", "?") == value.translate({0xFFFE: "?", 0xFFFF: "?", 0xFFFD: "?"})


def test_times() -> None:
    """O13: times in XML are ISO 8601 with `.000Z`."""
    assert xml_out.timestamp(AT) == "2001-09-09T01:46:40.000Z"


def test_pages_of_the_parts_of_an_object() -> None:
    """O8: parts are listed page by page; without checksums there is only their number."""
    parts = [ObjectPart(number, 5, "AQIDBA==") for number in (2, 5, 9)]
    asked = frozenset({attributes.Attribute.PARTS})

    def shown(after: int, most: int, found: list[ObjectPart] = parts) -> dict[str, Any]:
        page = attributes.PartPage(after, most)
        body = attributes.render_attributes(
            asked, etag="e-3", length=15, storage_class="STANDARD", checksum=CRC32, parts=found, page=page
        )
        answer = answered("get_object_attributes", body, Key="k", ObjectAttributes=["ObjectParts"])
        objects: dict[str, Any] = answer["ObjectParts"]
        return objects

    first = shown(0, 2)
    assert [each["PartNumber"] for each in first["Parts"]] == [2, 5]
    assert (first["IsTruncated"], first["NextPartNumberMarker"], first["TotalPartsCount"]) == (True, 5, 3)
    last = shown(5, 2)
    assert [each["PartNumber"] for each in last["Parts"]] == [9]
    assert (last["IsTruncated"], last["PartNumberMarker"]) == (False, 5)
    assert shown(0, 1000, [*parts, ObjectPart(10, 1)]) == {"TotalPartsCount": 4}


@pytest.mark.parametrize("name", ["x-amz-max-parts", "x-amz-part-number-marker"])
def test_a_page_that_is_no_number(name: str) -> None:
    """A malformed page of parts is InvalidArgument; an absent one is the first, of at most 1,000."""
    with pytest.raises(S3Fault):
        attributes.parse_part_page(HeaderFields([(name.encode(), b"-1")]))
    assert attributes.parse_part_page(HeaderFields([(b"x-amz-max-parts", b"5000")])) == attributes.FIRST_PAGE
