"""Builds a base: Debian packages become a root disk, a kernel and a ram disk, cached by recipe and named by content."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tawara.vm import ext4, initrd, tree
from tawara.vm.bases.recipe import Recipe, kernel_image
from tawara.vm.disk import write_qcow2
from tawara.vm.identity import NAMESPACE
from tawara.vm.kernel import unpacked
from tawara.vm.run import run
from tawara.vm.spec import GiB

Report = Callable[[str], None]
"""Told what is being done, one short phrase at a time."""

DISK_SIZE = 5 * GiB
CLUSTER_BITS = 16
FILES = ("disk.qcow2", "kernel", "initrd")
"""What a base consists of once it is installed."""


@dataclass(frozen=True)
class Base:
    """A built base: a directory with everything that its guests need."""

    folder: Path
    name: str
    digest: str
    """Of the disk, kernel and ram disk together; part of the package's name."""
    cmdline: str

    @property
    def package(self) -> str:
        """The name of the base's package; several bases can be installed at once."""
        return f"tawara-base-{self.name}-{self.digest}"

    @property
    def raw(self) -> Path:
        """The sparse raw disk from which deltas are made."""
        return self.folder / "root.raw"

    @property
    def files(self) -> tuple[str, ...]:
        """The packaged files; a foreign image boots from its own disk alone."""
        return tuple(name for name in FILES if (self.folder / name).exists())

    def index(self) -> dict[str, tree.Node]:
        """The base's tree without the files' contents: enough to write a delta over it."""
        rows = json.loads((self.folder / "index.json").read_text())
        return {path: tree.Node(kind, mode, content=target.encode()) for path, kind, mode, target in rows}

    def tree(self) -> dict[str, tree.Node]:
        """The base's complete tree with contents."""
        with (self.folder / "root.tar").open("rb") as stream:
            return tree.read_tar(stream)


def build_base(recipe: Recipe, cache: Path, epoch: int, report: Report, mirror: str = "") -> Base:
    """Return the base from the cache, or build it."""
    key = f"bases/{recipe.key(epoch, mirror)}"
    folder = kept_folder(cache, key, lambda draft: _build(recipe, draft, epoch, report, mirror))
    facts = json.loads((folder / "base.json").read_text())
    return Base(folder, recipe.name, facts["digest"], recipe.cmdline)


def kept_folder(cache: Path, key: str, make: Callable[[Path], None]) -> Path:
    """Return the cache's directory of this name, made if missing. Concurrent builds wait for each other."""
    folder = cache / key
    with locked(cache):
        if not folder.exists():
            draft = Path(tempfile.mkdtemp(prefix="draft-", dir=cache))
            try:
                make(draft)
                folder.parent.mkdir(exist_ok=True)
                draft.chmod(0o755)
                draft.rename(folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return folder


def _build(recipe: Recipe, folder: Path, epoch: int, report: Report, mirror: str) -> None:
    report(f"{recipe.name}: fetching packages")
    packages = bootstrap(recipe.suite, recipe.variant, recipe.packages, folder / "packages.tar", epoch, mirror)
    report(f"{recipe.name}: fetching the kernel")
    kernel_packages = ("busybox-static", recipe.kernel)
    kernel = bootstrap(recipe.suite, "extract", kernel_packages, folder / "kernel.tar", epoch, mirror)
    busybox = (kernel.get("bin/busybox") or kernel["usr/bin/busybox"]).content  # since Debian 13 all is below /usr

    root = tree.with_parents(recipe.shape(packages, kernel, busybox_applets(busybox)))
    ramdisk = initrd.ramdisk_tree(busybox, initrd.kernel_modules(kernel), recipe.modules)
    report(f"{recipe.name}: writing the disk")
    # Not compressed: the package is, and without KVM unpacking it would cost every boot a moment.
    write_base(folder, recipe, root, unpacked(kernel_image(kernel)), initrd.write_cpio(ramdisk), epoch)
    for name in ("packages.tar", "kernel.tar"):
        (folder / name).unlink()


def write_base(folder: Path, recipe: Recipe, root: tree.Tree, kernel: bytes, ramdisk: bytes, epoch: int) -> None:
    """Write a base's directory: its disk with this tree, its kernel and ram disk, and the files for making deltas."""
    ext4.make(folder / "root.raw", root, DISK_SIZE, initrd.ROOT_LABEL, str(uuid.uuid5(NAMESPACE, recipe.name)), epoch)
    write_qcow2(folder / "disk.qcow2", folder / "root.raw", None, None, CLUSTER_BITS)
    (folder / "kernel").write_bytes(kernel)
    (folder / "initrd").write_bytes(ramdisk)
    (folder / "root.tar").write_bytes(tree.write_tar(root, epoch))
    rows = [
        (path, node.kind, node.mode, node.content.decode() if node.kind == "symlink" else "")
        for path, node in sorted(root.items())
    ]
    (folder / "index.json").write_text(json.dumps(rows))
    digest = digest_of([folder / name for name in FILES])
    (folder / "base.json").write_text(json.dumps({"name": recipe.name, "digest": digest, "cmdline": recipe.cmdline}))


def bootstrap(
    suite: str, variant: str, packages: tuple[str, ...], out: Path, epoch: int, mirror: str
) -> dict[str, tree.Node]:
    """Return the tree that mmdebstrap makes of these packages."""
    leave_out = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in leave_out]
    command = ["mmdebstrap", "--quiet", f"--variant={variant}", f"--include={','.join(packages)}", *options]
    command += ["--aptopt=Acquire::Languages none", "--aptopt=APT::Install-Recommends false"]
    run([*command, suite, str(out), *([mirror] if mirror else [])], env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)})
    with out.open("rb") as stream:
        return tree.read_tar(stream)


def busybox_applets(busybox: bytes) -> list[str]:
    """Return the names of this busybox's applets."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "busybox"
        program.write_bytes(busybox)
        program.chmod(0o755)
        return run([str(program), "--list"]).stdout.split()


def digest_of(paths: list[Path]) -> str:
    """Return twelve hex digits of the SHA-256 of these files' contents, in order."""
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()[:12]


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Lock the cache exclusively: other builds wait, and then find the finished image."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
