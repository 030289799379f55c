"""Writes an appliance (.ova): the disks flattened into one file each, the descriptor before them, and the checksums of
all after them, so that every byte is read once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tawara.vm.errors import HostError
from tawara.vm.ova.descriptor import Appliance, ApplianceDisk, descriptor
from tawara.vm.run import require, run
from tawara.vm.transfer import add_member

Progress = Callable[[float], None]
"""Told how much of the disks is written, from 0 to 1."""
_PERCENT = re.compile(rb"\(([0-9.]+)/100%\)")
_USTAR_LIMIT = 1 << 33
"""Bytes that a file in the archive format of OVF can have."""


@dataclass(frozen=True)
class SourceDisk:
    """A disk of an instance."""

    path: Path
    """A qcow2 file, on its backing files."""
    head: Path | None = None
    """A raw file that is put before it: the boot loader of a disk that has none."""


def virtual_size(path: Path) -> int:
    """Return how many bytes a qcow2 disk has for its guest; it may be in use."""
    told = json.loads(run(["qemu-img", "info", "-U", "--output=json", str(path)]).stdout)
    return int(told["virtual-size"])


def take_snapshot_out(disk: Path, snapshot: str, out: Path) -> None:
    """Write a disk as it was at a snapshot as a qcow2 file of its own. The disk may be in use: what belongs to a
    snapshot does not change while the snapshot exists."""
    words = ["-U", "-l", f"snapshot.name={snapshot}", "-f", "qcow2", "-O", "qcow2"]
    run(["qemu-img", "convert", *words, str(disk), str(out)])


def write_appliance(
    out: Path, appliance: Appliance, sources: tuple[SourceDisk, ...], folder: Path, progress: Progress
) -> None:
    """Write the archive; drafts of the disks go into the folder. Raises HostError if a disk is too large for it."""
    disks = []
    for number, source in enumerate(sources):
        target = folder / f"{appliance.name}-disk{number + 1}.vmdk"
        _flatten(source, target, lambda part, number=number: progress((number + part) / len(sources)))  # type: ignore[misc]
        size = target.stat().st_size
        if size >= _USTAR_LIMIT:
            raise HostError(
                f"the disk {number + 1} of {appliance.name} packs to {size} bytes; an OVA has at most 8 GiB"
            )
        capacity = virtual_size(source.path) + (source.head.stat().st_size if source.head else 0)
        disks.append(ApplianceDisk(target.name, size, capacity))
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as archive:
        name = f"{appliance.name}.ovf"
        sums = {name: add_member(archive, name, descriptor(appliance, tuple(disks)))}
        for disk in disks:
            sums[disk.file] = add_member(archive, disk.file, folder / disk.file)
        manifest = "".join(f"SHA256({file})= {digest}\n" for file, digest in sums.items())
        add_member(archive, f"{appliance.name}.mf", manifest.encode())


def _flatten(source: SourceDisk, target: Path, progress: Progress) -> None:
    """Write one disk as a stream-optimized VMDK. Raises HostError with qemu-img's message."""
    images = [] if source.head is None else [_options("raw", source.head)]
    words = ["convert", "-p", "-O", "vmdk", "-o", "subformat=streamOptimized,adapter_type=ide", "--image-opts"]
    command = [require("qemu-img"), *words, *images, _options("qcow2", source.path), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while said := os.read(process.stdout.fileno(), 4096):
            for percent in _PERCENT.findall(said):
                progress(float(percent) / 100)
        error = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        raise HostError(f"qemu-img could not flatten {source.path}: {error}")


def _options(driver: str, path: Path) -> str:
    name = str(path).replace(",", ",,")
    return f"driver={driver},file.driver=file,file.filename={name}"
