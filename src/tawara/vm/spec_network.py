"""Reads what a description says of networks: its own networks, a guest's cards, the ports that it publishes."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from tawara.vm import spec
from tawara.vm.identity import ip_address, mac_address
from tawara.vm.spec_fields import Fields

KINDS: tuple[spec.Kind, ...] = ("nat", "host", "open", "bridge")
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")


def read_networks(top: Fields) -> dict[str, spec.Network]:
    """Networks of the author's own, written [network.NAME]."""
    found = {}
    for name, fields in top.named_tables("network"):
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,11}", name):
            fields.mistake("", f"{name!r} is no name for a network", "Use at most 12 letters, digits and -.")
            continue
        kind: spec.Kind = fields.choice("kind", "nat", KINDS)
        subnet = _read_subnet(fields, public=kind == "bridge")
        network = _read_bridge(fields, spec.Network(name, kind, subnet or spec.PRIVATE[0]))
        fields.nothing_else()
        if subnet is not None:
            found[name] = network
    return found


def _read_bridge(fields: Fields, network: spec.Network) -> spec.Network:
    """Read what only a network of the kind `bridge` has: its interface on the host, its router and name server."""
    if network.kind != "bridge":
        for key in ("bridge", "router", "resolver"):
            if fields.has(key):
                fields.mistake(key, f"a {network.kind} network has its own", 'Take it out, or write kind = "bridge".')
        return network
    bridge = fields.text("bridge", "", INTERFACE, 'the name of the host\'s bridge: bridge = "br0"')
    router, resolver = _read_address(fields, "router"), _read_address(fields, "resolver")
    if router is not None and router not in network.subnet:
        fields.mistake("router", f"{router} is not within {network.subnet}", "Write the address of its router.")
    return replace(network, host_bridge=bridge, router=router, resolver=resolver or router)


def _read_address(fields: Fields, key: str) -> IPv4Address | None:
    text = fields.text(key, "", None, "")
    try:
        return IPv4Address(text) if text else None
    except AddressValueError:
        fields.mistake(key, f"{text!r} is no IPv4 address", 'Write it like "192.168.1.1".')
        return None


def _read_subnet(fields: Fields, *, public: bool) -> IPv4Network | None:
    text = fields.text("subnet", "", None, "")
    try:
        subnet = IPv4Network(text)
    except ValueError:
        fields.mistake("subnet", f"{text!r} is no subnet", 'Write it like "192.168.240.0/24".')
        return None
    if not 16 <= subnet.prefixlen <= 24:
        what = "too few" if subnet.prefixlen > 24 else "too many"
        fields.mistake("subnet", f"{text} has {what} addresses", "Give a /16 to a /24.")
        return None
    if not public and not any(subnet.subnet_of(private) for private in spec.PRIVATE):
        remedy = f"Use one within {', '.join(map(str, spec.PRIVATE))}."
        fields.mistake("subnet", f"{text} belongs to others on the Internet", remedy)
        return None
    return subnet


def read_nics(top: Fields, fqdn: str, networks: dict[str, spec.Network], model: str) -> tuple[spec.Nic, ...]:
    """The cards; `model` is what those are that do not say."""
    tables = top.tables("nic")
    if not tables and not top.has("nic"):
        classic = enumerate(spec.CLASSIC_NETWORKS.values())
        return tuple(derived_nic(fqdn, network, index, model) for index, network in classic)
    nics = [nic for index, fields in enumerate(tables) if (nic := _read_nic(fields, fqdn, index, networks, model))]
    if not tables:
        top.mistake("nic", "a guest without a network card cannot be reached", "Give at least one [[nic]].")
    for index, nic in enumerate(nics):
        earlier = [other for other in nics[:index] if other.network == nic.network]
        if earlier and all(nic.ip != other.ip and nic.mac != other.mac for other in earlier):  # told below
            remedy = "Give each card a network of its own; the host answers for the guest's name with one address."
            top.mistake("nic", f"two cards are on the network {nic.network.name}", remedy, index)
    for what, values in (("mac", [nic.mac for nic in nics]), ("ip", [str(nic.ip) for nic in nics])):
        for value in sorted({value for value in values if values.count(value) > 1}):
            top.mistake("nic", f"{what} {value} is given twice", "Give each card its own, or leave it out.")
    return tuple(nics)


def derived_nic(fqdn: str, network: spec.Network, index: int, model: str = "virtio") -> spec.Nic:
    """A card whose MAC and IP follow from the guest's name."""
    ip = ip_address(fqdn, network.name, network.subnet, index)
    return spec.Nic(network, model, mac_address(fqdn, network.name, index), ip)


def _read_nic(fields: Fields, fqdn: str, index: int, networks: dict[str, spec.Network], model: str) -> spec.Nic | None:
    name = fields.choice("network", "nat0", tuple(networks))
    nic = derived_nic(fqdn, networks[name], index, fields.choice("model", model, spec.NIC_MODELS))
    mac = fields.text("mac", nic.mac, MAC, "six bytes in lower-case hex, such as 52:54:00:12:34:56").lower()
    if int(mac[:2], 16) & 1:
        fields.mistake("mac", f"{mac} is a multicast address", "Make the first byte even, such as 52.")
    ip = _read_ip(fields, nic)
    fields.nothing_else()
    return replace(nic, mac=mac, ip=ip)


def _read_ip(fields: Fields, nic: spec.Nic) -> IPv4Address:
    text = fields.text("ip", str(nic.ip), None, "")
    first, last = nic.network.guest_range
    if nic.network.kind == "bridge" and not fields.has("ip"):
        remedy = 'Write ip = "…", one that is free there.'
        fields.mistake("", f"{nic.network.name} is a network of others, where no address follows from a name", remedy)
    try:
        ip = IPv4Address(text)
    except AddressValueError:
        fields.mistake("ip", f"{text!r} is no IPv4 address", f"Use one from {first} to {last}.")
        return nic.ip
    if ip in (nic.network.router, nic.network.resolver):
        fields.mistake("ip", f"{ip} is the router or the name server of {nic.network.name}", "Use another one.")
    if not first <= ip <= last:
        fields.mistake("ip", f"{ip} is outside {nic.network.name}'s range for guests", f"Use {first} to {last}.")
    return ip


def read_published(top: Fields, networks: dict[str, spec.Network]) -> tuple[spec.PublishedPort, ...]:
    """Read the ports that the guest publishes, written [[publish]]."""
    opened = tuple(network.name for network in networks.values() if network.kind == "open")
    found = []
    for fields in top.tables("publish"):
        if not opened:
            remedy = 'Write [network.web] with kind = "open" and a subnet, and a [[nic]] with network = "web".'
            fields.mistake("", "ports are published of a network of the kind open, and there is none", remedy)
        port = fields.number("port", 0, least=1, most=65535)
        protocol: spec.Protocol = fields.choice("protocol", "tcp", ("tcp", "udp"))
        own = fields.has("host_port")
        host_port = fields.number("host_port", port, least=1, most=65535) if own else port
        if (protocol, host_port) == ("tcp", 22):
            what = "the host's own ssh server would be out of reach"
            fields.mistake("host_port" if own else "port", what, "Choose another `host_port`.")
        address = _read_address(fields, "address")
        if address is not None and address.is_loopback:
            fields.mistake("address", "loopback is not forwarded", "On the host itself, use the guest's name.")
        network = fields.choice("network", opened[0], opened) if opened else ""
        fields.nothing_else()
        found.append(spec.PublishedPort(network, port, host_port, protocol, address))
    return tuple(found)


def judge_published(top: Fields, guest: spec.Guest) -> None:
    """Note published ports of networks that the guest has no card on, and ports that are published twice."""
    cards = {nic.network.name for nic in guest.nics}
    for each in guest.published:
        if each.network and each.network not in cards:
            what = f"{guest.name} publishes a port of the network {each.network}, on which it has no card"
            top.mistake("publish", what, f'Give it a [[nic]] with network = "{each.network}".')
    ports = [(each.protocol, each.host_port) for each in guest.published]
    for protocol, port in sorted({each for each in ports if ports.count(each) > 1}):
        top.mistake("publish", f"{protocol} port {port} of the host is published twice", "Choose a `host_port`.")


def judge_networks(top: Fields, guest: spec.Guest) -> None:
    """Note networks of the guest's that overlap."""
    networks = list(dict.fromkeys(nic.network for nic in guest.nics))
    for index, network in enumerate(networks):
        for other in networks[:index]:
            if network.subnet.overlaps(other.subnet):
                what = f"the networks {other.name} ({other.subnet}) and {network.name} ({network.subnet}) overlap"
                top.mistake("network", what, "Give one of them another subnet.")
