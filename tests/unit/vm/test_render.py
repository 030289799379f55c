"""The rendering of a guest: libvirt's XML, its definition, and nfpm's manifests."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tawara.vm
from tawara.vm import tree
from tawara.vm.bases import RECIPES
from tawara.vm.bases.recipe import HostKey
from tawara.vm.definition import Layers, definition_files, identity_archive
from tawara.vm.initrd import IDENTITY_FIRST
from tawara.vm.libvirt_xml import domain_xml, network_xml
from tawara.vm.package_manifest import (
    PARTS,
    Package,
    Packaged,
    PackagedGuest,
    cluster_package,
    guest_package,
    host_package,
    manifest,
)
from tawara.vm.spec import BUSES, CLASSIC_NETWORKS
from tawara.vm.spec_read import read_guest

KEY = HostKey("-----BEGIN OPENSSH PRIVATE KEY-----\nnot a key, but in its place\n", "ssh-ed25519 AAAA")


@given(st.sampled_from(BUSES), st.text(max_size=30), st.integers(0, 3))
def test_the_domain_is_well_formed(bus: str, text: str, shares: int) -> None:
    """Any description and any bus give XML that parses, with the disk where the bus puts it."""
    old = 'base = "classic"\nnic = [{model = "e1000"}]\n'
    shares = 0 if bus == "sata" else shares
    toml = (
        (old if bus == "sata" else "")
        + f'[disk]\nbus = "{bus}"\n'
        + "".join(f'[[share]]\nsource = "/a"\ntarget = "/b{number}"\n' for number in range(shares))
    )
    guest = read_guest(toml, "w.toml", "w")
    top = ElementTree.fromstring(domain_xml(guest, cmdline=text.encode("unicode_escape").decode(), agent=True))
    assert top.findtext("name") == "w"
    assert {target.get("bus") for target in top.iterfind("devices/disk/target")} == {bus}
    assert len(top.findall("devices/filesystem")) == shares
    # QEMU's IDE and SATA disks are writable or CD-ROMs; a writable raw disk would forbid snapshots.
    identity = [
        disk
        for disk in top.iterfind("devices/disk")
        if disk.find("source[@file='@INSTANCE@/identity.tar']") is not None
    ]
    assert [disk.get("device") for disk in identity] == ["cdrom" if bus in ("ide", "sata") else "disk"]
    assert [disk.find("readonly") is not None for disk in identity] == [True]


def test_packaged_layers_keep_their_owner() -> None:
    """Each layer below the overlay forbids libvirt to change its owner, which would conflict with the package
    manager."""
    top = ElementTree.fromstring(domain_xml(read_guest("", "w.toml", "w"), cmdline="quiet", agent=False))
    labels = [label.get("relabel") for label in top.iterfind(".//backingStore/source/seclabel")]
    assert labels == ["no", "no"]


def test_only_nat_networks_forward() -> None:
    """Only a NAT network forwards."""
    forwards = {name: "<forward" in network_xml(network) for name, network in CLASSIC_NETWORKS.items()}
    assert forwards == {"nat0": True, "nat1": True, "host0": False, "host1": False}


def test_secrets_are_only_in_the_identity() -> None:
    """The host key's private part is in no file that others may read."""
    guest = read_guest('base = "debian12"', "w.toml", "w")
    files = definition_files(guest, Layers("d" * 12, "b" * 12), RECIPES["debian12"], KEY, 0)
    assert [name for name, content in files.items() if b"PRIVATE KEY" in content] == ["identity.tar"]


def test_the_ram_disk_recognises_an_identity() -> None:
    """The archive begins with the name that the ram disk looks for."""
    archive = identity_archive(read_guest('base = "debian12"', "w.toml", "w"), RECIPES["debian12"], KEY, 0)
    assert archive.startswith(IDENTITY_FIRST.encode() + b"\0")
    assert len(archive) % 2048 == 0


def test_directories_for_logs_stay() -> None:
    """Logs of the packages' installation are removed; the directory that nginx writes to stays."""
    made = {
        "var/log/nginx": tree.directory(),
        "var/log/nginx/error.log": tree.file(""),
        "var/log/dpkg.log": tree.file(""),
    }
    assert list(RECIPES["debian12"].tidy(made)) == ["var/log/nginx"]


def test_one_manifest_for_both_kinds() -> None:
    """Exact dependencies have each kind's syntax, scripts each kind's names."""
    package = Package(
        "x", "1", "y", (Packaged("a", "/b"),), exact=(("z", "2"),), scripts={"deb:postinstall": "", "rpm:posttrans": ""}
    )
    made = manifest(package, {"deb:postinstall": "p", "rpm:posttrans": "t"}, "2026-01-01T00:00:00Z")
    assert made["overrides"]["deb"]["depends"] == ["z (= 2-1)"]
    assert made["overrides"]["rpm"]["depends"] == ["z = 2-1"]
    assert made["overrides"]["deb"]["scripts"] == {"postinstall": "p"}
    assert made["rpm"]["scripts"] == {"posttrans": "t"}


def test_package_scripts_only_call_the_reconcile_step() -> None:
    """Each script has at most two lines, and ends in the step."""
    guests = (PackagedGuest("w", {}), PackagedGuest("x", {}))
    packages = [
        guest_package("1", "s", ("b",), "1", "/f", guests[0]),
        cluster_package("c", "1", ("b",), "1", "/f", guests),
        host_package("1", "/s"),
    ]
    for name, text in [item for package in packages for item in package.scripts.items()]:
        assert len(text.strip().splitlines()) <= 2, name
        assert subprocess.run(["sh", "-n"], input=text, text=True).returncode == 0


def test_the_reconcile_step_is_posix_shell() -> None:
    """POSIX sh parses it, and it needs no Python."""
    folder = Path(tawara.vm.__file__).parent / "host_files"
    shell = shutil.which("dash") or "sh"
    for script in (folder / "reconcile", *(folder / "lib").iterdir()):
        assert subprocess.run([shell, "-n", str(script)]).returncode == 0, script
        assert "python" not in script.read_text()


def test_every_part_of_the_reconcile_step_is_packaged() -> None:
    """The support package has every file that the step reads."""
    folder = Path(tawara.vm.__file__).parent / "host_files"
    read = re.search(r"for part in (.*); do", (folder / "reconcile").read_text())
    assert read
    assert sorted(read[1].split()) == sorted(PARTS) == sorted(path.name for path in (folder / "lib").iterdir())
    targets = [file.target for file in host_package("1", str(folder)).files]
    assert [f"/usr/lib/tawara-vm/lib/{part}" for part in PARTS] == [
        each for each in targets if "/lib/tawara-vm/lib/" in each
    ]


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_guests_identity_is_not_in_its_delta(name: str) -> None:
    """The delta is the same for every instance: it has neither the guest's name nor its addresses."""
    guest = read_guest('[data]\nsize = "1G"\nmount = "/data"', "w.toml", "unmistakable")
    files = RECIPES[name].guest_files(guest)
    text = b"".join(node.content for node in files.values())
    assert b"unmistakable" not in text
    assert not any(str(nic.ip).encode() in text for nic in guest.nics)
