"""What x-amz-content-sha256 says about the body: its digest, nothing, or how it is framed."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from tawara.wire.s3.faults import FaultCode, S3Fault, invalid_argument
from tawara.wire.s3.head import HeaderFields

UNSIGNED: Final = "UNSIGNED-PAYLOAD"
FIELD: Final = "x-amz-content-sha256"
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]{1,19}", re.ASCII)


class Framing(Enum):
    """How the body is framed; the value is that of x-amz-content-sha256."""

    NONE = ""
    SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    """aws-chunked, each chunk signed."""
    SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    """The same, followed by signed trailing fields."""
    UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    """aws-chunked without signatures; trailing fields may follow."""

    @property
    def is_signed(self) -> bool:
        """Whether each chunk carries a signature."""
        return self in (Framing.SIGNED, Framing.SIGNED_TRAILER)

    @property
    def has_trailer(self) -> bool:
        """Whether trailing fields may follow the last chunk."""
        return self in (Framing.SIGNED_TRAILER, Framing.UNSIGNED_TRAILER)


def framing_of(fields: HeaderFields) -> Framing:
    """How the body is framed, by any of the three signs that clients give.

    Raises S3Fault: NotImplemented for ECDSA signatures, InvalidArgument for a value that is none.
    """
    value = fields.get(FIELD) or ""
    if value.startswith("STREAMING-"):
        if "ECDSA" in value:
            raise S3Fault(FaultCode.NOT_IMPLEMENTED, "Signatures by ECDSA (SigV4A) are not implemented")
        try:
            return Framing(value)
        except ValueError:
            raise invalid_argument(FIELD, value, "Unknown kind of streaming payload") from None
    if fields.get("x-amz-decoded-content-length") is not None or "aws-chunked" in codings(fields):
        return Framing.UNSIGNED_TRAILER
    return Framing.NONE


def codings(fields: HeaderFields) -> list[str]:
    """The codings of Content-Encoding, as they were written, without blanks."""
    return [each for part in (fields.get("content-encoding") or "").split(",") if (each := part.strip())]


def check_payload_field(value: str) -> None:
    """Raise S3Fault (InvalidArgument) unless the value of x-amz-content-sha256 is a digest or one of the words."""
    if value != UNSIGNED and not value.startswith("STREAMING-") and _DIGEST.fullmatch(value) is None:
        raise invalid_argument(
            FIELD, value, f"{FIELD} must be {UNSIGNED}, one of the words STREAMING-..., or a SHA-256 digest in hex"
        )


def expected_digest(fields: HeaderFields) -> bytes | None:
    """The SHA-256 digest that the body must have; None if x-amz-content-sha256 gives none."""
    value = fields.get(FIELD) or ""
    return bytes.fromhex(value) if _DIGEST.fullmatch(value) else None


def object_length(fields: HeaderFields, framing: Framing) -> int:
    """The length of the object in bytes, decoded. Raises S3Fault: MissingContentLength, InvalidArgument."""
    name = "content-length" if framing is Framing.NONE else "x-amz-decoded-content-length"
    value = fields.get(name)
    if value is None:
        raise S3Fault(FaultCode.MISSING_CONTENT_LENGTH)
    if _DIGITS.fullmatch(value) is None:
        raise invalid_argument(name, value, "The length is not a number")
    return int(value)


def trailer_names(fields: HeaderFields) -> frozenset[str]:
    """The lower-case names of the trailing fields that x-amz-trailer announces."""
    return frozenset(each for part in (fields.get("x-amz-trailer") or "").lower().split(",") if (each := part.strip()))
