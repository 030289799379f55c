"""The definition of a base: its Debian packages, and how their files become a root file system and an identity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tawara.vm.initrd import MODULES
from tawara.vm.spec import Guest
from tawara.vm.tree import Node, Tree

EPOCH = 1_767_225_600
"""The time that every file in an image bears unless SOURCE_DATE_EPOCH gives another (2026-01-01)."""


@dataclass(frozen=True)
class HostKey:
    """A guest's ssh host key (ed25519), created before its first boot."""

    private: str
    """OpenSSH's private key file."""
    public: str
    """`ssh-ed25519 AAAA…`, without a comment."""


@dataclass(frozen=True)
class Recipe:
    """A base. The functions are pure: trees in, trees out."""

    name: str
    summary: str
    suite: str
    variant: str
    packages: tuple[str, ...]
    kernel: str
    """The Debian package that the kernel and its modules come from."""
    release: int
    """Raised when the functions below change what they make, so that caches notice."""
    shape: Callable[[Tree, Tree, Sequence[str]], dict[str, Node]]
    """(the packages' tree, the kernel's tree, busybox's applets) -> the root file system."""
    guest_files: Callable[[Guest], dict[str, Node]]
    """What the delta lays over the base for one kind of guest; nothing of an instance's identity."""
    identity: Callable[[Guest, HostKey], dict[str, Node]]
    """What makes an instance itself: host name, addresses, machine-id, host key."""
    tidy: Callable[[Tree], dict[str, Node]] = dict
    """What of a tree is kept after packages were installed into it."""
    modules: tuple[str, ...] = MODULES
    """The kernel modules that the ram disk loads."""
    buses: tuple[str, ...] = ("virtio", "ide", "scsi")
    """The disk buses that its kernel and ram disk have drivers for; the first is a guest's when it says nothing."""
    nic_models: tuple[str, ...] = ("virtio",)
    """The models of network cards, likewise."""
    scsi_model: str = "virtio-scsi"
    """The SCSI controller that it has a driver for."""
    shares: bool = True
    """Whether it can show directories of the host."""
    grows: bool = False
    """Whether its root file system grows to a larger disk."""
    installs: bool = False
    """Whether `packages` can be installed into it."""
    agent: bool = False
    """Does the QEMU guest agent run in it?"""
    elsewhere: Callable[[], dict[str, Node]] = dict
    """What an appliance for other hypervisors gets besides: addresses by DHCP for cards with other MACs."""
    cmdline: str = "console=ttyS0 quiet loglevel=3 net.ifnames=0"

    def key(self, epoch: int, mirror: str) -> str:
        """The name under which a built base is cached."""
        facts = (
            self.name,
            self.suite,
            self.variant,
            self.packages,
            self.kernel,
            self.modules,
            self.release,
            self.cmdline,
        )
        return f"{self.name}-{hashlib.sha256(repr((facts, epoch, mirror)).encode()).hexdigest()[:16]}"


def hosts_file(guest: Guest) -> str:
    """Return the guest's own /etc/hosts, in which its name has the address that others use."""
    short, _, _ = guest.fqdn.partition(".")
    names = " ".join(dict.fromkeys((guest.fqdn, short, guest.name)))
    return f"127.0.0.1 localhost\n{guest.primary.ip} {names}\n::1 localhost ip6-localhost\n"


def resolv_conf(guest: Guest) -> str:
    """Return the name servers: the first card's network first (for its guests' names), then those with access to the
    outside. Names without a dot are looked up in the guest's own domain, which the other guests of its cluster
    share."""
    first = [guest.primary.network]
    rest = [nic.network for nic in guest.nics[1:] if nic.network.kind != "host"]
    servers = dict.fromkeys(str(network.name_server) for network in first + rest if network.name_server)
    _, _, domain = guest.fqdn.partition(".")
    search = f"search {domain}\n" if domain else ""
    return search + "".join(f"nameserver {server}\n" for server in list(servers)[:3])


def routes(guest: Guest) -> list[tuple[str, str, str, int]]:
    """Return for each card: MAC, address with prefix, gateway or -, metric. The first that leads outside is
    preferred."""
    table = []
    metric = 100
    for nic in guest.nics:
        gateway = str(nic.network.outside or "-")
        table.append((nic.mac, f"{nic.ip}/{nic.network.subnet.prefixlen}", gateway, metric))
        metric += 100 if nic.network.outside else 0
    return table


def mounts(guest: Guest) -> str:
    """Return the fstab lines of the data disk and of shared directories."""
    lines = []
    if guest.data is not None:
        lines.append(f"LABEL=tawara-data {guest.data.mount} ext4 defaults,nofail 0 2\n")
    for number, share in enumerate(guest.shares):
        kind = "virtiofs defaults,nofail" if share.kind == "virtiofs" else "9p trans=virtio,version=9p2000.L,nofail"
        lines.append(f"share{number} {share.target} {kind} 0 0\n")
    return "".join(lines)


def mount_points(guest: Guest) -> list[str]:
    """Return the mount points of the data disk and shared directories, as tree paths."""
    data = [guest.data.mount] if guest.data else []
    return [path.lstrip("/") for path in (*data, *(share.target for share in guest.shares))]


def kernel_image(kernel: Tree) -> bytes:
    """Return the kernel in a package's tree."""
    return next(node.content for path, node in sorted(kernel.items()) if path.startswith("boot/vmlinuz-"))
