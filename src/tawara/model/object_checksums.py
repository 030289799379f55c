"""Checksums of S3 objects: the algorithms of the protocol, and how those of parts make that of the joined object."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Iterable
from enum import Enum, StrEnum
from typing import Final, Protocol

from tawara.model.checksums import Piece


class ChecksumAlgorithm(StrEnum):
    """An algorithm that clients may name; the value is its name in the protocol."""

    CRC32 = "CRC32"
    CRC32C = "CRC32C"
    CRC64NVME = "CRC64NVME"
    SHA1 = "SHA1"
    SHA256 = "SHA256"
    SHA512 = "SHA512"
    MD5 = "MD5"
    XXHASH64 = "XXHASH64"
    XXHASH3 = "XXHASH3"
    XXHASH128 = "XXHASH128"

    @property
    def field(self) -> str:
        """The header field of its value: `x-amz-checksum-crc32`."""
        return f"x-amz-checksum-{self.value.lower()}"

    @property
    def element(self) -> str:
        """The XML element of its value: `ChecksumCRC32`."""
        return f"Checksum{self.value}"

    @property
    def digest_size(self) -> int:
        """Length of a value in bytes."""
        return _SIZES[self]

    @property
    def is_crc(self) -> bool:
        """Whether the value of joined parts follows from their values and lengths."""
        return self in (ChecksumAlgorithm.CRC32, ChecksumAlgorithm.CRC32C, ChecksumAlgorithm.CRC64NVME)


class ChecksumType(Enum):
    """What the checksum of an object of several parts is computed over."""

    COMPOSITE = "COMPOSITE"
    """The concatenated checksums of the parts; written with `-N`."""
    FULL_OBJECT = "FULL_OBJECT"
    """The bytes of the whole object."""


_SIZES: Final = {
    ChecksumAlgorithm.CRC32: 4,
    ChecksumAlgorithm.CRC32C: 4,
    ChecksumAlgorithm.CRC64NVME: 8,
    ChecksumAlgorithm.SHA1: 20,
    ChecksumAlgorithm.SHA256: 32,
    ChecksumAlgorithm.SHA512: 64,
    ChecksumAlgorithm.MD5: 16,
    ChecksumAlgorithm.XXHASH64: 8,
    ChecksumAlgorithm.XXHASH3: 8,
    ChecksumAlgorithm.XXHASH128: 16,
}


def parse_value(algorithm: ChecksumAlgorithm, text: str) -> bytes | None:
    """Decode a checksum in base64; None if it is malformed or of another length."""
    try:
        value = base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return value if len(value) == algorithm.digest_size else None


def format_value(value: bytes, parts: int | None = None) -> str:
    """Encode a checksum in base64, a composite one with the number of its parts."""
    text = base64.b64encode(value).decode()
    return text if parts is None else f"{text}-{parts}"


def type_of_upload(algorithm: ChecksumAlgorithm, asked: ChecksumType | None) -> ChecksumType | None:
    """The type of checksum that an upload in parts gets; None if the algorithm does not have the one asked for.

    CRC64NVME exists over the whole object only, the other CRCs in both ways, and all else as composite.
    """
    if algorithm is ChecksumAlgorithm.CRC64NVME:
        return ChecksumType.FULL_OBJECT if asked is not ChecksumType.COMPOSITE else None
    if asked is ChecksumType.FULL_OBJECT:
        return ChecksumType.FULL_OBJECT if algorithm.is_crc else None
    return ChecksumType.COMPOSITE


def combine_crcs(algorithm: ChecksumAlgorithm, parts: Iterable[tuple[bytes, int]]) -> bytes:
    """Return the CRC of joined parts, each given by its CRC and its length in bytes; without reading a byte."""
    from awscrt import checksums

    join = {
        ChecksumAlgorithm.CRC32: checksums.combine_crc32,
        ChecksumAlgorithm.CRC32C: checksums.combine_crc32c,
        ChecksumAlgorithm.CRC64NVME: checksums.combine_crc64nvme,
    }[algorithm]
    value = 0
    for each, length in parts:
        value = join(value, int.from_bytes(each), length)
    return value.to_bytes(algorithm.digest_size)


# --- computing --------------------------------------------------------------------------------------------------------


class ObjectDigest(Protocol):
    """A checksum that is computed piece by piece."""

    def update(self, data: Piece, /) -> None:
        """Add the next bytes."""
        ...

    def digest(self) -> bytes:
        """Return the checksum of all bytes so far; the last call."""
        ...


class _RunningSum:
    """A CRC: a function of the bytes and the value before them."""

    def __init__(self, add: Callable[[Piece, int], int], size: int) -> None:
        self._add, self._size, self._value = add, size, 0

    def update(self, data: Piece, /) -> None:
        self._value = self._add(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size)


class _XxHash:
    """One of the hashes of awscrt, whose last method has another name."""

    def __init__(self, algorithm: ChecksumAlgorithm) -> None:
        from awscrt.checksums import XXHash

        self._hash = {
            ChecksumAlgorithm.XXHASH64: XXHash.new_xxhash64,
            ChecksumAlgorithm.XXHASH3: XXHash.new_xxhash3_64,
            ChecksumAlgorithm.XXHASH128: XXHash.new_xxhash3_128,
        }[algorithm]()

    def update(self, data: Piece, /) -> None:
        self._hash.update(data if isinstance(data, bytes) else bytes(data))

    def digest(self) -> bytes:
        return bytes(self._hash.finalize())


def new_digest(algorithm: ChecksumAlgorithm) -> ObjectDigest:
    """Return a digest that has seen no bytes yet. awscrt is imported only for the algorithms that need it."""
    match algorithm:
        case ChecksumAlgorithm.CRC32:
            return _RunningSum(zlib.crc32, 4)
        case ChecksumAlgorithm.CRC32C | ChecksumAlgorithm.CRC64NVME:
            from awscrt import checksums

            add = checksums.crc32c if algorithm is ChecksumAlgorithm.CRC32C else checksums.crc64nvme
            return _RunningSum(add, algorithm.digest_size)
        case ChecksumAlgorithm.XXHASH64 | ChecksumAlgorithm.XXHASH3 | ChecksumAlgorithm.XXHASH128:
            return _XxHash(algorithm)
        case ChecksumAlgorithm.MD5:
            return hashlib.md5(usedforsecurity=False)
        case ChecksumAlgorithm.SHA1:
            return hashlib.sha1(usedforsecurity=False)
        case ChecksumAlgorithm.SHA256:
            return hashlib.sha256()
        case ChecksumAlgorithm.SHA512:
            return hashlib.sha512()
