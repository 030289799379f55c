"""An instance's definition: the directory of small files from which the host's `reconcile` makes a running guest."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tawara.vm import guest_json
from tawara.vm.bases.recipe import HostKey, Recipe
from tawara.vm.hostkey import known_hosts_line
from tawara.vm.initrd import IDENTITY_BLOCK, IDENTITY_FIRST
from tawara.vm.libvirt_xml import domain_xml, network_xml
from tawara.vm.spec import Guest
from tawara.vm.tree import write_tar

STATE = "/var/lib/tawara-vm"


@dataclass(frozen=True)
class Layers:
    """The layers below an instance's disk, by content digest."""

    delta: str
    base: str


def definition_files(guest: Guest, layers: Layers, recipe: Recipe | None, key: HostKey, epoch: int) -> dict[str, bytes]:
    """Return every file of the definition, by its path in the directory. Without a recipe the base is a foreign
    image."""
    cmdline = recipe.cmdline if recipe else None
    files = {
        "facts": _facts(guest, layers),
        "guest.json": guest_json.write(guest),
        "domain.xml": domain_xml(
            guest,
            cmdline=cmdline,
            agent=recipe.agent if recipe else guest.bus == "virtio",
            scsi_model=recipe.scsi_model if recipe else "lsilogic",
        ).encode(),
        "reservations": reservations(guest).encode(),
        "known_hosts": _known_hosts(guest, key).encode(),
        "hosts": f"{guest.primary.ip} {' '.join(dict.fromkeys((guest.fqdn, guest.name)))}\n".encode(),
        "identity.tar": identity_archive(guest, recipe, key, epoch),
    }
    if rules := firewall(guest):
        files["firewall"] = rules.encode()
    for network in {nic.network for nic in guest.nics}:
        files[f"networks/{network.libvirt_name}.xml"] = network_xml(network).encode()
    return dict(sorted(files.items()))


def reservations(guest: Guest) -> str:
    """Return one line for each card: libvirt's network, MAC, IP, names."""
    rows = [f"{n.network.libvirt_name} {n.mac} {n.ip} {guest.fqdn} {guest.name}\n" for n in guest.nics]
    return "".join(rows)


def firewall(guest: Guest) -> str:
    """Return the input of the host's firewall table: a line for each open network, and for each published port. `open
    BRIDGE SUBNET`; `publish PROTOCOL HOST-PORT HOST-ADDRESS-or-- GUEST-ADDRESS PORT BRIDGE`."""
    opened = {nic.network.name: nic for nic in guest.nics if nic.network.kind == "open"}
    lines = [f"open {nic.network.bridge} {nic.network.subnet}\n" for nic in opened.values()]
    for each in guest.published:
        nic = opened[each.network]
        host = f"{each.protocol} {each.host_port} {each.address or '-'}"
        lines.append(f"publish {host} {nic.ip} {each.port} {nic.network.bridge}\n")
    return "".join(lines)


def guest_names(guest: Guest) -> list[str]:
    """Return every name and address by which ssh may know the guest."""
    return list(dict.fromkeys((guest.fqdn, guest.name, *(str(nic.ip) for nic in guest.nics))))


def claims(guest: Guest) -> dict[str, bytes]:
    """Return files named after what must be unique; the package manager refuses a second package with the same one."""
    taken = [f"name/{guest.name}", f"fqdn/{guest.fqdn}"]
    taken += [f"mac/{nic.mac}" for nic in guest.nics] + [f"ip/{nic.ip}" for nic in guest.nics]
    taken += [f"port/{each.protocol}-{each.host_port}" for each in guest.published]
    return {claim: f"{guest.package}\n".encode() for claim in taken}


def network_claims(guest: Guest) -> dict[str, str]:
    """Return symbolic links named after each network and each /24 of its subnet, with their targets. They lead to a
    directory that is named after the whole definition. Packages with the same network share links and directory; of two
    different networks of one name, or one subnet with two names, the package manager refuses the second: both dpkg and
    rpm let packages share a link only if it has the same target."""
    links = {}
    for network in {nic.network for nic in guest.nics}:
        kind = f"{network.kind}.{network.host_bridge}" if network.host_bridge else network.kind
        place = f"../networks/{network.name}.{kind}.{str(network.subnet).replace('/', '-')}"
        links[f"network/{network.name}"] = place
        for part in network.subnet.subnets(new_prefix=24):
            links[f"subnet/{str(part.network_address).removesuffix('.0')}"] = place
    return dict(sorted(links.items()))


def identity_archive(guest: Guest, recipe: Recipe | None, key: HostKey, epoch: int) -> bytes:
    """Return the archive that the ram disk unpacks over the root at the first boot; it begins with a name that the ram
    disk looks for."""
    if recipe is None:
        return b""
    files = recipe.identity(guest, key)
    archive = write_tar(files, epoch, first=[IDENTITY_FIRST])
    return archive + bytes(-len(archive) % IDENTITY_BLOCK)


def _known_hosts(guest: Guest, key: HostKey) -> str:
    """Return the known_hosts lines. A foreign image that keeps its identity has its own key, which may be unknown."""
    kept = guest.image is not None and guest.image.identity == "kept"
    public = guest.image.host_key if guest.image and kept else key.public
    return known_hosts_line(guest_names(guest), " ".join(public.split()[:2])) if public else ""


def _facts(guest: Guest, layers: Layers) -> bytes:
    facts = {
        "NAME": guest.name,
        "FQDN": guest.fqdn,
        "VERSION": guest.version,
        "PACKAGE": guest.package,
        "DELTA": layers.delta,
        "BASE": layers.base,
        "DISK_SIZE": str(guest.disk),
        "DATA_SIZE": str(guest.data.size if guest.data else 0),
        "ORDER": f"{guest.order:02d}",
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in facts.items()).encode()
