"""A foreign disk image as a packaged machine: an old one, with GRUB, IDE and e1000."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tawara.vm.base_image import build_base
from tawara.vm.bases import RECIPES
from tawara.vm.build import Options, build_epoch, build_file
from tawara.vm.errors import BuildError, MissingProgramError
from tawara.vm.foreign.appliance import appliance, guestfish

if TYPE_CHECKING:
    from tests.vm.conftest import Workshop
    from tests.vm.foreign_disk import make_foreign_disk, make_lvm_disk
    from tests.vm.machine import Machine
else:
    from foreign_disk import make_foreign_disk, make_lvm_disk

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(1800)]

TAWARA = str(Path(sys.executable).parent / "tawara")

OLD = """
fqdn = "old.example"
memory = "128M"
image = "{image}"
image_sha256 = "{sha256}"
augeas = ["set /files/etc/hosts/*[canonical='friend']/alias stranger"]
{more}
[[nic]]
network = "nat0"

[[file]]
path = "/etc/motd"
content = "packaged\\n"
"""


def silent(what: str) -> None:
    """Report no progress."""


def without(folder: Path, *programs: str) -> str:
    """A search path with everything that is installed except these programs."""
    folder.mkdir()
    for path in (Path(entry) for place in os.environ["PATH"].split(":") for entry in Path(place).glob("*")):
        if path.name not in programs and not (folder / path.name).is_symlink():
            (folder / path.name).symlink_to(path)
    return str(folder)


@pytest.fixture(scope="module")
def image(workshop: Workshop) -> Path:
    """The old machine's disk."""
    base = build_base(RECIPES["classic"], workshop.cache, build_epoch(), silent)
    return make_foreign_disk(base, appliance(workshop.cache, silent), workshop.folder)


@pytest.fixture(scope="module")
def text(image: Path) -> str:
    """Its description."""
    return OLD.format(image=image.name, sha256=hashlib.sha256(image.read_bytes()).hexdigest(), more="")


def test_an_old_machines_disk_installs_and_boots(host: Machine, workshop: Workshop, text: str) -> None:
    """From its own boot loader, over IDE and e1000 without virtio, on its fixed address by DHCP, with our name, host
    key and files, one of them edited by Augeas."""
    built = workshop.build("old", text)
    assert built.delta_bytes < 200_000
    host.run("apt-get", "-y", "-q", "update")
    host.run("apt-get", "-y", "-q", "install", "tawara-guest-old")
    host.wait_for_ssh("old.example")
    assert host.ssh("old", "hostname; cat /etc/motd") == "old.example\npackaged"
    hosts = host.ssh("old", "cat /etc/hosts")
    assert "10.1.2.3 friend stranger" in hosts
    assert "formerly" not in hosts
    assert "virtio" not in host.ssh("old", "cat /proc/modules")
    assert "sda1 / ext4" in host.ssh("old", "cat /proc/mounts")


def test_its_host_key_is_private(host: Machine) -> None:
    """The delta holds the private key: only root, and QEMU's user, may read it."""
    host.run("su", "nobody", "-s", "/bin/sh", "-c", "! cat /var/lib/tawara-vm/guests/old/disk.qcow2")
    delta = host.shell("cut -d' ' -f1 /var/lib/tawara-vm/instances/old/system/layers").strip()
    host.run("su", "nobody", "-s", "/bin/sh", "-c", f"! cat /var/lib/tawara-vm/images/{delta}/disk.qcow2")


def test_another_instance_has_its_own_identity(host: Machine) -> None:
    """`create` gives it another name, address and host key, and leaves the rest as in the template."""
    host.run(TAWARA, "vm", "create", "old2", "--from", "old")
    host.wait_for_ssh("old2.example")
    assert host.ssh("old2", "hostname; cat /etc/motd") == "old2.example\npackaged"
    assert len(set(host.shell("awk '{print $3}' /var/lib/tawara-vm/known_hosts").split())) == 2
    host.run(TAWARA, "vm", "rm", "old2")
    assert host.ssh("old", "hostname") == "old.example"


def test_removal_removes_everything(host: Machine) -> None:
    """Purging package and base leaves no domain, file or process."""
    host.run("apt-get", "-y", "-q", "purge", "--autoremove", "tawara-guest-old")
    left = host.shell("virsh list --all --name; ps ax -o comm; find /var/lib/tawara-vm 2>/dev/null", check=False)
    assert "old" not in left.split()
    assert "qemu" not in left
    assert "qcow2" not in left


def test_commands_run_inside_the_image(workshop: Workshop, text: str) -> None:
    """A file made by a command is in the delta: libguestfs runs it in the image, offline."""
    more = 'commands = ["cat /etc/hostname >/etc/said", "rm /etc/shells"]\n[data]\nsize = "16M"\nmount = "/data"\n'
    built = workshop.build("told", text.replace("old.example", "told.example").replace("\n[[nic]]", f"{more}\n[[nic]]"))
    deb = next(path for path in built.packages if path.name.startswith("tawara-guest-told") and path.suffix == ".deb")
    base = next(path for path in built.packages if path.name.startswith("tawara-base-image") and path.suffix == ".deb")
    there = workshop.folder / "unpacked"
    for package in (deb, base):
        subprocess.run(["dpkg-deb", "-x", str(package), str(there)], check=True)
    state = there / "var/lib/tawara-vm"
    delta, disk = state / "guests/told/disk.qcow2", next(state.glob("bases/*/disk.qcow2"))
    subprocess.run(["qemu-img", "rebase", "-u", "-F", "qcow2", "-b", str(disk), str(delta)], check=True)
    raw = workshop.folder / "told.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(delta), str(raw)], check=True)

    def content(path: str) -> str:
        request = ["debugfs", "-R", f"cat {path}", f"{raw}?offset=1048576"]
        return subprocess.run(request, capture_output=True, text=True, check=True).stdout

    assert content("/etc/said") == "told.example\n"
    assert content("/etc/shells") == ""
    assert "LABEL=tawara-data /data" in content("/etc/fstab")
    assert content("/.tawara-commands") == ""
    shutil.rmtree(there)


def test_an_image_that_keeps_its_identity_needs_no_libguestfs(
    workshop: Workshop, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is edited, so that no program has to be installed for it; its host key is the one in the description."""
    public = (workshop.folder / "old.keys" / "ssh_host_ed25519_key.pub").read_text().strip()
    kept = text.split("augeas")[0].replace("old.example", "kept.example")
    kept += f'image_identity = "kept"\nimage_host_key = "{public}"\n'
    monkeypatch.setenv("PATH", without(workshop.folder / "bin", "guestfish", "augtool"))
    built = workshop.build("kept", kept, keyed=False)
    assert built.delta_bytes < 100_000
    path = workshop.folder / "edited.toml"
    path.write_text(text.replace("old.example", "edited.example"))
    with pytest.raises(MissingProgramError, match="guestfish is not installed"):
        build_file(path, Options(tmp_path / "dist", tmp_path / "cache", silent))


def test_an_image_with_another_checksum_is_refused(workshop: Workshop, text: str) -> None:
    """The message has both checksums."""
    path = workshop.folder / "other.toml"
    path.write_text(re.sub(r"[0-9a-f]{64}", "0" * 64, text))
    with pytest.raises(BuildError, match="its sha256 is"):
        build_file(path, Options(workshop.dist, workshop.cache, silent))


def test_two_builds_of_a_foreign_image_give_the_same_bytes(workshop: Workshop, text: str, tmp_path: Path) -> None:
    """Packages of both kinds and both indexes are identical, though only libguestfs's kernel was cached."""
    found = []
    shutil.copytree(workshop.folder / "old.keys", tmp_path / "same.keys")
    (tmp_path / "old.qcow2").symlink_to(workshop.folder / "old.qcow2")
    description = tmp_path / "same.toml"
    description.write_text(text.replace("old.example", "same.example"))
    for turn in ("one", "two"):
        cache = tmp_path / f"cache-{turn}"
        cache.mkdir()
        (cache / "appliance").symlink_to(workshop.cache / "appliance")
        build_file(description, Options(tmp_path / turn, cache, silent, build_epoch()))
        files = (path for path in (tmp_path / turn).rglob("*") if path.is_file())
        found.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})
    assert found[0] == found[1]
    assert any(name.startswith("tawara-base-image") and name.endswith(".rpm") for name in found[0])


def test_an_image_on_a_logical_volume_is_edited(workshop: Workshop, text: str) -> None:
    """Where debugfs cannot write, libguestfs does: files, identity and Augeas's edits are in the delta."""
    kernel = appliance(workshop.cache, silent)
    disk = make_lvm_disk(build_base(RECIPES["classic"], workshop.cache, build_epoch(), silent), kernel, workshop.folder)
    described = re.sub(r"[0-9a-f]{64}", hashlib.sha256(disk.read_bytes()).hexdigest(), text)
    built = workshop.build("lvm", described.replace("old.qcow2", disk.name).replace("old.example", "lvm.example"))
    there = workshop.folder / "lvm"
    for path in built.packages:
        if path.suffix == ".deb" and path.name.startswith(("tawara-guest-lvm", f"tawara-base-image-{built.base}")):
            subprocess.run(["dpkg-deb", "-x", str(path), str(there)], check=True)
    state = there / "var/lib/tawara-vm"
    delta, base = state / "guests/lvm/disk.qcow2", state / f"bases/{built.base}/disk.qcow2"
    subprocess.run(["qemu-img", "rebase", "-u", "-F", "qcow2", "-b", str(base), str(delta)], check=True)
    shown = guestfish(kernel, delta, "qcow2", ["mountpoints", "cat /etc/hostname", "cat /etc/hosts", "cat /etc/motd"])
    assert "/dev/old/root: /" in shown
    assert "lvm.example\n" in shown
    assert "10.1.2.3 friend stranger" in shown
    assert "packaged" in shown
    assert "formerly" not in shown
    shutil.rmtree(there)
