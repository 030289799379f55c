"""The same packages on a host with dnf: install, conflict, upgrade, erase."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.vm.conftest import Workshop
    from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

GUEST = """
fqdn = "dnf.example"
memory = "96M"
version = "{version}"

[[nic]]
network = "host0"
ip = "192.168.233.77"
mac = "52:54:00:00:00:77"
"""

THIEF = """
fqdn = "{fqdn}"
memory = "96M"

[[nic]]
network = "host0"
ip = "{ip}"
mac = "{mac}"
"""


def dnf(host: Machine, workshop: Workshop, *words: str) -> subprocess.CompletedProcess[str]:
    """Run dnf with the workshop's repository as its only one."""
    repository = (f"--repofrompath=workshop,file://{workshop.dist}", "--repo=workshop", "--nogpgcheck")
    return host.run("dnf", "-y", "--refresh", *repository, "--releasever=12", *words, check=False)


def test_dnf_install_gives_a_running_guest(host: Machine, workshop: Workshop) -> None:
    """`dnf install` of one package is enough: ssh works by name, with the host key checked."""
    workshop.build("dnf", GUEST.format(version="1"))
    done = dnf(host, workshop, "install", "tawara-guest-dnf")
    assert done.returncode == 0, done.stdout + done.stderr
    host.wait_for_ssh("dnf.example")
    assert "running" in host.run("virsh", "dominfo", "dnf").stdout


def test_rpm_lists_the_guests_files(host: Machine) -> None:
    """`rpm -ql` lists definition, delta and claims, and `rpm -V` finds them unchanged."""
    listed = host.run("rpm", "-ql", "tawara-guest-dnf").stdout
    for path in ("guests/dnf/domain.xml", "guests/dnf/disk.qcow2", "claims/fqdn/dnf.example"):
        assert f"/var/lib/tawara-vm/{path}" in listed
    assert host.run("rpm", "-V", "tawara-guest-dnf", "tawara-vm-host").stdout == ""


@pytest.mark.parametrize("claim", ["fqdn", "mac", "ip"])
def test_dnf_refuses_a_second_claim_in_the_transaction_test(host: Machine, workshop: Workshop, claim: str) -> None:
    """A package with the same FQDN, MAC or IP fails before anything is installed, and the message names the claim."""
    taken = {"fqdn": "dnf.example", "mac": "52:54:00:00:00:77", "ip": "192.168.233.77"}
    own = {"fqdn": "thief.example", "mac": "52:54:00:00:00:78", "ip": "192.168.233.78"}
    workshop.build(f"dnf{claim}", THIEF.format_map(own | {claim: taken[claim]}))
    done = dnf(host, workshop, "install", f"tawara-guest-dnf{claim}")
    assert done.returncode != 0
    assert f"/var/lib/tawara-vm/claims/{claim}/{taken[claim]}" in done.stdout + done.stderr
    assert "conflicts with file from package tawara-guest-dnf-" in done.stdout + done.stderr
    assert host.run("rpm", "-q", f"tawara-guest-dnf{claim}", check=False).returncode != 0


def test_dnf_upgrade_leaves_the_running_guest_alone(host: Machine, workshop: Workshop) -> None:
    """The newer rpm is installed; the running domain is the same."""
    before = host.run("virsh", "domid", "dnf").stdout
    workshop.build("dnf", GUEST.format(version="2"))
    done = dnf(host, workshop, "upgrade", "tawara-guest-dnf")
    assert done.returncode == 0, done.stdout + done.stderr
    assert host.run("rpm", "-q", "tawara-guest-dnf").stdout.startswith("tawara-guest-dnf-2-1")
    assert host.run("virsh", "domid", "dnf").stdout == before


def test_erasing_removes_all_but_the_data(host: Machine, workshop: Workshop) -> None:
    """`dnf remove` leaves no domain, network or name; with purge_on_erase the data is removed, too."""
    assert dnf(host, workshop, "remove", "tawara-guest-dnf").returncode == 0
    left = host.shell("virsh list --all --name; virsh net-list --all --name; cat /etc/hosts; ip -o link")
    assert "dnf" not in left
    assert "tawara" not in left
    assert host.shell("ls /var/lib/tawara-vm/instances/dnf/system/overlay.qcow2").strip()
    assert dnf(host, workshop, "install", "tawara-guest-dnf").returncode == 0
    host.shell("echo purge_on_erase=yes >/etc/tawara-vm/host.conf")
    assert dnf(host, workshop, "remove", "tawara-guest-dnf").returncode == 0
    assert host.run("ls", "/var/lib/tawara-vm/instances", check=False).returncode != 0
