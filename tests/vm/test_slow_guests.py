"""Slow guests: Debian with additional packages, and one without virtio."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.vm import foreign_hypervisor
    from tests.vm.conftest import Workshop
    from tests.vm.machine import Machine
else:
    import foreign_hypervisor

TAWARA = str(Path(sys.executable).parent / "tawara")
pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(1200)]

DEBIAN = """
fqdn = "debian.example"
base = "debian12"
packages = ["nginx-light"]
commands = ["echo made at build time >/var/www/html/index.html"]
services = ["nginx"]

[disk]
size = "6G"
"""

NEWER = """
fqdn = "newer.example"
base = "debian13"
"""

OLD = """
fqdn = "generic.example"
base = "classic"
memory = "128M"

[disk]
bus = "ide"

[[nic]]
network = "nat0"
model = "e1000"
"""


def ssh(host: Machine, name: str, command: str, *, check: bool = True) -> str:
    """Run a command in a guest over ssh with strict host-key checking."""
    options = ("-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30")
    return host.run("ssh", *options, f"root@{name}.example", command, check=check).stdout.strip()


def install(host: Machine, name: str) -> None:
    """Install a guest's package from the repository and wait until ssh to the guest works."""
    host.run("apt-get", "-y", "-q", "update")
    host.run("apt-get", "-y", "-q", "install", f"tawara-guest-{name}")
    host.wait_for(f"ssh to {name}", lambda: ssh(host, name, "echo in", check=False) == "in", 900)


def test_a_debian_guest_serves_with_additional_packages(host: Machine, workshop: Workshop) -> None:
    """Packages, commands and services of the description exist at the first boot, and no unit has failed."""
    workshop.build("debian", DEBIAN)
    base = next(path for path in workshop.built["debian"].packages if "tawara-base" in path.name)
    assert base.stat().st_size < 65e6
    install(host, "debian")
    fetch = "curl -fsS http://debian.example/"
    host.wait_for("nginx", lambda: host.shell(fetch, check=False).strip() == "made at build time", 900)
    assert ssh(host, "debian", "systemctl --failed --no-legend") == ""
    assert int(ssh(host, "debian", "df --output=size / | tail -n 1")) > 5.5e6
    # Its own name stands for the address that others reach it by, and short names are looked for in its domain.
    address = host.run(TAWARA, "vm", "ip", "debian").stdout.strip()
    assert ssh(host, "debian", "getent ahostsv4 debian.example | cut -d' ' -f 1 | sort -u") == address


def test_a_guest_is_accessible_by_its_agent(host: Machine) -> None:
    """Without any network, commands run in the guest with their exit code, and files are copied in both directions."""
    done = host.run(TAWARA, "vm", "exec", "debian", "--", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    host.shell("head -c 300000 /dev/urandom >/tmp/sent")
    host.run(TAWARA, "vm", "cp", "/tmp/sent", "debian:/root/")
    host.run(TAWARA, "vm", "cp", "debian:/root/sent", "/tmp/back")
    host.run("cmp", "/tmp/sent", "/tmp/back")
    done = host.run(TAWARA, "vm", "cp", "debian:/absent", "/tmp/none", check=False)
    assert done.returncode == 1
    assert "No such file" in done.stderr


def test_a_restored_guest_has_the_current_time(host: Machine) -> None:
    """A guest that resumes with the memory of its snapshot has the host's time, not the snapshot's."""
    ssh(host, "debian", "date -s @1000000000")
    host.run(TAWARA, "vm", "snapshot", "debian", "then")
    host.run(TAWARA, "vm", "restore", "debian", "then")
    behind = int(host.shell("date +%s")) - int(ssh(host, "debian", "date +%s"))
    assert abs(behind) < 60
    host.run("apt-get", "-y", "-q", "purge", "tawara-guest-debian")


def test_a_guest_without_virtio(host: Machine, workshop: Workshop) -> None:
    """With IDE and e1000 only, on the generic kernel without virtio, the guest installs, boots and is reachable by
    ssh."""
    workshop.build("generic", OLD)
    install(host, "generic")
    modules = ssh(host, "generic", "cat /proc/modules")
    assert "virtio" not in modules
    assert "e1000" in modules
    assert "sda" in ssh(host, "generic", "cat /proc/partitions")
    xml = host.run("virsh", "dumpxml", "generic").stdout
    assert "bus='ide'" in xml


def test_its_appliance_has_ide_and_e1000(host: Machine) -> None:
    """Exported, it boots by itself in another hypervisor with the hardware that all of them have."""
    host.run(TAWARA, "vm", "stop", "generic", "--force")
    assert "virtio" not in host.run(TAWARA, "vm", "export", "generic", "/var/tmp/generic.ova").stderr
    descriptor = foreign_hypervisor.unpack(host, "/var/tmp/generic.ova", "/var/tmp/generic")
    assert [item["ResourceSubType"] for item in foreign_hypervisor.items(descriptor, "10")] == ["E1000"]
    with foreign_hypervisor.running(host, "/var/tmp/generic", descriptor):
        see = ("generic.example", "hostname; cat /proc/modules /proc/partitions; ip route")
        host.wait_for("ssh", lambda: foreign_hypervisor.ssh(host, *see, check=False) != "")
        seen = foreign_hypervisor.ssh(host, *see)
    for word in ("generic.example", "e1000", "sda2", "default via 10.0.2.2"):
        assert word in seen
    assert "virtio" not in seen
    host.run("apt-get", "-y", "-q", "purge", "tawara-guest-generic")


def test_a_guest_on_debian_13_gets_a_larger_disk(host: Machine, workshop: Workshop) -> None:
    """Nothing has failed in it, its agent answers, and after a restart its file system has the whole new disk."""
    workshop.build("newer", NEWER)
    install(host, "newer")
    assert ssh(host, "newer", "systemctl is-system-running --wait; systemctl --failed --plain --no-legend") == "running"
    assert "trixie" in host.run(TAWARA, "vm", "exec", "newer", "--", "cat", "/etc/os-release").stdout
    host.run(TAWARA, "vm", "set", "newer", "disk=8G")
    host.run(TAWARA, "vm", "stop", "newer", "--timeout", "300")
    host.run(TAWARA, "vm", "start", "newer")
    host.wait_for("ssh to newer", lambda: ssh(host, "newer", "echo in", check=False) == "in", 900)
    size = int(ssh(host, "newer", "df --output=size -B1 / | tail -n 1"))
    assert size > 7.5 * 2**30
