"""Reads a cluster.toml: guests with reserved names and addresses, from defaults, roles and their own settings."""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from tawara.vm import spec
from tawara.vm.addresses import Given, addresses_to_keep, assign
from tawara.vm.errors import Mistake, SpecError
from tawara.vm.identity import fixed_range
from tawara.vm.spec_fields import Fields
from tawara.vm.spec_network import derived_nic, judge_published, read_networks
from tawara.vm.spec_read import FQDN, NAME, VERSION, guest_from_fields, syntax_mistake
from tawara.vm.toml_lines import Path as TomlPath
from tawara.vm.toml_lines import Place, place_of

_JOINED = ("file", "commands", "packages", "services", "authorized_keys", "share", "publish")
"""Lists of a role are added to those of the defaults; every other setting replaces."""

_PREFIX = re.compile(r"([a-z][a-z0-9-]{0,19})?")
_ADDRESSES = "addresses.json"

Range = tuple[IPv4Address, IPv4Address]


@dataclass(frozen=True)
class GuestCluster:
    """A packaged data centre."""

    name: str
    version: str
    guests: tuple[spec.Guest, ...]
    addresses: Given = field(default_factory=dict)
    """By network and guest, every address that was ever given, also to guests that are no longer described."""

    @property
    def package(self) -> str:
        """The package's name."""
        return f"tawara-cluster-{self.name}"


def is_cluster(text: str) -> bool:
    """Whether this description is of several guests."""
    try:
        return isinstance(tomllib.loads(text).get("guest"), dict)
    except tomllib.TOMLDecodeError:
        return False


def read_cluster(text: str, path: str, default_name: str, folder: Path | None = None) -> GuestCluster:
    """Return the cluster that this text describes. Raises SpecError with every mistake in it."""
    mistakes: list[Mistake] = []
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(path, [syntax_mistake(text, error)]) from error
    cluster = _read(Fields.of_text(text, document, mistakes, folder), default_name, folder)
    if mistakes:
        raise SpecError(path, mistakes)
    return cluster


def keep_addresses(folder: Path, cluster: GuestCluster) -> None:
    """Record the cluster's addresses in its directory of keys, from which they are read next time."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f"{_ADDRESSES}.new"
    with draft.open("w") as file:
        file.write(json.dumps(cluster.addresses, indent=2, default=str) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / _ADDRESSES)


def _kept_addresses(folder: Path | None, name: str) -> Given:
    path = (folder or Path()) / f"{name}.keys" / _ADDRESSES
    if folder is None or not path.exists():
        return {}
    kept = json.loads(path.read_text())
    return {network: {guest: IPv4Address(ip) for guest, ip in row.items()} for network, row in kept.items()}


def _read(top: Fields, default_name: str, folder: Path | None) -> GuestCluster:
    name = top.text("name", default_name, NAME, "a short name: a letter, then letters, digits and -")
    domain = top.text("domain", f"{name}.example", FQDN, "a domain in lower case, such as store.example")
    version = top.text("version", "1", VERSION, 'a version that begins with a digit, such as "1.0"')
    prefix = top.text("prefix", "", _PREFIX, "a letter, then letters, digits and -, such as shop-")
    networks = spec.CLASSIC_NETWORKS | read_networks(top)
    ranges = _read_ranges(top, networks)
    outside = top.choice("outside", "nat0", ("none", *networks))
    whole = dict(ranges)
    if outside != "none":
        whole.setdefault(outside, networks[outside].guest_range)
    defaults = top.table("defaults")
    roles = dict(top.named_tables("role"))
    guests: list[spec.Guest] = []
    with_cards: set[str] = set()
    used = set()
    for guest_name, fields in top.named_tables("guest"):
        role = _role_of(fields, tuple(roles))
        used.add(role)
        merged = _merge(fields, [defaults, roles.get(role)])
        _named_by_its_table(fields)
        full = {"fqdn": f"{guest_name}.{domain}", "version": version}
        merged.values = {**full, **merged.values, "name": f"{prefix}{guest_name}"}
        guest = guest_from_fields(merged, f"{prefix}{guest_name}", networks, cluster=name)
        if guest is not None:
            guests.append(guest)
            if "nic" in merged.values:
                with_cards.add(guest.name)
    for role, fields in roles.items():
        _judge_role(fields, networks, defaults, used=role in used)
    _named_by_its_table(defaults, "role")
    kept = _kept_addresses(folder, name)
    given = _addresses(guests, with_cards, [networks[each] for each in whole], ranges, kept)
    guests = [
        each if each.name in with_cards else replace(each, nics=_cards(each, [networks[net] for net in whole], given))
        for each in guests
    ]
    _judge(top, guests, ranges)
    if outside in networks and networks[outside].kind == "bridge" and outside not in ranges:
        remedy = f'Reserve addresses: {outside} = "FIRST-LAST" below [addresses].'
        top.mistake("outside", f"{outside} is a network of others, where no address follows from a name", remedy)
    top.nothing_else()
    return GuestCluster(name, version, tuple(guests), addresses_to_keep(kept, given))


def _addresses(
    guests: list[spec.Guest], with_cards: set[str], networks: list[spec.Network], ranges: dict[str, Range], kept: Given
) -> dict[str, dict[str, IPv4Address]]:
    """Return, for each network of the cluster's cards, the address of each guest that does not describe its own."""
    taken = {nic.ip for guest in guests if guest.name in with_cards for nic in guest.nics}
    given = {}
    for number, network in enumerate(networks):
        first, last = ranges.get(network.name) or network.guest_range
        by_turn = network.name in ranges
        candidates = {
            guest.name: first + index if by_turn else derived_nic(guest.fqdn, network, number).ip
            for index, guest in enumerate(guests)
            if guest.name not in with_cards
        }
        given[network.name] = assign(candidates, first, last, kept.get(network.name, {}), taken)
    return given


def _read_ranges(top: Fields, networks: dict[str, spec.Network]) -> dict[str, Range]:
    """Read [addresses]: for each network of the cluster, FIRST-LAST."""
    fields = top.table("addresses")
    ranges: dict[str, Range] = {}
    for name in fields.values:
        text = fields.text(name, "", None, "")
        if name not in networks:
            if name not in top.table("network").values:  # one that is written has a mistake of its own
                remedy = f"Use one of {', '.join(networks)}, or [network.{name}]."
                fields.mistake(name, "there is no such network", remedy)
            continue
        lowest, highest = networks[name].guest_range
        try:
            first, last = (IPv4Address(end.strip()) for end in text.split("-"))
        except ValueError:
            fields.mistake(name, f"{text!r} is no range", f'Write "{lowest}-{highest}".')
            continue
        if not lowest <= first <= last <= highest:
            fields.mistake(name, f"{text} is not within the network", f"Stay within {lowest}-{highest}.")
            continue
        ranges[name] = (first, last)
    return ranges or {"host0": fixed_range(networks["host0"].subnet)}


def _cards(guest: spec.Guest, networks: list[spec.Network], given: Given) -> tuple[spec.Nic, ...]:
    """Return a card in each of the cluster's networks, and one that leads outside."""
    model = guest.primary.model
    cards = [derived_nic(guest.fqdn, network, number, model) for number, network in enumerate(networks)]
    return tuple(replace(card, ip=given[card.network.name].get(guest.name, card.ip)) for card in cards)


def _role_of(fields: Fields, roles: tuple[str, ...]) -> str:
    """Return the role that a guest names; empty if it names none, or an unknown one."""
    role = fields.text("role", "", None, "")
    if role in roles or not role:
        return role
    known = f", or one of {', '.join(roles)}" if roles else ""
    fields.mistake("role", f"there is no role {role!r}", f"Write [role.{role}]{known}.")
    return ""


def _named_by_its_table(fields: Fields, *others: str) -> None:
    for key in ("name", *others):
        if fields.has(key):
            fields.mistake(key, "this is only a guest's to say", "Take it out; a guest's name is that of its table.")


def _judge_role(fields: Fields, networks: dict[str, spec.Network], defaults: Fields, *, used: bool) -> None:
    """Report mistakes of a role, also if no guest has it."""
    _named_by_its_table(fields, "role")
    if not used:
        merged = _merge(fields, [defaults])
        merged.values["name"] = "role"
        guest_from_fields(merged, "role", networks, whole=False)


def _merge(own: Fields, below: list[Fields | None]) -> Fields:
    """Merge the guest's fields over its role's over the defaults', each setting with its place in the text."""
    values: dict[str, Any] = {}
    places: dict[TomlPath, Place] = {(): own.places[()], own.path: place_of(own.places, own.path)}
    for layer in [*(fields for fields in below if fields is not None), own]:
        for key, value in layer.values.items():
            before = values.get(key)
            target = (*own.path, key)
            if key in _JOINED and isinstance(value, list) and isinstance(before, list):
                values[key], offset = [*before, *value], len(before)
            else:
                values[key], offset = value, 0
                places = {path: place for path, place in places.items() if path[: len(target)] != target}
            places = _places_below(layer, key, target, offset) | places
    values.pop("role", None)
    return Fields(values, own.path, places, own.mistakes, own.folder)


def _places_below(layer: Fields, key: str, target: TomlPath, offset: int) -> dict[TomlPath, Place]:
    """Return the places of a layer's setting and of everything in it, as seen from where it is merged to."""
    source = (*layer.path, key)
    found = {target: place_of(layer.places, source)}
    if isinstance(layer.values[key], list):
        found |= {
            (*target, offset + index): place_of(layer.places, (*source, index))
            for index in range(len(layer.values[key]))
        }
    for path, place in layer.places.items():
        if path[: len(source)] == source and len(path) > len(source):
            first, *rest = path[len(source) :]
            found[(*target, offset + first if isinstance(first, int) else first, *rest)] = place
    return found


def _judge(top: Fields, guests: list[spec.Guest], ranges: dict[str, Range]) -> None:
    if not guests:
        top.mistake("guest", "a cluster has guests", "Write [guest.NAME] for each.")
    for name, (first, last) in ranges.items():
        room = int(last) - int(first) + 1
        if room < len(guests):
            top.mistake("addresses", f"{name} has {room} addresses for {len(guests)} guests", "Widen the range.")
    for claim in ("fqdn", "name"):
        values = [getattr(guest, claim) for guest in guests]
        for value in sorted({value for value in values if values.count(value) > 1}):
            top.mistake("guest", f"{claim} {value} is given twice", "Give each guest its own.")
    for guest in guests:
        judge_published(top, guest)
    ports = [(each.protocol, each.host_port) for guest in guests for each in guest.published]
    for protocol, port in sorted({each for each in ports if ports.count(each) > 1}):
        remedy = "Give each guest a `host_port` of its own."
        top.mistake("guest", f"{protocol} port {port} of the host is published twice", remedy)
    addresses = [str(nic.ip) for guest in guests for nic in guest.nics]
    for address in sorted({each for each in addresses if addresses.count(each) > 1}):
        top.mistake("guest", f"{address} is given twice", "Give one of the guests another `ip`.")


def show(cluster: GuestCluster) -> dict[str, Any]:
    """Return the cluster's table for readers and programs, contained in the meta package."""
    return {
        "name": cluster.name,
        "version": cluster.version,
        "guests": {
            guest.name: {
                "fqdn": guest.fqdn,
                "package": guest.package,
                "order": guest.order,
                "addresses": {nic.network.name: str(nic.ip) for nic in guest.nics},
            }
            for guest in cluster.guests
        },
    }
