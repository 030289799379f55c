"""Read a NAME.toml into a Guest: every mistake is found in one pass and told with its line and remedy."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path, PurePosixPath

from tawara.vm import spec
from tawara.vm.errors import Mistake, SpecError
from tawara.vm.identity import fixed_range, ip_address, mac_address
from tawara.vm.spec_fields import Fields

NAME = re.compile(r"[a-z][a-z0-9-]{0,29}")
FQDN = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
VERSION = re.compile(r"[0-9][A-Za-z0-9.+~]*")
SHA256 = re.compile(r"[0-9a-f]{64}")
KEY = re.compile(r"(ssh-(rsa|ed25519|dss)|ecdsa-sha2-\S+|sk-\S+) [A-Za-z0-9+/=]+( .*)?")


def read_guest(text: str, path: str, default_name: str, folder: Path | None = None) -> spec.Guest:
    """The guest that this text describes; raises SpecError with every mistake in it."""
    mistakes: list[Mistake] = []
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(path, [syntax_mistake(text, error)]) from error
    guest = guest_from_fields(Fields.of_text(text, document, mistakes, folder), default_name)
    if mistakes or guest is None:
        raise SpecError(path, mistakes)
    return guest


def guest_from_fields(
    top: Fields,
    default_name: str,
    networks: Mapping[str, spec.Network] | None = None,
    *,
    whole: bool = True,
) -> spec.Guest | None:
    """Read one guest's fields; mistakes go to the fields' list, and None is given where nothing sensible is left.

    What is not yet whole, such as a cluster's role, is not judged by what its fields say together.
    """
    name = top.text("name", default_name, NAME, "a short name: a letter, then letters, digits and -")
    fqdn = top.text("fqdn", f"{name}.example", FQDN, "a host name in lower case, such as web.example")
    known = dict(networks if networks is not None else spec.CLASSIC_NETWORKS) | read_networks(top)
    image = _read_image(top)
    old = image is not None or top.values.get("base") == "classic"
    draft = spec.Guest(
        name=name,
        fqdn=fqdn,
        version=top.text("version", "1", VERSION, 'a version that begins with a digit, such as "1.0"'),
        base=top.choice("base", "tiny", spec.BASES),
        image=image,
        memory=top.size("memory", 256 * spec.MiB, least=32 * spec.MiB),
        cpus=top.number("cpus", 1, least=1, most=255),
        packages=top.texts("packages", PACKAGE, "a Debian package's name"),
        commands=top.texts("commands", re.compile(r"(?s).+"), "a shell command"),
        services=top.texts("services", re.compile(r"[A-Za-z0-9@_.-]+"), "a service's name"),
        authorized_keys=top.texts("authorized_keys", KEY, "a public key's line, such as the text of id_ed25519.pub"),
        console=top.choice("console", "serial", ("serial", "vnc")),
        order=top.number("order", 50, least=0, most=99),
        description=top.text("description", "", re.compile(r".{0,200}"), "one line"),
        files=_read_files(top),
        shares=_read_shares(top),
        data=_read_data(top),
    )
    disk = top.table("disk")
    draft = replace(
        draft,
        disk=disk.size("size", 0, least=spec.MiB) if image else disk.size("size", 5 * spec.GiB, least=5 * spec.GiB),
        bus=disk.choice("bus", "ide" if old else "virtio", spec.BUSES),
        nics=_read_nics(top, fqdn, known, "e1000" if old else "virtio"),
    )
    disk.nothing_else()
    if whole:
        _judge_together(top, draft)
    top.nothing_else()
    return draft


def read_networks(top: Fields) -> dict[str, spec.Network]:
    """Networks of the author's own, written [network.NAME]."""
    found = {}
    for name, fields in top.named_tables("network"):
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,11}", name):
            fields.mistake("", f"{name!r} is no name for a network", "Use at most 12 letters, digits and -.")
            continue
        kind: spec.Kind = fields.choice("kind", "nat", ("nat", "host"))
        subnet = _read_subnet(fields)
        fields.nothing_else()
        if subnet is not None:
            found[name] = spec.Network(name, kind, subnet)
    return found


def _read_subnet(fields: Fields) -> IPv4Network | None:
    text = fields.text("subnet", "", None, "")
    try:
        subnet = IPv4Network(text)
    except ValueError:
        fields.mistake("subnet", f"{text!r} is no subnet", 'Write it like "192.168.240.0/24".')
        return None
    if not 16 <= subnet.prefixlen <= 24:
        what = "too few" if subnet.prefixlen > 24 else "too many"
        fields.mistake("subnet", f"{text} has {what} addresses", "Give a /16 to a /24.")
        return None
    if not any(subnet.subnet_of(private) for private in spec.PRIVATE):
        remedy = f"Use one within {', '.join(map(str, spec.PRIVATE))}."
        fields.mistake("subnet", f"{text} belongs to others on the Internet", remedy)
        return None
    return subnet


def _read_nics(top: Fields, fqdn: str, networks: dict[str, spec.Network], model: str) -> tuple[spec.Nic, ...]:
    """The cards; `model` is what those are that do not say."""
    tables = top.tables("nic")
    if not tables and not top.has("nic"):
        classic = enumerate(spec.CLASSIC_NETWORKS.values())
        return tuple(derived_nic(fqdn, network, index, model) for index, network in classic)
    nics = [nic for index, fields in enumerate(tables) if (nic := _read_nic(fields, fqdn, index, networks, model))]
    if not tables:
        top.mistake("nic", "a guest without a network card cannot be reached", "Give at least one [[nic]].")
    for index, nic in enumerate(nics):
        earlier = [other for other in nics[:index] if other.network == nic.network]
        if earlier and all(nic.ip != other.ip and nic.mac != other.mac for other in earlier):  # told below
            remedy = "Give each card a network of its own; the host answers for the guest's name with one address."
            top.mistake("nic", f"two cards are on the network {nic.network.name}", remedy, index)
    for what, values in (("mac", [nic.mac for nic in nics]), ("ip", [str(nic.ip) for nic in nics])):
        for value in sorted({value for value in values if values.count(value) > 1}):
            top.mistake("nic", f"{what} {value} is given twice", "Give each card its own, or leave it out.")
    return tuple(nics)


def derived_nic(fqdn: str, network: spec.Network, index: int, model: str = "virtio") -> spec.Nic:
    """A card whose MAC and IP follow from the guest's name."""
    ip = ip_address(fqdn, network.name, network.subnet, index)
    return spec.Nic(network, model, mac_address(fqdn, network.name, index), ip)


def _read_nic(fields: Fields, fqdn: str, index: int, networks: dict[str, spec.Network], model: str) -> spec.Nic | None:
    name = fields.choice("network", "nat0", tuple(networks))
    nic = derived_nic(fqdn, networks[name], index, fields.choice("model", model, spec.NIC_MODELS))
    mac = fields.text("mac", nic.mac, MAC, "six bytes in lower-case hex, such as 52:54:00:12:34:56").lower()
    if int(mac[:2], 16) & 1:
        fields.mistake("mac", f"{mac} is a multicast address", "Make the first byte even, such as 52.")
    ip = _read_ip(fields, nic)
    fields.nothing_else()
    return replace(nic, mac=mac, ip=ip)


def _read_ip(fields: Fields, nic: spec.Nic) -> IPv4Address:
    text = fields.text("ip", str(nic.ip), None, "")
    first, last = fixed_range(nic.network.subnet)
    try:
        ip = IPv4Address(text)
    except AddressValueError:
        fields.mistake("ip", f"{text!r} is no IPv4 address", f"Use one from {first} to {last}.")
        return nic.ip
    if not first <= ip <= last:
        fields.mistake("ip", f"{ip} is outside {nic.network.name}'s range for guests", f"Use {first} to {last}.")
    return ip


def _read_image(top: Fields) -> spec.ForeignImage | None:
    digest = top.text("image_sha256", "", None, "")
    identity: spec.ImageIdentity = top.choice("image_identity", "ours", ("ours", "kept"))
    host_key = top.text("image_host_key", "", re.compile(f"|{KEY.pattern}"), "the text of its ssh_host_*_key.pub")
    augeas = top.texts("augeas", re.compile(r".+"), 'an augtool command: "set /files/etc/hosts/1/canonical here"')
    if not top.has("image"):
        for key in ("image_sha256", "image_identity", "image_host_key", "augeas"):
            if top.has(key):
                top.mistake(key, "this is about a foreign image, and none is given", 'Write image = "a/disk.qcow2".')
        return None
    path = top.folder / top.text("image", "", re.compile(r".+"), "the path of a disk image")
    if not path.is_file():
        top.mistake("image", f"there is no file {path}", "Paths are relative to the description's folder.")
    if not SHA256.fullmatch(digest):
        where = "image_sha256" if top.has("image_sha256") else "image"
        remedy = f'Write image_sha256 = "…", the 64 hex digits that sha256sum {path.name} prints.'
        top.mistake(where, "a foreign image needs its checksum", remedy)
    if host_key and identity == "ours":
        top.mistake(
            "image_host_key", "the image gets a host key of ours", 'Leave it out, or write image_identity = "kept".'
        )
    return spec.ForeignImage(str(path), digest, identity, host_key, augeas)


def _read_files(top: Fields) -> tuple[spec.File, ...]:
    found: list[spec.File] = []
    for fields in top.tables("file"):
        path = fields.text("path", "", None, "")
        if not _is_clean_absolute(path):
            fields.mistake("path", f"{path!r} is no absolute path", "Write it like /etc/motd.")
        mode = fields.text("mode", "0644", re.compile(r"0?[0-7]{3,4}"), 'octal digits, such as "0755"')
        for name, content, bits in fields.content():
            if f"{path}{name}" in {file.path for file in found}:
                fields.mistake("path", f"{path}{name} is given twice", "Take one of them out.")
            found.append(spec.File(f"{path}{name}", content, bits or int(mode, 8)))
        fields.nothing_else()
    return tuple(found)


def _read_shares(top: Fields) -> tuple[spec.Share, ...]:
    found: list[spec.Share] = []
    for fields in top.tables("share"):
        source, target = (fields.text(end, "", None, "") for end in ("source", "target"))
        for end, path in (("source", source), ("target", target)):
            if not _is_clean_absolute(path):
                fields.mistake(end, f"{path!r} is no absolute path", "Write it like /srv/photos.")
        kind: spec.ShareKind = fields.choice("kind", "virtiofs", ("virtiofs", "9p"))
        fields.nothing_else()
        if target in {share.target for share in found}:
            fields.mistake("target", f"{target} is given twice", "Show each directory in a place of its own.")
        found.append(spec.Share(source, target, kind))
    return tuple(found)


def _read_data(top: Fields) -> spec.Data | None:
    if not top.has("data"):
        return None
    fields = top.table("data")
    mount = fields.text("mount", "/data", None, "")
    if not _is_clean_absolute(mount):
        fields.mistake("mount", f"{mount!r} is no absolute path", "Write it like /data.")
    size = fields.size("size", spec.GiB, least=16 * spec.MiB)
    fields.nothing_else()
    return spec.Data(size, mount)


def _judge_together(top: Fields, guest: spec.Guest) -> None:
    """What single fields cannot show: contradictions between them."""
    _judge_networks(top, guest)
    if guest.data and guest.data.mount in {share.target for share in guest.shares}:
        top.mistake("share", f"{guest.data.mount} is where the data disk is", "Show the directory in another place.")
    if guest.image is not None:
        if top.has("base"):
            top.mistake("base", "a guest stands on one of our bases or on an image", "Take base or image out.")
        if guest.packages:
            top.mistake("packages", "nothing can be fetched into a foreign image", 'Use base = "debian12".')
        if guest.services:
            remedy = 'Write commands = ["systemctl enable NAME"].'
            top.mistake("services", "how a foreign image starts services is not known", remedy)
        return
    if any(share.kind == "9p" for share in guest.shares):
        top.mistake("share", "the kernels of our bases lack 9p", 'Use kind = "virtiofs".')
    if guest.base == "classic" and guest.shares:
        top.mistake("share", "the classic base knows no shared directories", 'Use base = "tiny", or take them out.')
    buses, models = spec.BUSES_OF[guest.base], spec.NIC_MODELS_OF[guest.base]
    if guest.bus not in buses:
        top.mistake("disk", f"the {guest.base} base has no {guest.bus} disks", f"Use a bus of {', '.join(buses)}.")
    for model in sorted({nic.model for nic in guest.nics} - set(models)):
        top.mistake("nic", f"the {guest.base} base has no {model} cards", f"Use a model of {', '.join(models)}.")
    if guest.base == "debian12":
        return
    if guest.packages:
        top.mistake("packages", f"the {guest.base} base has no package manager", 'Use base = "debian12".')
    if guest.disk != 5 * spec.GiB:
        remedy = "Leave the size out; add a [data] disk."
        top.mistake("disk", f"the {guest.base} base cannot grow its 5G file system", remedy)


def _judge_networks(top: Fields, guest: spec.Guest) -> None:
    networks = list(dict.fromkeys(nic.network for nic in guest.nics))
    for index, network in enumerate(networks):
        for other in networks[:index]:
            if network.subnet.overlaps(other.subnet):
                what = f"the networks {other.name} ({other.subnet}) and {network.name} ({network.subnet}) overlap"
                top.mistake("network", what, "Give one of them another subnet.")


def _is_clean_absolute(path: str) -> bool:
    """Is the path absolute, without . or .., and fit for the line-based tools that will see it?"""
    pure = PurePosixPath(path)
    return pure.is_absolute() and ".." not in pure.parts and str(pure) == path and not re.search(r"[\s\"'\\]", path)


def syntax_mistake(text: str, error: tomllib.TOMLDecodeError) -> Mistake:
    """What tomllib found, with its line."""
    at = re.search(r"at line (\d+)", str(error))
    line = int(at[1]) if at else len(text.splitlines()) or 1
    what = re.sub(r" \(at .*\)$", "", str(error))
    return Mistake(line, "TOML", what, "The rest is read once the file is valid TOML.")
