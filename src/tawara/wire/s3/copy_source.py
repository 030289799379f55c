"""The source and the directives of a copy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import unquote_to_bytes

from tawara.wire.s3.faults import FaultCode, S3Fault, invalid_argument
from tawara.wire.s3.head import HeaderFields, check_key

FIELD: Final = "x-amz-copy-source"
SOURCE_OWNER: Final = "x-amz-source-expected-bucket-owner"
_RANGE: Final = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class CopySource:
    """The object that is copied."""

    bucket: str
    key: bytes
    version_id: str | None = None


class Directive(Enum):
    """Whether the target has the source's metadata or tags, or those of the request."""

    COPY = "COPY"
    REPLACE = "REPLACE"


def parse_copy_source(text: str) -> CopySource:
    """Parse x-amz-copy-source: `/BUCKET/KEY?versionId=ID`, percent-encoded; the first slash may be left out.

    A `+` is a plus. Raises S3Fault (InvalidArgument).
    """
    encoded, _, version = text.partition("?versionId=")
    path = unquote_to_bytes(encoded).removeprefix(b"/")
    bucket, _, key = path.partition(b"/")
    try:
        key.decode()
        name = bucket.decode()
    except UnicodeDecodeError:
        name = ""
    if not name or not key or b"\0" in path:
        raise invalid_argument(FIELD, text, "The copy source must be of the form /bucket/key")
    check_key(key)
    return CopySource(name, key, version or None)


def parse_directive(fields: HeaderFields, name: str) -> Directive:
    """Read x-amz-metadata-directive or x-amz-tagging-directive. Raises S3Fault (InvalidArgument)."""
    text = fields.get(name) or "COPY"
    try:
        return Directive(text)
    except ValueError:
        raise invalid_argument(name, text, "Unknown directive: COPY and REPLACE are known") from None


def check_self_copy(*, same: bool, changed: bool) -> None:
    """Raise S3Fault (InvalidRequest) for a copy of an object onto itself that changes nothing.

    `changed`: the directive is REPLACE, or the storage class is another.
    """
    if same and not changed:
        raise S3Fault(
            FaultCode.INVALID_REQUEST,
            "This copy request is illegal because it is trying to copy an object to itself without changing the"
            " object's metadata, storage class, website redirect location or encryption attributes.",
        )


def parse_source_range(text: str, length: int) -> tuple[int, int]:
    """Parse x-amz-copy-source-range, both ends inclusive; return start and length in bytes.

    `length` is that of the source. Raises S3Fault: InvalidArgument for another form, InvalidRange beyond the end.
    """
    match = _RANGE.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise invalid_argument(
            f"{FIELD}-range", text, "The x-amz-copy-source-range value must be of the form bytes=first-last"
        )
    first, last = int(match[1]), int(match[2])
    if last >= length:
        raise S3Fault(FaultCode.INVALID_RANGE, f"Range specified is not valid for source object of size: {length}")
    return first, last - first + 1
