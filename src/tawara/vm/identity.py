"""A guest's identity: uuid, MAC and IP addresses, derived from its name so that they are unique and never change."""

from __future__ import annotations

import hashlib
import uuid
from ipaddress import IPv4Address, IPv4Network

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "guests.tawara.invalid")
"""Everything below is derived under this name, for ever: changing it would change every guest's identity."""

FIRST_HOST = 10
LAST_HOST = 239
"""Fixed addresses live in .10 to .239 of a subnet; .241 and up are left for strangers that ask by DHCP."""


def guest_uuid(fqdn: str) -> uuid.UUID:
    """Return the guest's uuid, which libvirt, SMBIOS and the guest's machine-id show."""
    return uuid.uuid5(NAMESPACE, fqdn.lower())


def machine_id(fqdn: str) -> str:
    """Return the guest's machine-id: systemd takes it from the SMBIOS uuid, and so do our bases without systemd."""
    return guest_uuid(fqdn).hex


def network_uuid(libvirt_name: str) -> uuid.UUID:
    """Return a network's uuid."""
    return uuid.uuid5(NAMESPACE, f"network/{libvirt_name}")


def mac_address(fqdn: str, network: str, index: int) -> str:
    """Return a card's MAC, in the range of QEMU and KVM guests (52:54:00)."""
    return ":".join(("52", "54", "00", *(f"{byte:02x}" for byte in _digest(fqdn, network, str(index))[:3])))


def ip_address(fqdn: str, network: str, subnet: IPv4Network, index: int) -> IPv4Address:
    """Return a card's fixed address within the subnet's range for guests."""
    first, last = fixed_range(subnet)
    number = int.from_bytes(_digest(fqdn, network, str(index))[3:11], "big")
    return IPv4Address(int(first) + number % (int(last) - int(first) + 1))


def fixed_range(subnet: IPv4Network) -> tuple[IPv4Address, IPv4Address]:
    """Return the first and last address that a guest may have by reservation."""
    return subnet.network_address + FIRST_HOST, subnet.broadcast_address - (255 - LAST_HOST)


def dhcp_range(subnet: IPv4Network) -> tuple[IPv4Address, IPv4Address]:
    """Return the first and last address that DHCP assigns to a machine without a reservation."""
    return fixed_range(subnet)[1] + 2, subnet.broadcast_address - 1


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(part.lower() for part in parts).encode()).digest()
