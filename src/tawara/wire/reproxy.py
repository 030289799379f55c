"""The response fields by which an application lets a Perlbal send a file (docs/mogilefs.md 22): parsed, no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

URL: Final = "X-Reproxy-Url"
EXPECTED_SIZE: Final = "X-Reproxy-Expected-Size"
CACHE_FOR: Final = "X-Reproxy-Cache-For"
PREFIX: Final = "x-reproxy-"
LONGEST: Final = 86_400
"""Most seconds for which an answer is cached."""
_URLS: Final = 32
_NAME: Final = re.compile(r"[!#$%&'*+.^`|~\w-]{1,64}", re.ASCII)
_SECONDS: Final = re.compile(r"\s*([0-9]{1,9})\s*(?:;(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CacheFor:
    """How long the next requests for an address get the same file without asking the application."""

    seconds: int
    fields: frozenset[str]
    """Lower-case names of the response fields that they get, too."""


def parse_urls(text: str) -> list[str]:
    """Return the URLs of a file, best first, at most 32."""
    return text.split()[:_URLS]


def parse_size(text: str | None) -> int | None:
    """Return the length in bytes that the file must have; None for any. A malformed number matches no file."""
    digits = "" if text is None else text.strip()
    if not digits:
        return None
    return int(digits) if re.fullmatch(r"[0-9]{1,18}", digits, re.ASCII) else -1


def parse_cache_for(text: str | None) -> CacheFor | None:
    """Parse `SECONDS; Name Name`; None if it is missing, malformed or 0."""
    match = _SECONDS.fullmatch(text) if text is not None else None
    if match is None or not int(match[1]):
        return None
    names = [each.lower() for each in (match[2] or "").split() if _NAME.fullmatch(each)]
    return CacheFor(min(int(match[1]), LONGEST), frozenset(names))
