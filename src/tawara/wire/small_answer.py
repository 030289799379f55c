"""The response to GET of a small file with Content-Length (RFC 9112, section 6.2)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from tawara.wire import head_answer

MOST: Final = 64 * 1024
"""Most bytes of a small body."""
_CHUNKED: Final = re.compile(rb"\r\n(?:transfer|content)-encoding:", re.IGNORECASE)
_INTERIM: Final = re.compile(rb"HTTP/1\.[01] 1\d\d\b")


class SmallAnswer(NamedTuple):
    """A complete response."""

    status: int
    body: bytes
    keep: bool
    """Whether the connection can be reused."""


def parse(data: bytes) -> SmallAnswer | None:
    """Parse the final response in `data`, skipping interim (1xx) responses; None while it is incomplete.

    Raises ValueError if Content-Length is missing or repeated, the body is encoded, or it is not small.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    if end and _INTERIM.match(head):
        return parse(rest)
    found = head_answer.parse(head + end)
    if found is None:
        return None
    if found.length is None or found.length > MOST or _CHUNKED.search(head):
        raise ValueError("no response with a Content-Length")
    if len(rest) < found.length:
        return None
    return SmallAnswer(found.status, rest[: found.length], found.keep and len(rest) == found.length)
