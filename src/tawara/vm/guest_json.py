"""A guest as JSON, which a package contains for operators, and which `tawara vm create` copies."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from tawara.vm.spec import Guest

_ADDED = ("host_bridge", "router", "resolver")
"""Fields of a network that are written only where they say something, as packages of older versions are written."""


def write(guest: Guest) -> bytes:
    """Return the guest as indented JSON, without the contents of its files, which are in the delta."""
    plain = dataclasses.asdict(guest)
    for file in plain["files"]:
        del file["content"]
    for table, names in [(plain, ("published",)), *((nic["network"], _ADDED) for nic in plain["nics"])]:
        for name in names:
            if not table[name]:
                del table[name]
    return (json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False, default=str) + "\n").encode()


def read(text: bytes) -> Guest:
    """Parse the guest that `write` wrote; the contents of its files are empty. Raises ValueError for anything else."""
    plain = json.loads(text)
    for file in plain["files"]:
        file["content"] = ""
    guest = read_value(Guest, plain)
    assert isinstance(guest, Guest)
    return guest


def read_value(kind: Any, value: Any) -> Any:
    """The value of a type of `tawara.vm.spec` that these builtins stand for. Raises ValueError if it is none.

    Unknown fields are left out: a newer Tawara may have written them.
    """
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        known = {field.name: value[field.name] for field in dataclasses.fields(kind) if field.name in value}
        try:
            return kind(**{name: read_value(hints[name], each) for name, each in known.items()})  # type: ignore[operator]
        except TypeError as error:
            raise ValueError(f"{kind}: {error}") from error
    if origin is tuple and isinstance(value, list):
        return tuple(read_value(typing.get_args(kind)[0], each) for each in value)
    if origin in (types.UnionType, typing.Union):
        (other,) = (each for each in typing.get_args(kind) if each is not types.NoneType)
        return None if value is None else read_value(other, value)
    if origin is typing.Literal and value in typing.get_args(kind):
        return value
    if kind in (IPv4Address, IPv4Network) and isinstance(value, str):
        return kind(value)
    if kind is bytes and isinstance(value, str):
        return value.encode()
    if kind in (str, int, bool) and type(value) is kind:
        return value
    raise ValueError(f"{value!r} is not a {kind}")
