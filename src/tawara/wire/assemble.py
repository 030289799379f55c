"""Encodes the request that makes a storage node assemble a file from ranges of fids on the same device.

    POST /dev1/0/000/000/0000000301.fid HTTP/1.1
    Content-Type: application/vnd.tawara.assemble+json

    {"ranges":[{"fid":7,"start":0,"length":8388608},{"fid":9,"start":0,"length":12}],"checksums":["CRC64NVME"]}

The target's path names the device, and the fids name the sources on it, so no other path can be asked for. The method
is not PUT, because a server that does not know the media type would store the request as the content of the fid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from tawara.model.assembling import MOST_RANGES, ByteRange
from tawara.model.cluster import Checksum, HashType
from tawara.model.fid import HIGHEST

MEDIA_TYPE: Final = "application/vnd.tawara.assemble+json"
"""Media type of the request."""
LARGEST: Final = 1024 * 1024
"""Most bytes of a request: enough for `MOST_RANGES` ranges with the greatest numbers that devices have."""

_Fid = Annotated[int, msgspec.Meta(ge=1, le=HIGHEST)]
_Bytes = Annotated[int, msgspec.Meta(ge=0, le=HIGHEST)]


class _Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fid: _Fid
    start: _Bytes
    length: _Bytes


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ranges: Annotated[list[_Range], msgspec.Meta(max_length=MOST_RANGES)]
    checksums: Annotated[list[str], msgspec.Meta(max_length=len(HashType))] = []


class _Reply(msgspec.Struct, frozen=True):
    length: _Bytes
    checksums: list[str] = []


class AssembleRequest(msgspec.Struct, frozen=True):
    """The ranges of the new file, in order, and the checksums to compute of it."""

    ranges: tuple[ByteRange, ...]
    checksums: tuple[HashType, ...] = ()


class Assembled(msgspec.Struct, frozen=True):
    """The reply: the length of the new file in bytes, and the requested checksums of the bytes on the device."""

    length: int
    checksums: tuple[Checksum, ...] = ()


_requests: Final = msgspec.json.Decoder(_Request)
_replies: Final = msgspec.json.Decoder(_Reply)
_encoder: Final = msgspec.json.Encoder()


def encode_request(ranges: Sequence[ByteRange], checksums: Sequence[HashType] = ()) -> bytes:
    """Encode a request."""
    parts = [_Range(each.fid, each.start, each.length) for each in ranges]
    return _encoder.encode(_Request(parts, [each.wire for each in checksums]))


def parse_request(body: bytes) -> AssembleRequest:
    """Decode a request. Raises ValueError, which says what is wrong."""
    try:
        request = _requests.decode(body)
    except msgspec.DecodeError as error:  # also of a wrong type, or of bytes that are not UTF-8
        raise ValueError(str(error)) from None
    hashtypes = []
    for name in request.checksums:
        hashtype = HashType.from_wire(name)
        if hashtype is None:
            raise ValueError(f"no checksum of this name is known: {name[:40]!r}")
        hashtypes.append(hashtype)
    return AssembleRequest(
        tuple(ByteRange(each.fid, each.start, each.length) for each in request.ranges), tuple(hashtypes)
    )


def encode_reply(reply: Assembled) -> bytes:
    """Encode a reply."""
    return _encoder.encode(_Reply(reply.length, [str(each) for each in reply.checksums]))


def parse_reply(body: bytes) -> Assembled | None:
    """Decode a reply; None if it is malformed."""
    try:
        reply = _replies.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    checksums = [Checksum.parse(each) for each in reply.checksums]
    known = tuple(each for each in checksums if each is not None)
    return Assembled(reply.length, known) if len(known) == len(checksums) else None
