"""Encodes the epoch file of a device: the last epoch in which the device was written to (model.epoch)."""

from __future__ import annotations

import re
from typing import Final

from tawara.model.epoch import Epoch

FILE: Final = "names/epoch"
"""Path of the epoch file, relative to the device's directory."""
LARGEST: Final = 1024
"""Most bytes of an epoch file that are read."""
_LINES = re.compile(rb"store: ([0-9a-f]{8,64})\nepoch: (\d{1,18})\ntoken: ([0-9a-f]{4,64})\n", re.ASCII)


def render(mark: Epoch) -> bytes:
    """Encode an epoch file."""
    return f"store: {mark.store}\nepoch: {mark.number}\ntoken: {mark.token}\n".encode()


def parse(body: bytes) -> Epoch | None:
    """Decode an epoch file; None if it is damaged or has another format."""
    found = _LINES.fullmatch(body)
    return Epoch(found[1].decode(), int(found[2]), found[3].decode()) if found else None
