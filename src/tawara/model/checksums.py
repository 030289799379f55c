"""Computes checksums: running hashers of each algorithm, and CRCs of joined data from the CRCs of its parts.

A CRC of data that consists of parts follows from the parts' CRCs and lengths, so that no byte is read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol, TypeAlias

from tawara.model.cluster import Checksum, HashType

Piece: TypeAlias = "bytes | bytearray | memoryview"


class Hasher(Protocol):
    """A digest that is computed piece by piece; the hash objects of `hashlib` are such."""

    def update(self, data: Piece, /) -> None:
        """Add the next bytes."""
        ...

    def digest(self) -> bytes:
        """Return the digest of all bytes so far."""
        ...


def new_hasher(hashtype: HashType) -> Hasher:
    """Return a hasher that has seen no bytes yet."""
    match hashtype:
        case HashType.CRC32C | HashType.CRC64NVME:
            return _RunningCrc(hashtype)
        case HashType.MD5:
            return hashlib.md5(usedforsecurity=False)
        case HashType.SHA1:
            return hashlib.sha1(usedforsecurity=False)


def checksum_of(data: Piece, hashtype: HashType) -> Checksum:
    """Return the checksum of `data`."""
    hasher = new_hasher(hashtype)
    hasher.update(data)
    return Checksum(hashtype, hasher.digest())


def combine(hashtype: HashType, parts: Iterable[tuple[Checksum | None, int]]) -> Checksum | None:
    """Return the checksum of joined parts, each given by its checksum and its length in bytes.

    None if the algorithm is no CRC, or a part's checksum is unknown or of another algorithm.
    """
    if not hashtype.combines:
        return None
    from awscrt import checksums  # see _RunningCrc

    join = checksums.combine_crc32c if hashtype is HashType.CRC32C else checksums.combine_crc64nvme
    value = 0
    for checksum, length in parts:
        if checksum is None or checksum.hashtype is not hashtype:
            return None
        value = join(value, int.from_bytes(checksum.digest), length)
    return Checksum(hashtype, value.to_bytes(hashtype.digest_size))


class _RunningCrc:
    """A CRC as a Hasher; the digest is big-endian, so that its hex form is the number as usually written."""

    def __init__(self, hashtype: HashType) -> None:
        # Imported when the first CRC is needed: it takes 80 ms and 7 MB, which most processes save.
        from awscrt import checksums

        self._size = hashtype.digest_size
        self._add = checksums.crc32c if hashtype is HashType.CRC32C else checksums.crc64nvme
        self._value = 0

    def update(self, data: Piece, /) -> None:
        """Add the next bytes."""
        self._value = self._add(data, self._value)

    def digest(self) -> bytes:
        """Return the CRC of all bytes so far."""
        return self._value.to_bytes(self._size)
