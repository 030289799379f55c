"""An appliance's parts: the kernel that GRUB loads, the hardware that a base has drivers for, the descriptor."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from tawara.cli import main
from tawara.model.errors import NotFoundError, TawaraError
from tawara.vm.errors import ImageError
from tawara.vm.host import GuestHost
from tawara.vm.moving import appliance_of, export_appliance
from tawara.vm.ova.boot_part import appliance_ramdisk
from tawara.vm.ova.descriptor import ApplianceDisk, descriptor
from tawara.vm.ova.multiboot import bootable
from tawara.vm.spec_read import read_guest
from tawara.vm.tree import file

if TYPE_CHECKING:
    from tests.unit.vm.conftest import StepHost

ENTRY = 0x1234560


def kernel(*, note: bytes = b"Xen\0") -> bytes:
    """An ELF file with one loaded segment and one note."""
    notes = (
        struct.pack("<III", 4, 4, 5) + b"GNU\0abcd" + struct.pack("<III", 4, 8, 18) + note + struct.pack("<Q", ENTRY)
    )
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    rows = struct.pack("<IIQQQQQQ", 1, 5, 256, 0xFFFF0000, 0x1000000, 16, 32, 4096)
    rows += struct.pack("<IIQQQQQQ", 4, 4, 512, 0, 0, len(notes), len(notes), 4)
    return ((head + rows).ljust(256, b"\0") + b"code of a kernel").ljust(512, b"\0") + notes


def test_a_boot_loader_finds_header_kernel_and_entry() -> None:
    """The header is where the specification wants it, its sum is zero; the kernel's segment keeps its address."""
    made = bootable(kernel())
    at = next(at for at in range(0, 8192, 4) if made[at : at + 4] == struct.pack("<I", 0x1BADB002))
    assert sum(struct.unpack_from("<III", made, at)) % (1 << 32) == 0
    (entry, headers) = struct.unpack_from("<QQ", made, 24)
    (count,) = struct.unpack_from("<H", made, 56)
    rows = [struct.unpack_from("<IIQQQQQQ", made, headers + 56 * number) for number in range(count)]
    (own, code) = [(offset, physical, size, memory) for _, _, offset, _, physical, size, memory, _ in rows]
    assert own[1] <= entry < own[1] + own[3] < code[1]
    assert made[code[0] : code[0] + code[2]] == b"code of a kernel"
    assert code[1:] == (0x1000000, 16, 32)
    assert struct.pack("<BI", 0xB8, ENTRY) in made[own[0] : own[0] + own[2]], "it ends with a jump to the kernel"


@pytest.mark.parametrize(("content", "what"), [(b"MZ", "no 64-bit ELF"), (kernel(note=b"Zen\0"), "no PVH entry")])
def test_a_kernel_without_the_entry_is_refused(content: bytes, what: str) -> None:
    """Neither a bzImage nor an ELF file for something else becomes an appliance that does not boot."""
    with pytest.raises(ImageError, match=what):
        bootable(content)


def test_the_ramdisk_is_the_bases_and_ours() -> None:
    """The second archive begins at a block, and has the identity and the added files."""
    made = appliance_ramdisk(b"070701base", b"identity", {"etc/more": file("more")}, 0)
    assert made.startswith(b"070701base")
    assert made[512:518] == b"070701"
    assert b"identity=/identity.tar" in made
    assert b"etc/more" in made


@pytest.mark.parametrize(
    ("text", "bus", "card", "notices"),
    [
        ('base = "tiny"', "ide", "virtio", 1),
        ('base = "debian12"\n[disk]\nbus = "scsi"', "scsi", "virtio", 1),
        ('base = "classic"', "ide", "E1000", 0),
        ('base = "classic"\n[disk]\nbus = "sata"\n[[nic]]\nnetwork = "nat0"\nmodel = "rtl8139"', "sata", "E1000", 0),
    ],
)
def test_its_hardware_is_what_the_base_has_drivers_for(text: str, bus: str, card: str, notices: int) -> None:
    """Disks and cards that other hypervisors have, where the base can; otherwise a notice says what is missing."""
    appliance, said = appliance_of(read_guest(text, "web.toml", "web"), {"cpus": 3})
    assert (appliance.bus, appliance.card, appliance.cpus, len(said)) == (bus, card, 3, notices)


def test_a_descriptor_names_each_file_and_disk() -> None:
    """Every reference leads somewhere, sizes are those of files and disks, and items are in the schema's order."""
    appliance, _ = appliance_of(read_guest('base = "classic"\nmemory = "96M"', "web.toml", "web"), {})
    disks = (ApplianceDisk("web-disk1.vmdk", 7, 5 << 30), ApplianceDisk("web-disk2.vmdk", 8, 1 << 30))
    top = ElementTree.fromstring(descriptor(appliance, disks))
    ovf = "{http://schemas.dmtf.org/ovf/envelope/1}"
    sections = ["References", "DiskSection", "NetworkSection", "VirtualSystem"]
    assert [child.tag for child in top] == [f"{ovf}{name}" for name in sections]
    files = {each.get(f"{ovf}id"): each.get(f"{ovf}size") for each in top.iter(f"{ovf}File")}
    found = {each.get(f"{ovf}diskId"): each for each in top.iter(f"{ovf}Disk")}
    assert [files[each.get(f"{ovf}fileRef")] for each in found.values()] == ["7", "8"]
    assert [each.get(f"{ovf}capacity") for each in found.values()] == [str(5 << 30), str(1 << 30)]
    items = [{each.tag.partition("}")[2]: each.text for each in item} for item in top.iter(f"{ovf}Item")]
    numbers = [item["InstanceID"] for item in items]
    assert len(set(numbers)) == len(numbers)
    assert all(list(item) == sorted(item) for item in items)
    on_disks = [item for item in items if item["ResourceType"] == "17"]
    assert {item["HostResource"] for item in on_disks} == {f"ovf:/disk/{name}" for name in found}
    assert {item["Parent"] for item in on_disks} == {"3"}
    assert items[2]["ResourceType"] == "5"
    networks = {each.get(f"{ovf}name") for each in top.iter(f"{ovf}Network")}
    assert {item["Connection"] for item in items if item["ResourceType"] == "10"} == networks


@pytest.mark.host_step
def test_what_cannot_be_exported_is_refused(
    step_host: StepHost, command_line: Callable[[], GuestHost], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A running instance, a snapshot that does not exist, a snapshot for the other format: nothing is written."""
    step_host.place('[[nic]]\nnetwork = "host0"\n')
    step_host.run()
    host, out = command_line(), tmp_path / "web.ova"
    with pytest.raises(TawaraError, match="web is: running; its disks can be copied only when it is off"):
        export_appliance(host, "web", out, None, lambda done: None)
    with pytest.raises(NotFoundError, match="web has no snapshot 'none'"):
        export_appliance(host, "web", out, "none", lambda done: None)
    assert main(["vm", "export", "web", str(tmp_path / "web.tar"), "--snapshot", "kept"]) == 2
    assert "--snapshot is only for an appliance" in capsys.readouterr().err
    assert list(tmp_path.glob("web.*")) == []
