"""Converts raw disks to qcow2 files: which clusters have data or differ, read through the holes of sparse files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from tawara.vm import qcow2
from tawara.vm.run import run

_STRETCH = 1 << 22


def write_qcow2(out: Path, raw: Path, old: Path | None, backing: str | None, cluster_bits: int) -> int:
    """Write the clusters of `raw` that differ from `old` (or from zeros) as qcow2 over `backing`; return their
    number."""
    cluster = 1 << cluster_bits
    with raw.open("rb") as new:
        size = os.fstat(new.fileno()).st_size
        numbers = tuple(_changed(new.fileno(), old, cluster, size))
        layout = qcow2.Layout(cluster_bits, size, backing, numbers)
        with out.open("wb") as file:
            file.writelines(qcow2.write(layout, (os.pread(new.fileno(), cluster, n * cluster) for n in numbers)))
    return len(numbers)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a raw disk with its holes; blocks are shared if the file system supports that."""
    run(["cp", "--sparse=always", "--reflink=auto", str(source), str(target)])


def _changed(new: int, old: Path | None, cluster: int, size: int) -> Iterator[int]:
    before = os.open(old, os.O_RDONLY) if old is not None else None
    try:
        # A stretch that became a hole has changed, too, where the old disk holds data.
        starts = {*_data_ranges(new, size), *(_data_ranges(before, size) if before is not None else ())}
        for start in sorted(starts):
            data = os.pread(new, _STRETCH, start)
            reference = os.pread(before, len(data), start) if before is not None else bytes(len(data))
            yield from qcow2.changed_clusters(reference, data, cluster, start // cluster)
    finally:
        if before is not None:
            os.close(before)


def _data_ranges(descriptor: int, size: int) -> Iterator[int]:
    """Yield the starts of aligned ranges in which the file has data."""
    position = 0
    while position < size:
        try:
            data = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        start = data - data % _STRETCH
        yield start
        position = start + _STRETCH
