"""Another hypervisor, which knows of a guest only what is in its appliance: plain QEMU with the hardware that the
descriptor names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from tests.vm.machine import Machine

PORT = 2022
_OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
_RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"
_DEVICES = {"E1000": "e1000", "virtio": "virtio-net-pci"}


def unpack(host: Machine, archive: str, folder: str) -> ElementTree.Element:
    """Unpack an appliance on the host, with its order of files and its checksums verified; return its descriptor."""
    host.shell(f"rm -rf {folder}; mkdir {folder}; tar -xf {archive} -C {folder}")
    names = host.run("tar", "-tf", archive).stdout.split()
    inside = Path(f"/proc/{host.pid}/root{folder}")
    assert (names[0][-4:], names[-1][-3:]) == (".ovf", ".mf")
    sums = dict(re.findall(r"^SHA256\((.+)\)= ([0-9a-f]{64})$", (inside / names[-1]).read_text(), re.MULTILINE))
    assert sums == {name: hashlib.sha256((inside / name).read_bytes()).hexdigest() for name in names[:-1]}
    return ElementTree.fromstring((inside / names[0]).read_bytes())


def items(descriptor: ElementTree.Element, kind: str) -> list[dict[str, str]]:
    """The items of a resource type, by the names of their elements."""
    found = []
    for item in descriptor.iter(f"{_OVF}Item"):
        facts = {child.tag.removeprefix(_RASD): child.text or "" for child in item}
        assert list(facts) == sorted(facts), "the schema wants them in order"
        found.append(facts)
    return [facts for facts in found if facts["ResourceType"] == kind]


@contextmanager
def running(host: Machine, folder: str, descriptor: ElementTree.Element) -> Iterator[None]:
    """The appliance runs; its port 22 is the host's PORT."""
    files = {file.get(f"{_OVF}id"): file.get(f"{_OVF}href") for file in descriptor.iter(f"{_OVF}File")}
    disks = {disk.get(f"{_OVF}diskId"): files[disk.get(f"{_OVF}fileRef")] for disk in descriptor.iter(f"{_OVF}Disk")}
    (controller,) = items(descriptor, "5")
    words = ["qemu-system-x86_64", "-machine", "pc", "-accel", "tcg,tb-size=128", "-cpu", "Nehalem", "-nodefaults"]
    words += [
        "-m",
        items(descriptor, "4")[0]["VirtualQuantity"],
        "-display",
        "none",
        "-serial",
        f"file:{folder}/serial",
    ]
    for item in items(descriptor, "17"):
        assert item["Parent"] == controller["InstanceID"]
        words += [
            "-drive",
            f"file={folder}/{disks[item['HostResource'].removeprefix('ovf:/disk/')]},if=ide,snapshot=on",
        ]
    for number, item in enumerate(items(descriptor, "10")):
        words += ["-device", f"{_DEVICES[item['ResourceSubType']]},netdev=n{number}"]
        words += ["-netdev", f"user,id=n{number}" + (f",hostfwd=tcp:127.0.0.1:{PORT}-:22" if number == 0 else "")]
    pid = host.shell(f"{' '.join(words)} >{folder}/log 2>&1 & echo $!").strip()
    try:
        yield
    except AssertionError as error:
        error.add_note(host.shell(f"cat {folder}/log; tail -n 40 {folder}/serial"))
        raise
    finally:
        host.shell(f"kill {pid}", check=False)


def ssh(host: Machine, name: str, command: str, *, check: bool = True) -> str:
    """Run a command in the appliance; it still has the instance's host key."""
    options = ("-o", "StrictHostKeyChecking=yes", "-o", f"HostKeyAlias={name}", "-o", "BatchMode=yes")
    words = ("ssh", *options, "-o", "ConnectTimeout=10", "-p", str(PORT), "root@127.0.0.1", command)
    return host.run(*words, check=check).stdout.strip()
