"""Decides status and header fields of a GET or HEAD of a stored file (RFC 9110); a pure module without I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from mimetypes import MimeTypes
from typing import Final

from tawara.model.files import StoredFile
from tawara.store.conditions import UNCONDITIONAL, validators
from tawara.wire import ranges
from tawara.wire.http import ConditionResult, Conditions, entity_tag, http_date

_TYPES: Final = MimeTypes(filenames=()).types_map[True]
"""Extension -> media type; Python's built-in table, so that the type does not depend on the machine's files."""
_PACKED: Final = {
    ".gz": "application/gzip",
    ".bz2": "application/x-bzip2",
    ".xz": "application/x-xz",
    ".zst": "application/zstd",
}
_UNKNOWN_TYPE: Final = "application/octet-stream"
_TYPE: Final = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}(?:[ \t]*;[\x20-\x7e\t]*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ReadResponse:
    """Status, header fields, and the part of the file that is the body (None: no body)."""

    status: int
    headers: Mapping[str, str]
    part: ranges.Span | None = None
    partial: bool = False
    """Whether a range was requested, so that the status is 206."""


@lru_cache(1024)
def media_type(text: str | None) -> str | None:
    """Return a Content-Type that may be stored and sent in responses; None if it is malformed."""
    return text if text is not None and len(text) <= 255 and _TYPE.fullmatch(text) else None


def type_of(stored: StoredFile) -> str:
    """Return the Content-Type given with the upload, otherwise that of the key's extension."""
    given = media_type(stored.content_type)
    return type_by_name(stored.key) if given is None else given


def type_by_name(key: bytes) -> str:
    """Return the Content-Type of the key's extension."""
    name = key.rpartition(b"/")[2].decode("ascii", "replace").lower()
    dot = name.rfind(".")
    extension = name[dot:] if dot >= 0 else ""
    return _PACKED.get(extension) or _TYPES.get(extension, _UNKNOWN_TYPE)


def entity_headers(stored: StoredFile) -> dict[str, str]:
    """Return the validators as header fields."""
    headers = {"ETag": entity_tag(stored.fid, stored.length)}
    if stored.stored_at is not None:
        headers["Last-Modified"] = http_date(stored.stored_at)
    return headers


def decide(stored: StoredFile, conditions: Conditions, range_field: str | None, *, head: bool) -> ReadResponse:
    """Evaluate preconditions, then the range (RFC 9110, section 13.2.2); HEAD ignores ranges (section 14.2)."""
    headers = entity_headers(stored)
    if conditions is not UNCONDITIONAL:
        verdict = conditions.judge(validators(stored), reading=True)
        if verdict is ConditionResult.NOT_MODIFIED:
            return ReadResponse(304, headers)
        if verdict is ConditionResult.FAILED:
            return ReadResponse(412, headers)
    headers |= {
        "Content-Type": type_of(stored),
        "Content-Length": str(stored.length),
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
    }
    if head:
        return ReadResponse(200, headers)
    if range_field is None:
        return ReadResponse(200, headers, ranges.Span(0, stored.length))
    span = ranges.resolve(range_field if conditions.ranges_apply(validators(stored)) else None, stored.length)
    if span is ranges.NotPartial.UNSATISFIABLE:
        return ReadResponse(416, {"Content-Range": f"bytes */{stored.length}", "Accept-Ranges": "bytes"})
    if isinstance(span, ranges.Span):
        headers |= {"Content-Length": str(span.length), "Content-Range": span.content_range(stored.length)}
        return ReadResponse(206, headers, span, partial=True)
    return ReadResponse(200, headers, ranges.Span(0, stored.length))
