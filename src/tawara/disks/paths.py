"""Validates and parses paths on a storage node; every path from the network passes here before a disk is used.

docs/mogilefs.md 18.1. All names created by MogileFS are plain ASCII, so percent-encoding is never needed. A path with a
percent sign is refused instead of decoded, so that encoded slashes, dots and NULs cannot occur.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tawara.model import fid
from tawara.model.limits import NODE_PATH_BYTES
from tawara.model.node_errors import InvalidPath, Reserved
from tawara.wire import identity, listing

_PATH = re.compile(r"/dev\d{1,10}(?:/[\w.-]{1,255})*/?", re.ASCII)

_NO_STEP = re.compile(r"/(?:\.?(?:/|\Z))+")

INCOMING = "~incoming"
"""Directory of a device for incomplete files; no path can refer to it, because `~` is not allowed."""
IDENTITY = identity.FILE
"""The file with a device's identity; only the node writes it."""
USAGE = "usage"
"""The file with a device's capacity and use; only the node writes it."""
HEALTH = "health"
"""The file with the health of a device's disk; only the node writes it."""


class DevicePath(NamedTuple):
    """A validated path: the device's name (`dev7`) and the names below it; none for the device's own directory."""

    device: str
    names: tuple[str, ...]

    @property
    def reserved(self) -> bool:
        """Whether this is one of the node's own files, which clients may only read."""
        return self.names in ((USAGE,), (HEALTH,), (IDENTITY,)) or self.listed_from is not None

    @property
    def is_fid(self) -> bool:
        """Whether this is the path of a fid's content, which never changes."""
        return fid.parse_path("/".join(("", self.device, *self.names))) is not None

    @property
    def listed_from(self) -> int | None:
        """First directory of a page of the device's file list, which is generated; None for a file on disk."""
        match = listing.NAME.fullmatch(self.names[0]) if len(self.names) == 1 else None
        return int(match[1]) if match else None


def canonical(text: str) -> str:
    """Remove empty names and `.` from a path; other servers and their clients ignore them."""
    if "//" not in text and "/." not in text:
        return text
    return _NO_STEP.sub("/", text)


def parse(text: str) -> DevicePath:
    """Parse a path (undecoded, without query); one trailing slash is allowed. Raises InvalidPath."""
    if len(text) > NODE_PATH_BYTES or ".." in text or not _PATH.fullmatch(text):
        raise InvalidPath
    device, *names = text.strip("/").split("/")
    if "." in names:
        raise InvalidPath
    return DevicePath(device, tuple(names))


def parse_file(text: str) -> DevicePath:
    """Parse the path of a file: with a name below the device, and no trailing slash. Raises InvalidPath."""
    path = parse(text)
    if not path.names or text.endswith("/"):
        raise InvalidPath
    return path


def parse_writable(text: str) -> DevicePath:
    """Parse the path of a file that clients may write and delete. Raises InvalidPath, Reserved."""
    path = parse_file(text)
    if path.reserved:
        raise Reserved
    return path
