"""Creates a foreign disk image: an old machine with a partition table, GRUB, a generic kernel, IDE and e1000 only. It
is independent of Tawara: it boots from its own boot loader, gets its address by DHCP, and has its own name and ssh host
key."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

from tawara.vm import ext4, initrd, tree
from tawara.vm.base_image import Base
from tawara.vm.bases.recipe import EPOCH
from tawara.vm.disk import write_qcow2
from tawara.vm.foreign.appliance import environment
from tawara.vm.host_keys import host_key
from tawara.vm.hostkey import dropbear_host_key
from tawara.vm.run import require, run

SIZE = 256 << 20
START = 1 << 20
GRUB = Path("/usr/lib/grub/i386-pc")

_INIT = """#!/bin/sh
export PATH=/bin
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
tries=0
while [ ! -b /dev/sda1 ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
mount -t ext4 /dev/sda1 /root
mount --move /dev /root/dev
exec switch_root /root /sbin/init
"""

_BOOT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=0755 run /run
mount -a
hostname -F /etc/hostname
ip link set lo up
ip link set eth0 up
udhcpc -i eth0 -b -s /etc/udhcpc
"""

_DHCP = """#!/bin/sh
case $1 in bound | renew)
    ip link set "$interface" up
    ip address replace "$ip/$mask" dev "$interface"
    ip route replace default via "$router" dev "$interface" ;;
esac
"""


def make_foreign_disk(base: Base, kernel: Path, folder: Path) -> Path:
    """The image as qcow2, made from the `classic` base's files, the kernel directory's `vmlinuz` and modules."""
    raw, disk = folder / "old.raw", folder / "old.qcow2"
    part = folder / "part.raw"
    root = _root(base, kernel, folder, "/dev/sda1")
    ext4.make(part, root, SIZE - START, "old", str(uuid.uuid5(uuid.NAMESPACE_DNS, "old")), EPOCH)
    _partitioned(part, raw, folder)
    write_qcow2(disk, raw, None, None, 16)
    part.unlink()
    raw.unlink()
    return disk


def make_lvm_disk(base: Base, kernel: Path, folder: Path) -> Path:
    """The same files on a logical volume, as created by many installers; raw, and without a boot loader."""
    disk, files, script = folder / "lvm.raw", folder / "lvm.tar", folder / "lvm.script"
    with disk.open("wb") as out:
        out.truncate(SIZE)
    files.write_bytes(tree.write_tar(_root(base, kernel, folder, "/dev/old/root"), EPOCH))
    commands = ["run", "part-init /dev/sda mbr", "part-add /dev/sda p 2048 -1", "pvcreate /dev/sda1"]
    commands += ["vgcreate old /dev/sda1", "lvcreate-free root old 100", "mkfs ext4 /dev/old/root"]
    commands += ["mount /dev/old/root /", f"tar-in {files} /", "umount-all"]
    script.write_text("\n".join(commands) + "\n")
    run(["guestfish", "--format=raw", "--add", str(disk), "--file", str(script)], env=environment(kernel))
    files.unlink()
    return disk


def _root(base: Base, kernel: Path, folder: Path, device: str) -> tree.Tree:
    """The old machine's files, for a root file system on this device."""
    root = dict(base.tree())
    for path in ("etc/tawara/boot", "etc/tawara/halt", "etc/tawara"):
        root.pop(path)
    root["etc/boot"] = tree.file(_BOOT, 0o755)
    root["etc/udhcpc"] = tree.file(_DHCP, 0o755)
    inittab = root["etc/inittab"].content.decode().replace("/etc/tawara/boot", "/etc/boot")
    root["etc/inittab"] = tree.file("".join(line for line in inittab.splitlines(True) if "/etc/tawara" not in line))
    root["etc/hostname"] = tree.file("formerly.example\n")
    root["etc/hosts"] = tree.file("127.0.0.1 localhost\n127.0.1.1 formerly.example formerly\n10.1.2.3 friend\n")
    root["etc/fstab"] = tree.file(f"{device} / ext4 defaults 0 1\n")
    old = host_key(folder / "old.keys")
    root["etc/dropbear/dropbear_ed25519_host_key"] = tree.file(dropbear_host_key(old.private), 0o600)
    root["boot/vmlinuz"] = tree.file((kernel / "vmlinuz").read_bytes())
    root["boot/initrd"] = tree.file(_ramdisk(base, kernel))
    return tree.with_parents(root)


def _ramdisk(base: Base, kernel: Path) -> bytes:
    busybox = base.tree()["bin/busybox"].content
    modules = {path.stem.replace("-", "_"): path.read_bytes() for path in (kernel / "lib" / "modules").rglob("*.ko")}
    wanted = ("ata_piix", "sd_mod", "e1000", "ext4", "evdev", "button")
    ramdisk = initrd.ramdisk_tree(busybox, modules, wanted)
    ramdisk["init"] = tree.file(_INIT, 0o755)
    return initrd.write_cpio(ramdisk)


def _partitioned(part: Path, raw: Path, folder: Path) -> None:
    """The file system behind a partition table, with GRUB in the gap before it."""
    with raw.open("wb") as out:
        out.truncate(SIZE)
    subprocess.run([require("sfdisk"), "-q", str(raw)], input="label: dos\n2048,,83,*\n", text=True, check=True)
    early = folder / "early.cfg"
    early.write_text(
        "set root=(hd0,msdos1)\nlinux /boot/vmlinuz console=ttyS0 quiet net.ifnames=0\ninitrd /boot/initrd\nboot\n"
    )
    core = folder / "core.img"
    modules = ("biosdisk", "part_msdos", "ext2", "linux", "boot")
    command = ["grub-mkimage", "-O", "i386-pc", "-c", str(early), "-p", "(hd0,msdos1)/boot/grub", "-o", str(core)]
    subprocess.run([*command, *modules], check=True)
    with raw.open("r+b") as out:
        out.write((GRUB / "boot.img").read_bytes()[:440])
        out.seek(512)
        out.write(core.read_bytes())
    subprocess.run(
        ["dd", f"if={part}", f"of={raw}", "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none"], check=True
    )
