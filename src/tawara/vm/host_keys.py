"""An instance's ssh host key, created once and kept: before the first boot, and the same for every rebuild."""

from __future__ import annotations

from pathlib import Path

from tawara.vm.bases.recipe import HostKey
from tawara.vm.run import run


def host_key(folder: Path) -> HostKey:
    """Return the key kept in the directory, created if missing."""
    private = folder / "ssh_host_ed25519_key"
    if not private.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(private)])
    public = " ".join(private.with_suffix(".pub").read_text().split()[:2])
    return HostKey(private.read_text(), public)
