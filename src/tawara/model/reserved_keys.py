"""Keys that the store reserves for contents that are no files of users: parts of uploads, superseded versions.

They begin with the last code point, U+10FFFF, so that they sort after every other key of valid UTF-8, and a listing
passes over all of them at once.
"""

from __future__ import annotations

from typing import Final

RESERVED: Final = "\U0010ffff".encode()
"""The first reserved key. Keys of other clients that are no UTF-8 may sort after all reserved ones."""
NOT_YOURS: Final = "Keys that begin with U+10FFFF are reserved"
"""Text of the error for a reserved key."""
PARTS: Final = RESERVED + b"p"
"""Prefix of the keys of parts."""
_UPLOAD_ID: Final = 32
_DIGITS: Final = 5


def is_reserved(key: bytes) -> bool:
    """Whether the key is hidden from users, who can neither read nor write it."""
    return key.startswith(RESERVED)


def parts_prefix(upload_id: str) -> bytes:
    """Return the common prefix of the keys of an upload's parts."""
    return PARTS + upload_id.encode() + b"/"


def part_key(upload_id: str, number: int) -> bytes:
    """Return the key of a part, so that an upload's parts are sorted by number."""
    return parts_prefix(upload_id) + f"{number:0{_DIGITS}}".encode()


def part_number(key: bytes) -> int:
    """Return the number of a part by its key."""
    return int(key[-_DIGITS:])


def upload_of(key: bytes) -> str:
    """Return the id of the upload to which the part with this key belongs."""
    return key[len(PARTS) : len(PARTS) + _UPLOAD_ID].decode(errors="replace")
