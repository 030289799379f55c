"""Which front ends are trusted to say for what host name a request came to them."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse addresses and networks (10.0.0.0/8) separated by commas. Raises ValueError."""
    return tuple(ipaddress.ip_network(each.strip()) for each in text.split(",") if each.strip())


def is_trusted(peer: str | None, networks: Sequence[Network]) -> bool:
    """Return whether the address of a peer is in one of the networks; a peer without address (Unix socket) is not."""
    if not networks or not peer:
        return False
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in each for each in networks)
