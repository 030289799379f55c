"""Network zones of hosts, from the settings `network_zones` and `zone_NAME` (docs/mogilefs.md 10.4)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Zones:
    """The named zones of a cluster, each a set of networks."""

    networks: tuple[tuple[_Network, str], ...] = ()
    """Most specific network first."""

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Zones:
        """Read the zones from the server settings; invalid netmasks are ignored."""
        names = settings.get("network_zones")
        if not names:
            return _NO_ZONES
        return _read(tuple((name, settings.get(f"zone_{name}", "")) for name in _words(names)))

    def zone_of(self, address: str) -> str:
        """Return the zone of a host's address: the named zone with the most specific matching network.

        Without a matching zone, an address is in the zone of its network (/16, IPv6 /48), a host name in its own.
        """
        return _zone_of(self, address)


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", text) if word]


@lru_cache(maxsize=64)
def _read(zones: tuple[tuple[str, str], ...]) -> Zones:
    networks = [(network, name) for name, masks in zones for network in _networks(_words(masks))]
    return Zones(tuple(sorted(networks, key=lambda each: each[0].prefixlen, reverse=True)))


def _networks(masks: Iterable[str]) -> list[_Network]:
    networks: list[_Network] = []
    for mask in masks:
        try:
            networks.append(ipaddress.ip_network(mask, strict=False))
        except ValueError:
            continue  # validated when it is set, but an old database may contain invalid values
    return networks


@lru_cache(maxsize=4096)
def _zone_of(zones: Zones, address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    for network, name in zones.networks:
        if ip.version == network.version and ip in network:
            return name
    return str(ipaddress.ip_network(f"{address}/{16 if ip.version == 4 else 48}", strict=False))


_NO_ZONES = Zones()
