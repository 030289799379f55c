"""Networks of others, and ports that guests publish, as a description says them."""

from __future__ import annotations

import pytest

from tawara.model.errors import ConfigurationError
from tawara.vm import guest_json
from tawara.vm.bases.recipe import resolv_conf, routes
from tawara.vm.cluster import read_cluster
from tawara.vm.definition import claims, firewall, network_claims
from tawara.vm.errors import SpecError
from tawara.vm.instance import clone
from tawara.vm.libvirt_xml import network_xml
from tawara.vm.spec import Guest
from tawara.vm.spec_read import read_guest

LAN = """
[network.lan]
kind = "bridge"
bridge = "br0"
subnet = "192.168.1.0/24"
router = "192.168.1.1"
resolver = "9.9.9.9"
"""
WEB = '[network.web]\nkind = "open"\nsubnet = "10.7.0.0/24"\n'
CARD = '[[nic]]\nnetwork = "lan"\nip = "192.168.1.5"\n'
PUBLISHING = f'{WEB}[[nic]]\nnetwork = "web"\nip = "10.7.0.20"\n[[publish]]\nport = 80\nhost_port = 8080\n'


def guest(text: str) -> Guest:
    """The guest of a description."""
    return read_guest(text, "web.toml", "web")


def mistakes(text: str) -> list[str]:
    """Line and key of each mistake."""
    with pytest.raises(SpecError) as caught:
        guest(text)
    return [f"{each.line} {each.where}" for each in caught.value.mistakes]


def test_a_guest_on_a_bridge_is_in_the_network_of_others() -> None:
    """Its address is the chosen one, its router and name server are those of that network; libvirt gives no address."""
    read = guest(LAN + CARD)
    assert routes(read) == [(read.primary.mac, "192.168.1.5/24", "192.168.1.1", 100)]
    assert "nameserver 9.9.9.9" in resolv_conf(read)
    xml = network_xml(read.primary.network)
    assert '<forward mode="bridge" />' in xml
    assert '<bridge name="br0" />' in xml
    assert "<ip" not in xml
    assert "ip/192.168.1.5" in claims(read)
    assert network_claims(read)["network/lan"] == "../networks/lan.bridge.br0.192.168.1.0-24"
    assert guest_json.read(guest_json.write(read)) == read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LAN + '[[nic]]\nnetwork = "lan"', ["8 nic[0]"]),
        (LAN + '[[nic]]\nnetwork = "lan"\nip = "192.168.1.1"', ["10 nic[0].ip"]),
        (LAN + '[[nic]]\nnetwork = "lan"\nip = "192.168.2.1"', ["10 nic[0].ip"]),
        ('[network.lan]\nkind = "bridge"\nsubnet = "192.168.1.0/24"', ["1 network.lan.bridge"]),
        ('[network.lan]\nsubnet = "10.1.0.0/24"\nbridge = "br0"', ["3 network.lan.bridge"]),
        (LAN.replace('"192.168.1.1"', '"10.0.0.1"'), ["6 network.lan.router"]),
        ("[[publish]]\nport = 80", ["1 publish[0]"]),
        (WEB + "[[publish]]\nport = 80", ["4 publish"]),
        (PUBLISHING + "[[publish]]\nport = 81\nhost_port = 8080", ["7 publish"]),
        (PUBLISHING + "[[publish]]\nhost_port = 8081", ["10 publish[1].port"]),
        (PUBLISHING + "[[publish]]\nport = 22", ["11 publish[1].port"]),
        (PUBLISHING + '[[publish]]\nport = 1\naddress = "127.0.0.1"', ["12 publish[1].address"]),
        (PUBLISHING + '[[publish]]\nport = 1\nnetwork = "nat0"', ["12 publish[1].network"]),
        (PUBLISHING + "[[publish]]\nport = 70000", ["11 publish[1].port"]),
    ],
)  # fmt: skip
def test_each_mistake_is_found_where_it_stands(text: str, expected: list[str]) -> None:
    """An impossible setting is reported with its line, before anything is built."""
    assert mistakes(text) == expected


def test_a_published_port_is_claimed_and_told_to_the_firewall() -> None:
    """The host's port is a claim, so that package managers refuse a second guest that publishes it."""
    read = guest(PUBLISHING + '[[publish]]\nport = 53\nprotocol = "udp"\naddress = "192.0.2.1"\n')
    assert {"port/tcp-8080", "port/udp-53"} <= claims(read).keys()
    assert firewall(read) == (
        "open tw-web 10.7.0.0/24\n"
        "publish tcp 8080 - 10.7.0.20 80 tw-web\n"
        "publish udp 53 192.0.2.1 10.7.0.20 53 tw-web\n"
    )
    assert guest_json.read(guest_json.write(read)) == read
    assert routes(read) == [(read.primary.mac, "10.7.0.20/24", "10.7.0.1", 100)]


def test_a_guest_without_these_is_written_as_before() -> None:
    """A definition that uses none of it is, byte for byte, that of a Tawara without it: no version has to be raised."""
    text = guest_json.write(guest(""))
    assert not [word for word in (b"published", b"host_bridge", b"router", b"resolver") if word in text]
    assert firewall(guest("")) == ""


def test_another_instance_publishes_nothing_and_needs_an_address_on_a_bridge() -> None:
    """`create` copies no published port, which is the template's; on a network of others an address is chosen."""
    assert clone(guest(PUBLISHING), "web2").published == ()
    with pytest.raises(ConfigurationError, match="lan is a network of others"):
        clone(guest(LAN + CARD), "web2")


def cluster_mistakes(text: str) -> list[str]:
    """What is wrong with a cluster."""
    with pytest.raises(SpecError) as caught:
        read_cluster(text, "shop.toml", "shop")
    return [each.what for each in caught.value.mistakes]


def test_a_cluster_publishes_each_port_once() -> None:
    """Guests of a cluster publish ports of its networks; one port of the host for two guests is a mistake."""
    head = f'outside = "web"\n{WEB}[guest.one]\n[[guest.one.publish]]\nport = 80\n[guest.two]\n'
    one, two = read_cluster(head, "shop.toml", "shop").guests
    assert [each.network for each in one.published] == ["web"]
    assert firewall(two) == "open tw-web 10.7.0.0/24\n"
    assert cluster_mistakes(head + "[[guest.two.publish]]\nport = 80\n") == [
        "tcp port 80 of the host is published twice"
    ]
    assert cluster_mistakes(head.replace('outside = "web"', "")) == [
        "one publishes a port of the network web, on which it has no card"
    ]
    assert cluster_mistakes(f'outside = "lan"\n{LAN}[guest.one]\n') == [
        "lan is a network of others, where no address follows from a name"
    ]
