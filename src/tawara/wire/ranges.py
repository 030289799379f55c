"""Evaluates a Range header: the whole file, one part of it, or an unsatisfiable range (RFC 9110, section 14).

A request for several parts gets the whole file, as RFC 9110 section 14.2 allows: no client of a file store needs
multipart responses, and they are a known means of denial of service.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

_ONE_RANGE = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.ASCII | re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes 0-(\d{1,18})/(\d{1,19}|\*)", re.ASCII | re.IGNORECASE)
_PLAIN = re.compile(r"bytes=(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})")
_BEYOND = 10**19


@dataclass(frozen=True, slots=True)
class Span:
    """One part: `length` bytes (at least 1) from offset `start`."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        """Return the Content-Range value for this part of a file of `size` bytes."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


class NotPartial(Enum):
    """The two results that are not a part."""

    WHOLE = "the header is absent, malformed or asks for several parts: send everything with 200"
    UNSATISFIABLE = "no byte of the file is in the range: send 416"


def resolve(header: str | None, size: int) -> Span | NotPartial:
    """Evaluate a Range header for a file of `size` bytes; a malformed header is ignored (RFC 9110, 14.2)."""
    match = _ONE_RANGE.fullmatch(header) if header else None
    if match is None or match[0].strip().endswith("=-"):
        return NotPartial.WHOLE
    first, last = _number(match[1]), _number(match[2])
    if first is None:
        assert last is not None
        wanted = min(last, size)
        return Span(size - wanted, wanted) if wanted else NotPartial.UNSATISFIABLE
    if last is not None and last < first:
        return NotPartial.WHOLE
    if first >= size:
        return NotPartial.UNSATISFIABLE
    end = size if last is None else min(last + 1, size)
    return Span(first, end - first)


def is_plain(header: str) -> bool:
    """Whether every server interprets the Range header as `resolve` does: one range, no blanks, ordinary numbers."""
    return _PLAIN.fullmatch(header) is not None


def whole_length(content_range: str) -> int | None:
    """Return the length of a body if its Content-Range covers the whole file; else None.

    Accepts `bytes 0-9/10`, and `bytes 0-9/*` from a client that does not state the file's length.
    """
    match = _CONTENT_RANGE.fullmatch(content_range.strip())
    if match is None:
        return None
    length = int(match[1]) + 1
    return length if match[2] in ("*", str(length)) else None


def _number(digits: str) -> int | None:
    """Parse a number; too many digits give a number beyond every file, since int() takes quadratic time."""
    if not digits:
        return None
    significant = digits.lstrip("0") or "0"
    return int(significant) if len(significant) < 20 else _BEYOND
