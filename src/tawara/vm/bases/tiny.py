"""The `tiny` base: busybox and dropbear on Debian's cloud kernel. Boots in 96 MB within seconds even without KVM."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from tawara.vm.bases.recipe import HostKey, Recipe, hosts_file, mount_points, mounts, resolv_conf, routes
from tawara.vm.hostkey import dropbear_host_key
from tawara.vm.identity import machine_id
from tawara.vm.initrd import IDENTITY_FIRST, OLD_MODULES
from tawara.vm.spec import Guest
from tawara.vm.tree import Node, Tree, directory, file, symlink

_LIBRARIES = re.compile(
    r"(usr/)?lib(64)?/(x86_64-linux-gnu/)?"
    r"(ld-linux-x86-64|libc|libcrypt|libz|libtomcrypt|libtommath|libgmp|libnss_dns|libnss_files|libresolv)[-.0-9]*\.so[.0-9]*"
)

_INITTAB = """\
::sysinit:/etc/tawara/boot
::respawn:/usr/sbin/dropbear -F -E -s -r /etc/dropbear/dropbear_ed25519_host_key
::respawn:/sbin/acpid -f -l /dev/null
::respawn:/etc/tawara/clock
ttyS0::askfirst:-/bin/sh
::ctrlaltdel:/sbin/reboot
::shutdown:/etc/tawara/halt
"""

_BOOT = """\
#!/bin/sh
# Everything that happens before ssh: mounts, name, addresses, services.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=0755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
hostname -F /etc/hostname
ip link set lo up
while read -r mac address gateway metric; do
    for path in /sys/class/net/*; do
        [ "$(cat "$path/address")" = "$mac" ] || continue
        ip link set "${path##*/}" up
        ip address add "$address" dev "${path##*/}"
        [ "$gateway" = - ] || ip route add default via "$gateway" metric "$metric"
    done
done </etc/tawara/nics
mount -a 2>/dev/null
for service in $(cat /etc/tawara/services 2>/dev/null); do "/etc/init.d/$service" start; done
exit 0
"""

_UNKNOWN_CARDS = """\
for path in /sys/class/net/*; do
    card=${path##*/}
    [ "$card" != lo ] && ! grep -qi "^$(cat "$path/address") " /etc/tawara/nics || continue
    ip link set "$card" up
    udhcpc -i "$card" -b -S -s /etc/tawara/dhcp
done
"""

_DHCP = """\
#!/bin/sh
# Addresses by DHCP, for cards with other MACs than the instance's own.
case $1 in bound | renew)
    ip address replace "$ip/$mask" dev "$interface"
    for gateway in $router; do ip route replace default via "$gateway" dev "$interface"; break; done
    [ -z "$dns" ] || for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf ;;
esac
"""

_CLOCK = """\
#!/bin/sh
# A guest that is restored with its memory goes on with the time of its snapshot; the machine's own clock knows better.
while sleep 10; do
    read -r machine </sys/class/rtc/rtc0/since_epoch || exec sleep 86400
    [ $((machine - $(date +%s))) -lt 3 ] || date -u -s "@$machine" >/dev/null
done
"""

_HALT = """\
#!/bin/sh
for service in $(cat /etc/tawara/services 2>/dev/null); do "/etc/init.d/$service" stop; done
sync
umount -a -r 2>/dev/null
mount -o remount,ro / 2>/dev/null
"""


def shape(packages: Tree, kernel: Tree, applets: Sequence[str]) -> dict[str, Node]:
    """Return busybox with all its applets, dropbear with its libraries, and the few files that make a system of
    them."""
    tree: dict[str, Node] = {}
    for name in ("bin", "sbin", "dev", "proc", "sys", "run", "mnt", "srv", "home", "lib64", "var/log", "var/tmp"):
        tree[name] = directory()
    tree |= {"root": directory(0o700), "tmp": directory(0o1777)}
    for path, node in packages.items():
        if _LIBRARIES.fullmatch(path) or path in ("bin/busybox", "usr/sbin/dropbear", "usr/bin/dropbearkey"):
            tree[path] = node
    for applet in applets:
        tree.setdefault(f"{_SYSTEM.get(applet, 'bin')}/{applet}", symlink("/bin/busybox"))
    return tree | {
        "etc/passwd": file("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
        "etc/group": file("root:x:0:\nnogroup:x:65534:\n"),
        "etc/shadow": file("root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n", 0o600),
        "etc/shells": file("/bin/sh\n"),
        "etc/nsswitch.conf": file("passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"),
        "etc/inittab": file(_INITTAB),
        "etc/fstab": file(""),
        "etc/os-release": file('NAME="Tawara tiny"\nID=tawara-tiny\nID_LIKE=debian\nVERSION_ID=12\n'),
        "etc/tawara/boot": file(_BOOT, 0o755),
        "etc/tawara/clock": file(_CLOCK, 0o755),
        "etc/tawara/halt": file(_HALT, 0o755),
        "etc/acpi/PWRF/00000080": file("#!/bin/sh\nexec /sbin/poweroff\n", 0o755),
        "etc/init.d": directory(),
    }


def guest_files(guest: Guest) -> dict[str, Node]:
    """Return authorised keys, mounts and services of one kind of guest."""
    tree: dict[str, Node] = {}
    if guest.authorized_keys:
        tree["root/.ssh"] = directory(0o700)
        tree["root/.ssh/authorized_keys"] = file("".join(f"{key}\n" for key in guest.authorized_keys), 0o600)
    if fstab := mounts(guest):
        tree["etc/fstab"] = file(fstab)
        tree |= {place: directory() for place in mount_points(guest)}
    if guest.services:
        tree["etc/tawara/services"] = file("".join(f"{name}\n" for name in guest.services))
    return tree


def identity(guest: Guest, key: HostKey) -> dict[str, Node]:
    """Return name, addresses, machine-id and host key of one instance."""
    nics = "".join(" ".join(map(str, row)) + "\n" for row in routes(guest))
    return {
        IDENTITY_FIRST: file(f"{guest.fqdn}\n"),
        "etc/hostname": file(f"{guest.fqdn}\n"),
        "etc/hosts": file(hosts_file(guest)),
        "etc/resolv.conf": file(resolv_conf(guest)),
        "etc/machine-id": file(f"{machine_id(guest.fqdn)}\n"),
        "etc/tawara/nics": file(nics),
        "etc/dropbear/dropbear_ed25519_host_key": file(dropbear_host_key(key.private), 0o600),
    }


def elsewhere() -> dict[str, Node]:
    """Return the boot script and its helper for cards whose MACs are not the instance's: addresses by DHCP."""
    return {
        "etc/tawara/boot": file(_BOOT.replace("mount -a", f"{_UNKNOWN_CARDS}mount -a"), 0o755),
        "etc/tawara/dhcp": file(_DHCP, 0o755),
    }


_SYSTEM = dict.fromkeys(
    [
        "init",
        "halt",
        "poweroff",
        "reboot",
        "getty",
        "acpid",
        "ip",
        "ifconfig",
        "route",
        "modprobe",
        "insmod",
        "rmmod",
        "lsmod",
        "mkswap",
        "swapon",
        "swapoff",
        "sysctl",
        "syslogd",
        "klogd",
        "switch_root",
        "pivot_root",
        "fdisk",
        "losetup",
        "hwclock",
        "start-stop-daemon",
    ],
    "sbin",
)
"""Where an applet lives when it is not /bin."""

TINY = Recipe(
    name="tiny",
    summary="busybox and dropbear on Debian's cloud kernel",
    suite="bookworm",
    variant="extract",
    packages=("busybox-static", "dropbear-bin"),
    kernel="linux-image-cloud-amd64",
    release=2,
    shape=shape,
    guest_files=guest_files,
    identity=identity,
    elsewhere=elsewhere,
)

CLASSIC = replace(
    TINY,
    name="classic",
    summary="busybox and dropbear for machines from before virtio: IDE disks, e1000 cards",
    kernel="linux-image-amd64",
    modules=OLD_MODULES,
    buses=("ide", "scsi", "sata"),
    nic_models=("e1000", "rtl8139"),
    scsi_model="lsilogic",
    shares=False,
)
"""The same system on the generic kernel with no virtio at all, as an old guest would be."""
RECIPES = (TINY, CLASSIC)
