"""The file by which a device tells the last epoch in which something was written on it (model.epoch)."""

from __future__ import annotations

import re
from typing import Final

from tawara.model.epoch import Epoch

FILE: Final = "names/epoch"
"""Its path, below the device's directory."""
LARGEST: Final = 1024
"""Bytes up to which it is read."""
_LINES = re.compile(rb"store: ([0-9a-f]{8,64})\nepoch: (\d{1,18})\ntoken: ([0-9a-f]{4,64})\n", re.ASCII)


def render(mark: Epoch) -> bytes:
    """The file."""
    return f"store: {mark.store}\nepoch: {mark.number}\ntoken: {mark.token}\n".encode()


def parse(body: bytes) -> Epoch | None:
    """What a file says; None if it is none of ours, or damaged."""
    found = _LINES.fullmatch(body)
    return Epoch(found[1].decode(), int(found[2]), found[3].decode()) if found else None
