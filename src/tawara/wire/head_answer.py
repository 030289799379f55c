"""Parses the response to HEAD, which never has a body (RFC 9110, section 9.3.2; RFC 9112)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_MOST: Final = 16 * 1024
"""Longest response header, in bytes."""
_DIGITS: Final = 18
"""Most digits of a Content-Length; any database can store such a number."""
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: ([^\r\n]*))?(?=\r\n|\Z)")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n|\Z)", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection:[^\r\n]*\bclose\b", re.IGNORECASE)


class HeadAnswer(NamedTuple):
    """Status and headers of a response to HEAD."""

    status: int
    reason: str
    length: int | None
    """Content-Length in bytes; None if it is missing, repeated or malformed."""
    keep: bool
    """Whether the connection can be reused."""


def parse(data: bytes) -> HeadAnswer | None:
    """Parse the final response in `data`, skipping interim (1xx) responses; None while it is incomplete.

    Raises ValueError if `data` is not a valid response or too long.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    status = _STATUS.match(head)
    if len(head) > _MOST or (end and status is None):
        raise ValueError("no answer of HTTP")
    if not end or status is None:
        return None
    code = int(status[2])
    if 100 <= code < 200:
        return parse(rest)
    lengths = set(_LENGTH.findall(head))
    length = lengths.pop() if len(lengths) == 1 else b""
    return HeadAnswer(
        status=code,
        reason=(status[3] or b"").decode("latin-1"),
        length=int(length) if length.isdigit() and len(length) <= _DIGITS else None,
        keep=status[1] == b"1" and not rest and _CLOSE.search(head) is None,
    )
