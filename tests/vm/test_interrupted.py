"""The step that package scripts call, interrupted at any point, in a chroot, and with libvirt down."""

from __future__ import annotations

import random
import shlex
import struct
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.vm.conftest import Workshop
    from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1200)]

RECONCILE = "/usr/lib/tawara-vm/reconcile"
STATE = "/var/lib/tawara-vm"
GUEST = """
fqdn = "cut.example"
memory = "64M"
version = "{version}"

[data]
size = "16M"

[[file]]
path = "/etc/motd"
content = "version {version}"

[[nic]]
network = "host0"
"""
# bash counts the step's commands, in whichever of its subshells, and at the given one kills the step with all of them.
# It counts in a file, without a process for each of the thousands.
KILLED = """
trap 'printf x >>/run/steps; read -r steps </run/steps; [ "${{#steps}}" -lt {at} ] || kill -KILL 0' DEBUG
set -T
set -- {words}
. {reconcile}
"""
FEW = pytest.mark.parametrize("cuts", [6, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])])


def run_until(host: Machine, at: int, *words: str) -> int:
    """Run the step up to its command number `at`; return the number of commands that it ran."""
    script = KILLED.format(at=at, words=shlex.join(words), reconcile=RECONCILE)
    host.run("setsid", "-w", "bash", "-c", script, check=False)
    # A program that the step had begun may outlive it; the step's lock tells when the last is gone.
    return int(host.shell("flock /run/tawara-vm/lock stat -c %s /run/steps; rm /run/steps"))


def points(whole: int, cuts: int) -> list[int]:
    """Points of interruption: spread over the commands of a complete run, the same in every test run."""
    dice = random.Random(cuts)
    return [int(whole * (number + dice.random()) / cuts) + 1 for number in range(cuts)]


def shown(host: Machine) -> list[str]:
    """The guest's state in libvirt and the host's files."""
    return host.shell(
        "virsh domstate cut; virsh dumpxml --inactive cut; virsh dominfo cut | grep Autostart; virsh net-list --all; "
        "virsh net-dumpxml --inactive tawara-host0; ls /var/lib/libvirt/dnsmasq; "
        f"cat /etc/hosts {STATE}/known_hosts; cd {STATE}; ls images networks; cd instances/cut; "
        "find . | sort; cat system/layers applied/reservations"
    ).splitlines()


def left(host: Machine) -> list[str]:
    """What is left of a removed guest."""
    return host.shell(
        "virsh list --all --name; virsh net-list --all --name; grep cut /etc/hosts; ls /var/lib/libvirt/dnsmasq; "
        f"cd {STATE}; ls -d known_hosts networks images/*; cd instances/cut && find . | sort",
        check=False,
    ).splitlines()


def had_not_begun(host: Machine) -> bool:
    """Whether a step was interrupted before it recorded that the stopped guest is to be started."""
    seen = host.shell(f"virsh domstate cut; ls {STATE}/instances/cut").splitlines()
    return seen[0] == "shut off" and "pending" not in seen


def hide(host: Machine) -> None:
    """Remove the definition, as removing the package does."""
    host.shell(f"virsh destroy cut; mv {STATE}/guests/cut {STATE}/hidden")


def bring(host: Machine) -> None:
    """Restore the definition, as installing the package does."""
    host.shell(f"mv {STATE}/hidden {STATE}/guests/cut")


def idle_kernel() -> bytes:
    """Return a kernel (multiboot 0.6.96) that halts at once: a guest runs and takes no processor time."""
    address, magic, has_addresses = 0x100000, 0x1BADB002, 1 << 16
    header = (magic, has_addresses, -(magic + has_addresses) & 0xFFFFFFFF, address, address, 0, 0, address + 32)
    return struct.pack("<8I", *header) + b"\xfa\xf4\xeb\xfd"  # cli; again: hlt; jmp again


@pytest.fixture(scope="module", autouse=True)
def installed(host: Machine, workshop: Workshop) -> None:
    """A running guest. Nothing here depends on what it does, and it is started a hundred times."""
    workshop.build("cut", GUEST.format(version="1"))
    host.run("apt-get", "-y", "-q", "update")
    host.run("apt-get", "-y", "-q", "install", "tawara-guest-cut")
    kernel = workshop.folder / "idle-kernel"
    kernel.write_bytes(idle_kernel())
    host.shell(
        f"for old in {STATE}/bases/*/kernel {STATE}/images/*/kernel; do cp --remove-destination {kernel} $old; done"
    )
    host.shell("virsh destroy cut; virsh start cut")
    assert host.run("virsh", "domstate", "cut").stdout.strip() == "running"


@FEW
def test_an_interrupted_installation_is_finished(host: Machine, cuts: int) -> None:
    """Killed at any point of the first run, the next run has the result of an uninterrupted one."""
    whole = shown(host)
    hide(host)
    host.run(RECONCILE, "after-remove", "cut", "purge")
    bring(host)
    count = run_until(host, 10**9, "installed")
    assert shown(host) == whole
    for at in points(count, cuts):
        hide(host)
        host.run(RECONCILE, "after-remove", "cut", "purge")
        assert "cut" not in "".join(left(host))
        bring(host)
        assert run_until(host, at, "installed") >= at
        host.run(RECONCILE)
        assert shown(host) == whole, f"cut at command {at} of {count}"


@pytest.mark.parametrize(
    "missing",
    [
        "net-update tawara-host0 delete ip-dhcp-host \"<host mac='$mac' name='$fqdn' ip='$ip'/>\" --live --config",
        "net-update tawara-host0 delete dns-host \"<host ip='$ip'/>\" --live --config",
        "net-autostart tawara-host0 --disable",
        "autostart cut --disable; rm /var/lib/tawara-vm/instances/cut/applied/domain.defined",
    ],
)
def test_partial_objects_of_libvirt_are_completed(host: Machine, missing: str) -> None:
    """Network, entries and domain take several calls to libvirt: interrupted between them, the next run continues."""
    whole = shown(host)
    host.shell(f"read -r _ mac ip fqdn _ <{STATE}/instances/cut/applied/reservations; virsh {missing}")
    assert shown(host) != whole
    host.run(RECONCILE)
    assert shown(host) == whole


@FEW
@pytest.mark.parametrize("how", ["remove", "purge"])
def test_an_interrupted_removal_is_finished(host: Machine, cuts: int, how: str) -> None:
    """Killed at any point of a removal, the next run removes the rest, and the data only if it was to be purged."""
    whole = shown(host)
    hide(host)
    count = run_until(host, 10**9, "after-remove", "cut", how)
    rest = left(host)
    assert ("./data.qcow2" in rest) == (how == "remove")
    for at in points(count, cuts):
        bring(host)
        host.run(RECONCILE)
        assert shown(host) == whole
        hide(host)
        run_until(host, at, "after-remove", "cut", how)
        # A package manager whose script failed calls it again.
        host.run(RECONCILE, "after-remove", "cut", how)
        assert left(host) == rest, f"cut at command {at} of {count}"
    bring(host)
    host.run(RECONCILE)
    assert shown(host) == whole


@FEW
def test_an_interrupted_upgrade_or_return_loses_nothing(host: Machine, workshop: Workshop, cuts: int) -> None:
    """Killed at any point of `upgrade` or `back` and run again, both systems exist, each with its data."""
    workshop.build("cut", GUEST.format(version="2"))
    host.run("apt-get", "-y", "-q", "update")
    host.run("apt-get", "-y", "-q", "install", "tawara-guest-cut")
    systems = f"cd {STATE}/instances/cut; stat -c %i system/overlay.qcow2 previous/overlay.qcow2; cat */layers"
    old = host.shell(f"stat -c %i {STATE}/instances/cut/system/overlay.qcow2").strip()
    host.shell(f"virsh destroy cut; {RECONCILE} upgrade cut; virsh destroy cut")
    there = host.shell(systems)
    assert there.split()[1] == old
    count = run_until(host, 10**9, "back", "cut")
    back = host.shell(systems)
    assert back.split()[0] == old
    for at in points(count, cuts):
        for words, after in ((("back", "cut"), there), (("back", "cut"), back)):
            host.run("virsh", "destroy", "cut")
            run_until(host, at, *words)
            stays_off = had_not_begun(host)
            host.run(RECONCILE)
            assert host.run("virsh", "domstate", "cut").stdout.strip() == ("shut off" if stays_off else "running")
            if host.shell(systems) != after:
                host.shell(f"virsh destroy cut; {RECONCILE} back cut")
            assert host.shell(systems) == after, f"cut at command {at} of {count}"
    for at in points(count, cuts):
        host.shell(f"virsh destroy cut; rm -r {STATE}/instances/cut/previous")
        run_until(host, at, "upgrade", "cut")
        host.run(RECONCILE)
        # A guest that has just begun to boot would be waited for until it can be shut down.
        host.shell(f"virsh destroy cut; {RECONCILE} upgrade cut")
        found = host.shell(systems).split()
        assert found[1] == old
        assert found[2:] == there.split()[2:], f"cut at command {at} of {count}"
        host.shell(f"virsh destroy cut; {RECONCILE} back cut")


def test_a_guest_that_cannot_be_stopped_stays_defined(host: Machine) -> None:
    """If libvirt fails to end a guest, as when QEMU hangs in the kernel, the guest stays defined and its disks stay
    intact, the step says so, and a later run removes everything."""
    hide(host)
    host.shell("virsh start cut; mv /usr/bin/virsh /usr/bin/virsh.real")
    refusing = '#!/bin/sh\ncase " $* " in *" destroy "*) exit 1 ;; esac\nexec /usr/bin/virsh.real "$@"\n'
    host.shell(f"printf %s {shlex.quote(refusing)} >/usr/bin/virsh; chmod 755 /usr/bin/virsh")
    said = host.run(RECONCILE, "after-remove", "cut", "purge").stderr
    assert "cut cannot be stopped" in said
    assert "what is left is done at the next boot" in said
    info = host.run("virsh", "dominfo", "cut").stdout
    assert "running" in info
    assert "Persistent:     yes" in info
    host.shell(f"ls {STATE}/instances/cut/system/overlay.qcow2; mv /usr/bin/virsh.real /usr/bin/virsh")
    host.run(RECONCILE)
    assert "cut" not in "".join(left(host))
    bring(host)
    host.run(RECONCILE)
    assert host.run("virsh", "domstate", "cut").stdout.strip() == "running"


def test_an_administrators_own_domain_is_unchanged(host: Machine, workshop: Workshop) -> None:
    """A package whose name an administrator's domain has installs, says that its guest is not running, and can be
    removed without affecting the domain."""
    own = "<domain type='qemu'><name>mine</name><memory>65536</memory><os><type>hvm</type></os></domain>"
    host.shell(f"printf %s {shlex.quote(own)} >/tmp/mine.xml; virsh define /tmp/mine.xml; virsh start mine")
    before = host.shell("virsh domid mine; virsh dumpxml mine")
    workshop.build("mine", 'memory = "64M"\n[[nic]]\nnetwork = "host0"\n')
    host.run("apt-get", "-y", "-q", "update")
    done = host.run("apt-get", "-y", "-q", "install", "tawara-guest-mine")
    assert "mine is not up: error: operation failed: domain 'mine' already exists" in done.stdout + done.stderr
    host.run("apt-get", "-y", "-q", "purge", "tawara-guest-mine")
    assert host.shell("virsh domid mine; virsh dumpxml mine") == before
    assert "mine" not in host.shell(f"ls {STATE}/instances; cat /etc/hosts")
    host.shell("virsh destroy mine; virsh undefine mine")


def test_in_a_chroot_nothing_is_started(host: Machine, workshop: Workshop) -> None:
    """In a chroot, even one that shows the builder's /run, the package installs without using the builder's libvirt."""
    workshop.build("image", GUEST.format(version="1").replace("cut", "image"))
    host.shell(
        "mkdir -p /mnt/lower /mnt/image /mnt/rw; mount -t tmpfs rw /mnt/rw; mkdir /mnt/rw/up /mnt/rw/work; "
        "mount --bind / /mnt/lower; mount -t tmpfs none /mnt/image; umount /mnt/image; "
        "mount -t overlay -o lowerdir=/mnt/lower,upperdir=/mnt/rw/up,workdir=/mnt/rw/work overlay /mnt/image; "
        "for place in proc sys dev run tmp; do mount --rbind /$place /mnt/image/$place; done; "
        f"mkdir -p /mnt/image{workshop.folder}; mount --bind {workshop.folder} /mnt/image{workshop.folder}"
    )
    before = host.shell("virsh list --all --name; virsh net-list --all --name; cat /etc/hosts")
    install = "apt-get -y -q update && apt-get -y -q install tawara-guest-image"
    done = host.run("chroot", "/mnt/image", "sh", "-c", install)
    assert "libvirt does not answer here; the guests follow at the next boot" in done.stdout + done.stderr
    assert host.shell("virsh list --all --name; virsh net-list --all --name; cat /etc/hosts") == before
    assert "image" in host.run("chroot", "/mnt/image", "dpkg", "-L", "tawara-guest-image").stdout
    host.run("chroot", "/mnt/image", "apt-get", "-y", "-q", "purge", "tawara-guest-image", "tawara-vm-host")
    assert host.shell("virsh list --all --name; virsh net-list --all --name; cat /etc/hosts") == before


def test_purging_while_libvirt_is_down(host: Machine) -> None:
    """Purged with libvirt stopped, the guest neither exists nor runs when libvirt is restarted."""
    host.stop_libvirt()
    host.run("apt-get", "-y", "-q", "purge", "tawara-guest-cut", "tawara-vm-host")
    host.wait_for("the guest's end", lambda: "qemu-system" not in host.shell("ps ax -o comm"))
    host.start_libvirt()
    assert "cut" not in host.shell("virsh list --all --name; cat /etc/hosts").split()
    assert "tawara-host0" not in host.shell("virsh net-list --all --name").split()
    assert host.run("test", "-e", STATE, check=False).returncode == 1
