"""Uploads in parts: limits, the list with which they are completed, entity tags, and where each part lies.

The values are those of S3; see docs/architecture.md for the layers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from tawara.model.object_checksums import ChecksumAlgorithm, ChecksumType

MOST_PARTS: Final = 10_000
"""Highest part number, and most parts of an upload."""
SMALLEST_PART: Final = 5 * 1024 * 1024
"""Least length of each part but the last, in bytes."""
LARGEST_PART: Final = 5 * 1024**3
"""Greatest length of a part, in bytes."""
RESULT_KEPT: Final = 86_400
"""Seconds for which the result of a completion is kept, for clients that lost the answer."""
LAPSE: Final = "tawara_lapse_uploads"
"""Setting: time without a new part after which an upload is aborted."""
LAPSE_DEFAULT: Final = "7d"


class UploadState(StrEnum):
    """The state of an upload in parts."""

    OPEN = "open"
    JOINING = "joining"
    """A process is making the object; it holds the upload until a time."""
    DONE = "done"
    """The object exists; the parts are still to be removed."""
    FINISHED = "finished"
    """The parts are removed. The result is kept for clients that complete the upload again."""
    ABORTED = "aborted"
    """The parts are to be removed."""

    @property
    def accepts_parts(self) -> bool:
        """Whether the upload exists for clients: parts can be uploaded and listed."""
        return self in (UploadState.OPEN, UploadState.JOINING)

    @property
    def has_result(self) -> bool:
        """Whether the object was made."""
        return self in (UploadState.DONE, UploadState.FINISHED)


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """An upload in parts (schema: `tawara_multipart`)."""

    upload_id: str
    dmid: int
    key: bytes
    """The key of the object."""
    classid: int
    devids: tuple[int, ...]
    """The devices that parts are written to where possible, so that they can be joined there."""
    account: str
    """Id of the account that created it."""
    initiated_at: int
    """Unix seconds."""
    content_type: str | None = None
    attributes: bytes | None = None
    """Header fields for the object, encoded (wire.s3.attribute_record)."""
    checksum: tuple[ChecksumAlgorithm, ChecksumType] | None = None
    """The checksum declared for the object."""
    state: UploadState = UploadState.OPEN
    result: str | None = None
    """The answer to its completion, encoded; None before."""


@dataclass(frozen=True, slots=True)
class ObjectPart:
    """A part of an object that was uploaded in parts (schema: `tawara_part`)."""

    number: int
    length: int
    """Bytes."""
    checksum: str | None = None
    """In base64, in the algorithm of the object's checksum."""


@dataclass(frozen=True, slots=True)
class MultipartCompletion:
    """The end of an upload in parts, recorded in the transaction that assigns the key."""

    upload_id: str
    holder: str
    """The process that holds the upload; without that the transaction fails."""
    result: str
    """See MultipartUpload."""
    parts: tuple[ObjectPart, ...]


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """A part that was uploaded."""

    number: int
    length: int
    """Bytes."""
    md5: bytes
    checksum: bytes | None = None
    """Its value in the algorithm that was declared for the upload."""

    @property
    def etag(self) -> str:
        """The entity tag without quotes."""
        return self.md5.hex()


@dataclass(frozen=True, slots=True)
class ListedPart:
    """A part as the completing client lists it."""

    number: int
    etag: str
    """As it was sent: with or without quotes."""
    checksum: bytes | None = None


class ListFault(Enum):
    """Why a list of parts does not complete an upload."""

    EMPTY = "the list has no parts"
    ORDER = "the numbers do not ascend"
    MISSING = "a part was not uploaded, or has another entity tag or checksum"
    TOO_SMALL = "a part that is not the last is smaller than SMALLEST_PART"


@dataclass(frozen=True, slots=True)
class RefusedList:
    """A list of parts that does not complete an upload."""

    fault: ListFault
    number: int = 0
    """The part; 0 for an empty list."""
    length: int = 0
    etag: str = ""


def is_part_number(number: int) -> bool:
    """Whether a part may have this number."""
    return 1 <= number <= MOST_PARTS


def choose_parts(
    listed: Sequence[ListedPart], uploaded: Mapping[int, UploadedPart]
) -> tuple[UploadedPart, ...] | RefusedList:
    """Return the parts of the object in their order. Parts that are not listed do not belong to it."""
    if not listed:
        return RefusedList(ListFault.EMPTY)
    before = 0
    for each in listed:
        if each.number <= before:
            return RefusedList(ListFault.ORDER, each.number)
        before = each.number
    chosen = []
    for each in listed:
        part = uploaded.get(each.number)
        if part is None or unquote(each.etag).lower() != part.etag:
            return RefusedList(ListFault.MISSING, each.number, etag=each.etag)
        if each.checksum is not None and each.checksum != part.checksum:
            return RefusedList(ListFault.MISSING, each.number, etag=each.etag)
        chosen.append(part)
    for part in chosen[:-1]:
        if part.length < SMALLEST_PART:
            return RefusedList(ListFault.TOO_SMALL, part.number, part.length, part.etag)
    return tuple(chosen)


def unquote(etag: str) -> str:
    """Return an entity tag without its quotes."""
    return etag[1:-1] if len(etag) >= 2 and etag[0] == etag[-1] == '"' else etag


# --- entity tags and checksums ----------------------------------------------------------------------------------------


def joined_etag(md5s: Sequence[bytes]) -> str:
    """The entity tag of an object of parts: the MD5 of their MD5s, and their number."""
    return f"{hashlib.md5(b''.join(md5s), usedforsecurity=False).hexdigest()}-{len(md5s)}"


def plain_etag(fid: int, length: int, md5: bytes | None) -> str:
    """The entity tag of a file that was stored whole: its MD5, if known.

    Otherwise fid and length in hex with a dash, which no client takes for an MD5.
    """
    return md5.hex() if md5 is not None else f"{fid:x}-{length:x}"


def composite_checksum(digest: Callable[[bytes], bytes], values: Sequence[bytes]) -> bytes:
    """The composite checksum of parts: `digest` of their concatenated values."""
    return digest(b"".join(values))


# --- parts of a joined object -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PartSpan:
    """Where a part lies in the joined object."""

    start: int
    length: int
    parts: int
    """Number of parts of the object."""


def span_of_part(number: int, parts: Sequence[tuple[int, int]], length: int) -> PartSpan | None:
    """Find a part by its number; None if the object has no such part.

    `parts`: (number, length) of the parts in order, without numbers that were not listed at completion; empty for an
    object of `length` bytes that was stored whole, which is its part 1.
    """
    if not parts:
        return PartSpan(0, length, 1) if number == 1 else None
    start = 0
    for each, size in parts:
        if each == number:
            return PartSpan(start, size, len(parts))
        start += size
    return None
