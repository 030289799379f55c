"""A guest as JSON and back: what a package carries for operators, and what `tawara vm create` copies."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import msgspec

from tawara.vm.spec import Guest


def write(guest: Guest) -> bytes:
    """The guest as indented JSON, without the contents of its files: those are in the delta."""
    plain = msgspec.to_builtins(guest, enc_hook=str)
    for file in plain["files"]:
        del file["content"]
    return msgspec.json.format(msgspec.json.encode(plain, order="sorted"), indent=2) + b"\n"


def read(text: bytes) -> Guest:
    """The guest that `write` wrote; the contents of its files are empty."""
    plain = msgspec.json.decode(text)
    for file in plain["files"]:
        file["content"] = b""
    return msgspec.convert(plain, Guest, dec_hook=_address)


def _address(kind: type, value: Any) -> Any:
    if kind in (IPv4Address, IPv4Network):
        return kind(value)
    raise NotImplementedError(kind)
