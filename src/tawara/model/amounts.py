"""Parses amounts in settings: bytes with suffix k, m, g, t; times with suffix s, m, h, d."""

from __future__ import annotations

import re
from typing import Final

_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def size(text: str) -> int | None:
    """Parse a size such as `1000` or `20m` (powers of 1,024) into bytes; None if invalid."""
    match = re.fullmatch(r"([0-9]{1,15})([bkmgtp]?)", text.strip(), re.IGNORECASE | re.ASCII)
    return int(match[1]) << 10 * "bkmgtp".index((match[2] or "b").lower()) if match else None


def duration(text: str) -> int | None:
    """Parse a duration such as `90`, `12h` or `30d` into seconds; None if invalid."""
    match = re.fullmatch(r"([0-9]{1,9})([smhdw]?)", text.strip(), re.IGNORECASE | re.ASCII)
    return int(match[1]) * _SECONDS[match[2].lower()] if match else None
