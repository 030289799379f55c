"""The identity file of a device: which device it is, and an id that no other device has."""

from __future__ import annotations

import re
from dataclasses import dataclass

FILE = "tawara-identity"
"""Its name, in the device's directory."""
_LINES = re.compile(rb"device: (dev\d{1,10})\nid: ([0-9a-f-]{8,64})\n", re.ASCII)


@dataclass(frozen=True, slots=True)
class Identity:
    """What the file says."""

    device: str
    """`dev7`"""
    id: str


def render(identity: Identity) -> bytes:
    """The file."""
    return f"device: {identity.device}\nid: {identity.id}\n".encode()


def parse(body: bytes) -> Identity | None:
    """What a file says; None if it is none of ours."""
    found = _LINES.match(body)
    return Identity(found[1].decode(), found[2].decode()) if found else None
