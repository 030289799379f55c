"""Another instance of a guest on a foreign image: with its own delta, because no ram disk of ours adds an identity. It
is made on the host of the guests, with programs that exist there anyway: qemu-img and debugfs."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from tawara.vm import tree
from tawara.vm.bases.recipe import EPOCH, HostKey
from tawara.vm.delta import CLUSTER_BITS
from tawara.vm.disk import write_qcow2
from tawara.vm.errors import HostError
from tawara.vm.foreign.delta import clean_ext, write_by_debugfs
from tawara.vm.foreign.edit import identity
from tawara.vm.foreign.image import ImageContents
from tawara.vm.run import run
from tawara.vm.spec import Guest, Root

_FOLDERS = ("etc", "etc/ssh", "etc/dropbear", "etc/udev/rules.d", "etc/sysconfig", "etc/sysconfig/network-scripts")
"""Where an identity is; what else is in the image does not matter here."""
_KINDS: dict[int, tree.Kind] = {0o4: "directory", 0o10: "file", 0o12: "symlink"}


def own_delta(guest: Guest, key: HostKey, base: Path, template: Path, out: Path) -> str:
    """Write the template's delta with another identity; return its digest. Raises HostError if debugfs cannot."""
    root = guest.image.root if guest.image else None
    with tempfile.TemporaryDirectory(prefix=".identity-", dir=out.parent) as name:
        old, new = Path(name) / "old.raw", Path(name) / "new.raw"
        run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(base), str(old)])
        run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(template), str(new)])
        if root is None or not clean_ext(new, root):
            raise HostError(
                f"{guest.name} would stand on an image that only libguestfs can give another identity",
                hint="Describe it in a NAME.toml of its own, and build and install its package.",
            )
        inside = _look(new, root)
        written, removed = identity(guest, key, inside)
        write_by_debugfs(new, root, written, removed, inside.index, EPOCH)
        out.touch(mode=0o600)
        write_qcow2(out, new, old, str(base), CLUSTER_BITS)
    return hashlib.sha256(out.read_bytes()).hexdigest()[:12]


def _look(raw: Path, root: Root) -> ImageContents:
    index: dict[str, tree.Node] = {}
    for folder in _FOLDERS:
        if folder == "etc" or folder in index:
            index |= read_listing(folder, _debugfs(raw, root, f"ls -p /{folder}"))
    index["etc"] = tree.directory()
    texts = [path for path, node in index.items() if node.kind == "file" and path.startswith(("etc/hosts", "etc/sys"))]
    etc = {path: tree.file(_debugfs(raw, root, f"cat /{path}")) for path in texts}
    return ImageContents(root, (), index, etc)


def read_listing(folder: str, said: str) -> dict[str, tree.Node]:
    """Parse a directory's index from debugfs's `ls -p`: /inode/mode/uid/gid/name/size/ on each line."""
    found = {}
    for line in said.splitlines():
        fields = line.split("/")
        if len(fields) > 6 and fields[5] not in (".", ".."):
            mode = int(fields[2], 8)
            kind = _KINDS.get(mode >> 12)
            if kind is not None:
                found[f"{folder}/{fields[5]}"] = tree.Node(kind, mode & 0o7777)
    return found


def _debugfs(raw: Path, root: Root, request: str) -> str:
    return run(["debugfs", "-R", request, f"{raw}?offset={root.offset}"]).stdout
