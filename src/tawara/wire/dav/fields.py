"""Header fields of WebDAV: Depth, Overwrite, Destination, Timeout, Lock-Token (RFC 4918, section 10)."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from tawara.model.errors import UsageError
from tawara.wire.http import Target, parse_target

DEFAULT_TIMEOUT: Final = 600
"""Seconds that a lock lasts if the client does not ask for a time."""
LONGEST_TIMEOUT: Final = 3600
"""Most seconds that a lock lasts without being refreshed."""
_SECONDS: Final = re.compile(r"second-([0-9]{1,20})", re.IGNORECASE | re.ASCII)
_LOCK_TOKEN: Final = re.compile(r"<([^<>\x00-\x20\x7f]{1,255})>")


class CollectionDepth(Enum):
    """How much of a collection a request concerns."""

    ZERO = "0"
    ONE = "1"
    INFINITY = "infinity"


def parse_depth(text: str | None, *, default: CollectionDepth = CollectionDepth.INFINITY) -> CollectionDepth:
    """Parse Depth (RFC 4918, section 10.2). Raises UsageError."""
    if text is None:
        return default
    try:
        return CollectionDepth(text.strip().lower())
    except ValueError:
        raise UsageError("Depth must be 0, 1 or infinity") from None


def parse_overwrite(text: str | None) -> bool:
    """Parse Overwrite; absent means true (RFC 4918, section 10.6). Raises UsageError."""
    overwrite = (text or "T").strip().upper()
    if overwrite not in ("T", "F"):
        raise UsageError("Overwrite must be T or F")
    return overwrite == "T"


def parse_destination(text: str | None) -> Target:
    """Parse Destination, an absolute URI or a path (RFC 4918, section 10.3).

    Only the path counts: behind a proxy a client may know the server by another name. Raises UsageError and InvalidKey.
    """
    if text is None or not text.strip():
        raise UsageError("COPY and MOVE need a Destination")
    return parse_target(text.strip())


def parse_timeout(text: str | None) -> int:
    """Parse Timeout (RFC 4918, section 10.7); the first value that is understood counts.

    Returns 1 to LONGEST_TIMEOUT seconds.
    """
    for each in (text or "").split(","):
        if each.strip().lower() == "infinite":
            return LONGEST_TIMEOUT
        if match := _SECONDS.fullmatch(each.strip()):
            return max(1, min(int(match[1]), LONGEST_TIMEOUT))
    return DEFAULT_TIMEOUT


def parse_lock_token(text: str | None) -> str:
    """Parse Lock-Token (RFC 4918, section 10.5). Raises UsageError."""
    match = _LOCK_TOKEN.fullmatch((text or "").strip())
    if match is None:
        raise UsageError("UNLOCK needs a Lock-Token, a URI in angle brackets")
    return match[1]
