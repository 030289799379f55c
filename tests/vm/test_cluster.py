"""The packaged data centre: one meta package installs three guests that know each other, and removes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.vm.conftest import Workshop
    from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "trio" / "trio.toml"
NAMES = ("one", "two", "three")


def test_one_package_starts_all_guests(host: Machine, workshop: Workshop) -> None:
    """Installing the meta package starts every guest; each is reachable by ssh with its host key checked."""
    public = workshop.key.with_suffix(".pub").read_text().strip()
    text = EXAMPLE.read_text().replace("# authorized_keys = [", f'authorized_keys = ["{public}"] # ')
    workshop.build("trio", text, keyed=False)
    host.run("apt-get", "-y", "-q", "update")
    host.run("apt-get", "-y", "-q", "install", "tawara-cluster-trio")
    assert sorted(host.run("virsh", "list", "--name").stdout.split()) == sorted(NAMES)
    for name in NAMES:
        host.wait_for_ssh(f"{name}.trio.example")


def test_servers_were_started_before_the_others(host: Machine) -> None:
    """The start order of the description is the order in which libvirt started the domains."""
    ids = {name: int(host.run("virsh", "domid", name).stdout) for name in NAMES}
    assert ids["three"] == max(ids.values())


def test_guests_reach_each_other_by_name(host: Machine) -> None:
    """Each guest resolves the others on their common network, and the service there answers."""
    for name in NAMES:
        for other in ("one", "two"):
            assert (
                host.ssh(f"{name}.trio.example", f"wget -q -O - http://{other}.trio.example/")
                == f"{other}.trio.example"
            )


def test_a_stopped_guest_leaves_the_others_serving_and_returns(host: Machine) -> None:
    """With one guest switched off the other continues to serve; restarted, the first has its identity and data."""
    host.ssh("one.trio.example", "echo kept >/root/file; sync")
    host.run("virsh", "destroy", "one")
    assert host.ssh("three.trio.example", "wget -q -O - http://two/") == "two.trio.example"
    host.run("virsh", "start", "one")
    host.wait_for("ssh to one", lambda: host.ssh("one.trio.example", "cat /root/file", check=False) == "kept")
    assert host.ssh("three.trio.example", "wget -q -O - http://one/") == "one.trio.example"


def test_three_idle_guests_fit_in_memory(host: Machine) -> None:
    """Three idle guests under TCG take less than 1.2 GB of the host's memory together."""
    resident = sum(int(word) for word in host.shell("ps -C qemu-system-x86_64 -o rss=").split())
    assert 0 < resident * 1024 < 1.2e9


def test_removing_the_meta_package_removes_all(host: Machine) -> None:
    """After its removal there is no guest, network, name or process of the cluster."""
    host.run("apt-get", "-y", "-q", "purge", "tawara-cluster-trio")
    left = host.shell("virsh list --all --name; virsh net-list --all --name; cat /etc/hosts; ps ax -o comm; ip -o link")
    for trace in (*NAMES, "trio", "qemu", "tw-"):
        assert trace not in left
    assert host.run("ls", "/var/lib/tawara-vm/instances", check=False).returncode != 0
