"""The hardware options of a description: each disk bus, both consoles, shared directories."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.vm.conftest import Workshop
    from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

TAWARA = str(Path(sys.executable).parent / "tawara")
BUSES = ("ide", "scsi")
GUEST = """
fqdn = "{bus}.example"
memory = "96M"
console = "{console}"

[disk]
bus = "{bus}"

[data]
size = "16M"

[[share]]
source = "/srv/shared"
target = "/srv/host"

[[nic]]
network = "host0"
"""

OLD = """
fqdn = "old{bus}.example"
base = "classic"
memory = "128M"

[disk]
bus = "{bus}"

[data]
size = "16M"

[[nic]]
network = "host0"
model = "rtl8139"
"""


@pytest.fixture(scope="module", autouse=True)
def guests(host: Machine, workshop: Workshop) -> None:
    """One guest for each bus, all installed at once; the last one with a screen."""
    host.shell("mkdir -p /srv/shared; echo from the host >/srv/shared/file")
    for bus in BUSES:
        workshop.build(bus, GUEST.format(bus=bus, console="vnc" if bus == "scsi" else "serial"))
    host.run("apt-get", "-y", "-q", "update")
    host.run("apt-get", "-y", "-q", "install", *(f"tawara-guest-{bus}" for bus in BUSES))


@pytest.mark.parametrize("bus", BUSES)
def test_a_guest_boots_from_each_disk_bus(host: Machine, bus: str) -> None:
    """System and data disk are on the configured bus, and the guest is reachable by ssh."""
    host.wait_for_ssh(f"{bus}.example")
    disks = host.shell(f"virsh dumpxml {bus} | grep -o \"<target dev='[a-z]*' bus='[a-z]*'\" | cut -d\\' -f 4").split()
    assert disks == [bus] * 3
    partitions = host.ssh(f"{bus}.example", "cat /proc/partitions")
    assert "sda" in partitions
    assert "vda" not in partitions
    host.ssh(f"{bus}.example", "grep ' /data ' /proc/mounts && echo kept >/data/file && cat /data/file")


@pytest.mark.slow
@pytest.mark.parametrize(("bus", "driver"), [("ide", "ata_piix"), ("scsi", "sym53c8xx"), ("sata", "ahci")])
def test_an_old_guest_boots_from_each_disk_bus_with_a_realtek_card(
    host: Machine, workshop: Workshop, bus: str, driver: str
) -> None:
    """The base without virtio has its own drivers for IDE, SCSI and SATA disks, and the RTL8139."""
    workshop.build(f"old{bus}", OLD.format(bus=bus))
    host.run("apt-get", "-y", "-q", "update")
    host.run("apt-get", "-y", "-q", "install", f"tawara-guest-old{bus}")
    name = f"old{bus}.example"
    host.wait_for_ssh(name)
    assert "vda" not in host.ssh(name, "cat /proc/partitions")
    modules = dict(line.split()[::2] for line in host.ssh(name, "cut -d' ' -f 1-3 /proc/modules").splitlines())
    assert int(modules[driver]) > 0, "this driver serves the disks"
    assert "8139cp" in modules
    assert "virtio" not in "".join(modules)
    host.ssh(name, "grep ' / ' /proc/mounts | grep /dev/sd; grep ' /data ' /proc/mounts && echo kept >/data/file")
    host.run("apt-get", "-y", "-q", "purge", f"tawara-guest-old{bus}")


def test_a_directory_of_the_host_is_shared_both_ways(host: Machine) -> None:
    """What either side writes the other can read at once."""
    host.wait_for_ssh("scsi.example")
    assert host.ssh("scsi.example", "cat /srv/host/file") == "from the host"
    host.ssh("scsi.example", "echo from the guest >/srv/host/answer")
    assert host.shell("cat /srv/shared/answer") == "from the guest\n"


@pytest.mark.parametrize("bus", BUSES)
def test_a_guest_with_a_share_is_snapshotted_and_restored(host: Machine, bus: str) -> None:
    """On each bus, with a shared directory, a snapshot of the running guest has both of its disks; so does one of the
    stopped guest."""
    name = f"{bus}.example"
    host.wait_for_ssh(name)
    host.ssh(name, "echo before >/root/mark; echo before >/data/mark; sync")
    said = host.run(TAWARA, "vm", "snapshot", bus, "running").stderr
    assert "shared directories" in said
    assert host.ssh(name, "echo after >/root/mark; echo after >/data/mark; sync; hostname") == name
    host.run(TAWARA, "vm", "stop", bus)
    host.run(TAWARA, "vm", "snapshot", bus, "off")
    for snapshot, expected in (("running", "before"), ("off", "after")):
        host.run(TAWARA, "vm", "restore", bus, snapshot)
        host.run(TAWARA, "vm", "start", bus)
        host.wait_for_ssh(name)
        assert host.ssh(name, "cat /root/mark /data/mark").split() == [expected] * 2
        host.run(TAWARA, "vm", "stop", bus)
    assert host.run(TAWARA, "vm", "snapshots", bus).stdout.split() == ["running", "off"]
    host.run(TAWARA, "vm", "snapshots", bus, "--delete", "running")
    assert host.run(TAWARA, "vm", "snapshots", bus).stdout.split() == ["off"]
    host.run(TAWARA, "vm", "start", bus)


def test_a_screen_is_offered_only_to_the_host(host: Machine) -> None:
    """With console = "vnc" a VNC viewer finds the guest on the host's loopback address, and nowhere else."""
    display = host.run("virsh", "domdisplay", "scsi").stdout.strip()
    assert display.startswith("vnc://127.0.0.1:")
    port = 5900 + int(display.rpartition(":")[2])
    assert host.shell(f"exec 3<>/dev/tcp/127.0.0.1/{port}; head -c 4 <&3") == "RFB "
    assert host.shell(f"ss -Hltn 'sport = :{port}' | awk '{{print $4}}'").split() == [f"127.0.0.1:{port}"]


def test_the_serial_console_is_a_shell(host: Machine) -> None:
    """`tawara vm console` is the guest's terminal, and Ctrl-] leaves it."""
    host.wait_for_ssh("ide.example")
    ours, theirs = pty.openpty()
    words = host.command(TAWARA, "vm", "console", "ide")
    console = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        _expect(ours, "Escape character is", b"")
        _expect(ours, "ide.example", b"\rhostname\r")
        os.write(ours, b"\x1d")
        assert console.wait(60) == 0
    finally:
        console.kill()
        os.close(ours)


def _expect(terminal: int, text: str, keys: bytes, seconds: float = 120) -> None:
    """Send the keys from time to time until the terminal shows the text."""
    shown, deadline = "", time.monotonic() + seconds
    while text not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 2)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
        elif keys:
            os.write(terminal, keys)
