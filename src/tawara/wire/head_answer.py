"""The answer to HEAD, the one message of HTTP/1 that never has a body (RFC 9110, section 9.3.2; RFC 9112)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_MOST: Final = 16 * 1024
"""Bytes that a header may have."""
_DIGITS: Final = 18
"""Digits of a length that any database can hold."""
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: ([^\r\n]*))?(?=\r\n|\Z)")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n|\Z)", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection:[^\r\n]*\bclose\b", re.IGNORECASE)


class HeadAnswer(NamedTuple):
    """What a server says of a resource."""

    status: int
    reason: str
    length: int | None
    """Bytes that it has; None if that is not said, or not once and in digits."""
    keep: bool
    """Whether the connection can be used again."""


def parse(data: bytes) -> HeadAnswer | None:
    """The answer that `data` is, interim ones passed over; None until it is whole.

    Raises ValueError for what cannot become an answer, or is longer than any.
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
