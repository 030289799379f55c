"""A guest in the network of the host's neighbours, by a bridge and by a published port; after a reboot, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.vm.conftest import Workshop
    from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

GUEST = """
fqdn = "open.example"
memory = "96M"

[network.web]
kind = "open"
subnet = "10.7.0.0/24"

[network.lan]
kind = "bridge"
bridge = "br0"
subnet = "192.0.2.0/24"

[[nic]]
network = "web"

[[nic]]
network = "lan"
ip = "192.0.2.5"

[[publish]]
port = 22
host_port = 2222
"""
THIEF = """
fqdn = "thief.example"
[network.web]
kind = "open"
subnet = "10.7.0.0/24"
[[nic]]
network = "web"
[[publish]]
port = 80
host_port = 2222
"""
NEIGHBOUR = "192.0.2.77"
BANNER = "timeout 5 bash -c 'exec 3<>/dev/tcp/{host}/{port} && head -c 8 <&3'"


def banner(host: Machine, where: str, port: int, *, neighbour: bool = True) -> str:
    """What a server greets with, asked from the neighbour's machine or from the host itself."""
    inside = "ip netns exec neighbour " if neighbour else ""
    return host.shell(inside + BANNER.format(host=where, port=port), check=False)


@pytest.fixture(scope="module")
def lan(host: Machine) -> None:
    """The host's bridge br0 with the address 192.0.2.1, and a neighbour's machine on it."""
    host.shell(
        "mkdir -p /run/netns; ip link add br0 type bridge; ip address add 192.0.2.1/24 dev br0; ip link set br0 up;"
        "ip netns add neighbour; ip link add port type veth peer name eth0 netns neighbour;"
        "ip link set port master br0 up; ip -n neighbour link set eth0 up;"
        f"ip -n neighbour address add {NEIGHBOUR}/24 dev eth0"
    )


@pytest.mark.usefixtures("lan")
def test_a_port_that_a_program_uses_fails_the_installation_where_asked(host: Machine, workshop: Workshop) -> None:
    """apt's exit code says that the guest is not up; once the port is free, `dpkg --configure -a` starts it."""
    workshop.build("open", GUEST)
    host.run("apt-get", "-q", "update")
    server = "import socket, time; held = socket.create_server(('', 2222)); time.sleep(600)"
    pid = host.shell(f'/usr/bin/python3 -c "{server}" >/dev/null 2>&1 & echo $!').strip()
    host.wait_for("the program", lambda: ":2222" in host.run("ss", "-ltn").stdout)
    install = ("apt-get", "-y", "-q", "install", "tawara-guest-open")
    done = host.run("env", "TAWARA_VM_FAIL_INSTALL=yes", *install, check=False)
    assert done.returncode == 100
    assert "open: tcp port 2222 is used by a program of this host" in done.stdout + done.stderr
    host.shell(f"kill {pid}")
    host.run("dpkg", "--configure", "-a")
    assert host.run("virsh", "domstate", "open").stdout.strip() == "running"


def test_neighbours_reach_the_guest_by_bridge_and_by_port(host: Machine) -> None:
    """The guest answers at its own address in their network and, through the host's port, at the host's."""
    host.wait_for("the bridge", lambda: banner(host, "192.0.2.5", 22) == "SSH-2.0-")
    assert banner(host, "192.0.2.1", 2222) == "SSH-2.0-"
    assert banner(host, "192.0.2.1", 2222, neighbour=False) == "SSH-2.0-"
    assert host.ssh("open.example", "hostname") == "open.example"
    host.shell("ip -n neighbour route add 10.7.0.0/24 via 192.0.2.1")
    inner = host.shell("getent hosts open.example").split()[0]
    assert banner(host, inner, 22) == ""  # no other address gets in from outside


def test_the_guest_gets_out(host: Machine) -> None:
    """From the open network the guest reaches the neighbour, who sees the host's address."""
    host.ssh("open.example", f"ip route add {NEIGHBOUR}/32 via 10.7.0.1")
    assert "1 packets received" in host.ssh("open.example", f"ping -c 1 -W 5 {NEIGHBOUR} 2>&1")


def test_the_ports_come_back_after_a_reboot(host: Machine) -> None:
    """The kernel's table is lost with the host's memory; the step that runs at boot sets it again."""
    host.shell("nft delete table ip tawara_vm")
    assert banner(host, "192.0.2.1", 2222) == ""
    host.run("/usr/lib/tawara-vm/reconcile")
    assert banner(host, "192.0.2.1", 2222) == "SSH-2.0-"


def test_the_port_is_claimed(host: Machine, workshop: Workshop) -> None:
    """dpkg refuses a second package that publishes the same port of the host, and says whose it is."""
    workshop.build("thief", THIEF)
    done = host.run("sh", "-c", "apt-get -q update; apt-get -y -q install tawara-guest-thief", check=False)
    assert done.returncode != 0
    assert "trying to overwrite '/var/lib/tawara-vm/claims/port/tcp-2222'" in done.stdout + done.stderr
    assert banner(host, "192.0.2.1", 2222) == "SSH-2.0-"
    host.run("apt-get", "-y", "-q", "-f", "install")


def test_purging_leaves_no_rule(host: Machine) -> None:
    """The table is gone with the guest, and the host's bridge is still there."""
    host.run("apt-get", "-y", "-q", "purge", "tawara-guest-open")
    assert "tawara" not in host.shell("nft list ruleset")
    assert "br0" in host.shell("ip -br link")
    assert "tw-web" not in host.shell("ip -br link")
