"""What rarely happens to a guest, on a real libvirt: a full disk, a killed QEMU, an undefined domain, a new host."""

from __future__ import annotations

import json
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

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

TAWARA = str(Path(sys.executable).parent / "tawara")
INSTANCES = "/var/lib/tawara-vm/instances"
GUEST = """
fqdn = "rare.example"
memory = "96M"
[[nic]]
network = "host0"
"""


def state(host: Machine) -> str:
    """What `list` shows of the guest."""
    (found,) = json.loads(host.run(TAWARA, "vm", "list", "--json").stdout)
    return str(found["state"])


def test_a_guest_that_a_full_disk_has_paused_goes_on(host: Machine, workshop: Workshop) -> None:
    """`list --failed` names it, `start` and `stop` say why it cannot run, and with space it goes on where it was."""
    workshop.build("rare", GUEST)
    host.shell(f"mkdir -p {INSTANCES}; mount -t tmpfs -o size=24m,mode=0755 tmpfs {INSTANCES}")
    host.shell("apt-get -q update; apt-get -y -q install tawara-guest-rare")
    host.wait_for_ssh("rare")
    host.shell(
        "ssh -o BatchMode=yes root@rare 'dd if=/dev/urandom of=/root/big bs=1M count=64 && sync' >/dev/null 2>&1 &"
    )
    host.wait_for("the full disk", lambda: "I/O error" in host.run("virsh", "domstate", "--reason", "rare").stdout)
    assert state(host) == "paused: disk full?"
    assert host.run(TAWARA, "vm", "list", "--failed", check=False).returncode == 1
    for verb in ("start", "snapshot"):
        done = host.run(TAWARA, "vm", verb, "rare", *(["x"] if verb == "snapshot" else []), check=False)
        assert done.returncode != 0, verb
        assert "disk" in done.stderr, done.stderr
    host.shell(f"mount -o remount,size=512m {INSTANCES}")
    host.run(TAWARA, "vm", "start", "rare")
    assert state(host) == "running"
    host.wait_for("the file", lambda: host.ssh("rare", "wc -c </root/big", check=False) == str(64 << 20))


def test_a_guest_whose_qemu_was_killed_starts_again(host: Machine) -> None:
    """It is off, `start` boots it, and what it had synced is there."""
    host.shell("kill -9 $(cat /run/libvirt/qemu/rare.pid)")
    host.wait_for("libvirt to notice", lambda: state(host) == "shut off")
    host.run(TAWARA, "vm", "start", "rare")
    host.wait_for_ssh("rare")
    assert host.ssh("rare", "wc -c </root/big") == str(64 << 20)


def test_a_guests_clock_that_is_late_is_set(host: Machine) -> None:
    """As after `restore`, when it goes on with the time of its snapshot: `tiny` takes the machine's clock by itself."""
    before = int(host.shell("date +%s"))
    # Asked in the same command: on a busy machine it may be right again before the next one comes.
    assert int(host.ssh("rare", "date -u -s @$(($(date +%s) - 1000)) >&2; date +%s")) < before - 500

    def is_right() -> bool:
        return int(host.ssh("rare", "date +%s")) >= before

    host.wait_for("the clock", is_right)


def test_a_guest_undefined_behind_our_back_is_defined_again(host: Machine) -> None:
    """It runs on meanwhile, and the next run of the step defines it without touching it."""
    before = host.run("virsh", "domid", "rare").stdout
    host.run("virsh", "undefine", "rare")
    host.run("/usr/lib/tawara-vm/reconcile")
    assert host.run("virsh", "list", "--persistent", "--name").stdout.split() == ["rare"]
    assert host.run("virsh", "domid", "rare").stdout == before
    host.shell("virsh destroy rare; virsh undefine rare")
    assert state(host) == "absent"
    host.run(TAWARA, "vm", "start", "rare")
    assert state(host) == "running"


def test_an_instance_moves_to_a_host_that_has_its_package(host: Machine) -> None:
    """Exported, purged and reinstalled, as on another host, it has after `import` its files and snapshots again."""
    host.run(TAWARA, "vm", "stop", "rare", "--force")
    host.run(TAWARA, "vm", "snapshot", "rare", "before")
    host.run(TAWARA, "vm", "export", "rare", "/var/tmp/rare.tar")
    host.shell("apt-get -y -q purge tawara-guest-rare; apt-get -y -q install tawara-guest-rare")
    host.run(TAWARA, "vm", "stop", "rare", "--force")
    host.run(TAWARA, "vm", "import", "/var/tmp/rare.tar", "--replace")
    host.run(TAWARA, "vm", "restore", "rare", "before")
    host.run(TAWARA, "vm", "start", "rare")
    host.wait_for_ssh("rare")
    assert host.ssh("rare", "wc -c </root/big") == str(64 << 20)


def test_an_instance_runs_in_another_hypervisor(host: Machine) -> None:
    """As it was at its snapshot, it boots by itself from an IDE disk, with its files and its host key, on an address by
    DHCP; without a snapshot a running instance is refused."""
    done = host.run(TAWARA, "vm", "export", "rare", "/var/tmp/rare.ova", check=False)
    assert done.returncode != 0
    assert "rare is: running; its disks can be copied only when it is off" in done.stderr
    said = host.run(TAWARA, "vm", "export", "rare", "/var/tmp/rare.ova", "--snapshot", "before").stderr
    assert "tiny has drivers for virtio cards only" in said
    assert host.shell("stat -c %a /var/tmp/rare.ova").strip() == "600"
    host.run(TAWARA, "vm", "stop", "rare", "--force")
    descriptor = foreign_hypervisor.unpack(host, "/var/tmp/rare.ova", "/var/tmp/rare")
    with foreign_hypervisor.running(host, "/var/tmp/rare", descriptor):
        see = ("rare", "hostname; wc -c </root/big; ip route | cut -d' ' -f 1-3; cat /etc/resolv.conf")
        host.wait_for("ssh", lambda: foreign_hypervisor.ssh(host, *see, check=False) != "")
        name, size, *routes = foreign_hypervisor.ssh(host, *see).splitlines()
        assert (name, size) == ("rare.example", str(64 << 20))
        assert "default via 10.0.2.2" in routes
    host.run(TAWARA, "vm", "start", "rare")


def test_purging_takes_it_away_in_any_state(host: Machine) -> None:
    """Also paused by its user, and undefined while it runs."""
    host.shell("virsh suspend rare; virsh undefine rare")
    host.shell("apt-get -y -q purge tawara-guest-rare")
    assert host.run("virsh", "list", "--all", "--name").stdout.strip() == ""
    assert "qemu-system" not in host.shell("ps ax -o comm")
