"""Foreign images: parsing of libguestfs's output, and the changes made for a description."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tawara.vm import spec, tree
from tawara.vm.bases.recipe import HostKey
from tawara.vm.definition import Layers, definition_files
from tawara.vm.errors import BuildError
from tawara.vm.foreign.augeas import edited
from tawara.vm.foreign.edit import changes
from tawara.vm.foreign.image import ImageContents, read_facts, read_index
from tawara.vm.foreign.instance import read_listing
from tawara.vm.libvirt_xml import domain_xml
from tawara.vm.spec_read import read_guest

ROOT = spec.Root("/dev/sda1", "ext4", 1 << 20)
KEY = HostKey("-----BEGIN", "ssh-ed25519 AAAA")

SAID = """\
--roots
/dev/sda2
--mounts
/dev/sda1: /boot
/dev/sda2: /
--kinds
/dev/sda1: ext2
/dev/sda2: ext3
--parts
[0] = {
  part_num: 1
  part_start: 1048576
  part_end: 2097151
  part_size: 1048576
}
[1] = {
  part_num: 2
  part_start: 2097152
  part_end: 9999999
  part_size: 7902848
}
--end
"""


def guest(tmp_path: Path, text: str = "") -> spec.Guest:
    """A guest on an image."""
    (tmp_path / "old.qcow2").touch()
    return read_guest(f'image = "old.qcow2"\nimage_sha256 = "{"0" * 64}"\n{text}', "old.toml", "old", tmp_path)


def inside(files: dict[str, str]) -> ImageContents:
    """An image with these files and their directories."""
    nodes = tree.with_parents({path: tree.file(content) for path, content in files.items()})
    return ImageContents(ROOT, (), nodes, {path: node for path, node in nodes.items() if path.startswith("etc/")})


def test_the_root_file_system_is_found() -> None:
    """Device, kind and offset of the root, and where other file systems are mounted."""
    assert read_facts(SAID) == (spec.Root("/dev/sda2", "ext3", 2097152), ["boot"])


def test_a_root_on_lvm_has_no_offset() -> None:
    """A root that is not contiguous on the disk cannot be used by debugfs."""
    said = SAID.replace("/dev/sda2", "/dev/vg/root")
    assert read_facts(said)[0] == spec.Root("/dev/vg/root", "ext3", None)


def test_a_disk_without_partitions_begins_at_zero() -> None:
    """guestfish reports no partitions then."""
    said = "--roots\n/dev/sda\n--mounts\n/dev/sda: /\n--kinds\n/dev/sda: ext4\n--parts\n--end\n"
    assert read_facts(said) == (spec.Root("/dev/sda", "ext4", 0), [])


def test_the_index_is_parsed_from_find() -> None:
    """Kinds, modes and the targets of links are parsed; kinds that an image cannot have are left out."""
    said = "d\t755\t\t\nd\t755\tetc\t\nl\t777\tbin\tusr/bin\nf\t4755\tusr/bin/su\t\ns\t777\trun/socket\t\n"
    assert read_index(said) == {
        "etc": tree.directory(),
        "bin": tree.symlink("usr/bin"),
        "usr/bin/su": tree.Node("file", 0o4755),
    }


def test_a_listing_of_debugfs_gives_the_same_nodes() -> None:
    """The listing by debugfs, on hosts without libguestfs, gives the same nodes."""
    said = "/2/040755/0/0/../0/\n/13/100640/0/42/shadow/700/\n/14/040755/0/0/ssh/4096/\n/15/120777/0/0/mtab/17/\n"
    found = read_listing("etc", said)
    assert found == {
        "etc/shadow": tree.Node("file", 0o640),
        "etc/ssh": tree.directory(),
        "etc/mtab": tree.Node("symlink", 0o777),
    }


def test_our_identity_replaces_the_former_one(tmp_path: Path) -> None:
    """Name, machine-id and host key are ours; former keys, and udev's rules for former cards, are removed."""
    old = inside(
        {
            "etc/hostname": "former\n",
            "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 former\n10.0.0.1 friend\n",
            "etc/machine-id": "0123\n",
            "etc/ssh/sshd_config": "",
            "etc/ssh/ssh_host_rsa_key": "old",
            "etc/ssh/ssh_host_rsa_key.pub": "old",
            "etc/udev/rules.d/70-persistent-net.rules": "old",
        }
    )
    written, removed = changes(guest(tmp_path), KEY, old)
    assert written["etc/hostname"].content == b"old.example\n"
    assert written["etc/hosts"].content == b"127.0.0.1 localhost\n10.0.0.1 friend\n127.0.1.1 old.example old\n"
    assert written["etc/ssh/ssh_host_ed25519_key"] == tree.file(KEY.private, 0o600)
    assert len(written["etc/machine-id"].content) == 33
    assert sorted(removed) == [
        "etc/ssh/ssh_host_rsa_key",
        "etc/ssh/ssh_host_rsa_key.pub",
        "etc/udev/rules.d/70-persistent-net.rules",
    ]


def test_red_hats_files_are_changed(tmp_path: Path) -> None:
    """HOSTNAME is changed, cards lose their bound address, and SELinux relabels new files."""
    old = inside(
        {
            "etc/sysconfig/network": "NETWORKING=yes\nHOSTNAME=former\n",
            "etc/sysconfig/network-scripts/ifcfg-eth0": "DEVICE=eth0\nHWADDR=00:11:22:33:44:55\nBOOTPROTO=dhcp\n",
            "etc/selinux/config": "SELINUX=enforcing\n",
        }
    )
    written, _ = changes(guest(tmp_path), KEY, old)
    assert written["etc/sysconfig/network"].content == b"NETWORKING=yes\nHOSTNAME=old.example\n"
    assert written["etc/sysconfig/network-scripts/ifcfg-eth0"].content == b"DEVICE=eth0\nBOOTPROTO=dhcp\n"
    assert ".autorelabel" in written


def test_an_image_with_its_own_identity(tmp_path: Path) -> None:
    """Keys are added to root's home, wherever it is; mounts are added to fstab; nothing else changes."""
    text = 'image_identity = "kept"\nauthorized_keys = ["ssh-ed25519 AAAA me"]\n[data]\nmount = "/data"\n'
    old = inside({"etc/passwd": "root:x:0:0:root:/home/root:/bin/sh\n", "etc/fstab": "/dev/sda1 / ext3\n"})
    written, removed = changes(guest(tmp_path, text), KEY, old)
    assert sorted(written) == ["data", "etc/fstab", "home/root/.ssh", "home/root/.ssh/authorized_keys"]
    assert written["etc/fstab"].content.startswith(b"/dev/sda1 / ext3\nLABEL=tawara-data /data ext4")
    assert removed == []


def test_an_image_is_an_old_machine_by_default(tmp_path: Path) -> None:
    """IDE, e1000, its own boot loader, no virtio device; its disk keeps its size."""
    old = guest(tmp_path)
    assert (old.bus, {nic.model for nic in old.nics}, old.disk) == ("ide", {"e1000"}, 0)
    xml = domain_xml(old, cmdline=None, agent=False)
    assert '<boot dev="hd" />' in xml
    assert "virtio" not in xml
    assert "identity.tar" not in xml


@pytest.mark.parametrize(
    ("identity", "line"),
    [
        ("", "old.example,old,192.168.231.20 ssh-ed25519 AAAA\n"),
        ('image_identity = "kept"', ""),
        (
            'image_identity = "kept"\nimage_host_key = "ssh-rsa BBBB root@x"',
            "old.example,old,192.168.231.20 ssh-rsa BBBB\n",
        ),
    ],
)
def test_the_known_host_key(tmp_path: Path, identity: str, line: str) -> None:
    """The known host key is ours if we wrote it; the author's, or none, if the image kept its own."""
    old = guest(tmp_path, f'{identity}\n[[nic]]\nip = "192.168.231.20"\n')
    files = definition_files(replace(old, disk=1), Layers("d", "b"), None, KEY, 0)
    assert files["known_hosts"].decode() == line


@pytest.mark.skipif(not shutil.which("augtool"), reason="bin/setup-vm installs augeas-tools")
def test_augeas_changes_only_the_named_files() -> None:
    """Only a changed file is returned, with its mode."""
    etc = {"etc/hosts": tree.file("10.1.2.3 friend\n", 0o600), "etc/hostname": tree.file("former\n")}
    found = edited(etc, ["set /files/etc/hosts/1/alias stranger"])
    assert found == {"etc/hosts": tree.file("10.1.2.3 friend stranger\n", 0o600)}


@pytest.mark.skipif(not shutil.which("augtool"), reason="bin/setup-vm installs augeas-tools")
@pytest.mark.parametrize("command", ["sett /files/etc/hosts/1/alias x", "set /files/etc/hosts/1/nonsense x"])
def test_augeas_errors_are_reported(command: str) -> None:
    """An unknown command, and a tree that cannot be written back, are reported."""
    with pytest.raises(BuildError, match="Augeas refused"):
        edited({"etc/hosts": tree.file("10.1.2.3 friend\n")}, [command])
