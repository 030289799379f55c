"""The kernel that libguestfs boots to read images: Debian's, kept in the cache. libguestfs takes the kernel of the
machine that it runs on, which containers lack and which ordinary users may not read on some distributions. With its own
kernel it works anywhere, and without root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tawara.vm.base_image import Report, bootstrap, kept_folder
from tawara.vm.bases.recipe import EPOCH, kernel_image
from tawara.vm.errors import BuildError
from tawara.vm.run import require, run
from tawara.vm.tree import Tree

SUITE = "bookworm"
KERNEL = "linux-image-amd64"
_PROBE_SECONDS = 4.0


def appliance(cache: Path, report: Report, mirror: str = "") -> Path:
    """Return the directory with `vmlinuz` and `lib/modules/VERSION`, from the cache or downloaded."""
    require("guestfish")
    if not Path("/lib/modules").is_dir():
        raise BuildError("libguestfs needs a folder /lib/modules, be it empty", hint="sudo mkdir /lib/modules")

    def make(draft: Path) -> None:
        report("libguestfs: fetching a kernel for it")
        tree = bootstrap(SUITE, "extract", ("kmod", KERNEL), draft / "kernel.tar", EPOCH, mirror)
        (draft / "kernel.tar").unlink()
        (draft / "vmlinuz").write_bytes(kernel_image(tree))
        _write_modules(tree, draft)
        run(["depmod", "-b", str(draft), _version(draft)])

    return kept_folder(cache, "appliance", make)


def guestfish(kernel: Path, image: Path, form: str, script: Sequence[str]) -> str:
    """Run guestfish's commands on an image whose operating system's file systems are mounted; return the output."""
    with tempfile.TemporaryDirectory(prefix="tawara-guestfish-") as folder:
        commands = Path(folder) / "script"
        commands.write_text("".join(f"{line}\n" for line in script))
        words = ["guestfish", f"--format={form}", "--add", str(image), "--inspector", "--file", str(commands)]
        try:
            return run(words, env=environment(kernel)).stdout
        except BuildError as error:
            raise BuildError(
                f"libguestfs could not edit {image.name}: {error}",
                hint="`virt-inspector -a IMAGE` shows what libguestfs knows about an image.",
            ) from error


def environment(kernel: Path) -> dict[str, str]:
    """Return the environment in which libguestfs uses this kernel, and KVM only where it works."""
    return {
        **os.environ,
        "LIBGUESTFS_BACKEND": "direct",
        "LIBGUESTFS_BACKEND_SETTINGS": "" if kvm_works() else "force_tcg",
        "LIBGUESTFS_CACHEDIR": str(kernel.parent),
        "SUPERMIN_KERNEL": str(kernel / "vmlinuz"),
        "SUPERMIN_KERNEL_VERSION": _version(kernel),
        "SUPERMIN_MODULES": str(kernel / "lib" / "modules" / _version(kernel)),
        "LC_ALL": "C",
    }


def kvm_works() -> bool:
    """Whether a machine's firmware starts with KVM; the existence of /dev/kvm proves nothing."""
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    words = [qemu, "-accel", "kvm", "-cpu", "host", "-machine", "pc", "-m", "64", "-nodefaults", "-display", "none"]
    words += ["-chardev", "stdio,id=out", "-device", "isa-debugcon,iobase=0x402,chardev=out"]
    try:
        said = subprocess.run(words, capture_output=True, timeout=_PROBE_SECONDS, stdin=subprocess.DEVNULL).stdout
    except subprocess.TimeoutExpired as expired:
        said = expired.stdout or b""
    return b"SeaBIOS" in said


def _version(kernel: Path) -> str:
    return next(path.name for path in (kernel / "lib" / "modules").iterdir())


def _write_modules(tree: Tree, folder: Path) -> None:
    for name, node in tree.items():
        place = name.removeprefix("usr/")
        if place.startswith("lib/modules/") and node.kind == "file":
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(node.content)
