"""The initial ram disk of our bases: finds the root and identity disks by content, and starts the system. It is written
here instead of by initramfs-tools because it is small (it boots in under a second without KVM), and because it adds the
instance's identity to the root, so that one delta serves any number of instances."""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Callable, Iterable, Mapping

from tawara.vm.tree import Node, Tree, directory, file

ROOT_LABEL = "tawara-root"
DATA_LABEL = "tawara-data"
IDENTITY_FIRST = "etc/tawara/identity"
"""The first member of an identity archive: a disk, or a CD-ROM, that begins with this name is one."""
IDENTITY_BLOCK = 2048
"""An identity is whole blocks of this size, so that a CD-ROM shows all of it."""

OLD_MODULES = (
    *("ata_piix", "ata_generic", "ahci", "sym53c8xx", "sd_mod", "sr_mod"),
    *("e1000", "8139cp", "ext4", "evdev", "button"),
)
"""What a guest needs on a machine from before virtio: IDE, SATA and SCSI disks, Intel's and Realtek's cards."""

MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net"),
    *OLD_MODULES,
    *("fuse", "virtiofs", "9p", "9pnet_virtio", "virtio_console", "virtio_rng"),
)
"""What a guest of ours may need to find its disks and cards; those that a kernel lacks are left out."""


def init_script(identity: str = "", finish: str = "") -> str:
    """Return the ram disk's /init. `identity`: the file with the instance's identity, which is otherwise looked for on
    the disks; `finish`: commands that are run over the root file system before the system is started."""
    return f"""#!/bin/sh
# Tawara's initial ram disk: modules, root, identity, and over to the guest's own init.
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r module; do insmod "/modules/$module" 2>/dev/null; done </modules/order

root= identity={identity} tries=0
# Disks appear one by one: each boot waits for both. Who takes the identity's disk away waits ten seconds.
while {{ [ -z "$root" ] || [ -z "$identity" ]; }} && [ $tries -lt 100 ]; do
    for path in /sys/class/block/*; do
        disk=/dev/${{path##*/}}
        case $disk in /dev/loop*|/dev/ram*|/dev/fd*) continue ;; esac
        [ "$(head -c {len(IDENTITY_FIRST)} "$disk" 2>/dev/null)" = {IDENTITY_FIRST} ] && identity=$disk
    done
    root=$(findfs LABEL={ROOT_LABEL} 2>/dev/null) || root=
    [ -n "$root" ] && [ -n "$identity" ] || {{ sleep 0.1; tries=$((tries + 1)); }}
done
[ -n "$root" ] || {{ echo "tawara: no disk is labelled {ROOT_LABEL}"; exec sh; }}

mount -t ext4 -o rw "$root" /root || exec sh
# The identity is laid over the root once; what an administrator changes afterwards in the guest stays.
if [ -n "$identity" ]; then
    sum=$(sha256sum <"$identity")
    if [ "$sum" != "$(cat /root/etc/tawara/identity.applied 2>/dev/null)" ]; then
        tar -xf "$identity" -C /root && echo "$sum" >/root/etc/tawara/identity.applied
    fi
fi
{finish}umount /proc /sys
mount --move /dev /root/dev
exec switch_root /root /sbin/init
"""


def ramdisk_tree(busybox: bytes, modules: Mapping[str, bytes], wanted: Iterable[str] = MODULES) -> dict[str, Node]:
    """Return the ram disk's files: a static busybox, the wanted modules that this kernel has in loading order, and
    /init."""
    order = load_order(modules, wanted)
    names = [f"{name}.ko" for name in order]
    applets = [
        "sh",
        "mount",
        "umount",
        "insmod",
        "head",
        "findfs",
        "sleep",
        "sha256sum",
        "cat",
        "tar",
        "echo",
        "switch_root",
    ]
    tree: dict[str, Node] = {path: directory() for path in ("bin", "dev", "proc", "sys", "root", "modules")}
    tree["init"] = file(init_script(), 0o755)
    tree["bin/busybox"] = file(busybox, 0o755)
    tree |= {f"bin/{name}": Node("symlink", 0o777, content=b"busybox") for name in applets}
    tree |= {f"modules/{name}.ko": file(modules[name]) for name in order}
    tree["modules/order"] = file("".join(f"{name}\n" for name in names))
    tree["dev/console"] = Node("char", 0o600, device=(5, 1))
    return tree


def load_order(modules: Mapping[str, bytes], wanted: Iterable[str]) -> list[str]:
    """Return the wanted modules with all their dependencies, each after those."""
    order: list[str] = []

    def add(name: str, above: tuple[str, ...] = ()) -> None:
        if name not in modules or name in order or name in above:
            return
        for needed in [*dependencies(modules[name]), *(_SOFT.get(name, ()))]:
            add(needed, (*above, name))
        order.append(name)

    for name in wanted:
        add(name)
    return order


_SOFT = {"ext4": ("crc32c_generic",), "virtio_pci": ("virtio_ring",)}
"""Needed at run time though the module does not say so in its `depends`."""


def dependencies(module: bytes) -> list[str]:
    """Return the modules that a kernel module depends on (its .modinfo section)."""
    match = re.search(rb"\0depends=([^\0]*)\0", module)
    return [name.replace("-", "_") for name in match[1].decode().split(",") if name] if match else []


_UNPACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".xz": lzma.decompress, ".gz": gzip.decompress}
"""Debian 13 packs modules by xz, which busybox's insmod does not read."""


def kernel_modules(tree: Tree) -> dict[str, bytes]:
    """Return every kernel module in a tree, by its name in the kernel."""
    found = {}
    for path, node in tree.items():
        name, dot, packing = path.rsplit("/", 1)[-1].partition(".ko")
        if dot and packing in _UNPACK and "/modules/" in f"/{path}":
            found[name.replace("-", "_")] = _UNPACK[packing](node.content)
    return found


def write_cpio(tree: Tree) -> bytes:
    """Return the tree as a newc cpio archive, the kernel's format for ram disks; always the same bytes."""
    formats = {"file": 0o100000, "directory": 0o040000, "symlink": 0o120000, "char": 0o020000, "block": 0o060000}
    pieces = []
    for number, (path, node) in enumerate(sorted(tree.items()), start=1):
        mode = formats[node.kind] | node.mode
        links = 2 if node.kind == "directory" else 1
        pieces.append(_cpio_entry(path, number, mode, node, links))
    pieces.append(_cpio_entry("TRAILER!!!", 0, 0, Node("file", 0), 1))
    whole = b"".join(pieces)
    return whole + bytes(-len(whole) % 512)


def _cpio_entry(path: str, number: int, mode: int, node: Node, links: int) -> bytes:
    name = path.encode() + b"\0"
    fields = (number, mode, node.uid, node.gid, links, 0, len(node.content), 0, 0, *node.device, len(name), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    return head + bytes(-len(head) % 4) + node.content + bytes(-len(node.content) % 4)
