"""Encodes the identity file of a device: its name and a unique id."""

from __future__ import annotations

import re
from dataclasses import dataclass

FILE = "tawara-identity"
"""Name of the identity file in the device's directory."""
_LINES = re.compile(rb"device: (dev\d{1,10})\nid: ([0-9a-f-]{8,64})\n", re.ASCII)


@dataclass(frozen=True, slots=True)
class Identity:
    """Contents of an identity file."""

    device: str
    """Name of the device, such as `dev7`."""
    id: str


def render(identity: Identity) -> bytes:
    """Encode an identity file."""
    return f"device: {identity.device}\nid: {identity.id}\n".encode()


def parse(body: bytes) -> Identity | None:
    """Decode an identity file; None if it has another format."""
    found = _LINES.match(body)
    return Identity(found[1].decode(), found[2].decode()) if found else None
