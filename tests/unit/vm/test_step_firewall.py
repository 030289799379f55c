"""Published ports on the host: one table, replaced as a whole, and gone when nothing needs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tawara.vm.host import GuestHost

if TYPE_CHECKING:
    from tests.unit.vm.conftest import StepHost

pytestmark = pytest.mark.host_step

WEB = """
[network.web]
kind = "open"
subnet = "10.7.0.0/24"
[[nic]]
network = "web"
ip = "10.7.0.{number}"
[[publish]]
port = 80
host_port = {port}
"""
_NFT = """#!/bin/sh
cd {root}
case $1 in
    -f) cat >nft.new && ! grep -q refused nft.new && mv nft.new nft ;;
    list) [ -e nft ] ;;
    delete) rm nft ;;
esac
"""


@pytest.fixture
def firewalled(step_host: StepHost) -> StepHost:
    """A host with an nft that keeps what it is given, and an ss that says what the test writes."""
    for name, text in (("nft", _NFT.format(root=step_host.root)), ("ss", f"#!/bin/sh\ncat {step_host.root}/ss 2>&-\n")):
        (step_host.root / "bin" / name).write_text(text)
        (step_host.root / "bin" / name).chmod(0o755)
    return step_host


def table(host: StepHost) -> str:
    """The firewall's rules; empty without a table of ours."""
    path = host.root / "nft"
    return path.read_text() if path.exists() else ""


def test_ports_lead_to_their_guests_until_these_go(firewalled: StepHost) -> None:
    """The table has every guest's ports, is given in one piece, and goes with the last guest."""
    firewalled.place(WEB.format(number=20, port=8080))
    firewalled.place(WEB.format(number=21, port=8081), "other")
    firewalled.run()
    rules = table(firewalled)
    assert rules.startswith("table ip tawara_vm\ndelete table ip tawara_vm\ntable ip tawara_vm {")
    for port, number in ((8080, 20), (8081, 21)):
        assert rules.count(f"tcp dport {port} dnat to 10.7.0.{number}:80") == 2  # from outside, and from the host
    assert rules.count("ip saddr 10.7.0.0/24") == 1
    firewalled.take_away("other")
    firewalled.run()
    assert "8081" not in table(firewalled)
    firewalled.take_away("web")
    firewalled.run()
    assert table(firewalled) == ""


def test_published_ports_are_shown(firewalled: StepHost, command_line: Callable[[], GuestHost]) -> None:
    """`info` and `list --json` have the ports of the definition in force."""
    firewalled.place(WEB.format(number=20, port=8080))
    firewalled.run()
    assert command_line().instance("web").as_json()["published"] == ["8080/tcp to 80"]


def test_a_table_that_was_lost_is_restored(firewalled: StepHost) -> None:
    """After a reboot, or `nft flush ruleset`, the next run gives the same table again."""
    firewalled.place(WEB.format(number=20, port=8080))
    firewalled.run()
    before = table(firewalled)
    (firewalled.root / "nft").unlink()
    firewalled.run()
    assert table(firewalled) == before


def test_a_port_that_is_taken_is_refused(firewalled: StepHost) -> None:
    """A guest is not brought up over a program's port, nor over one that another guest still has in force."""
    (firewalled.root / "ss").write_text("tcp LISTEN 0 5 0.0.0.0:8080\n")
    firewalled.place(WEB.format(number=20, port=8080))
    assert "web: tcp port 8080 is used by a program of this host" in firewalled.run(check=False).stderr
    assert table(firewalled) == ""
    (firewalled.root / "ss").unlink()
    firewalled.run()
    firewalled.place(WEB.format(number=21, port=8080), "other")
    said = firewalled.run(check=False).stderr
    assert "other: tcp port 8080 of the host is published by the guest web" in said
    assert "10.7.0.21" not in table(firewalled)


def test_an_upgrade_says_which_ports_change(firewalled: StepHost) -> None:
    """Ports are part of the definition in force: a newer package changes them only by `upgrade`."""
    firewalled.place(WEB.format(number=20, port=8080))
    firewalled.run()
    firewalled.place(f'version = "2"\n{WEB.format(number=20, port=9090)}')
    firewalled.run("installed")
    assert "dport 8080" in table(firewalled)
    assert "published ports: 8080/tcp to 80 -> 9090/tcp to 80" in firewalled.run("upgrade", "web").stderr
    assert "dport 8080" not in table(firewalled)
    assert "dport 9090" in table(firewalled)


def test_a_firewall_that_refuses_is_an_error(firewalled: StepHost) -> None:
    """When nft does not take the table the run says so and fails; the guest runs."""
    Path(firewalled.root / "bin/nft").write_text("#!/bin/sh\necho 'Error: syntax' >&2\nexit 1\n")
    firewalled.place(WEB.format(number=20, port=8080))
    done = firewalled.run(check=False)
    assert done.returncode == 1
    assert "the firewall table of published ports cannot be set: Error: syntax" in done.stderr
    assert firewalled.domain() is not None


def test_an_install_fails_only_where_that_is_asked_for(firewalled: StepHost) -> None:
    """A guest that is not up is reported; the exit code of the package's script says so with `fail_install=yes`."""
    (firewalled.root / "ss").write_text("tcp LISTEN 0 5 0.0.0.0:8080\n")
    firewalled.place(WEB.format(number=20, port=8080))
    assert firewalled.run("installed").returncode == 0
    firewalled.configure("stop_seconds=1", "fail_install=yes")
    assert firewalled.run("installed", check=False).returncode == 1
    (firewalled.root / "ss").unlink()
    assert firewalled.run("installed").returncode == 0


def test_a_network_of_others_gets_no_reservations(firewalled: StepHost) -> None:
    """On a bridge of the host's libvirt neither gives addresses nor names; the guest is up all the same."""
    firewalled.place(
        '[network.lan]\nkind = "bridge"\nbridge = "br0"\nsubnet = "192.168.1.0/24"\n'
        '[[nic]]\nnetwork = "lan"\nip = "192.168.1.5"\n'
    )
    firewalled.run()
    assert "192.168.1.5 web.example web" in firewalled.hosts.read_text()
    assert "192.168.1.5" not in str(firewalled.libvirt["networks"])
    firewalled.take_away("web")
    firewalled.run()
    assert firewalled.libvirt["networks"] == {}
