"""Keys that the store reserves for contents that are no files of users: parts of uploads, superseded versions.

They begin with the last code point, U+10FFFF, so that they sort after every key of valid UTF-8, and one upper bound
leaves them out of a listing.
"""

from __future__ import annotations

from typing import Final

RESERVED: Final = "\U0010ffff".encode()
"""The first reserved key. Keys of other clients that are no UTF-8 and sort after it are not distinguished from it."""


def is_reserved(key: bytes) -> bool:
    """Whether the key is hidden from users, who can neither read nor write it."""
    return key >= RESERVED
