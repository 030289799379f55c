"""Where a benchmark keeps its files: a fresh directory on a file system that is named beside the figures."""

from __future__ import annotations

import argparse
import fcntl
import os
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tawara.disks.mounts import mount_of, mounted

_GET_FLAGS: Final = 0x80086601
_SET_FLAGS: Final = 0x40086602
_TOP_DIRECTORY: Final = 0x20000
"""ioctl_iflags(2); what `chattr +T` sets."""


def add_option(parser: argparse.ArgumentParser) -> None:
    """`--directory`, for `place`."""
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="on a disk; holds the files meanwhile")


@contextmanager
def place(parent: Path) -> Iterator[Path]:
    """A directory below `parent` for as long as the block runs; says on what file system it is.

    ext4 without a journal steps over each inode that was deleted in the last minutes when it looks for a free one near
    a directory, so that what one run deletes makes the next one slow (by half and more, measured). Directories in a
    `top directory` (chattr(1), T) are put where there is room, far from each other. Elsewhere that changes nothing.
    """
    with tempfile.TemporaryDirectory(dir=parent, prefix="tawara-bench-") as name:
        with suppress(OSError):
            _spread(Path(name))
        inner = Path(tempfile.mkdtemp(dir=name))  # where it is put depends on its name
        for each in (Path(name), inner):
            each.chmod(0o755)  # a database's own user goes through it to its files
        print(f"on {file_system(inner)}", file=sys.stderr, flush=True)
        yield inner


def file_system(directory: Path) -> str:
    """`ext4 on /dev/sda1, mounted on /`, and what makes its figures incomparable."""
    mount = mount_of(directory, mounted())
    lines = (line.partition(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines())
    kinds = {rest.split()[1]: rest.split()[0] for _, _, rest in lines}
    kind = kinds.get(mount.source, "?")
    remark = ""
    if kind == "ext4" and not list(Path("/proc/fs/jbd2").glob(f"{Path(mount.source).name}-*")):
        remark = " without a journal"
    elif kind in ("tmpfs", "ramfs"):
        remark = ": no disk, an fsync costs nothing"
    return f"{kind}{remark}, {mount.source} mounted on {mount.point}"


def _spread(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        (flags,) = struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, struct.pack("l", 0)))
        fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", flags | _TOP_DIRECTORY))
    finally:
        os.close(descriptor)
