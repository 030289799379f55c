"""Header fields that are stored with an object and answered with it: media type, caching, user metadata."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tawara.wire.s3.faults import FaultCode, S3Fault, invalid_argument
from tawara.wire.s3.head import HeaderFields, S3Target
from tawara.wire.s3.payload import codings

METADATA_PREFIX: Final = "x-amz-meta-"
MOST_METADATA: Final = 2048
"""Bytes of names and values of user metadata together."""
LONGEST_FIELD: Final = 2048
"""Bytes of one other field."""
DEFAULT_TYPE: Final = "binary/octet-stream"
STORED: Final = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")
OVERRIDES: Final = {
    "response-content-type": "content-type",
    "response-content-disposition": "content-disposition",
    "response-cache-control": "cache-control",
    "response-content-encoding": "content-encoding",
    "response-content-language": "content-language",
    "response-expires": "expires",
}
"""Query parameter -> field of the answer that it replaces."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FOLD: Final = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class ObjectFields:
    """The fields of an object."""

    content_type: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    """Those of STORED that the object has, by lower-case name."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User metadata by lower-case name without the prefix."""


def parse_object_fields(fields: HeaderFields) -> ObjectFields:
    """Read the fields that a PUT, a copy or a new upload stores. The coding aws-chunked is left out: it is framing.

    Raises S3Fault: MetadataTooLarge, InvalidArgument for a control character or a field that is too long.
    """
    stored = {}
    for name in STORED:
        value = fields.get(name)
        if name == "content-encoding":
            value = ", ".join(each for each in codings(fields) if each.lower() != "aws-chunked")
        if value:
            stored[name] = _checked(name, value)
    metadata = {}
    for name in fields.names():
        if name.startswith(METADATA_PREFIX) and len(name) > len(METADATA_PREFIX):
            metadata[name.removeprefix(METADATA_PREFIX)] = _checked(name, fields.get(name) or "", MOST_METADATA)
    check_metadata(metadata)
    content_type = fields.get("content-type") or None
    if content_type is not None:
        _checked("content-type", content_type, 255)
    return ObjectFields(content_type, stored, metadata)


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raise S3Fault (MetadataTooLarge) if user metadata exceed the limit."""
    size = sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items())
    if size > MOST_METADATA:
        raise S3Fault(FaultCode.METADATA_TOO_LARGE, details=[("Size", size), ("MaxSizeAllowed", MOST_METADATA)])


def answer_fields(stored: ObjectFields, overrides: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """Return the header fields of a GET or HEAD, in lower case, with `overrides` in place of what is stored."""
    fields = {"content-type": stored.content_type or DEFAULT_TYPE, **stored.fields, **(overrides or {})}
    lines = [(name, encode_field(value)) for name, value in fields.items()]
    return lines + [(METADATA_PREFIX + name, encode_field(value)) for name, value in stored.metadata.items()]


def encode_field(value: str) -> str:
    """Encode a value for a header field: ASCII as it is, all else as an encoded word (RFC 2047)."""
    if value.isascii():
        return _FOLD.sub(" ", value)
    return f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?="


def parse_overrides(target: S3Target, *, signed: bool) -> dict[str, str]:
    """Read the parameters that replace fields of the answer. Raises S3Fault: InvalidRequest if anonymous.

    A value with a control character is InvalidArgument: it would begin another header field.
    """
    found = {}
    for parameter, name in OVERRIDES.items():
        value = target.parameter(parameter)
        if value is not None:
            found[name] = _checked(parameter, value)
    if found and not signed:
        raise S3Fault(
            FaultCode.INVALID_REQUEST,
            "Request specific response headers cannot be used for anonymous GET requests.",
        )
    return found


def _checked(name: str, value: str, longest: int = LONGEST_FIELD) -> str:
    if _CONTROL.search(value):
        raise invalid_argument(name, "", "The value has a control character")
    if len(value.encode()) > longest:
        if name.startswith(METADATA_PREFIX):
            raise S3Fault(FaultCode.METADATA_TOO_LARGE)
        raise invalid_argument(name, "", f"The value is longer than {longest} bytes")
    return value
