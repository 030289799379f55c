"""A guest: the values of a NAME.toml, with the classic defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

from tawara.vm.identity import fixed_range

MiB = 1 << 20
GiB = 1 << 30

BUSES = ("virtio", "ide", "scsi", "sata")
NIC_MODELS = ("virtio", "e1000", "rtl8139")

Kind = Literal["nat", "host", "open", "bridge"]
Protocol = Literal["tcp", "udp"]
ShareKind = Literal["9p", "virtiofs"]
ImageIdentity = Literal["ours", "kept"]


@dataclass(frozen=True)
class Network:
    """A libvirt network: `nat` reaches the outside, `host` only the host and its other guests. `open` is like `nat`,
    with our own firewall instead of libvirt's, so that ports of its guests can be published. `bridge` is a bridge of
    the host's administrator: the guest is in the network that the bridge leads to."""

    name: str
    kind: Kind
    subnet: IPv4Network
    host_bridge: str = ""
    """The interface of a `bridge` network."""
    router: IPv4Address | None = None
    """Of a `bridge` network; None: it leads nowhere."""
    resolver: IPv4Address | None = None
    """The name server of a `bridge` network."""

    @property
    def gateway(self) -> IPv4Address:
        """The host's own address, also the name server; not of a `bridge` network."""
        return self.subnet.network_address + 1

    @property
    def outside(self) -> IPv4Address | None:
        """The router that leads outside; None if none does."""
        if self.kind == "bridge":
            return self.router
        return None if self.kind == "host" else self.gateway

    @property
    def guest_range(self) -> tuple[IPv4Address, IPv4Address]:
        """The first and last address that a guest may have; in a `bridge` network others have some of them."""
        if self.kind == "bridge":
            return self.subnet.network_address + 1, self.subnet.broadcast_address - 1
        return fixed_range(self.subnet)

    @property
    def name_server(self) -> IPv4Address | None:
        """The name server."""
        return self.resolver if self.kind == "bridge" else self.gateway

    @property
    def libvirt_name(self) -> str:
        """The name that virsh shows."""
        return f"tawara-{self.name}"

    @property
    def bridge(self) -> str:
        """The bridge's interface name (the kernel allows 15 characters)."""
        return self.host_bridge or f"tw-{self.name}"


PRIVATE = tuple(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
"""Address ranges for networks: private ones, not routed on the Internet (RFC 1918, RFC 6598)."""

CLASSIC_NETWORKS = {
    "nat0": Network("nat0", "nat", IPv4Network("192.168.231.0/24")),
    "nat1": Network("nat1", "nat", IPv4Network("192.168.232.0/24")),
    "host0": Network("host0", "host", IPv4Network("192.168.233.0/24")),
    "host1": Network("host1", "host", IPv4Network("192.168.234.0/24")),
}


@dataclass(frozen=True)
class Nic:
    """One network card with its final address (fixed by the author, or derived from the name)."""

    network: Network
    model: str
    mac: str
    ip: IPv4Address


@dataclass(frozen=True)
class File:
    """A file that is added to the guest's base."""

    path: str
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Share:
    """A directory of the host that the guest sees (9p or virtiofs)."""

    source: str
    target: str
    kind: ShareKind = "virtiofs"


@dataclass(frozen=True)
class PublishedPort:
    """A port of the host that is forwarded to one of the guest."""

    network: str
    """The guest's network of kind `open`."""
    port: int
    """The guest's."""
    host_port: int
    protocol: Protocol = "tcp"
    address: IPv4Address | None = None
    """The host's; None: any of its addresses except loopback."""


@dataclass(frozen=True)
class Data:
    """A second disk for data that must survive an upgrade of the system."""

    size: int
    mount: str


@dataclass(frozen=True)
class Root:
    """The location of a foreign image's root file system."""

    device: str
    """libguestfs's name for it, such as /dev/sda1."""
    kind: str
    """ext4, xfs …"""
    offset: int | None
    """Bytes from the disk's start; None when it does not lie on the disk in one piece (LVM and the like)."""


@dataclass(frozen=True)
class ForeignImage:
    """A foreign disk image in place of one of our bases."""

    path: str
    sha256: str
    identity: ImageIdentity = "ours"
    """`ours`: name, machine-id and ssh host key are written into it. `kept`: it stays who it is."""
    host_key: str = ""
    """The public ssh host key of an image that keeps its identity."""
    augeas: tuple[str, ...] = ()
    """augtool's commands, run on the image's configuration files."""
    root: Root | None = None
    """Known once the image was looked into."""


@dataclass(frozen=True)
class Guest:
    """One kind of guest, complete: with all defaults and addresses."""

    name: str
    fqdn: str
    version: str = "1"
    base: str = "tiny"
    image: ForeignImage | None = None
    memory: int = 256 * MiB
    cpus: int = 1
    disk: int = 5 * GiB
    bus: str = "virtio"
    nics: tuple[Nic, ...] = ()
    data: Data | None = None
    packages: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    commands: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    authorized_keys: tuple[str, ...] = ()
    shares: tuple[Share, ...] = ()
    published: tuple[PublishedPort, ...] = ()
    console: Literal["serial", "vnc"] = "serial"
    order: int = 50
    description: str = ""
    tags: tuple[str, ...] = field(default=())
    cluster: str = ""
    """The cluster whose package brings it; empty for a guest with a package of its own."""

    @property
    def package(self) -> str:
        """The name of the package that brings the guest."""
        return f"tawara-cluster-{self.cluster}" if self.cluster else f"tawara-guest-{self.name}"

    @property
    def ground(self) -> str:
        """What it is built on, by name: a base of ours, or a foreign image's file."""
        return self.image.path.rsplit("/", 1)[-1] if self.image else self.base

    @property
    def primary(self) -> Nic:
        """The card whose address the guest's name has on the host."""
        return self.nics[0]
