"""A Debian host through its life: install, use, conflict, clone, upgrade, remove."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tawara.vm import tree
from tawara.vm.base_image import Base, build_base, kept_folder, write_base
from tawara.vm.bases import RECIPES
from tawara.vm.build import build_epoch
from tawara.vm.identity import guest_uuid, machine_id
from tawara.vm.package_manifest import base_package
from tawara.vm.packager import build_package, index_repository

if TYPE_CHECKING:
    from tests.vm.conftest import Workshop
    from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

TAWARA = str(Path(sys.executable).parent / "tawara")

WEB = """
name = "web"
fqdn = "web.example"
memory = "96M"
version = "{version}"

[data]
size = "64M"
mount = "/data"

[[file]]
path = "/etc/motd"
content = "version {version}"
"""

THIEF = """
fqdn = "{fqdn}"
memory = "96M"

[[nic]]
network = "nat0"
ip = "{ip}"
mac = "{mac}"
"""


def apt(host: Machine, *words: str, check: bool = True) -> str:
    """Run apt-get; return its output."""
    done = host.run("apt-get", "-y", "-q", *words, check=check)
    return done.stdout + done.stderr


def addresses(host: Machine, name: str) -> dict[str, str]:
    """A guest's addresses by network, as the command line prints them."""
    found: dict[str, str] = json.loads(host.run(TAWARA, "vm", "ip", name, "--json").stdout)
    return found


def test_installing_one_package_gives_a_running_guest(host: Machine, workshop: Workshop) -> None:
    """`apt install` is enough: the guest is defined, running, and reachable by ssh by name, with the host key
    checked."""
    workshop.build("web", WEB.format(version="1"))
    apt(host, "update")
    said = apt(host, "install", "tawara-guest-web")
    assert "is not up" not in said
    host.wait_for_ssh("web.example")
    assert host.ssh("web.example", "cat /etc/motd; hostname") == "version 1web.example"
    info = host.run("virsh", "dominfo", "web").stdout
    assert "running" in info


def test_every_fixed_address_is_the_guests(host: Machine) -> None:
    """All four classic cards have the documented address, and the host key is known for each."""
    found = addresses(host, "web")
    assert list(found) == ["host0", "host1", "nat0", "nat1"]
    assert {host.ssh(ip, "hostname") for ip in found.values()} == {"web.example"}
    assert host.ssh("web", "hostname") == "web.example"


def test_the_guests_identity_follows_from_its_name(host: Machine) -> None:
    """uuid and machine-id follow from the name, and the network's own name server knows it."""
    assert host.run("virsh", "domuuid", "web").stdout.strip() == str(guest_uuid("web.example"))
    assert host.ssh("web", "cat /etc/machine-id") == machine_id("web.example")
    assert addresses(host, "web")["nat0"] in host.ssh("web", "nslookup web.example 2>/dev/null", check=False)


def test_the_package_lists_its_files(host: Machine, workshop: Workshop) -> None:
    """`dpkg -L` lists definition, delta and claims; only root can read the host key inside."""
    listed = host.run("dpkg", "-L", "tawara-guest-web").stdout
    for path in ("guests/web/domain.xml", "guests/web/disk.qcow2", "claims/fqdn/web.example"):
        assert f"/var/lib/tawara-vm/{path}" in listed
    assert host.shell("stat -c %a /var/lib/tawara-vm/guests/web/identity.tar").strip() == "600"


def test_reconciling_again_changes_nothing(host: Machine) -> None:
    """The step is idempotent: a second run leaves the same domain running, unchanged."""
    before = host.shell("virsh domid web; virsh dumpxml --inactive web; virsh net-dumpxml tawara-nat0")
    assert host.run("/usr/lib/tawara-vm/reconcile").returncode == 0
    assert host.shell("virsh domid web; virsh dumpxml --inactive web; virsh net-dumpxml tawara-nat0") == before


@pytest.mark.parametrize("claim", ["fqdn", "mac", "ip"])
def test_a_package_with_a_taken_claim_is_refused(host: Machine, workshop: Workshop, claim: str) -> None:
    """dpkg itself refuses, its message names the claim and its owner, and nothing of the refused package stays."""
    mac = host.shell("virsh domiflist web | awk '$3 == \"tawara-nat0\" {print $5}'").strip()
    taken = {"fqdn": "web.example", "mac": mac, "ip": addresses(host, "web")["nat0"]}
    own = {"fqdn": "thief.example", "mac": "52:54:00:00:00:99", "ip": "192.168.231.239"}
    workshop.build(f"{claim}thief", THIEF.format_map(own | {claim: taken[claim]}))
    apt(host, "update")
    said = apt(host, "install", f"tawara-guest-{claim}thief", check=False)
    place = f"/var/lib/tawara-vm/claims/{claim}/{taken[claim]}"
    assert f"trying to overwrite '{place}', which is also in package tawara-guest-web" in said
    assert "thief" not in host.run("virsh", "list", "--all").stdout
    assert "thief" not in host.shell("ls -R /var/lib/tawara-vm")
    status = host.run("dpkg-query", "-W", "-f", "${Status}", f"tawara-guest-{claim}thief").stdout
    assert status.split()[-1] == "not-installed"
    apt(host, "check")


def test_one_template_gives_another_instance(host: Machine) -> None:
    """`create` makes a second guest without a package: with its own name, addresses, machine-id, host key and disk."""
    host.run(TAWARA, "vm", "create", "web2", "--from", "web")
    host.wait_for_ssh("web2.example")
    assert host.ssh("web2", "hostname; cat /etc/machine-id") == f"web2.example\n{machine_id('web2.example')}"
    keys = host.shell("awk '{print $3}' /var/lib/tawara-vm/known_hosts").split()
    assert len(set(keys)) == 2
    assert not set(addresses(host, "web").values()) & set(addresses(host, "web2").values())
    host.ssh("web2", "echo two >/root/mine")
    assert host.ssh("web", "ls /root") == ""
    listed = json.loads(host.run(TAWARA, "vm", "list", "--json").stdout)
    assert [(each["name"], each["origin"], each["state"]) for each in listed] == [
        ("web", "tawara-guest-web", "running"),
        ("web2", "created", "running"),
    ]


def test_an_instance_is_reached_by_every_command(host: Machine) -> None:
    """`ssh` checks the host key and returns the command's exit code; `ip` prints the address of the name."""
    done = host.run(TAWARA, "vm", "ssh", "web2", "hostname; exit 7", check=False)
    assert (done.returncode, done.stdout.strip()) == (7, "web2.example")
    assert host.run(TAWARA, "vm", "ip", "web2").stdout.strip() == addresses(host, "web2")["nat0"]
    assert host.run("getent", "hosts", "web2.example").stdout.split()[0] == addresses(host, "web2")["nat0"]


def test_a_package_does_not_take_over_a_created_instance(host: Machine, workshop: Workshop) -> None:
    """A package with a created instance's name and address installs, names the owner, and does not change it."""
    before = host.shell("virsh domid web2; virsh dumpxml --inactive web2")
    given = {"fqdn": "later.example", "mac": "52:54:00:00:00:98", "ip": addresses(host, "web2")["nat0"]}
    workshop.build("later", THIEF.format_map(given))
    workshop.build("web2", THIEF.format(fqdn="other.example", mac="52:54:00:00:00:97", ip="192.168.231.239"))
    apt(host, "update")
    said = apt(host, "install", "tawara-guest-web2", "tawara-guest-later")
    assert "web2 is not up: tawara-vm: the name web2 belongs to an instance that was created here" in said
    assert f"later is not up: tawara-vm: later: {given['ip']} belongs to the guest web2" in said
    assert host.shell("virsh domid web2; virsh dumpxml --inactive web2") == before
    apt(host, "purge", "tawara-guest-web2", "tawara-guest-later")
    assert host.shell("virsh domid web2; virsh dumpxml --inactive web2") == before
    assert host.ssh("web2", "cat /root/mine") == "two"


def test_creating_over_a_claimed_address_is_refused(host: Machine) -> None:
    """An instance cannot take an address that a package or another instance has; the message names the owner."""
    ip = addresses(host, "web2")["nat0"]
    done = host.run(TAWARA, "vm", "create", "web3", "--from", "web", "--ip", f"nat0={ip}", check=False)
    assert done.returncode == 4
    assert f"ip {ip} belongs to the instance web2" in done.stderr


def test_a_snapshot_is_restored(host: Machine) -> None:
    """A file deleted after a snapshot exists again after `restore`."""
    host.run(TAWARA, "vm", "stop", "web2")
    assert host.run("virsh", "domstate", "web2").stdout.strip() == "shut off"
    host.run(TAWARA, "vm", "snapshot", "web2", "before")
    host.run(TAWARA, "vm", "start", "web2")
    host.wait_for_ssh("web2")
    host.ssh("web2", "rm /root/mine; sync")
    host.run(TAWARA, "vm", "restore", "web2", "before")
    host.run(TAWARA, "vm", "start", "web2")
    host.wait_for_ssh("web2")
    assert host.ssh("web2", "cat /root/mine") == "two"


def test_a_dhcp_address_is_stable_and_its_lease_is_removed(host: Machine) -> None:
    """A guest that uses DHCP gets the address reserved for it; `rm` removes the lease, and another guest's stays."""
    for name in ("web", "web2"):
        said = host.ssh(name, "udhcpc -i eth0 -n -q -s /bin/true 2>&1")
        assert f"lease of {addresses(host, name)['nat0']} obtained" in said
    leases = "/var/lib/libvirt/dnsmasq/tw-nat0.status"
    assert {each["ip-address"] for each in json.loads(host.run("cat", leases).stdout)} == {
        addresses(host, name)["nat0"] for name in ("web", "web2")
    }
    gone = addresses(host, "web2")["nat0"]
    host.run(TAWARA, "vm", "rm", "web2")
    assert [each["ip-address"] for each in json.loads(host.run("cat", leases).stdout)] == [
        addresses(host, "web")["nat0"]
    ]
    assert gone not in host.shell("virsh net-dhcp-leases tawara-nat0")
    host.run(TAWARA, "vm", "create", "web2", "--from", "web")


def test_removing_an_instance_leaves_nothing_of_it(host: Machine) -> None:
    """`rm` removes domain, disk, names and reservations of the one instance, and the other continues."""
    ip = addresses(host, "web2")["nat0"]
    before = host.run("virsh", "domid", "web").stdout
    host.run(TAWARA, "vm", "rm", "web2")
    assert "web2" not in host.shell(
        "virsh list --all; cat /etc/hosts /var/lib/tawara-vm/known_hosts; ls -R /var/lib/tawara-vm"
    )
    assert ip not in host.shell("virsh net-dumpxml tawara-nat0; cat /var/lib/libvirt/dnsmasq/*")
    assert host.run("virsh", "domid", "web").stdout == before


def test_upgrading_the_package_leaves_the_running_guest_alone(host: Machine, workshop: Workshop) -> None:
    """A newer package changes neither the running guest nor its data."""
    host.ssh("web", "echo kept >/data/file; echo system >/root/file; sync")
    before = host.run("virsh", "domid", "web").stdout
    workshop.build("web", WEB.format(version="2"))
    apt(host, "update")
    apt(host, "install", "tawara-guest-web")
    assert "2-1" in host.run("dpkg-query", "-W", "tawara-guest-web").stdout
    assert host.run("virsh", "domid", "web").stdout == before
    assert host.ssh("web", "cat /data/file /root/file /etc/motd") == "kept\nsystem\nversion 1"
    host.run(TAWARA, "vm", "stop", "web")
    host.run(TAWARA, "vm", "start", "web")
    host.wait_for_ssh("web")
    assert host.ssh("web", "cat /data/file /root/file /etc/motd") == "kept\nsystem\nversion 1"


def test_an_instance_moves_to_the_new_delta_and_back(host: Machine) -> None:
    """`upgrade` gives the new system with the old data; `--back` restores the old system."""
    host.run(TAWARA, "vm", "snapshot", "web", "old")
    host.run(TAWARA, "vm", "upgrade", "web")
    host.wait_for_ssh("web")
    assert host.run(TAWARA, "vm", "snapshots", "web").stdout == ""
    assert host.ssh("web", "cat /data/file /etc/motd; ls /root") == "kept\nversion 2"
    host.run(TAWARA, "vm", "upgrade", "web", "--back")
    host.wait_for_ssh("web")
    assert host.ssh("web", "cat /data/file /etc/motd /root/file") == "kept\nversion 1system"
    assert host.run(TAWARA, "vm", "snapshots", "web").stdout == "old\n"


def newer_tiny(workshop: Workshop, old: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer base `tiny`, with one more file, as of a later Debian."""
    recipe = replace(RECIPES["tiny"], release=RECIPES["tiny"].release + 1)
    kernel, ramdisk = ((old.folder / name).read_bytes() for name in ("kernel", "initrd"))
    root = old.tree() | {"etc/newer": tree.file("newer\n")}

    def make(folder: Path) -> None:
        write_base(folder, recipe, root, kernel, ramdisk, build_epoch())

    kept_folder(workshop.cache, f"bases/{recipe.key(build_epoch(), '')}", make)
    monkeypatch.setitem(RECIPES, "tiny", recipe)


def test_upgrading_the_base_leaves_the_running_guest_alone(
    host: Machine, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base's package is replaced by a newer one, then by a newer base, then removed: the instance continues, keeps
    its data and boots again from its own base."""
    before = host.run("virsh", "domid", "web").stdout
    old = build_base(RECIPES["tiny"], workshop.cache, build_epoch(), lambda _: None)
    package = base_package("tiny", old.digest, "9", "packed again", str(old.folder), old.files)
    build_package(replace(package, compression="zstd:1"), workshop.dist, build_epoch(), ("deb",))
    index_repository(workshop.dist, build_epoch(), None)
    apt(host, "update")
    apt(host, "install", package.name)
    host.run("apt-mark", "auto", package.name)
    assert host.run("dpkg-query", "-W", "-f", "${Version}", package.name).stdout == "9-1"

    newer_tiny(workshop, old, monkeypatch)
    assert workshop.build("web", WEB.format(version="3")).base != old.digest
    apt(host, "update")
    apt(host, "install", "tawara-guest-web")
    assert package.name in apt(host, "autoremove", "--simulate")
    apt(host, "purge", package.name)
    assert host.run("virsh", "domid", "web").stdout == before

    host.ssh("web", "echo after >>/root/file; sync")
    host.run(TAWARA, "vm", "stop", "web")
    host.run(TAWARA, "vm", "start", "web")
    host.wait_for_ssh("web")
    assert (
        host.ssh("web", "cat /data/file /root/file /etc/motd; ls /etc/newer 2>/dev/null", check=False)
        == "kept\nsystem\nafter\nversion 1"
    )


@pytest.mark.slow
def test_an_instance_moves_to_the_newer_base_and_back(host: Machine) -> None:
    """`upgrade` gives the newer base with the old data; `--back` the old one, though its package is removed."""
    host.run(TAWARA, "vm", "upgrade", "web")
    host.wait_for_ssh("web")
    assert host.ssh("web", "cat /data/file /etc/motd /etc/newer") == "kept\nversion 3newer"
    host.run(TAWARA, "vm", "upgrade", "web", "--back")
    host.wait_for_ssh("web")
    assert host.ssh("web", "cat /data/file /root/file /etc/motd") == "kept\nsystem\nafter\nversion 1"


def test_removal_keeps_the_data_for_a_reinstallation(host: Machine) -> None:
    """`apt remove` removes the guest from libvirt and keeps its disks, with which it is reinstalled."""
    apt(host, "remove", "tawara-guest-web")
    assert host.run("virsh", "list", "--all", "--name").stdout.strip() == ""
    assert "tawara" not in host.run("virsh", "net-list", "--all").stdout
    assert "web" not in host.shell("cat /etc/hosts")
    apt(host, "install", "tawara-guest-web")
    host.wait_for_ssh("web")
    assert host.ssh("web", "cat /data/file") == "kept"


def test_a_host_without_libvirt(host: Machine) -> None:
    """With libvirt down the package installs with a notice, and the guest starts when libvirt is back."""
    apt(host, "purge", "tawara-guest-web")
    host.stop_libvirt()
    said = apt(host, "install", "tawara-guest-web")
    assert "libvirt does not answer here" in said
    host.start_libvirt()
    host.run("/usr/lib/tawara-vm/reconcile")
    host.wait_for_ssh("web")


def test_an_interrupted_step_is_finished_by_the_next(host: Machine) -> None:
    """Whatever of the guest's state is missing, the next run restores it."""
    host.shell("virsh destroy web; virsh undefine web; virsh net-destroy tawara-nat1; virsh net-undefine tawara-nat1")
    host.shell("touch /var/lib/tawara-vm/instances/web/pending; rm -rf /var/lib/tawara-vm/instances/web/applied")
    host.run("/usr/lib/tawara-vm/reconcile")
    host.wait_for_ssh("web")


def test_purging_leaves_nothing(host: Machine) -> None:
    """After `apt purge` no domain, network, bridge, lease, process or file of ours is on the host."""
    apt(host, "purge", "tawara-guest-web", "tawara-vm-host", "tawara-base-tiny-*")
    assert host.run("virsh", "list", "--all", "--name").stdout.strip() == ""
    left = host.shell(
        "virsh net-list --all --name; ip -o link; cat /etc/hosts; ps ax -o comm; "
        "find /etc /usr /run /var/lib /var/log /var/cache -path /var/lib/apt/lists -prune "
        "-o -newer /run/ready -iname '*tawara*' -print; ls /var/lib/libvirt/dnsmasq /var/log/libvirt/qemu"
    )
    for trace in ("qemu-system", "dnsmasq\n", "tw-", "tawara", "web"):
        assert trace not in left
