"""What follows about an object from its parts, and what a client may expect of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.multipart import ListedPart, UploadedPart
from tawara.model.object_checksums import ChecksumAlgorithm, ChecksumType, new_digest
from tawara.wire.s3.completion_checks import check_expectations, check_listed, joined_checksum
from tawara.wire.s3.completion_record import decode_completion, encode_completion
from tawara.wire.s3.faults import S3Fault
from tawara.wire.s3.head import HeaderFields
from tawara.wire.s3.results import AnsweredChecksum

CRC32 = ChecksumAlgorithm.CRC32
COMPOSITE = (CRC32, ChecksumType.COMPOSITE)
OBJECT = AnsweredChecksum(CRC32, b"\1\2\3\4", 2)


def digest_of(algorithm: ChecksumAlgorithm, data: bytes) -> bytes:
    """The checksum of some bytes."""
    running = new_digest(algorithm)
    running.update(data)
    return running.digest()


def parts_of(algorithm: ChecksumAlgorithm, bodies: list[bytes]) -> list[UploadedPart]:
    """Parts with these contents."""
    return [UploadedPart(number, len(body), b"", digest_of(algorithm, body)) for number, body in enumerate(bodies, 1)]


@given(
    st.sampled_from([each for each in ChecksumAlgorithm if each.is_crc]),
    st.lists(st.binary(max_size=40), min_size=1, max_size=5),
)
def test_the_checksum_of_all_bytes(algorithm: ChecksumAlgorithm, bodies: list[bytes]) -> None:
    """C9: the checksum over the whole object follows from those of the parts, and is that of their bytes."""
    found = joined_checksum((algorithm, ChecksumType.FULL_OBJECT), parts_of(algorithm, bodies))
    assert found == AnsweredChecksum(algorithm, digest_of(algorithm, b"".join(bodies)))


@pytest.mark.parametrize("algorithm", [each for each in ChecksumAlgorithm if each is not ChecksumAlgorithm.CRC64NVME])
def test_the_checksum_of_checksums(algorithm: ChecksumAlgorithm) -> None:
    """C9: a composite checksum is that of the parts' checksums, with their number."""
    parts = parts_of(algorithm, [b"a", b"bc"])
    found = joined_checksum((algorithm, ChecksumType.COMPOSITE), parts)
    joined = b"".join(each.checksum or b"" for each in parts)
    assert found == AnsweredChecksum(algorithm, digest_of(algorithm, joined), 2)


def test_listed_checksums() -> None:
    """C9: a composite checksum needs that of each listed part; one over the whole object does not."""
    complete, bare = ListedPart(1, "e", b"\1\2\3\4"), ListedPart(2, "e")
    check_listed(COMPOSITE, [complete])
    check_listed((CRC32, ChecksumType.FULL_OBJECT), [bare])
    check_listed(None, [bare])
    with pytest.raises(S3Fault, match="missing for part 2"):
        check_listed(COMPOSITE, [complete, bare])


def test_no_checksum() -> None:
    """Without a declared checksum, or if a part lacks its own, the object has none."""
    parts = parts_of(CRC32, [b"a"])
    assert joined_checksum(None, parts) is None
    assert joined_checksum(COMPOSITE, [*parts, UploadedPart(2, 1, b"")]) is None


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("x-amz-mp-object-size", "5", None),
        ("x-amz-mp-object-size", "6", "InvalidRequest"),
        ("x-amz-mp-object-size", "-1", "InvalidRequest"),
        ("x-amz-mp-object-size", "x" * 1000, "InvalidRequest"),
        ("x-amz-checksum-type", "COMPOSITE", None),
        ("x-amz-checksum-type", "FULL_OBJECT", "InvalidRequest"),
        ("x-amz-checksum-crc32", "AQIDBA==-2", None),
        ("x-amz-checksum-crc32", "AQIDBA==", None),
        ("x-amz-checksum-crc32", "AAAAAA==-2", "BadDigest"),
        ("x-amz-checksum-sha1", "AAAA", None),
        ("x-other", "x", None),
    ],
)
def test_expectations(name: str, value: str, code: str | None) -> None:
    """C10: length, type and checksum of the object are compared with what the completing client says."""
    fields = HeaderFields([(name.encode(), value.encode())])
    if code is None:
        check_expectations(fields, COMPOSITE, OBJECT, 5)
        return
    with pytest.raises(S3Fault) as fault:
        check_expectations(fields, COMPOSITE, OBJECT, 5)
    assert fault.value.code.code == code


def test_a_type_without_a_checksum() -> None:
    """A type of checksum is refused for an upload that declared none."""
    with pytest.raises(S3Fault):
        check_expectations(HeaderFields([(b"x-amz-checksum-type", b"COMPOSITE")]), None, None, 5)


@pytest.mark.parametrize("checksum", [None, OBJECT, AnsweredChecksum(CRC32, b"\1\2\3\4")])
def test_the_result_comes_back(checksum: AnsweredChecksum | None) -> None:
    """The kept answer of a completion is the same when it is read."""
    found = decode_completion(encode_completion("e-2", checksum))
    assert (found.etag, found.checksum()) == ("e-2", checksum)
