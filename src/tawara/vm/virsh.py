"""virsh, and the states of a domain, on which every verb of `tawara vm` depends."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Literal

from tawara.vm.errors import HostError
from tawara.vm.run import require

Situation = Literal[
    "absent", "foreign", "off", "saved", "running", "paused", "io-error", "shutting-down", "crashed", "asleep"
]
"""`foreign`: someone else's domain has this name. `saved`: its memory lies in a file (virsh managedsave). `io-error`:
QEMU paused it, because the host could not write its disk. The host's shell step uses the same words."""

SHOWN: dict[Situation, str] = {
    "absent": "absent",
    "foreign": "not ours",
    "off": "shut off",
    "saved": "saved",
    "running": "running",
    "paused": "paused",
    "io-error": "paused: disk full?",
    "shutting-down": "in shutdown",
    "crashed": "crashed",
    "asleep": "asleep",
}
"""What `tawara vm list` calls them."""

_BY_WORD: dict[str, Situation] = {
    "shut off": "off",
    "in shutdown": "shutting-down",
    "crashed": "crashed",
    "pmsuspended": "asleep",
    "paused": "paused",
}


def virsh(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run virsh on the system's libvirt. Raises HostError with its message if it fails."""
    require("virsh")
    command = ["virsh", "--quiet", "--connect", "qemu:///system", *words]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, start_new_session=True)
    if check and done.returncode:
        raise HostError(done.stderr.strip().removeprefix("error: "))
    return done


def defined() -> set[str]:
    """Return the names of all domains. Raises HostError if libvirt does not respond or refuses this user."""
    done = virsh("list", "--all", "--name", check=False)
    if done.returncode:
        raise HostError(
            f"libvirt does not answer: {done.stderr.strip().removeprefix('error: ')}",
            hint="Run this as root or as a user of the group libvirt; see `systemctl status libvirtd`.",
        )
    return set(done.stdout.split())


def situation(name: str, instance: Path) -> Situation:
    """Return the state of a guest's domain; `instance` is its directory. Raises HostError if libvirt does not report
    it."""
    done = virsh("domstate", name, "--reason", check=False)
    if done.returncode:
        if name in defined():
            raise HostError(f"libvirt does not say what state {name} is in: {done.stderr.strip()}")
        return "absent"
    if not is_ours(name, instance):
        return "foreign"
    word, _, reason = done.stdout.strip().partition(" (")
    found = _BY_WORD.get(word, "running")
    if found == "paused" and "I/O" in reason:
        return "io-error"
    if found == "off" and name in virsh("list", "--all", "--with-managed-save", "--name").stdout.split():
        return "saved"
    return found


def is_ours(name: str, instance: Path) -> bool:
    """Whether the domain is the guest's. An administrator's own domain may have the name that a guest was refused."""
    uuid = virsh("domuuid", name, check=False).stdout.strip()
    return any(uuid in path.read_text() for path in instance.glob("applied*/domain.xml")) if uuid else False


def has_foreign_disk(name: str, instance: Path) -> bool:
    """Whether an external snapshot (virsh --disk-only) has added a disk on top of ours."""
    rows = (line.split() for line in virsh("domblklist", name).stdout.splitlines())
    return str(instance / "system" / "overlay.qcow2") not in {row[-1] for row in rows if row}
