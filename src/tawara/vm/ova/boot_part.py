"""The first part of an appliance's disk: a partition table, GRUB, and a partition with kernel and ram disk. The guest's
own disk follows as the second partition, unchanged."""

from __future__ import annotations

import shutil
import struct
import uuid
from pathlib import Path

from tawara.vm import ext4, initrd
from tawara.vm.errors import MissingProgramError
from tawara.vm.identity import NAMESPACE
from tawara.vm.ova.multiboot import bootable
from tawara.vm.run import run
from tawara.vm.tree import Tree, file, write_tar

_SECTOR = 512
_START = 1 << 20
"""Bytes before the first partition, in which GRUB is."""
_MIB = 1 << 20
_GRUB = Path("/usr/lib/grub/i386-pc")
_MODULES = ("biosdisk", "part_msdos", "ext2", "multiboot", "boot")
_FINISH = """\
[ -e /root/etc/tawara/appliance ] || { tar -xf /appliance.tar -C /root && echo yes >/root/etc/tawara/appliance; }
"""
"""Once, as with the identity: what is changed in the guest afterwards stays."""


def write_boot_part(out: Path, kernel: bytes, ramdisk: bytes, cmdline: str, root_size: int, epoch: int) -> None:
    """Write everything that is on the disk before the guest's own, which has `root_size` bytes."""
    loadable = bootable(kernel)
    size = -(-(len(loadable) + len(ramdisk)) // _MIB) * _MIB + 8 * _MIB
    draft, early, core = (out.with_suffix(f".{word}") for word in ("part", "cfg", "core"))
    try:
        files: Tree = {"kernel": file(loadable), "initrd": file(ramdisk)}
        ext4.make(draft, files, size, "tawara-boot", str(uuid.uuid5(NAMESPACE, "appliance")), epoch)
        early.write_text(f"set root=(hd0,msdos1)\nmultiboot /kernel {cmdline}\nmodule /initrd\nboot\n")
        grub = _grub_mkimage()
        run([grub, "-O", "i386-pc", "-c", str(early), "-p", "(hd0,msdos1)/", "-o", str(core), *_MODULES])
        table = _partition_table((_GRUB / "boot.img").read_bytes(), size, root_size)
        with draft.open("rb") as part, out.open("wb") as disk:
            disk.truncate(_START + size)
            disk.write(table + core.read_bytes())
            for start in range(_START, _START + size, _MIB):
                if any(block := part.read(_MIB)):
                    disk.seek(start)
                    disk.write(block)
    finally:
        for path in (draft, early, core):
            path.unlink(missing_ok=True)


def appliance_ramdisk(base: bytes, identity: bytes, added: Tree, epoch: int) -> bytes:
    """Return the base's ram disk, followed by another whose /init takes the identity from the ram disk itself and lays
    the added files over the root."""
    more = {
        "init": file(initrd.init_script("/identity.tar", _FINISH), 0o755),
        "identity.tar": file(identity, 0o600),
        "appliance.tar": file(write_tar(added, epoch)),
    }
    return base + bytes(-len(base) % 512) + initrd.write_cpio(more)


def _grub_mkimage() -> str:
    found = shutil.which("grub-mkimage") or shutil.which("grub2-mkimage")
    if found is None or not (_GRUB / "boot.img").exists():
        hint = "apt install grub-pc-bin (or dnf install grub2-pc-modules grub2-tools)"
        raise MissingProgramError("GRUB, with which an appliance boots, is not installed here", hint=hint)
    return found


def _partition_table(boot: bytes, boot_size: int, root_size: int) -> bytes:
    """Return the first sector: GRUB's code, and two partitions."""
    first, size = _START // _SECTOR, boot_size // _SECTOR
    rows = [(0x80, first, size), (0, first + size, root_size // _SECTOR)]
    table = b"".join(
        struct.pack("<B3sB3sII", mark, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", *row) for mark, *row in rows
    )
    disk = bytes(uuid.uuid5(NAMESPACE, "appliance").bytes[:4])
    return boot[:440] + disk + b"\0\0" + table.ljust(64, b"\0") + b"\x55\xaa"
