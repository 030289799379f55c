"""A guest's identity is derived from its name alone: stable, unique, in the range that a network leaves for guests."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.errors import TawaraError
from tawara.vm.definition import claims
from tawara.vm.errors import TakenError
from tawara.vm.identity import dhcp_range, fixed_range, guest_uuid, ip_address, mac_address, machine_id
from tawara.vm.instance import clone, refuse_taken
from tawara.vm.spec_read import read_guest

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,10}[a-z0-9]\.[a-z]{2,5}", fullmatch=True)
SUBNETS = st.builds(
    lambda address, prefix: IPv4Network((address, prefix), strict=False),
    st.integers(min_value=0x0A000000, max_value=0x0AFFFFFF),
    st.integers(min_value=16, max_value=24),
)


def test_the_derivation_never_changes() -> None:
    """These values are in installed packages, so the derivation is fixed."""
    subnet = IPv4Network("192.168.231.0/24")
    assert str(guest_uuid("web.example")) == "e97972b0-3b52-5a15-ae47-a2235421ec07"
    assert mac_address("web.example", "nat0", 0) == "52:54:00:cd:d3:8d"
    assert ip_address("web.example", "nat0", subnet, 0) == IPv4Address("192.168.231.234")
    assert machine_id("Web.Example") == guest_uuid("web.example").hex


@given(NAMES, SUBNETS, st.integers(0, 7))
def test_an_address_is_in_the_guests_range(name: str, subnet: IPv4Network, index: int) -> None:
    """Derived addresses are in the subnet, and never one that DHCP assigns or the gateway has."""
    ip = ip_address(name, "lan", subnet, index)
    first, last = fixed_range(subnet)
    assert ip in subnet
    assert first <= ip <= last < dhcp_range(subnet)[0] < subnet.broadcast_address


@given(NAMES, NAMES)
def test_different_names_are_different_machines(one: str, other: str) -> None:
    """Two names share neither uuid nor MAC."""
    if one != other:
        assert guest_uuid(one) != guest_uuid(other)
        assert mac_address(one, "nat0", 0) != mac_address(other, "nat0", 0)


@given(NAMES, st.integers(0, 7))
def test_a_mac_is_locally_administered_unicast(name: str, index: int) -> None:
    """52:54:00 is the prefix of QEMU's guests; the group bit is not set."""
    mac = mac_address(name, "nat0", index)
    assert mac.startswith("52:54:00:")
    assert len(bytes.fromhex(mac.replace(":", ""))) == 6


def test_a_clone_shares_nothing_unique() -> None:
    """Another instance of a template claims other names, MACs and addresses, on the same networks."""
    web = read_guest("", "web.toml", "web")
    web2 = clone(web, "web2")
    assert web2.fqdn == "web2.example"
    assert not set(claims(web)) & set(claims(web2))
    assert [nic.network for nic in web.nics] == [nic.network for nic in web2.nics]
    refuse_taken(web2, dict.fromkeys(claims(web), "web"))


def test_a_taken_address_is_reported_with_its_owner() -> None:
    """The message names the address and its owner."""
    web = read_guest("", "web.toml", "web")
    web2 = clone(web, "web2", ips={"nat0": web.primary.ip})
    with pytest.raises(TakenError, match=f"ip {web.primary.ip} belongs to web's package"):
        refuse_taken(web2, dict.fromkeys(claims(web), "web's package"))


@pytest.mark.parametrize(("name", "fqdn"), [("Web", None), ("../x", None), ("web2", "no spaces here")])
def test_an_invalid_name_of_a_clone(name: str, fqdn: str | None) -> None:
    """A name that is invalid in a description is invalid for an instance."""
    with pytest.raises(TawaraError):
        clone(read_guest("", "web.toml", "web"), name, fqdn)
