"""Runs other programs: a failure raises an error with their message, and a missing program is named with its
package."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence

from tawara.vm.errors import BuildError, MissingProgramError

DEBIAN_PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "virsh": "libvirt-clients",
    "dpkg-scanpackages": "dpkg-dev",
    "apt-ftparchive": "apt-utils",
    "createrepo_c": "createrepo-c",
    "ssh-keygen": "openssh-client",
    "gpg": "gpg",
    "rpm": "rpm",
    "dpkg-deb": "dpkg",
    "lz4": "lz4",
    "guestfish": "guestfish",
    "augtool": "augeas-tools",
    "depmod": "kmod",
    "dumpe2fs": "e2fsprogs",
}


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: str | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its output. Raises BuildError with its last words if it fails."""
    require(command[0])
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=env, cwd=cwd, input=stdin)
    if check and done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-12:]
        raise BuildError(f"{command[0]} failed (exit {done.returncode}):\n  " + "\n  ".join(words))
    return done


def require(program: str) -> str:
    """Return the program's path. Raises MissingProgramError with what to install."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        package = DEBIAN_PACKAGES.get(program, program)
        raise MissingProgramError(f"{program} is not installed", hint=f"apt install {package}")
    return path
