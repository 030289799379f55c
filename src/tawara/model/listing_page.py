"""Pages of a listing: keys and common prefixes in byte order, and where the next page begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key of a page, with what a listing tells about its file."""

    key: bytes
    fid: int
    length: int
    """Bytes."""
    classid: int
    stored_at: int | None
    """Unix seconds; None for files of MogileFS."""
    md5: bytes | None
    """None if the file's checksum is unknown or of another algorithm."""
    etag: str | None = None
    """The entity tag of an object without quotes, if it is not the MD5."""


@dataclass(frozen=True, slots=True)
class ListingPage:
    """A page: at most as many entries as asked for, keys and common prefixes together."""

    files: tuple[ListedKey, ...]
    prefixes: tuple[bytes, ...]
    """Common prefixes, each up to and including the delimiter."""
    truncated: bool
    """Whether further entries follow."""

    @property
    def last(self) -> tuple[bytes, bool] | None:
        """The last entry and whether it is a common prefix; None for an empty page."""
        key = self.files[-1].key if self.files else None
        prefix = self.prefixes[-1] if self.prefixes else None
        if prefix is not None and (key is None or prefix > key):
            return prefix, True
        return None if key is None else (key, False)


def common_prefix(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """The common prefix under which a key is listed; None if it is listed itself.

    The delimiter counts after `prefix` only.
    """
    if not delimiter:
        return None
    position = key.find(delimiter, len(prefix))
    return None if position < 0 else key[: position + len(delimiter)]


def is_whole_prefix(entry: bytes, prefix: bytes, delimiter: bytes) -> bool:
    """Whether `entry`, after which a listing continues, is a common prefix: all keys under it are then passed over.

    A key inside a common prefix is not, so that the prefix is listed if keys follow.
    """
    return entry.startswith(prefix) and common_prefix(entry, prefix, delimiter) == entry


def group(keys: Sequence[bytes], prefix: bytes, delimiter: bytes) -> list[tuple[bytes, bool]]:
    """Return the entries of sorted keys: each key or common prefix once, and whether it is a prefix."""
    entries: list[tuple[bytes, bool]] = []
    for key in keys:
        if not key.startswith(prefix):
            continue
        found = common_prefix(key, prefix, delimiter)
        entry = (key, False) if found is None else (found, True)
        if not entries or entries[-1] != entry:
            entries.append(entry)
    return entries
