"""Parses a policy as it is written in `class.replpolicy`: `Name(arguments)` (docs/mogilefs.md 10.1)."""

from __future__ import annotations

import re
from functools import lru_cache

from tawara.model.errors import InvalidReplpolicy
from tawara.model.policy.networks import HostsPerNetwork, MultipleNetworks
from tawara.model.policy.results import Policy
from tawara.model.policy.spread import MultipleDevices, MultipleHosts
from tawara.model.policy.union import Union

NAMESPACE = "MogileFS::ReplicationPolicy::"
"""Optional prefix of a policy's name, as in MogileFS."""

_FORM = re.compile(r"\s*([\w:]+)\s*\((.*)\)\s*", re.ASCII | re.DOTALL)
_COPIES = re.compile(r"\s*(\d{0,3})\s*", re.ASCII)
_ZONE = re.compile(r"\s*([\w.-]+)\s*=\s*(\d{1,3})\s*", re.ASCII)
_DEEPEST = 8
_COUNTED: dict[str, type[MultipleHosts | MultipleDevices | MultipleNetworks]] = {
    "MultipleHosts": MultipleHosts,
    "MultipleDevices": MultipleDevices,
    "MultipleNetworks": MultipleNetworks,
}


@lru_cache(maxsize=256)
def parse(text: str) -> Policy:
    """Parse a policy. Raises InvalidReplpolicy with a description of the error."""
    return _parse(text, _DEEPEST)


def _parse(text: str, deepest: int) -> Policy:
    form = _FORM.fullmatch(text)
    if form is None or deepest == 0:
        raise InvalidReplpolicy(f"A replication policy is written Name(arguments), not {text.strip()!r}")
    name, arguments = form[1].removeprefix(NAMESPACE), form[2]
    if name in _COUNTED:
        number = _COPIES.fullmatch(arguments)
        if number is None:
            raise InvalidReplpolicy(f"{name} takes one number of copies, or none, not {arguments.strip()!r}")
        return _COUNTED[name](int(number[1] or 0) or None)
    if name == "HostsPerNetwork":
        return HostsPerNetwork(_zones(arguments))
    if name == "Union":
        return Union(tuple(_parse(part, deepest - 1) for part in _split(arguments)))
    raise InvalidReplpolicy(f"There is no replication policy {name!r}")


def _zones(arguments: str) -> tuple[tuple[str, int], ...]:
    found: dict[str, int] = {}
    for each in arguments.split(","):
        zone = _ZONE.fullmatch(each)
        if zone is None:
            raise InvalidReplpolicy(f"HostsPerNetwork takes zone=number, …, not {each.strip()!r}")
        found[zone[1]] = int(zone[2])
    if not any(found.values()):
        raise InvalidReplpolicy("HostsPerNetwork needs at least one host in some zone")
    return tuple(found.items())


def _split(arguments: str) -> list[str]:
    """Split arguments at the commas outside of parentheses."""
    parts, depth = [""], 0
    for character in arguments:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts
