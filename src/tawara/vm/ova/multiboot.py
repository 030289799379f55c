"""Makes a kernel of a base loadable by GRUB: QEMU boots the unpacked ELF file by its PVH entry, which no boot loader
knows. A first segment is put in front of the kernel's own: a multiboot header (specification 0.6.96), and code that
turns the boot loader's description of the machine into the one that PVH expects."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tawara.vm.errors import ImageError

_PLACE = 0x100000
"""Physical address of the added segment; the kernel begins at 16 MiB."""
_SIZE = 0x2000
_START_INFO, _MODULE, _MEMORY, _HEADER = 0x400, 0x440, 0x480, 0xF00
"""Offsets in it: PVH's start info, its only module (the ram disk), up to 64 ranges of memory, the multiboot header."""
_FILE_OFFSET = 0x1000
_PVH_MAGIC, _MULTIBOOT_MAGIC = 0x336EC578, 0x1BADB002
_PAGE_ALIGNED_AND_MEMORY = 3
_PT_LOAD, _PT_NOTE, _X86_64 = 1, 4, 62
_PHYS32_ENTRY = 18
"""The type of the ELF note (owner `Xen`) that holds the PVH entry's address."""
_CODE = bytes.fromhex(
    # cld; the command line's address (16 in the multiboot information) goes to the start info
    "fc 8b4310 a318041000"
    # the first module's start, and its size (end minus start), go to the module
    "8b4b18 8b01 a340041000 8b5104 29c2 891548041000"
    # esi, ebp: begin and end of the map of memory; edi: its copy; edx: ranges so far
    "8b7330 8b6b2c 01f5 bf80041000 31d2"
    # while there is another range and space for it: copy address, length and type, skip four bytes, next
    "39ee 731d 83fa40 7318 8b06 8d440604 83c604 b905000000 f3a5 83c704 89c6 42 ebdf"
    # their number goes to the start info, whose address ebx holds at the kernel's entry
    "891530041000 bb00041000"
)
_JUMP = b"\xb8%b\xff\xe0"  # mov eax, entry; jmp eax


@dataclass(frozen=True)
class _Segment:
    """A program header of a 64-bit ELF file."""

    kind: int
    flags: int
    offset: int
    virtual: int
    physical: int
    in_file: int
    in_memory: int

    def write(self, moved: int) -> bytes:
        """The header of the same segment, `moved` bytes further in the file."""
        places = (self.offset + moved, self.virtual, self.physical, self.in_file, self.in_memory)
        return struct.pack("<IIQQQQQQ", self.kind, self.flags, *places, 0x1000)


def bootable(kernel: bytes) -> bytes:
    """Return the kernel as a multiboot ELF file. Raises ImageError for a file without a PVH entry."""
    segments = _segments(kernel)
    loaded = [each for each in segments if each.kind == _PT_LOAD]
    first = _FILE_OFFSET + _SIZE
    own = _Segment(_PT_LOAD, 7, _FILE_OFFSET, _PLACE, _PLACE, _SIZE, _SIZE)
    headers = own.write(0) + b"".join(each.write(first) for each in loaded)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, _X86_64, 1, _PLACE, 64, 0, 0, 64, 56, len(loaded) + 1, 0, 0, 0)
    return (head + headers).ljust(_FILE_OFFSET, b"\0") + _first_segment(_pvh_entry(kernel, segments)) + kernel


def _first_segment(entry: int) -> bytes:
    page = bytearray(_SIZE)
    code = _CODE + _JUMP % struct.pack("<I", entry)
    page[: len(code)] = code
    places = (_PLACE + _MODULE, 0, 0, _PLACE + _MEMORY, 0, 0)
    struct.pack_into("<IIIIQQQQII", page, _START_INFO, _PVH_MAGIC, 1, 0, 1, *places)
    checksum = -(_MULTIBOOT_MAGIC + _PAGE_ALIGNED_AND_MEMORY) & 0xFFFFFFFF
    struct.pack_into("<III", page, _HEADER, _MULTIBOOT_MAGIC, _PAGE_ALIGNED_AND_MEMORY, checksum)
    return bytes(page)


def _segments(kernel: bytes) -> list[_Segment]:
    if kernel[:5] != b"\x7fELF\x02":
        raise ImageError("the base's kernel is no 64-bit ELF file")
    (offset,) = struct.unpack_from("<Q", kernel, 32)
    size, count = struct.unpack_from("<HH", kernel, 54)
    rows = (struct.unpack_from("<IIQQQQQ", kernel, offset + number * size) for number in range(count))
    return [_Segment(*row) for row in rows]


def _pvh_entry(kernel: bytes, segments: list[_Segment]) -> int:
    for segment in segments:
        if segment.kind != _PT_NOTE:
            continue
        at, end = segment.offset, segment.offset + segment.in_file
        while at + 12 <= end:
            name_size, size, kind = struct.unpack_from("<III", kernel, at)
            name, content = at + 12, at + 12 + -(-name_size // 4) * 4
            if kind == _PHYS32_ENTRY and kernel[name : name + name_size] == b"Xen\0":
                return int.from_bytes(kernel[content : content + min(size, 8)], "little")
            at = content + -(-size // 4) * 4
    raise ImageError("the base's kernel has no PVH entry")
