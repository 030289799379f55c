"""The definition in force is unchanged until `upgrade`, which compares it completely, reports changes and can be
undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tawara.model.errors import TawaraError
from tawara.vm.host import GuestHost
from tawara.vm.spec_read import read_guest

if TYPE_CHECKING:
    from tests.unit.vm.conftest import StepHost

pytestmark = pytest.mark.host_step

CARD = '[[nic]]\nnetwork = "host0"\n'
NEW = "e" * 12


def in_force(host: StepHost, name: str = "web") -> list[Any]:
    """The complete state of a guest in libvirt and the host's files."""
    known = host.libvirt
    files = [path.read_text() for path in (host.hosts, host.state / "known_hosts", host.instance("identity.tar", name))]
    return [host.domain(name), known["networks"], host.layers(name), *files]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('memory = "512M"', "memory (KiB): 262144 -> 524288"),
        ("cpus = 3", "cpus: 1 -> 3"),
        ('fqdn = "other.example"', "full name: web.example -> other.example"),
        ('console = "vnc"', "devices"),
        ('[data]\nsize = "16M"', "data disk (bytes): 0 -> 16777216"),
        (f'{CARD}ip = "192.168.233.99"', "address on host0: 192.168.233.43 -> 192.168.233.99"),
        (f'{CARD}mac = "52:54:00:00:00:09"', "MAC on host0"),
        (f'{CARD}[[nic]]\nnetwork = "nat1"', "address on nat1"),
    ],
)
def test_upgrade_applies_and_back_undoes(step_host: StepHost, change: str, said: str) -> None:
    """A newer package's definition is not in force until `upgrade`, which reports the changes; the disk stays, and
    `back` puts the former definition in force again."""
    card = "" if "[[nic]]" in change else CARD
    step_host.place(CARD)
    step_host.run()
    before, disk = in_force(step_host), step_host.instance("system/overlay.qcow2").stat().st_ino
    step_host.place(f'version = "2"\n{change}\n{card}')
    done = step_host.run("installed")
    assert "web: version 2 is installed, 1 is in force until: tawara vm upgrade web" in done.stderr
    assert in_force(step_host) == before
    assert said in step_host.run("changes", "web").stdout
    done = step_host.run("upgrade", "web")
    assert "web: version 1 -> 2" in done.stderr
    assert said in done.stderr
    after = in_force(step_host)
    assert after != before
    assert step_host.libvirt["domains"]["web"]["is"] == "running"
    assert step_host.instance("system/overlay.qcow2").stat().st_ino == disk
    assert "there is nothing to do" in step_host.run("upgrade", "web").stderr
    assert in_force(step_host) == after
    step_host.run("back", "web")
    assert in_force(step_host)[0] == before[0]
    assert in_force(step_host)[3:] == before[3:]
    step_host.run("back", "web")
    assert in_force(step_host)[0] == after[0]


def test_a_new_version_without_changes_stops_nothing(step_host: StepHost) -> None:
    """A version that changes nothing for the running guest is put in force while it runs."""
    step_host.place(CARD)
    step_host.run()
    step_host.place(f'version = "2"\norder = 7\ndescription = "text"\n{CARD}')
    step_host.run("upgrade", "web")
    assert [line for line in step_host.libvirt["log"] if line.startswith(("shutdown", "destroy"))] == []
    assert "there is nothing to do" in step_host.run("upgrade", "web").stderr


def test_addresses_are_exchanged_by_a_joint_upgrade(step_host: StepHost) -> None:
    """If one guest gets another's address, upgrading one alone is refused and it runs on; upgrading both exchanges
    them."""
    text = 'version = "{0}"\n[[nic]]\nnetwork = "host0"\nip = "192.168.233.{1}"\n'
    for name, end in (("one", 20), ("two", 21)):
        step_host.place(text.format(1, end), name)
    step_host.run()
    for name, end in (("one", 21), ("two", 20)):
        step_host.place(text.format(2, end), name)
    done = step_host.run("upgrade", "one", check=False)
    assert done.returncode == 1
    assert "192.168.233.21 belongs to the guest two" in done.stderr
    assert step_host.libvirt["domains"]["one"]["is"] == "running"
    step_host.run("upgrade", "one", "two")
    hosts = step_host.hosts.read_text()
    assert "192.168.233.21 one.example" in hosts
    assert "192.168.233.20 two.example" in hosts
    assert {each["is"] for each in step_host.libvirt["domains"].values()} == {"running"}


def test_a_changed_network_needs_all_its_guests(step_host: StepHost) -> None:
    """A network is changed by the upgrade of all its guests, and not of fewer; no guest is disconnected."""
    text = 'version = "{0}"\n[network.lan]\nsubnet = "10.{0}.0.0/24"\n[[nic]]\nnetwork = "lan"\n'
    for name in ("one", "two"):
        step_host.place(text.format(1), name)
    step_host.run()
    for name in ("one", "two"):
        step_host.place(text.format(2), name)
    step_host.run()
    done = step_host.run("upgrade", "one", check=False)
    assert done.returncode == 1
    assert "upgrade the guests of a network together" in done.stderr
    step_host.run("upgrade", "one", "two")
    known = step_host.libvirt
    assert known["cut"] == []
    assert '<ip address="10.2.0.1"' in known["networks"]["tawara-lan"]["xml"]
    assert {each["is"] for each in known["domains"].values()} == {"running"}
    assert len(known["networks"]["tawara-lan"]["hosts"]) == 4


def test_a_conflicting_network_is_refused(step_host: StepHost) -> None:
    """Where a package manager could not detect it, the step does: the first network stays, and the second guest has an
    error."""
    text = '[network.lan]\nsubnet = "10.{0}.0.0/24"\n[[nic]]\nnetwork = "lan"\n'
    step_host.place(text.format(1), "one")
    step_host.run()
    step_host.place(text.format(2), "two")
    done = step_host.run(check=False)
    assert done.returncode == 1
    assert "two is not up: tawara-vm: the network lan is another one for one: nat 10.1.0.1" in done.stderr
    assert step_host.libvirt["domains"]["one"]["is"] == "running"


def test_a_removed_guests_disk_keeps_its_definition(step_host: StepHost) -> None:
    """Reinstalled by a version on another delta, the old system returns with its own definition; by one on the same
    delta, with the new one."""
    step_host.place(CARD)
    step_host.run()
    for delta, memory in ((NEW, "262144"), ("d" * 12, "524288")):
        step_host.take_away("web")
        step_host.run("after-remove", "web", "remove")
        assert step_host.domain() is None
        step_host.place(f'version = "2"\nmemory = "512M"\n{CARD}', delta=delta)
        step_host.run()
        domain = step_host.domain()
        assert domain is not None
        assert f'<memory unit="KiB">{memory}</memory>' in domain["xml"]
        assert step_host.layers().split()[0] == "d" * 12
    step_host.take_away("web")
    step_host.run("after-remove", "web", "purge")
    assert not step_host.instance("").exists()


def test_purging_a_cluster_purges_its_former_guests(step_host: StepHost) -> None:
    """A guest that a cluster's newer version lacks is stopped, keeps its data, and is removed by the purge."""
    guests = [replace(read_guest(f'base = "debian12"\n{CARD}', "c", name), cluster="shop") for name in ("one", "two")]
    for guest in guests:
        step_host.put(guest)
    other = step_host.place(CARD, "other")
    step_host.run()
    step_host.take_away("two")
    step_host.run("installed")
    assert sorted(step_host.libvirt["domains"]) == ["one", "other"]
    assert step_host.instance("system/overlay.qcow2", "two").exists()
    step_host.take_away("one")
    step_host.run("after-remove", "tawara-cluster-shop", "purge")
    assert [path.name for path in (step_host.state / "instances").iterdir()] == [other.name]


def test_the_step_runs_once_per_transaction(step_host: StepHost) -> None:
    """rpm calls it for each guest at the end of a transaction: the first call starts all, the others query nothing."""
    for name in ("one", "two", "three"):
        step_host.place(CARD, name)
    step_host.run("installed")
    assert sorted(step_host.libvirt["started"]) == ["one", "three", "two"]
    before = len(step_host.libvirt["log"])
    for _ in range(2):
        step_host.run("installed")
    assert [line.split()[0] for line in step_host.libvirt["log"][before:]] == ["list"] * 2
    step_host.place(f'version = "2"\n{CARD}', "one")
    assert "version 2 is installed" in step_host.run("installed").stderr


def test_unchanged_guests_cost_no_queries(step_host: StepHost) -> None:
    """A run over unchanged guests queries libvirt as often for five as for one."""
    counts = []
    for number in range(5):
        step_host.place(CARD, f"g{number}")
        step_host.run()
        before = len(step_host.libvirt["log"])
        step_host.run()
        counts.append(len(step_host.libvirt["log"]) - before)
    assert len(set(counts)) == 1


def test_an_instance_is_upgraded_like_its_template(step_host: StepHost, command_line: Callable[[], GuestHost]) -> None:
    """A clone is reported as outdated, and follows its template by `upgrade`, with its own name, addresses and key."""
    host = command_line()
    step_host.place(CARD)
    step_host.run()
    host.create("web2", "web")
    before = host.instance("web2")
    key = step_host.instance("applied/known_hosts", "web2").read_text()
    assert before.newest
    step_host.place(f'version = "2"\nmemory = "512M"\n{CARD}', delta=NEW)
    assert not host.instance("web2").newest
    assert "memory (KiB): 262144 -> 524288" in host.upgrade(["web2"])
    after = host.instance("web2")
    assert after.newest
    assert (after.guest.memory, after.delta) == (512 << 20, NEW)
    assert (after.addresses, after.guest.fqdn) == (before.addresses, before.guest.fqdn)
    assert step_host.instance("applied/known_hosts", "web2").read_text() == key
    step_host.take_away("web")
    with pytest.raises(TawaraError, match="that web2 was made from is not installed here"):
        host.upgrade(["web2"])
