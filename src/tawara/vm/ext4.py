"""Fills and changes an ext4 file system inside a raw image with debugfs: no mount, no loop device, no root. `script` is
pure; `make` and `change` run mke2fs and debugfs. The same commands populate a new base and write a guest's delta onto a
copy of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from tawara.vm.errors import BuildError
from tawara.vm.run import run
from tawara.vm.tree import Node, Tree

_FORMATS = {"directory": 0o040000, "file": 0o100000, "char": 0o020000, "block": 0o060000, "fifo": 0o010000}


def script(changed: Tree, removed: Iterable[str], existing: Tree, epoch: int, blobs: str) -> str:
    """Return the debugfs commands. A file's content is read from `blobs/N`, N being its position among the sorted
    paths. An existing file is removed before it is written, except directories: mkdir of an existing one corrupts the
    image."""
    lines = [f"set_current_time @{epoch}"]
    lines += [_remove(path, existing[path]) for path in removed]
    for number, (path, node) in enumerate(sorted(changed.items())):
        before = existing.get(path)
        if before is not None and (before.kind != "directory" or node.kind != "directory"):
            lines.append(_remove(path, before))
            before = None
        lines += _place(PurePosixPath(path), node, before is not None, f"{blobs}/{number}")
    return "\n".join(lines) + "\n"


def _remove(path: str, node: Node) -> str:
    return f'{"rmdir" if node.kind == "directory" else "rm"} "/{path}"'


def _place(path: PurePosixPath, node: Node, exists: bool, blob: str) -> list[str]:
    lines = [f'cd "/{path.parent}"'] if str(path.parent) != "." else ['cd "/"']
    name = f'"{path.name}"'
    match node.kind:
        case "symlink":
            return [*lines, f'symlink {name} "{node.content.decode()}"']
        case "directory":
            lines += [] if exists else [f"mkdir {name}"]
        case "file":
            lines.append(f"write {blob} {name}")
        case "char" | "block":
            lines.append(f"mknod {name} {node.kind[0]} {node.device[0]} {node.device[1]}")
        case "fifo":
            lines.append(f"mknod {name} p")
    lines.append(f"sif {name} mode 0{_FORMATS[node.kind] | node.mode:o}")
    lines += [f"sif {name} {owner} {number}" for owner, number in (("uid", node.uid), ("gid", node.gid)) if number]
    return lines


def make(image: Path, tree: Tree, size: int, label: str, uuid: str, epoch: int) -> None:
    """Make a sparse raw image with one ext4 file system that holds the tree."""
    with image.open("wb") as out:
        out.truncate(size)
    steady = f"hash_seed={uuid},lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"
    form = ["-t", "ext4", "-O", "^metadata_csum_seed,^orphan_file", "-b", "4096", "-I", "256", "-m", "1"]
    run(["mke2fs", "-q", "-F", *form, "-L", label, "-U", uuid, "-E", steady, str(image)], env=_fixed_clock(epoch))
    change(image, tree, [], {"lost+found": Node("directory", 0o700)}, epoch)


def change(image: Path, changed: Tree, removed: Iterable[str], existing: Tree, epoch: int, offset: int = 0) -> None:
    """Write the changes into the file system at `offset`. Raises BuildError if it is not clean afterwards."""
    place = f"{image}?offset={offset}" if offset else str(image)
    blobs = Path(tempfile.mkdtemp(prefix="tawara-blobs-"))
    try:
        for number, (_, node) in enumerate(sorted(changed.items())):
            if node.kind == "file":
                (blobs / str(number)).write_bytes(node.content)
        commands = blobs / "commands"
        commands.write_text(script(changed, removed, existing, epoch, str(blobs)))
        said = run(["debugfs", "-w", "-f", str(commands), place], env=_fixed_clock(epoch)).stderr
    finally:
        shutil.rmtree(blobs)
    wrong = [line for line in said.splitlines() if line.strip() and not line.startswith(("debugfs ", "debugfs:"))]
    if wrong:
        raise BuildError(f"debugfs could not write {image.name}: {wrong[0]}")
    if run(["e2fsck", "-fn", place], env=_fixed_clock(epoch), check=False).returncode:
        raise BuildError(f"{image.name}: the file system is not clean after writing")


def _fixed_clock(epoch: int) -> dict[str, str]:
    """Return an environment with a fixed clock for e2fsprogs, so that the same files give the same bytes."""
    return {**os.environ, "E2FSPROGS_FAKE_TIME": str(epoch), "SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C"}
