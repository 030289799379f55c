"""Isolation of a probe: namespaces for network, mounts and processes, which the kernel removes. A probe runs as the
first process of a process namespace. When that ends, in any way, so do all its processes, mounts and connections. A
check from outside looks for anything left."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MARK = "TAWARA_PROBE"
"""A variable in the environment of every process of a probe, by which they are found."""
_FAMILY = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")


def allowed() -> bool:
    """Whether this machine allows namespaces, and a database server its own user in them."""
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("unshare")):
        return False
    return subprocess.run([*_FAMILY, "true"], capture_output=True, check=False).returncode == 0


def command(arguments: Sequence[str], mark: str) -> tuple[list[str], dict[str, str]]:
    """The command that runs a probe in isolation, or without it where that is not allowed; and its environment."""
    isolated = allowed()
    environment = {**os.environ, MARK: mark, "TAWARA_PROBE_ISOLATED": "1" if isolated else ""}
    probing = [sys.executable, "-m", "tests.probe.cluster", *arguments]
    return [*(_FAMILY if isolated else ()), *probing], environment


def new_mark() -> str:
    """A unique mark."""
    return secrets.token_hex(8)


def inside() -> bool:
    """Whether this process was started by `command`."""
    return MARK in os.environ


def isolated() -> bool:
    """Whether this process is isolated."""
    return bool(os.environ.get("TAWARA_PROBE_ISOLATED"))


def set_up(directory: Path) -> None:
    """Prepare the namespaces: memory file systems as disks and for sharing, and a private list of network
    namespaces."""
    names = Path("/run/netns")
    names.mkdir(exist_ok=True)
    mount(names, "mode=755")
    mount(Path("/dev/shm"), "mode=1777")  # where what gives a daemon a clock of its own leaves files
    mount(directory, "size=6g", "mode=755")


def unmount(directory: Path) -> None:
    """Unmount a file system."""
    subprocess.run(["umount", str(directory)], check=True)


def mount(directory: Path, *options: str) -> None:
    """Mount a new memory file system, visible only in this namespace."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "probe", str(directory)], check=True)


def remnants(mark: str, directory: Path) -> list[str]:
    """What is left of a probe on the machine: processes, mounts, network namespaces, files."""
    found = [f"process {pid}: {words}" for pid, words in _marked(mark)]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line.split()[4]}" for line in mounts if line.split()[4].startswith(str(directory))]
    found += [f"file {path}" for path in directory.rglob("*")] if directory.exists() else []
    return found


def _marked(mark: str) -> list[tuple[int, str]]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append((int(entry.name), words.strip()))
        except OSError:
            continue  # it has ended, or is not ours
    return found
