"""The OVF descriptor (DSP0243 1.1) of an appliance: its disks, memory, processors, controllers and cards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from xml.etree.ElementTree import Element, SubElement, indent, register_namespace, tostring

_OVF = "http://schemas.dmtf.org/ovf/envelope/1"
_CIM = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_"
_RASD, _VSSD = f"{_CIM}ResourceAllocationSettingData", f"{_CIM}VirtualSystemSettingData"
_FORMAT = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
_LINUX_64 = "101"
"""CIM_OperatingSystem's number of a 64-bit Linux."""
_HARDWARE = "vmx-07"
"""The family of virtual hardware that VMware and VirtualBox know for IDE, SCSI and E1000."""
_CONTROLLERS = {"ide": ("5", "PIIX4"), "scsi": ("6", "lsilogic"), "sata": ("20", "AHCI")}
"""By bus: CIM's resource type and subtype."""

Bus = Literal["ide", "scsi", "sata"]
CardModel = Literal["E1000", "virtio"]


@dataclass(frozen=True)
class ApplianceDisk:
    """A disk of an appliance."""

    file: str
    """Its name in the archive."""
    size: int
    """Bytes of that file."""
    capacity: int
    """Bytes that the guest sees."""


@dataclass(frozen=True)
class Appliance:
    """A virtual machine as other hypervisors import it."""

    name: str
    summary: str
    memory: int
    """Bytes."""
    cpus: int
    bus: Bus
    card: CardModel
    networks: tuple[str, ...]
    """The network of each card, in their order."""


def descriptor(appliance: Appliance, disks: tuple[ApplianceDisk, ...]) -> bytes:
    """Return the descriptor."""
    for prefix, space in (("ovf", _OVF), ("rasd", _RASD), ("vssd", _VSSD)):
        register_namespace(prefix, space)
    top = Element(_ovf("Envelope"))
    references = SubElement(top, _ovf("References"))
    for number, disk in enumerate(disks, start=1):
        facts = {"id": f"file{number}", "href": disk.file, "size": str(disk.size)}
        SubElement(references, _ovf("File"), {_ovf(name): value for name, value in facts.items()})
    _disk_section(top, disks)
    networks = _section(top, "NetworkSection", "The networks of its cards")
    for name in dict.fromkeys(appliance.networks):
        _text(SubElement(networks, _ovf("Network"), {_ovf("name"): name}), _ovf("Description"), f"The network {name}")
    _system(top, appliance, len(disks))
    indent(top)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(top) + b"\n"


def _disk_section(top: Element, disks: tuple[ApplianceDisk, ...]) -> None:
    section = _section(top, "DiskSection", "Its disks")
    for number, disk in enumerate(disks, start=1):
        facts = {
            "diskId": f"disk{number}",
            "fileRef": f"file{number}",
            "capacity": str(disk.capacity),
            "format": _FORMAT,
        }
        SubElement(section, _ovf("Disk"), {_ovf(name): value for name, value in facts.items()})


def _system(top: Element, appliance: Appliance, disks: int) -> None:
    system = SubElement(top, _ovf("VirtualSystem"), {_ovf("id"): appliance.name})
    _text(system, _ovf("Info"), appliance.summary)
    _text(system, _ovf("Name"), appliance.name)
    operating = _section(system, "OperatingSystemSection", "The operating system")
    operating.set(_ovf("id"), _LINUX_64)
    _text(operating, _ovf("Description"), "Linux 64-bit")
    hardware = _section(system, "VirtualHardwareSection", "What it needs")
    settings = SubElement(hardware, _ovf("System"))
    names = ("ElementName", "InstanceID", "VirtualSystemIdentifier", "VirtualSystemType")
    for name, value in zip(names, ("Virtual Hardware", "0", appliance.name, _HARDWARE), strict=True):
        _text(settings, f"{{{_VSSD}}}{name}", value)
    for number, facts in enumerate(_items(appliance, disks), start=1):
        item = SubElement(hardware, _ovf("Item"))
        # The schema wants the elements of an item in the order of the alphabet.
        for name, value in sorted((facts | {"InstanceID": str(number)}).items()):
            _text(item, f"{{{_RASD}}}{name}", value)


def _items(appliance: Appliance, disks: int) -> Iterator[dict[str, str]]:
    """Yield processors, memory, the controller (number 3), the disks on it, and the cards."""
    count, size = str(appliance.cpus), str(-(-appliance.memory >> 20))
    yield {
        "AllocationUnits": "hertz * 10^6",
        "ElementName": "Processors",
        "ResourceType": "3",
        "VirtualQuantity": count,
    }
    yield {"AllocationUnits": "byte * 2^20", "ElementName": "Memory", "ResourceType": "4", "VirtualQuantity": size}
    kind, model = _CONTROLLERS[appliance.bus]
    yield {"Address": "0", "ElementName": "Disk controller", "ResourceSubType": model, "ResourceType": kind}
    for number in range(disks):
        yield {
            "AddressOnParent": str(number),
            "ElementName": f"Disk {number + 1}",
            "HostResource": f"ovf:/disk/disk{number + 1}",
            "Parent": "3",
            "ResourceType": "17",
        }
    for number, network in enumerate(appliance.networks, start=1):
        yield {
            "AutomaticAllocation": "true",
            "Connection": network,
            "ElementName": f"Card {number}",
            "ResourceSubType": appliance.card,
            "ResourceType": "10",
        }


def _section(parent: Element, name: str, info: str) -> Element:
    section = SubElement(parent, _ovf(name))
    _text(section, _ovf("Info"), info)
    return section


def _text(parent: Element, name: str, text: str) -> None:
    SubElement(parent, name).text = text


def _ovf(name: str) -> str:
    return f"{{{_OVF}}}{name}"
