"""The checksum of an object that is made of parts, and what a client may expect of the object at its completion."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from tawara.model.multipart import ListedPart, UploadedPart, composite_checksum
from tawara.model.object_checksums import ChecksumAlgorithm, ChecksumType, combine_crcs, new_digest
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.head import HeaderFields
from tawara.wire.s3.results import AnsweredChecksum

SIZE: Final = "x-amz-mp-object-size"
TYPE: Final = "x-amz-checksum-type"
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


def joined_checksum(
    declared: tuple[ChecksumAlgorithm, ChecksumType] | None, parts: Sequence[UploadedPart]
) -> AnsweredChecksum | None:
    """Return the checksum of the object that consists of `parts`, without reading it; None if none is declared.

    None also if a part lacks the declared checksum.
    """
    if declared is None:
        return None
    algorithm, kind = declared
    values = [each.checksum for each in parts if each.checksum is not None]
    if len(values) < len(parts):
        return None
    if kind is ChecksumType.FULL_OBJECT:
        lengths = [each.length for each in parts]
        return AnsweredChecksum(algorithm, combine_crcs(algorithm, zip(values, lengths, strict=True)))

    def digest(data: bytes) -> bytes:
        running = new_digest(algorithm)
        running.update(data)
        return running.digest()

    return AnsweredChecksum(algorithm, composite_checksum(digest, values), len(parts))


def check_listed(declared: tuple[ChecksumAlgorithm, ChecksumType] | None, listed: Sequence[ListedPart]) -> None:
    """Raise S3Fault (InvalidRequest) if the object gets a composite checksum and a listed part lacks its own."""
    if declared is None or declared[1] is not ChecksumType.COMPOSITE:
        return
    for part in listed:
        if part.checksum is None:
            raise S3Fault(
                FaultCode.INVALID_REQUEST,
                f"The upload was created using a {declared[0].lower()} checksum. The complete request must include the"
                f" checksum for each part. It was missing for part {part.number} in the request.",
            )


def check_expectations(
    fields: HeaderFields,
    declared: tuple[ChecksumAlgorithm, ChecksumType] | None,
    checksum: AnsweredChecksum | None,
    length: int,
) -> None:
    """Compare the object with what the request says about it: its length, checksum and type of checksum.

    Raises S3Fault: InvalidRequest, BadDigest for another checksum.
    """
    size = fields.get(SIZE)
    if size is not None and (_NUMBER.fullmatch(size) is None or int(size) != length):
        raise S3Fault(
            FaultCode.INVALID_REQUEST, f"The provided '{SIZE}' header does not match what was computed: {length}"
        )
    kind = fields.get(TYPE)
    if kind is not None and kind != (declared[1].value if declared else None):
        raise S3Fault(FaultCode.INVALID_REQUEST, f"The upload was created with another checksum type than {kind[:100]}")
    for algorithm in ChecksumAlgorithm:
        expected = fields.get(algorithm.field)
        if expected is None or checksum is None or checksum.algorithm is not algorithm:
            continue  # AWS ignores those of other algorithms
        if expected.partition("-")[0] != checksum.text.partition("-")[0]:
            raise S3Fault(FaultCode.BAD_DIGEST, f"The {algorithm} you specified did not match the calculated checksum.")
