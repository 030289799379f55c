"""The `debian12` base: systemd, openssh and the guest agent, small enough for 256 MB and quick to boot without KVM."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tawara.vm.bases.recipe import HostKey, Recipe, hosts_file, mount_points, mounts, resolv_conf, routes
from tawara.vm.identity import machine_id
from tawara.vm.initrd import IDENTITY_FIRST
from tawara.vm.spec import Guest
from tawara.vm.tree import Node, Tree, directory, file, symlink

_LEFT_OUT = re.compile(
    r"usr/share/(doc|man|info|locale|lintian|bash-completion|zsh|common-licenses)/.+"
    r"|var/lib/apt/lists/.+|var/cache/(apt|debconf|ldconfig)/.+|var/log/.+|var/lib/dpkg/[^/]+-old"
    r"|usr/lib/x86_64-linux-gnu/gconv/.+|usr/share/i18n/.+|usr/lib/udev/hwdb\.bin|usr/lib/udev/hwdb\.d/.+"
    r"|etc/ssh/ssh_host_.+|etc/machine-id|var/lib/dbus/machine-id|etc/(passwd|group|shadow|gshadow)-"
    r"|boot/.+|dev/.+|run/.+|tmp/.+"
)

_MODULES = re.compile(
    r"lib/modules/[^/]+/kernel/("
    r"fs/(overlayfs|fuse|nfs|nfs_common|lockd|nls|fat|isofs|xfs|btrfs)/.+"
    r"|net/(netfilter|ipv4|ipv6|bridge|802|llc|sunrpc|core|sched|vmw_vsock|9p)/.+"
    r"|drivers/(net/(veth|tun|dummy|macvlan|vxlan|virtio_net|net_failover|wireguard/.+)|block/(loop|nbd|virtio_blk)"
    r"|virtio/.+|md/dm-(mod|crypt)|char/(hw_random/virtio-rng|virtio_console)|input/evdev)(\.ko(\.xz)?)?"
    r"|lib/(libcrc32c|crc16|crc-itu-t)\.ko(\.xz)?|crypto/(crc32c_generic|xor|async_tx/.+)\.ko(\.xz)?)"
)

_MASKED = [
    "systemd-networkd-wait-online.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "fstrim.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "systemd-timesyncd.service",
    "getty@tty1.service",
    "systemd-update-utmp.service",
    "systemd-pcrphase.service",
    "systemd-pcrphase-sysinit.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "systemd-binfmt.service",
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-journal-flush.service",
]
"""Units that a small guest does not need; an administrator unmasks what is wanted."""

_GROW = """\
[Unit]
Description=Grow the root file system to its disk
DefaultDependencies=no
After=systemd-remount-fs.service

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'resize2fs "$$(findmnt -no SOURCE /)"'

[Install]
WantedBy=sysinit.target
"""


_CONSOLE = """\
# The serial console is reached only by who may use libvirt on the host, and so may change the guest's disk anyway.
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --keep-baud 115200,57600,38400,9600 - $TERM
"""


def tidy(tree: Tree) -> dict[str, Node]:
    """Return the tree without documentation, caches, logs and files that every guest must have of its own."""
    return {
        path: node for path, node in tree.items() if not _LEFT_OUT.fullmatch(path) or _is_place_for_logs(path, node)
    }


def _is_place_for_logs(path: str, node: Node) -> bool:
    """Whether a path is a package's directory below /var/log, without which its service may not start."""
    return node.kind == "directory" and path.startswith("var/log/")


def shape(packages: Tree, kernel: Tree, applets: Sequence[str]) -> dict[str, Node]:
    """Return Debian without its documentation, with modules for servers, and with quiet services."""
    tree = tidy(packages)
    modules = "usr/lib/modules" if tree.get("lib", directory()).kind == "symlink" else "lib/modules"
    tree |= {
        path.replace("lib/modules", modules, 1): node
        for path, node in ((path.removeprefix("usr/"), node) for path, node in kernel.items())
        if _MODULES.fullmatch(path) or re.fullmatch(r"lib/modules/[^/]+/modules\.(builtin.*|order|dep)", path)
    }
    wanted = "etc/systemd/system/multi-user.target.wants"
    tree |= {f"etc/systemd/system/{unit}": symlink("/dev/null") for unit in _MASKED}
    return tree | {
        "etc/fstab": file("LABEL=tawara-root / ext4 defaults,noatime 0 1\n"),
        "etc/machine-id": file("uninitialized\n"),
        "etc/systemd/journald.conf.d/tawara.conf": file("[Journal]\nStorage=volatile\nRuntimeMaxUse=8M\n"),
        "etc/systemd/system.conf.d/tawara.conf": file("[Manager]\nDefaultTimeoutStopSec=15s\n"),
        "etc/systemd/system/tawara-grow.service": file(_GROW),
        "etc/systemd/system/sysinit.target.wants/tawara-grow.service": symlink("../tawara-grow.service"),
        f"{wanted}/systemd-networkd.service": symlink("/lib/systemd/system/systemd-networkd.service"),
        "etc/systemd/system/serial-getty@ttyS0.service.d/tawara.conf": file(_CONSOLE),
        "etc/ssh/sshd_config.d/tawara.conf": file("PasswordAuthentication no\nPermitRootLogin prohibit-password\n"),
    }


def guest_files(guest: Guest) -> dict[str, Node]:
    """Return authorised keys, mounts and enabled services of one kind of guest."""
    tree: dict[str, Node] = {}
    if guest.authorized_keys:
        tree["root/.ssh"] = directory(0o700)
        tree["root/.ssh/authorized_keys"] = file("".join(f"{key}\n" for key in guest.authorized_keys), 0o600)
    if lines := mounts(guest):
        # systemd gives a disk 90 s to appear, which is not enough for a guest without KVM on a host under load.
        patient = lines.replace("ext4 defaults,nofail ", "ext4 defaults,nofail,x-systemd.device-timeout=15min ")
        tree["etc/fstab"] = file("LABEL=tawara-root / ext4 defaults,noatime 0 1\n" + patient)
        tree |= {place: directory() for place in mount_points(guest)}
    given = {file.path for file in guest.files}
    for name in guest.services:
        unit = name if "." in name else f"{name}.service"
        # An instance (web@1.service) is enabled by a link to its template (web@.service).
        template = re.sub(r"@[^.]+", "@", unit)
        place = "/etc/systemd/system" if f"/etc/systemd/system/{template}" in given else "/lib/systemd/system"
        tree[f"etc/systemd/system/multi-user.target.wants/{unit}"] = symlink(f"{place}/{template}")
    return tree


def identity(guest: Guest, key: HostKey) -> dict[str, Node]:
    """Return name, addresses, machine-id and host key of one instance."""
    tree = {
        IDENTITY_FIRST: file(f"{guest.fqdn}\n"),
        "etc/hostname": file(f"{guest.fqdn}\n"),
        "etc/hosts": file(hosts_file(guest)),
        "etc/resolv.conf": file(resolv_conf(guest)),
        "etc/machine-id": file(f"{machine_id(guest.fqdn)}\n"),
        "etc/ssh/ssh_host_ed25519_key": file(key.private, 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": file(f"{key.public} {guest.fqdn}\n"),
    }
    for number, (mac, address, gateway, metric) in enumerate(routes(guest)):
        tree[f"etc/systemd/network/10-tawara-{number}.network"] = file(_networkd(mac, address, gateway, metric))
    return tree


def _networkd(mac: str, address: str, gateway: str, metric: int) -> str:
    text = f"[Match]\nMACAddress={mac}\n\n[Network]\nAddress={address}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    return text if gateway == "-" else f"{text}\n[Route]\nGateway={gateway}\nMetric={metric}\n"


def elsewhere() -> dict[str, Node]:
    """Return the configuration of cards that none of the instance's own matches: addresses by DHCP."""
    text = "[Match]\nType=ether\n\n[Network]\nDHCP=ipv4\n"
    return {"etc/systemd/network/90-tawara-appliance.network": file(text)}


DEBIAN12 = Recipe(
    name="debian12",
    summary="Debian 12 with systemd, openssh and the guest agent",
    suite="bookworm",
    variant="minbase",
    packages=(
        *("systemd", "systemd-sysv", "udev", "dbus", "kmod", "openssh-server", "qemu-guest-agent"),
        *("iproute2", "ca-certificates", "e2fsprogs"),
    ),
    kernel="linux-image-cloud-amd64",
    release=5,
    shape=shape,
    guest_files=guest_files,
    identity=identity,
    tidy=tidy,
    grows=True,
    installs=True,
    agent=True,
    elsewhere=elsewhere,
)
RECIPES = (DEBIAN12,)
