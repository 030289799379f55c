"""Verbs of the command line over several guests, and their output."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tawara.cli import main, vm_host
from tawara.model.errors import TawaraError
from tawara.vm.host import GuestHost
from tawara.vm.spec_read import read_guest

if TYPE_CHECKING:
    from tests.unit.vm.conftest import StepHost

pytestmark = pytest.mark.host_step

CARD = '[[nic]]\nnetwork = "host0"\n'


@pytest.fixture
def shop(step_host: StepHost, command_line: Callable[[], GuestHost]) -> GuestHost:
    """A cluster of two running guests, and one guest outside of it."""
    for name in ("one", "two"):
        guest = read_guest(f'base = "debian12"\n{CARD}', "c.toml", name)
        step_host.put(replace(guest, cluster="shop"))
    step_host.place(CARD, "other")
    (step_host.state / "clusters").mkdir()
    (step_host.state / "clusters" / "shop.json").write_text(json.dumps({"guests": {"one": {}, "two": {}}}))
    step_host.run()
    return command_line()


def test_a_snapshot_of_a_cluster_is_of_one_moment(step_host: StepHost, shop: GuestHost) -> None:
    """All its guests are paused before the first snapshot, and resume after the last; restoring restores all."""
    shop.snapshot("shop", "before")
    verbs = [line.split()[0] for line in step_host.libvirt["log"]]
    order = [verb for verb in verbs if verb in ("suspend", "snapshot-create-as", "resume")]
    assert order == ["suspend"] * 2 + ["snapshot-create-as"] * 2 + ["resume"] * 2
    step_host.change("one", **{"is": "off"})
    shop.restore("shop", "before")
    assert [shop.snapshots(name) for name in ("one", "two", "other")] == [["before"], ["before"], []]


def test_a_snapshot_of_a_cluster_is_all_or_nothing(step_host: StepHost, shop: GuestHost) -> None:
    """If a snapshot of one guest fails, none is kept, and all continue."""
    step_host.change("two", no_room=True)
    with pytest.raises(TawaraError, match="No space left"):
        shop.snapshot("shop", "before")
    assert [shop.snapshots(name) for name in ("one", "two")] == [[], []]
    assert {each["is"] for each in step_host.libvirt["domains"].values()} == {"running"}
    with pytest.raises(TawaraError, match="no snapshot 'before'"):
        shop.restore("shop", "before")


def test_settings_of_an_instance_survive_an_upgrade(step_host: StepHost, shop: GuestHost) -> None:
    """Memory and processors that were set replace the package's in libvirt, until they are reset."""

    def memory() -> str:
        xml: str = step_host.libvirt["domains"]["other"]["xml"]
        return xml.partition('<memory unit="KiB">')[2].partition("<")[0]

    assert shop.set("other", {"memory_kib": 1 << 20, "cpus": 3}) == "other has it when it is started next"
    assert memory() == str(1 << 20)
    assert "<vcpu>3</vcpu>" in step_host.libvirt["domains"]["other"]["xml"]
    step_host.place(f'version = "2"\nmemory = "512M"\n{CARD}', "other")
    shop.upgrade(["other"])
    assert memory() == str(1 << 20)
    shop.set("other", {"memory_kib": None})
    assert memory() == str(512 << 10)
    assert shop.settings("other") == {"cpus": 3}


@pytest.mark.parametrize("word", ["memory", "memory=lots", "cpus=0", "cpus=x", "disk=x", "disk=1000000001"])
def test_an_invalid_setting_is_refused(shop: GuestHost, capsys: pytest.CaptureFixture[str], word: str) -> None:
    """The exit code is that of wrong usage, and the message shows the syntax."""
    assert main(["vm", "set", "other", word]) == 2
    assert "Write memory=1G, cpus=2 or disk=20G" in capsys.readouterr().err


def test_a_disk_only_grows(step_host: StepHost, shop: GuestHost, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a guest that runs libvirt makes it larger, of one that is off qemu-img; the next system is as large, too."""
    assert shop.set("other", {"disk": 8 << 30}) == "other uses it after a restart"
    assert f"{8 << 30}B" in str(step_host.libvirt["log"])
    shop.stop("other", force=True)
    assert shop.set("other", {"disk": 9 << 30}) == ""
    assert (step_host.root / "disk-size").read_text() == f"{9 << 30}\n"
    for size in (8 << 30, None):
        with pytest.raises(TawaraError, match="the disk of other has 9G; it can only become larger"):
            shop.set("other", {"disk": size})
    assert shop.settings("other") == {"disk": 9 << 30}


def test_a_file_system_that_cannot_grow_gets_no_larger_disk(step_host: StepHost, shop: GuestHost) -> None:
    """On a base that cannot use it, a larger disk is refused, and what to do instead is said."""
    step_host.put(replace(read_guest(CARD, "small.toml", "small"), base="tiny"))
    step_host.run()
    with pytest.raises(TawaraError, match="small is on tiny, whose file system cannot grow"):
        shop.set("small", {"disk": 8 << 30})


def test_a_list_fits_eighty_columns(step_host: StepHost, shop: GuestHost) -> None:
    """For any names of guests a line fits; errors are below."""
    long = "a" * 29
    step_host.place(f'fqdn = "{"x" * 60}.{"y" * 60}"\n{CARD}', long)
    step_host.run()
    step_host.place(f'version = "2"\n{CARD}', "other")
    lines = vm_host._table(shop.instances())
    assert max(len(line) for line in lines if not line.startswith("    ")) <= 80
    assert "    a newer version is installed: tawara vm upgrade other" in lines


def test_failed_guests_set_the_exit_code(
    step_host: StepHost, shop: GuestHost, capsys: pytest.CaptureFixture[str]
) -> None:
    """`list --failed` prints nothing and succeeds if all is well, and fails with the guests that are not."""
    state = str(step_host.state)
    assert main(["vm", "list", "--failed", "--state", state]) == 0
    assert capsys.readouterr().out == ""
    step_host.change("two", **{"is": "io-error"})
    assert main(["vm", "list", "--failed", "--state", state]) == 1
    shown = capsys.readouterr().out
    assert "two" in shown
    assert "other" not in shown


@pytest.mark.parametrize(("accelerator", "has_options"), [("qemu", True), ("kvm", False)])
def test_an_emulated_guest_boots_without_mitigations(step_host: StepHost, accelerator: str, has_options: bool) -> None:
    """They protect nothing under emulation; with KVM the kernel's command line is the package's."""
    (step_host.root / "run/tawara-vm/accelerator").write_text(f"{accelerator}\n")
    step_host.place(CARD)
    step_host.run()
    domain = step_host.domain()
    assert domain is not None
    assert ("net.ifnames=0 mitigations=off cryptomgr.notests</cmdline>" in domain["xml"]) == has_options
    assert ("net.ifnames=0</cmdline>" in domain["xml"]) != has_options
