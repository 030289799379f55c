"""Writing into a foreign image's file system without libguestfs, which no test here needs."""

from __future__ import annotations

import hashlib
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from tawara.vm import ext4, spec, tree
from tawara.vm.base_image import Base
from tawara.vm.bases.recipe import EPOCH
from tawara.vm.disk import write_qcow2
from tawara.vm.errors import HostError
from tawara.vm.foreign.delta import build_delta
from tawara.vm.foreign.image import ImageContents
from tawara.vm.foreign.instance import own_delta
from tawara.vm.host_keys import host_key
from tawara.vm.spec_read import read_guest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

OFFSET = 1 << 20
ROOT = spec.Root("/dev/sda1", "ext4", OFFSET)
FORMER = {
    "etc/hostname": "former\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 former\n10.1.2.3 friend\n",
    "etc/ssh/sshd_config": "",
    "etc/ssh/ssh_host_rsa_key": "former key\n",
    "etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n",
}


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """An image whose file system begins a megabyte into the disk, converted as a build does."""
    folder = tmp_path / "base"
    folder.mkdir()
    nodes = tree.with_parents({path: tree.file(text) for path, text in FORMER.items()})
    part, raw = tmp_path / "part.raw", folder / "root.raw"
    ext4.make(part, nodes, 15 << 20, "old", str(uuid.uuid5(uuid.NAMESPACE_DNS, "old")), EPOCH)
    raw.write_bytes(bytes(OFFSET) + part.read_bytes())
    write_qcow2(folder / "disk.qcow2", raw, None, None, 16)
    return Base(folder, "image", "0123456789ab", "")


def guest(tmp_path: Path, name: str) -> spec.Guest:
    """A guest on the image, with its own file, inspected already."""
    (tmp_path / "old.qcow2").touch()
    text = f'image = "old.qcow2"\nimage_sha256 = "{"0" * 64}"\n[[file]]\npath = "/srv/a/b"\ncontent = "mine"\n'
    read = read_guest(text, f"{name}.toml", name, tmp_path)
    assert read.image is not None
    return replace(read, image=replace(read.image, root=ROOT))


def inside() -> ImageContents:
    """What libguestfs finds in the image."""
    nodes = tree.with_parents({path: tree.file(text) for path, text in FORMER.items()})
    return ImageContents(ROOT, (), nodes, {path: node for path, node in nodes.items() if path.startswith("etc/")})


def delta(tmp_path: Path, base: Base, name: str) -> Path:
    """The guest's delta, with the base here as its backing file."""
    out = tmp_path / f"{name}.qcow2"
    key = host_key(tmp_path / "keys")
    build_delta(
        guest(tmp_path, "old"),
        key,
        base,
        inside(),
        out,
        cache=tmp_path / "cache",
        epoch=EPOCH,
        report=lambda what: None,
    )
    return out


def look(tmp_path: Path, disk: Path, base: Base, path: str) -> str:
    """A file's content in a delta over the base."""
    raw = tmp_path / f"{disk.stem}.look"
    if not raw.exists():
        backed = ["qemu-img", "rebase", "-u", "-F", "qcow2", "-b", str(base.folder / "disk.qcow2"), str(disk)]
        subprocess.run(backed, check=True)
        subprocess.run(["qemu-img", "check", "-q", str(disk)], check=True)
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(disk), str(raw)], check=True)
        subprocess.run(["e2fsck", "-fn", f"{raw}?offset={OFFSET}"], check=True, capture_output=True)
    words = ["debugfs", "-R", f"cat /{path}", f"{raw}?offset={OFFSET}"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_a_delta_has_what_is_requested_and_nothing_of_the_former_identity(tmp_path: Path, base: Base) -> None:
    """Name, keys and files are written on the partition; the file system is clean, the delta small and secret."""
    disk = delta(tmp_path, base, "one")
    assert disk.stat().st_size < 200_000
    assert disk.stat().st_mode & 0o077 == 0
    assert look(tmp_path, disk, base, "etc/hostname") == "old.example\n"
    assert (
        look(tmp_path, disk, base, "etc/hosts") == "127.0.0.1 localhost\n10.1.2.3 friend\n127.0.1.1 old.example old\n"
    )
    assert look(tmp_path, disk, base, "srv/a/b") == "mine"
    assert "OPENSSH PRIVATE KEY" in look(tmp_path, disk, base, "etc/ssh/ssh_host_ed25519_key")
    assert look(tmp_path, disk, base, "etc/ssh/ssh_host_rsa_key") == ""
    assert look(tmp_path, disk, base, "etc/fstab") == FORMER["etc/fstab"]


def test_two_deltas_are_the_same_bytes(tmp_path: Path, base: Base) -> None:
    """debugfs writes with a fixed clock."""
    sums = {hashlib.sha256(delta(tmp_path, base, turn).read_bytes()).hexdigest() for turn in ("one", "two")}
    assert len(sums) == 1


def test_another_instance_differs_only_in_its_identity(tmp_path: Path, base: Base) -> None:
    """It has its own name and host key; the template's file exists."""
    disk = delta(tmp_path, base, "one")
    first = look(tmp_path, disk, base, "etc/ssh/ssh_host_ed25519_key")
    other, out = guest(tmp_path, "other"), tmp_path / "other" / "disk.qcow2"
    out.parent.mkdir()
    own_delta(other, host_key(out.parent / "keys"), base.folder / "disk.qcow2", disk, out)
    assert look(tmp_path, out, base, "etc/hostname") == "other.example\n"
    assert look(tmp_path, out, base, "etc/hosts").endswith("10.1.2.3 friend\n127.0.1.1 other.example other\n")
    assert look(tmp_path, out, base, "srv/a/b") == "mine"
    assert look(tmp_path, out, base, "etc/ssh/ssh_host_ed25519_key") not in ("", first)


def test_an_identity_that_needs_libguestfs_is_refused_on_the_host(tmp_path: Path, base: Base) -> None:
    """On LVM, XFS and the like the message says what to do instead, and nothing is left."""
    disk = delta(tmp_path, base, "one")
    look(tmp_path, disk, base, "etc/hostname")
    other, out = guest(tmp_path, "other"), tmp_path / "other" / "disk.qcow2"
    out.parent.mkdir()
    assert other.image is not None
    elsewhere = replace(other, image=replace(other.image, root=spec.Root("/dev/vg/root", "ext4", None)))
    with pytest.raises(HostError, match="only libguestfs can give another identity"):
        own_delta(elsewhere, host_key(tmp_path / "k"), base.folder / "disk.qcow2", disk, out)
    assert list(out.parent.iterdir()) == []
