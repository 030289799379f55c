"""Checksums in header fields of requests and answers."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from tawara.model.object_checksums import ChecksumAlgorithm, ChecksumType, parse_value, type_of_upload
from tawara.wire.s3.faults import FaultCode, S3Fault, invalid_argument
from tawara.wire.s3.head import HeaderFields
from tawara.wire.s3.payload import trailer_names

MODE: Final = "x-amz-checksum-mode"


@dataclass(frozen=True, slots=True)
class DeclaredChecksum:
    """The checksum that a client announces for a body."""

    algorithm: ChecksumAlgorithm
    value: bytes | None
    """None if it follows in a trailing field, or is left to the server."""
    in_trailer: bool = False


def declared_checksum(fields: HeaderFields) -> DeclaredChecksum | None:
    """Find the checksum of the body; None if the client gives none.

    Raises S3Fault (InvalidRequest) for a malformed value, several algorithms, or one that contradicts
    x-amz-sdk-checksum-algorithm.
    """
    given = [each for each in ChecksumAlgorithm if fields.get(each.field) is not None]
    trailing = [each for each in ChecksumAlgorithm if each.field in trailer_names(fields)]
    if len(given) + len(trailing) > 1:
        raise S3Fault(
            FaultCode.INVALID_REQUEST,
            "Expecting a single x-amz-checksum- header. Multiple checksum types are not allowed.",
        )
    named = _named(fields, "x-amz-sdk-checksum-algorithm")
    for algorithm in given or trailing:
        if named not in (None, algorithm):
            raise S3Fault(FaultCode.INVALID_REQUEST, "The checksum is not of the algorithm that was specified")
        if trailing:
            return DeclaredChecksum(algorithm, None, in_trailer=True)
        return DeclaredChecksum(algorithm, checksum_value(algorithm, fields.get(algorithm.field) or ""))
    return None if named is None else DeclaredChecksum(named, None)


def checksum_value(algorithm: ChecksumAlgorithm, text: str) -> bytes:
    """Decode the value of a checksum field or trailing field. Raises S3Fault (InvalidRequest)."""
    value = parse_value(algorithm, text)
    if value is None:
        raise S3Fault(FaultCode.INVALID_REQUEST, f"Value for {algorithm.field} header is invalid.")
    return value


def declared_upload(fields: HeaderFields) -> tuple[ChecksumAlgorithm, ChecksumType] | None:
    """The checksum that an upload in parts will have; None if it declares none. Raises S3Fault (InvalidRequest)."""
    algorithm = _named(fields, "x-amz-checksum-algorithm")
    text = fields.get("x-amz-checksum-type")
    try:
        asked = None if text is None else ChecksumType(text)
    except ValueError:
        raise invalid_argument("x-amz-checksum-type", text or "", "The checksum type is unknown") from None
    if algorithm is None:
        if asked is not None:
            raise S3Fault(
                FaultCode.INVALID_REQUEST,
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )
        return None
    found = type_of_upload(algorithm, asked)
    if found is None:
        raise S3Fault(
            FaultCode.INVALID_REQUEST,
            f"The {text} checksum type cannot be used with the {algorithm.lower()} checksum algorithm.",
        )
    return algorithm, found


def content_md5(fields: HeaderFields) -> bytes | None:
    """The MD5 of the body; None without Content-MD5. Raises S3Fault (InvalidDigest)."""
    text = fields.get("content-md5")
    if text is None:
        return None
    try:
        value = base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != 16:
        raise S3Fault(FaultCode.INVALID_DIGEST)
    return value


def check_digest(algorithm: ChecksumAlgorithm, expected: bytes, computed: bytes) -> None:
    """Raise S3Fault (BadDigest) unless the body has the checksum that the client announced."""
    if expected != computed:
        raise S3Fault(
            FaultCode.BAD_DIGEST,
            f"The {algorithm} you specified did not match the calculated checksum.",
        )


def answers_checksum(fields: HeaderFields, *, partial: bool, composite: bool) -> bool:
    """Whether a GET or HEAD answers the object's checksum.

    Never the whole object's with a part of it: SDKs compare each checksum that they get with the bytes that they got.
    """
    asked = (fields.get(MODE) or "").upper() == "ENABLED"
    return asked and (composite or not partial)


def _named(fields: HeaderFields, name: str) -> ChecksumAlgorithm | None:
    text = fields.get(name)
    if text is None:
        return None
    try:
        return ChecksumAlgorithm(text.upper())
    except ValueError:
        raise S3Fault(
            FaultCode.INVALID_REQUEST,
            "Checksum algorithm provided is unsupported. Please try again with any of the"
            f" valid types: [{', '.join(ChecksumAlgorithm)}]",
        ) from None
