"""Builds a guest's delta: the changes of one kind of guest to its base, as a qcow2 file of the changed clusters
only."""

from __future__ import annotations

import os
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tawara.vm import ext4, tree
from tawara.vm.base_image import Base, Report
from tawara.vm.bases.recipe import Recipe
from tawara.vm.definition import STATE
from tawara.vm.disk import copy_sparse, write_qcow2
from tawara.vm.run import run
from tawara.vm.spec import Guest

CLUSTER_BITS = 12
"""4 KiB clusters: a delta of a few files stays in the tens of kilobytes."""


@dataclass(frozen=True)
class Delta:
    """A built delta."""

    path: Path
    digest: str


def build_delta(
    guest: Guest, base: Base, recipe: Recipe, out: Path, epoch: int, report: Report, mirror: str = ""
) -> None:
    """Write the guest's files (and the changes of its packages and commands, if any) over its base."""
    existing = base.index()
    changed = recipe.guest_files(guest) | {
        file.path.lstrip("/"): tree.file(file.content, file.mode) for file in guest.files
    }
    removed: list[str] = []
    if guest.packages or guest.commands:
        report(f"{guest.name}: installing packages, running commands")
        before = base.tree()
        after = _installed(guest, base, changed, recipe.suite, epoch, mirror)
        changed, removed = tree.differences(before, recipe.tidy(after))
    changed = tree.with_parents(tree.resolved(changed, existing), existing)

    report(f"{guest.name}: writing the delta")
    with tempfile.TemporaryDirectory(prefix="tawara-delta-", dir=base.folder.parent) as folder:
        raw = Path(folder) / "root.raw"
        copy_sparse(base.raw, raw)
        ext4.change(raw, changed, removed, existing, epoch)
        backing = f"{STATE}/images/{base.digest}/disk.qcow2"
        write_qcow2(out, raw, base.raw, backing, CLUSTER_BITS)


def _installed(
    guest: Guest, base: Base, overlay_files: tree.Tree, suite: str, epoch: int, mirror: str
) -> dict[str, tree.Node]:
    """Return the base's tree with the guest's files added, its packages installed and its commands run."""
    with tempfile.TemporaryDirectory(prefix="tawara-guest-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        over, out, script = folder / "over.tar", folder / "out.tar", folder / "commands"
        over.write_bytes(tree.write_tar(tree.with_parents(overlay_files, base.index()), epoch))
        script.write_text("set -e\n" + "".join(f"{command}\n" for command in guest.commands))
        for path in (over, script):
            path.chmod(0o644)
        unpack = f'tar -C "$1" -xf {shlex.quote(str(base.folder / "root.tar"))}'
        lay = f'tar -C "$1" --keep-directory-symlink -xf {shlex.quote(str(over))}'
        commands = f'chroot "$1" sh -s <{shlex.quote(str(script))}'
        command = ["mmdebstrap", "--quiet", "--variant=custom", "--skip=check/empty,tar-in/mknod"]
        command += [f"--include={','.join(guest.packages)}"] if guest.packages else []
        command += [f"--setup-hook={unpack}", f"--customize-hook={lay}", f"--customize-hook={commands}"]
        command += ["--aptopt=Acquire::Languages none", "--aptopt=APT::Install-Recommends false"]
        run(
            [*command, suite, str(out), *([mirror] if mirror else [])],
            env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
        )
        with out.open("rb") as stream:
            return tree.read_tar(stream)
