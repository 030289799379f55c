"""Decodes requests and encodes replies of a storage node's side channel (docs/mogilefs.md 18.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tawara.model.cluster import HashType

_SIZE = re.compile(rb"size[ \t]+(\S+)", re.IGNORECASE)
_DIGEST = re.compile(rb"(md5|sha-1|crc32c|crc64nvme)[ \t]+(\S+)(?:[ \t]+(\w+))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SizeRequest:
    """`size URI`: the size of a file in bytes."""

    uri: str


@dataclass(frozen=True, slots=True)
class DigestRequest:
    """`NAME URI [reason]`: the digest of a file, NAME as in HashType. For reason `fsck` the disk is read slowly."""

    hashtype: HashType
    uri: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """`watch`: continuous reports of the utilization of each disk."""


@dataclass(frozen=True, slots=True)
class SideChannelError:
    """An invalid request, with the reply line."""

    answer: bytes


Request = SizeRequest | DigestRequest | WatchRequest | SideChannelError

UNKNOWN = b"ERR unknown command\r\n"
NOT_HONOURED = b"ERR shutdown is not honoured\r\n"
LINE_TOO_LONG = b"ERR line too long\r\n"
NO_STATISTICS = b"ERR iostat unavailable\r\n"
INVALID_URI = b"ERROR: uri invalid (contains ..)\r\n"
NOT_ASCII = b"ERROR: uri invalid\r\n"


def parse(line: bytes) -> Request | None:
    """Decode a request line (with or without line end); None for an empty one."""
    line = line.strip()
    if not line:
        return None
    if match := _SIZE.fullmatch(line):
        return _refused_uri(match[1]) or SizeRequest(match[1].decode("ascii"))
    if match := _DIGEST.fullmatch(line):
        hashtype = HashType.from_wire(match[1].decode("ascii").upper())
        assert hashtype is not None
        reason = match[3].decode("ascii") if match[3] else None
        return _refused_uri(match[2]) or DigestRequest(hashtype, match[2].decode("ascii"), reason)
    command = line.lower().split()[0]
    if command == b"watch":
        return WatchRequest()
    return SideChannelError(NOT_HONOURED if command == b"shutdown" else UNKNOWN)


def size(uri: str, size: int | None) -> bytes:
    """Encode the reply to a SizeRequest; None if the file does not exist."""
    return f"{uri} {-1 if size is None else size}\r\n".encode("ascii")


def digest(uri: str, hashtype: HashType, value: bytes | None) -> bytes:
    """Encode the reply to a DigestRequest, with the digest in lower-case hex; None if the file does not exist."""
    return f"{uri} {hashtype.wire}={-1 if value is None else value.hex()}\r\n".encode("ascii")


def read_failed(uri: str, offset: int) -> bytes:
    """Encode the reply to a DigestRequest when the disk fails at byte `offset` of the file."""
    return f"ERR read {uri} at {offset} failed\r\n".encode("ascii")


def load(percent: Mapping[int, float | None]) -> bytes:
    """Encode one report of a `watch`: disk utilization in percent by devid; None if unknown."""
    lines = (f"{devid}\t{'-' if busy is None else f'{busy:.2f}'}\n" for devid, busy in sorted(percent.items()))
    return ("".join(lines) + ".\n").encode("ascii")


def _refused_uri(uri: bytes) -> SideChannelError | None:
    if b".." in uri:
        return SideChannelError(INVALID_URI)
    return None if uri.isascii() else SideChannelError(NOT_ASCII)
