"""An HTTP reply as a value, whichever server sends it, and the request fields that describe a body."""

from __future__ import annotations

import base64
import binascii
from typing import Final, NamedTuple

from tawara.model.node_errors import MalformedRequest
from tawara.wire import ranges
from tawara.wire.ranges import Span

TEXT_FIELDS: Final = {"Content-Type": "text/plain"}
NOT_WHOLE: Final = "A file is put whole; a Content-Range that names a part of it is not understood"


class Reply(NamedTuple):
    """Status, fields and body of a reply. The server adds Content-Length, Date, Server and Connection."""

    status: int
    fields: dict[str, str] = TEXT_FIELDS
    body: bytes = b""
    part: Span | None = None
    """The bytes of a file that are the body, if `body` is not: of a large file, or for HEAD."""


def text_reply(status: int, text: str = "", fields: dict[str, str] = TEXT_FIELDS) -> Reply:
    """Make a reply whose body is one line of text, or empty."""
    return Reply(status, fields, f"{text}\n".encode() if text else b"")


def whole_length(content_range: str | None) -> int | None:
    """Return the length in bytes of the whole file by the Content-Range of a PUT; None without that field.

    Raises MalformedRequest for a part, which must not replace the file (RFC 9110, section 14.5).
    """
    if content_range is None:
        return None
    length = ranges.whole_length(content_range)
    if length is None:
        raise MalformedRequest(NOT_WHOLE)
    return length


def content_md5(value: str | None) -> bytes | None:
    """Decode Content-MD5 (RFC 1864) to the raw digest; None without that field. Raises MalformedRequest."""
    if value is None:
        return None
    try:
        digest = base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise MalformedRequest("Content-MD5 is not the base64 of 16 bytes")
    return digest
