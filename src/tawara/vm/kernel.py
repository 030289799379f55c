"""Extracts the kernel proper from a bzImage: QEMU boots it directly (PVH), and it packs smaller. Debian compresses the
image with LZ4, which no package compressor can improve on; the ELF inside packs to two thirds."""

from __future__ import annotations

import struct
import subprocess

from tawara.vm.errors import BuildError
from tawara.vm.run import require

_DECOMPRESSORS = {
    b"\x02\x21\x4c\x18": ("lz4", "-dc"),
    b"\x28\xb5\x2f\xfd": ("zstd", "-dc"),
    b"\xfd7zXZ\x00": ("xz", "-dc"),
    b"\x1f\x8b": ("gzip", "-dc"),
}


def payload(image: bytes) -> tuple[bytes, int]:
    """Return the compressed kernel inside a bzImage, and its unpacked size (boot protocol 2.08 and later)."""
    if image[0x202:0x206] != b"HdrS":
        raise BuildError("the kernel is not a bzImage")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    packed = image[start : start + length]
    (size,) = struct.unpack("<I", packed[-4:])
    return packed[:-4], size


def unpacked(image: bytes) -> bytes:
    """Return the kernel as an ELF file."""
    packed, size = payload(image)
    program = next((command for magic, command in _DECOMPRESSORS.items() if packed.startswith(magic)), None)
    if program is None:
        raise BuildError(f"the kernel is compressed in an unknown way ({packed[:4].hex()})")
    require(program[0])
    done = subprocess.run(program, input=packed, capture_output=True)
    if len(done.stdout) < size or not done.stdout.startswith(b"\x7fELF"):
        raise BuildError(f"{program[0]} could not unpack the kernel: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout[:size]
