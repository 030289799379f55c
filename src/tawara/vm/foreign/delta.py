"""Writes a guest's changes over a foreign image, as a delta. If the root file system is ext2, 3 or 4, contiguous on the
disk and clean, debugfs writes, fast and always the same bytes. In all other cases (LVM, XFS, a journal to be replayed,
commands) libguestfs writes: the same files, though not the same bytes."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tawara.vm import ext4, tree
from tawara.vm.base_image import Base, Report
from tawara.vm.bases.recipe import HostKey
from tawara.vm.definition import STATE
from tawara.vm.delta import CLUSTER_BITS
from tawara.vm.disk import copy_sparse, write_qcow2
from tawara.vm.foreign.appliance import appliance, guestfish
from tawara.vm.foreign.augeas import edited
from tawara.vm.foreign.edit import changes
from tawara.vm.foreign.image import ImageContents
from tawara.vm.run import run
from tawara.vm.spec import Guest, Root

_SCRIPT = ".tawara-commands"


def build_delta(
    guest: Guest,
    key: HostKey,
    base: Base,
    inside: ImageContents | None,
    out: Path,
    *,
    cache: Path,
    epoch: int,
    report: Report,
    mirror: str = "",
) -> None:
    """Write the delta; without `inside` nothing of the image is changed."""
    report(f"{guest.name}: writing the delta")
    with tempfile.TemporaryDirectory(prefix="tawara-delta-", dir=base.folder) as name:
        draft = Path(name) / "draft"
        if inside is None:
            write_qcow2(draft, base.raw, base.raw, _backing(base), CLUSTER_BITS)
        else:
            written, removed = _changes(guest, key, inside)
            if guest.commands or not _debugfs_can(base, inside, written):
                kernel = appliance(cache, report, mirror)
                _write_by_libguestfs(guest, base, kernel, written, removed, draft, epoch)
            else:
                raw = Path(name) / "root.raw"
                copy_sparse(base.raw, raw)
                write_by_debugfs(raw, inside.root, written, removed, inside.index, epoch)
                write_qcow2(draft, raw, base.raw, _backing(base), CLUSTER_BITS)
        draft.chmod(0o600 if inside else 0o644)  # it may hold the host key
        draft.rename(out)


def write_by_debugfs(
    raw: Path, root: Root, written: tree.Tree, removed: Iterable[str], index: tree.Tree, epoch: int
) -> None:
    """Write into the root file system of a raw disk."""
    whole = tree.with_parents(tree.resolved(written, index), index)
    ext4.change(raw, whole, removed, index, epoch, root.offset or 0)


def clean_ext(raw: Path, root: Root) -> bool:
    """Whether debugfs may write into the root file system."""
    if root.offset is None or root.kind not in ("ext2", "ext3", "ext4"):
        return False
    said = run(["dumpe2fs", "-h", f"{raw}?offset={root.offset}"], check=False)
    return said.returncode == 0 and "needs_recovery" not in said.stdout


def _changes(guest: Guest, key: HostKey, inside: ImageContents) -> tuple[dict[str, tree.Node], list[str]]:
    written, removed = changes(guest, key, inside)
    assert guest.image is not None
    if guest.image.augeas:
        etc = {path: node for path, node in inside.etc.items() if path not in removed}
        overlay_files = {path: node for path, node in written.items() if path.startswith("etc/")}
        written |= edited(etc | overlay_files, guest.image.augeas)
    return written, removed


def _debugfs_can(base: Base, inside: ImageContents, written: tree.Tree) -> bool:
    elsewhere = any(path == mount or path.startswith(f"{mount}/") for path in written for mount in inside.mounts)
    return not elsewhere and clean_ext(base.raw, inside.root)


def _write_by_libguestfs(
    guest: Guest, base: Base, kernel: Path, written: tree.Tree, removed: Iterable[str], out: Path, epoch: int
) -> None:
    with tempfile.TemporaryDirectory(prefix="tawara-edit-") as name:
        over, script = Path(name) / "over.tar", Path(name) / "commands"
        over.write_bytes(tree.write_tar(written, epoch))
        script.write_text("set -e\n" + "".join(f"{command}\n" for command in guest.commands))
        size = f"cluster_size={1 << CLUSTER_BITS}"
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", size]
        run([*create, "-F", "qcow2", "-b", str(base.folder / "disk.qcow2"), str(out)])
        commands = [f"rm-rf {shlex.quote('/' + path)}" for path in removed]
        commands.append(f"tar-in {over} /")
        if guest.commands:
            commands += [f"upload {script} /{_SCRIPT}", f'sh "sh /{_SCRIPT}"', f"rm /{_SCRIPT}"]
        guestfish(kernel, out, "qcow2", commands)
    run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", _backing(base), str(out)])


def _backing(base: Base) -> str:
    return f"{STATE}/images/{base.digest}/disk.qcow2"
