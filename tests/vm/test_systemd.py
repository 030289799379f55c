"""A host with systemd: the unit that does at the next boot what package scripts could not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.vm.conftest import Workshop
    from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(900)]

UNIT = "tawara-vm-reconcile.service"


def test_the_unit_at_boot_does_the_remaining_work(systemd_host: Machine, workshop: Workshop) -> None:
    """Installed while libvirtd is stopped, the guest is started by the unit of every boot."""
    host = systemd_host
    workshop.build("unit", 'fqdn = "unit.example"\nmemory = "96M"\n[[nic]]\nnetwork = "host0"\n')
    host.run("systemctl", "stop", "libvirtd.service", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket")
    host.run("apt-get", "-y", "-q", "update")
    done = host.run("apt-get", "-y", "-q", "install", "tawara-guest-unit")
    assert "libvirt does not answer here" in done.stdout + done.stderr
    host.run("systemctl", "daemon-reload")
    assert UNIT in host.run("systemctl", "list-dependencies", "--plain", "multi-user.target").stdout
    assert host.run("systemd-analyze", "verify", UNIT).stderr == ""
    host.run("systemctl", "start", UNIT)
    assert host.run("systemctl", "is-active", "libvirtd.service").stdout.strip() == "active"
    host.wait_for_ssh("unit.example")


def test_with_systemd_installing_and_removing_are_enough(systemd_host: Machine) -> None:
    """With systemd and libvirtd running the package scripts do everything themselves."""
    host = systemd_host
    host.run("apt-get", "-y", "-q", "purge", "tawara-guest-unit")
    assert "unit" not in host.shell("virsh list --all; cat /etc/hosts")
    host.run("apt-get", "-y", "-q", "install", "tawara-guest-unit")
    host.wait_for_ssh("unit.example")
    host.run("apt-get", "-y", "-q", "purge", "tawara-guest-unit", "tawara-vm-host")
    assert "unit" not in host.shell("virsh list --all; virsh net-list --all; cat /etc/hosts")
