"""What a storage node answers, whichever server reads the request and writes the answer (docs/mogilefs.md 18.1)."""

from __future__ import annotations

import base64
import binascii
from http import HTTPStatus
from typing import Final, NamedTuple

import structlog

from tawara.disks.reading import OpenedFile
from tawara.model.errors import TawaraError
from tawara.model.node_errors import DeviceFailed, DirectoryInstead, MalformedRequest, OtherContent
from tawara.wire import ranges
from tawara.wire.http import http_date
from tawara.wire.plain_request import CONFLICT
from tawara.wire.ranges import Span

log = structlog.get_logger(__name__)

_TEXT: Final = {"Content-Type": "text/plain"}


class Reply(NamedTuple):
    """Status, fields (without those that say of what length, when and by whom) and body of an answer."""

    status: int
    fields: dict[str, str] = _TEXT
    body: bytes = b""
    part: Span | None = None
    """What is sent of a file, if that is not `body`: because it is large, or because only its length is asked for."""


def text(status: int, words: str = "", fields: dict[str, str] = _TEXT) -> Reply:
    """A short answer for people."""
    return Reply(status, fields, f"{words}\n".encode() if words else b"")


NO_LISTING: Final = text(200, "Directory listing disabled")


def refusal(error: Exception, method: str, path: str) -> Reply:
    """The answer to a request that failed; what nobody has foreseen is logged, and nothing of it told."""
    if isinstance(error, DirectoryInstead) and method in ("GET", "HEAD"):
        return NO_LISTING
    status = error.http if isinstance(error, TawaraError) else 500
    if isinstance(error, DeviceFailed):
        log.warning("request failed", method=method, path=path, reason=str(error.__cause__ or error))
    elif status == 500:
        log.error("request failed", method=method, path=path, exc_info=error)
    if isinstance(error, OtherContent):
        return text(status, str(error), {**_TEXT, CONFLICT: "other-content"})
    return text(status, str(error) if isinstance(error, TawaraError) and status != 500 else HTTPStatus(status).phrase)


def of_file(found: OpenedFile, *, wanted: str | None, if_range: str | None, if_modified_since: str | None) -> Reply:
    """The answer to GET and HEAD of a file that is there, by what Range (`wanted`) and the conditions say.

    Dates are compared to the letter: what peers have of ours is what we said.
    """
    size, modified = found.file.size, http_date(found.file.modified)
    fields = {"Last-Modified": modified, "Accept-Ranges": "bytes"}
    if if_modified_since == modified:
        return Reply(304, fields)
    span = ranges.resolve(wanted if if_range is None or if_range == modified else None, size)
    if span is ranges.Unpartial.UNSATISFIABLE:
        return text(416, "No such range", {**_TEXT, "Content-Range": f"bytes */{size}"})
    if isinstance(span, Span):
        status, fields["Content-Range"] = 206, span.content_range(size)
    else:
        status, span = 200, Span(0, size)
    fields["Content-Type"] = "text/plain"
    if found.body is None:
        return Reply(status, fields, part=span)
    whole = status == 200
    return Reply(status, fields, found.body if whole else found.body[span.start : span.start + span.length])


NOT_WHOLE: Final = "A file is put whole; a Content-Range that names a part of it is not understood"


def whole_length(content_range: str | None) -> int | None:
    """The bytes of the whole file that Content-Range says the body is; None without one.

    Raises MalformedRequest for a part: it must not replace the file (RFC 9110, section 14.5).
    """
    if content_range is None:
        return None
    length = ranges.whole_length(content_range)
    if length is None:
        raise MalformedRequest(NOT_WHOLE)
    return length


def content_md5(value: str | None) -> bytes | None:
    """The raw digest that Content-MD5 names (RFC 1864), None without one. Raises MalformedRequest."""
    if value is None:
        return None
    try:
        digest = base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise MalformedRequest("Content-MD5 is not the base64 of 16 bytes")
    return digest
