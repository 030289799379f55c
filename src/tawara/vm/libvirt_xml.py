"""A guest as libvirt's XML; what only the host knows (accelerator, paths) is a mark that `reconcile` replaces."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from tawara.vm.identity import dhcp_range, guest_uuid, mac_address, network_uuid
from tawara.vm.spec import Guest, Network, Nic

_TARGETS = {"virtio": "vd", "ide": "hd", "scsi": "sd", "sata": "sd"}


def domain_xml(guest: Guest, *, cmdline: str | None, agent: bool, scsi_model: str = "lsilogic") -> str:
    """Return the domain. With a cmdline the base's kernel is booted directly; without, the disk's own boot loader
    is."""
    domain = Element("domain", type="@TYPE@")
    _text(domain, "name", guest.name)
    _text(domain, "uuid", str(guest_uuid(guest.fqdn)))
    if guest.description:
        _text(domain, "description", guest.description)
    _text(domain, "memory", str(guest.memory // 1024)).set("unit", "KiB")
    if any(share.kind == "virtiofs" for share in guest.shares):
        backing = SubElement(domain, "memoryBacking")
        SubElement(backing, "source", type="memfd")
        SubElement(backing, "access", mode="shared")
    _text(domain, "vcpu", str(guest.cpus))
    _system(domain, cmdline)
    _devices(domain, guest, agent, scsi_model)
    return _show(domain)


def network_xml(network: Network) -> str:
    """Return the network; static reservations are added to it guest by guest, while it runs; a bridge of the host has
    none."""
    top = Element("network")
    _text(top, "name", network.libvirt_name)
    _text(top, "uuid", str(network_uuid(network.libvirt_name)))
    if network.kind != "host":
        SubElement(top, "forward", mode=network.kind)
    if network.kind == "bridge":
        SubElement(top, "bridge", name=network.bridge)
        return _show(top)
    SubElement(top, "bridge", name=network.bridge, stp="on", delay="0")
    SubElement(top, "mac", address=mac_address(network.libvirt_name, "bridge", 0))
    ip = SubElement(top, "ip", address=str(network.gateway), netmask=str(network.subnet.netmask))
    first, last = dhcp_range(network.subnet)
    SubElement(SubElement(ip, "dhcp"), "range", start=str(first), end=str(last))
    return _show(top)


def _system(domain: Element, cmdline: str | None) -> None:
    system = SubElement(domain, "os")
    SubElement(system, "type", arch="x86_64", machine="pc").text = "hvm"
    if cmdline is None:
        SubElement(system, "boot", dev="hd")
    else:
        _text(system, "kernel", "@IMAGES@/@BASE@/kernel")
        _text(system, "initrd", "@IMAGES@/@BASE@/initrd")
        _text(system, "cmdline", cmdline)
    features = SubElement(domain, "features")
    SubElement(features, "acpi")
    SubElement(features, "apic")
    SubElement(features, "tcg-of-the-host")
    SubElement(domain, "cpu-of-the-host")
    clock = SubElement(domain, "clock", offset="utc")
    # An idle guest without the HPET wakes its host least.
    SubElement(clock, "timer", name="hpet", present="no")
    SubElement(clock, "timer", name="pit", tickpolicy="delay")
    SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "restart")):
        _text(domain, event, action)


def _devices(domain: Element, guest: Guest, agent: bool, scsi_model: str) -> None:
    devices = SubElement(domain, "devices")
    letters = iter("abcdef")
    prefix = _TARGETS[guest.bus]
    _overlay(devices, guest, prefix + next(letters))
    if guest.data is not None:
        _disk(devices, "qcow2", "@INSTANCE@/data.qcow2", prefix + next(letters), guest.bus)
    if guest.image is None:
        identity = _disk(devices, "raw", "@INSTANCE@/identity.tar", prefix + next(letters), guest.bus)
        # IDE and SATA have no read-only disks, and of a guest with a writable raw one there are no snapshots.
        if guest.bus in ("ide", "sata"):
            identity.set("device", "cdrom")
        SubElement(identity, "readonly")
    if guest.bus == "scsi":
        SubElement(devices, "controller", type="scsi", model=scsi_model)
    SubElement(devices, "controller", type="usb", model="none")
    for nic in guest.nics:
        _interface(devices, nic)
    for number, share in enumerate(guest.shares):
        _share(devices, share.source, f"share{number}", share.kind)
    serial = SubElement(devices, "serial", type="pty")
    SubElement(serial, "target", port="0")
    SubElement(SubElement(devices, "console", type="pty"), "target", type="serial", port="0")
    if agent:
        channel = SubElement(devices, "channel", type="unix")
        SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    if guest.console == "vnc":
        SubElement(devices, "graphics", type="vnc", port="-1", autoport="yes", listen="127.0.0.1")
        SubElement(SubElement(devices, "video"), "model", type="vga")
    if guest.image is None:
        rng = SubElement(devices, "rng", model="virtio")
        SubElement(rng, "backend", model="random").text = "/dev/urandom"
    SubElement(devices, "memballoon", model="virtio" if guest.image is None else "none")


def _overlay(devices: Element, guest: Guest, target: str) -> None:
    """Return the instance's disk, its layers listed explicitly so that libvirt does not change their owner: packages
    own them."""
    level = _disk(devices, "qcow2", "@INSTANCE@/system/overlay.qcow2", target, guest.bus)
    for layer in ("@IMAGES@/@DELTA@/disk.qcow2", "@IMAGES@/@BASE@/disk.qcow2"):
        level = SubElement(level, "backingStore", type="file")
        SubElement(level, "format", type="qcow2")
        SubElement(SubElement(level, "source", file=layer), "seclabel", model="dac", relabel="no")
    SubElement(level, "backingStore")


def _disk(devices: Element, kind: str, path: str, target: str, bus: str) -> Element:
    disk = SubElement(devices, "disk", type="file", device="disk")
    driver = SubElement(disk, "driver", name="qemu", type=kind)
    if kind == "qcow2":
        driver.set("discard", "unmap")
    SubElement(disk, "source", file=path)
    SubElement(disk, "target", dev=target, bus=bus)
    return disk


def _interface(devices: Element, nic: Nic) -> None:
    interface = SubElement(devices, "interface", type="network")
    SubElement(interface, "mac", address=nic.mac)
    SubElement(interface, "source", network=nic.network.libvirt_name)
    SubElement(interface, "model", type=nic.model)


def _share(devices: Element, source: str, tag: str, kind: str) -> None:
    share = SubElement(
        devices, "filesystem", type="mount", accessmode="passthrough" if kind == "virtiofs" else "mapped"
    )
    if kind == "virtiofs":
        SubElement(share, "driver", type="virtiofs")
    SubElement(share, "source", dir=source)
    SubElement(share, "target", dir=tag)


def _text(parent: Element, name: str, text: str) -> Element:
    child = SubElement(parent, name)
    child.text = text
    return child


def _show(top: Element) -> str:
    indent(top)
    return tostring(top, encoding="unicode") + "\n"
