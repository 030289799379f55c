"""What a cluster is made of (domains, classes, hosts, devices, settings) and what may be done to a device now.

All values are frozen: a `Cluster` is a snapshot, of the rows in the database together with what this process has
observed. The predicates are those of docs/mogilefs.md 8.1 to 8.4.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from functools import cached_property
from types import MappingProxyType

from tawara.model import fid as fids
from tawara.model.health import DiskHealth
from tawara.model.zones import Zones

MIB = 1024 * 1024


class HostState(StrEnum):
    """Configured state of a host (schema: `host.status`)."""

    ALIVE = "alive"
    DEAD = "dead"
    DOWN = "down"
    READONLY = "readonly"


class DeviceState(StrEnum):
    """Configured state of a device (schema: `device.status`)."""

    ALIVE = "alive"
    DEAD = "dead"
    DOWN = "down"
    READONLY = "readonly"
    DRAIN = "drain"


class Observed(StrEnum):
    """What the monitor last saw of a device; kept in memory, never in the database."""

    WRITEABLE = "writeable"
    READABLE = "readable"
    UNREACHABLE = "unreachable"


class HashType(IntEnum):
    """A checksum's algorithm (schema: `class.hashtype`, `checksum.hashtype`)."""

    MD5 = 1
    SHA1 = 2

    @property
    def wire(self) -> str:
        """The name on the wire: `MD5`, `SHA-1`."""
        return "SHA-1" if self is HashType.SHA1 else self.name

    @property
    def hashlib(self) -> str:
        """The name that `hashlib.new` knows."""
        return self.name.lower()

    @property
    def digest_size(self) -> int:
        """Bytes of a digest."""
        return 16 if self is HashType.MD5 else 20

    @classmethod
    def from_wire(cls, name: str) -> HashType | None:
        """The type that is called `name` on the wire, or None."""
        return next((each for each in cls if each.wire == name), None)


@dataclass(frozen=True, slots=True)
class Checksum:
    """The digest of a fid's bytes (schema: `checksum`)."""

    hashtype: HashType
    digest: bytes

    def __str__(self) -> str:
        return f"{self.hashtype.wire}:{self.digest.hex()}"

    @classmethod
    def parse(cls, text: str) -> Checksum | None:
        """Read `MD5:hex` or `SHA-1:hex`; None if it is not of that form."""
        name, _, digits = text.partition(":")
        hashtype = HashType.from_wire(name)
        try:
            digest = bytes.fromhex(digits)
        except ValueError:
            return None
        if hashtype is None or len(digest) != hashtype.digest_size or len(digits) != 2 * len(digest):
            return None
        return cls(hashtype, digest)


@dataclass(frozen=True, slots=True)
class StorageClass:
    """A storage class of a domain (schema: `class`); classid 0 is the class `default`."""

    classid: int
    name: str
    mindevcount: int
    replpolicy: str | None = None
    hashtype: HashType | None = None

    @property
    def policy(self) -> str:
        """The replication policy's text, `MultipleHosts()` when none was given."""
        return self.replpolicy or "MultipleHosts()"


DEFAULT_CLASS = "default"


@dataclass(frozen=True, slots=True)
class Domain:
    """A namespace of keys (schema: `domain`), with its classes by classid; a class with id 0 is always there."""

    dmid: int
    name: str
    classes: Mapping[int, StorageClass]

    def class_named(self, name: str) -> StorageClass | None:
        """The class called `name`; the empty name means the default class."""
        wanted = name or DEFAULT_CLASS
        return next((each for each in self.classes.values() if each.name == wanted), None)


@dataclass(frozen=True, slots=True)
class Host:
    """A storage machine (schema: `host`). `ip` may be an IPv6 address or a name in our own schema."""

    hostid: int
    name: str
    state: HostState
    ip: str
    http_port: int = 7500
    http_get_port: int | None = None
    altip: str | None = None
    altmask: str | None = None

    def address_for(self, client_ip: str | None = None, *, alternative: bool = False) -> str:
        """The address that a client should use: `altip` if asked for, or if the client is inside `altmask`
        (docs/mogilefs.md 8.4)."""
        if not self.altip or not self.altmask:
            return self.ip
        try:
            network = ipaddress.ip_network(self.altmask, strict=False)
        except ValueError:
            return self.ip
        if alternative:
            return self.altip
        try:
            return self.altip if client_ip and ipaddress.ip_address(client_ip) in network else self.ip
        except ValueError:
            return self.ip


@dataclass(frozen=True, slots=True)
class Device:
    """One disk of a host (schema: `device`). Sizes are MiB, `mb_asof` unix seconds; None means not known."""

    devid: int
    hostid: int
    state: DeviceState
    weight: int = 100
    mb_total: int | None = None
    mb_used: int | None = None
    mb_asof: int | None = None

    @property
    def mb_free(self) -> int | None:
        """Free MiB, None if the size is not known."""
        if self.mb_total is None or self.mb_used is None:
            return None
        return self.mb_total - self.mb_used

    @property
    def percent_free(self) -> float:
        """The free share, 0.0 to 1.0; 0.0 if the size is not known (docs/mogilefs.md 9.1)."""
        if not self.mb_total or self.mb_used is None:
            return 0.0
        return max(0.0, 1.0 - self.mb_used / self.mb_total)


@dataclass(frozen=True, slots=True)
class Observation:
    """What the monitor knows of one device."""

    state: Observed
    utilization: float | None = None
    """Percent of time that the disk is busy, from the side channel's `watch`."""
    rejects_bad_md5: bool = False
    """Whether the node refuses a PUT with a wrong Content-MD5, so that a copy needs no reading back."""
    health: DiskHealth | None = None
    """Health reported by the disk; None if it is not queried."""
    file_system: str | None = None
    """The id of the file system that the device is on: devices of one id share their space. None if not known."""
    disk: str | None = None
    """The id of the disk that the device is on: devices of one id are lost together. None if not known."""
    trouble: str | None = None
    """Why the device cannot be used, for operators; None if it can or the reason is unknown."""


class Liveness(StrEnum):
    """What is thought of a device that does not answer, or did not (schema: `tawara_absent.standing`)."""

    SUSPECT = "suspect"
    """No process reaches it; the time is being counted."""
    PRESUMED_DEAD = "presumed dead"
    """Its copies do not count, and its files get new ones."""
    TRUSTED = "trusted"
    """No process reaches it, and an operator trusts it to return: its copies count, however long it takes."""
    RETURNED = "returned"
    """It is back and its copies count; its files are yet to be looked at for copies too many."""


@dataclass(frozen=True, slots=True)
class DeviceAbsence:
    """A device that does not answer, as all processes together know it (schema: `tawara_absent`)."""

    standing: Liveness
    seconds: int = 0
    """For how long it was observed to be absent, as far as it matters."""
    to_queue: bool = False
    """Whether files of it are yet to be queued for replication."""
    since: int = 0
    """When it was first missed: unix seconds by the database's clock, for display only."""


STALE = "tawara_stale"
"""Setting: why the database is known to be older than what its devices hold. While it is there nothing is written."""


@dataclass(frozen=True)
class Cluster:
    """One snapshot of everything that decisions about files need."""

    domains: Mapping[str, Domain] = field(default_factory=dict)
    hosts: Mapping[int, Host] = field(default_factory=dict)
    devices: Mapping[int, Device] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    observed: Mapping[int, Observation] = field(default_factory=dict)
    """By devid. A device that was never observed is missing: it is neither read nor written."""
    identities: Mapping[int, str] = field(default_factory=dict)
    """By devid, of devices that have shown one: the id by which the disk is known again."""
    absences: Mapping[int, DeviceAbsence] = field(default_factory=dict)
    """By devid, of devices that no process reached lately."""
    min_free_mb: int = 100
    """Free MiB below which a device gets no new files."""

    @property
    def stale(self) -> str:
        """Why the database is known to be older than what its devices hold; empty if it is not."""
        return self.settings.get(STALE, "")

    @cached_property
    def domains_by_id(self) -> Mapping[int, Domain]:
        """The domains by dmid."""
        return MappingProxyType({domain.dmid: domain for domain in self.domains.values()})

    @cached_property
    def hosts_by_name(self) -> Mapping[str, Host]:
        """The hosts by name."""
        return MappingProxyType({host.name: host for host in self.hosts.values()})

    @cached_property
    def disks(self) -> Mapping[int, int]:
        """Of devices that share their disk with others: the lowest devid on that disk, by devid."""
        return self._sharing({devid: seen.disk or seen.file_system for devid, seen in self.observed.items()})

    @cached_property
    def file_systems(self) -> Mapping[int, int]:
        """Of devices that share their file system with others: the lowest devid on it, by devid."""
        return self._sharing({devid: seen.file_system for devid, seen in self.observed.items()})

    def _sharing(self, places: Mapping[int, str | None]) -> Mapping[int, int]:
        batched: dict[str, list[int]] = {}
        for devid in sorted(self.devices):
            if (place := places.get(devid)) is not None and not self.is_lost(devid):
                batched.setdefault(place, []).append(devid)
        return {devid: devids[0] for devids in batched.values() if len(devids) > 1 for devid in devids}

    @cached_property
    def accepting(self) -> tuple[Device, ...]:
        """The devices of known size that may get new files now, the emptiest (by their free share) first."""
        found = (each for each in self.devices.values() if each.mb_free is not None)
        return tuple(sorted(filter(self._accepts, found), key=lambda device: device.percent_free, reverse=True))

    @cached_property
    def accepting_of_unknown_size(self) -> tuple[Device, ...]:
        """The devices of unknown size that may get new files now."""
        return tuple(filter(self._accepts, (each for each in self.devices.values() if each.mb_free is None)))

    @cached_property
    def free_shares(self) -> Mapping[int, float]:
        """The free share of each device in `accepting`, by devid."""
        return {device.devid: device.percent_free for device in self.accepting}

    @cached_property
    def free_bytes(self) -> Mapping[int, int]:
        """The free bytes of each device in `accepting`, by devid."""
        return {device.devid: device.mb_free * MIB for device in self.accepting if device.mb_free is not None}

    @cached_property
    def accepting_by_host(self) -> Mapping[int, tuple[Device, ...]]:
        """The devices that may get new files now by hostid, the emptiest first."""
        found: dict[int, list[Device]] = {}
        for device in self.accepting + self.accepting_of_unknown_size:
            found.setdefault(device.hostid, []).append(device)
        return {hostid: tuple(devices) for hostid, devices in found.items()}

    def _accepts(self, device: Device) -> bool:
        return self.should_get_new_files(device.devid)

    @cached_property
    def can_place(self) -> dict[StorageClass, bool]:
        """What `policy.can_place` has found for this cluster, by class."""
        return {}

    @cached_property
    def alive(self) -> tuple[int, ...]:
        """The devids of devices in state alive that are not presumed dead."""
        return tuple(
            devid
            for devid, device in self.devices.items()
            if device.state is DeviceState.ALIVE and not self.is_presumed_dead(devid)
        )

    @cached_property
    def hosts_alive(self) -> frozenset[int]:
        """The hostids of the devices in `alive`."""
        return frozenset(self.devices[devid].hostid for devid in self.alive)

    @cached_property
    def total_disks(self) -> int:
        """How many devices could have a copy: those that are not dead, nor presumed so."""
        return sum(map(self.counts_as_replica, self.devices))

    @cached_property
    def zones(self) -> Mapping[int, str]:
        """The network zone of each device, by devid. A device of a host that is not known has a zone of its own."""
        zones = Zones.of(self.settings)
        found: dict[int, str] = {}
        for devid, device in self.devices.items():
            host = self.hosts.get(device.hostid)
            found[devid] = zones.zone_of(host.ip) if host else f"host {device.hostid}"
        return found

    def with_observations(self, observed: Mapping[int, Observation]) -> Cluster:
        """The same rows, seen with other eyes."""
        return replace(self, observed=observed)

    def storage_class(self, dmid: int, classid: int) -> StorageClass | None:
        """The class of a file row, None if its domain or class is gone."""
        domain = self.domains_by_id.get(dmid)
        return domain.classes.get(classid) if domain else None

    def host_of(self, device: Device) -> Host | None:
        """The host that a device sits in."""
        return self.hosts.get(device.hostid)

    # --- the predicates that everything uses (docs/mogilefs.md 8.3) ---------------------------------------------------

    def can_read_from(self, devid: int) -> bool:
        """Whether its configured state allows reading from the device."""
        device = self.devices.get(devid)
        host = device and self.hosts.get(device.hostid)
        return bool(
            device
            and host
            and host.state in (HostState.ALIVE, HostState.READONLY)
            and device.state in (DeviceState.ALIVE, DeviceState.READONLY, DeviceState.DRAIN)
        )

    def should_read_from(self, devid: int) -> bool:
        """Whether a read from the device is allowed and likely to succeed."""
        seen = self.observed.get(devid)
        return self.can_read_from(devid) and seen is not None and seen.state is not Observed.UNREACHABLE

    def can_delete_from(self, devid: int) -> bool:
        """Whether its configured state allows deleting from the device."""
        device = self.devices.get(devid)
        host = device and self.hosts.get(device.hostid)
        return bool(
            device and host and host.state is HostState.ALIVE and device.state in (DeviceState.ALIVE, DeviceState.DRAIN)
        )

    def is_writeable(self, devid: int) -> bool:
        """Whether the monitor has lately written a test file there."""
        seen = self.observed.get(devid)
        return seen is not None and seen.state is Observed.WRITEABLE

    def unusable(self) -> frozenset[int]:
        """The devices that cannot be written, but for those that are lost for good."""
        return frozenset(devid for devid in self.devices if not self.is_writeable(devid) and not self.is_lost(devid))

    def should_get_new_files(self, devid: int) -> bool:
        """Whether new files and replicas may go to the device: alive, writeable, and not full."""
        device = self.devices.get(devid)
        host = device and self.hosts.get(device.hostid)
        if not device or not host:
            return False
        free = device.mb_free
        return (
            device.state is DeviceState.ALIVE
            and host.state is HostState.ALIVE
            and self.is_writeable(devid)
            and not self.is_presumed_dead(devid)
            and (free is None or free >= self.min_free_mb)
        )

    def is_lost(self, devid: int) -> bool:
        """Whether what was on the device is gone for good: an operator declared it dead, or it is not known
        (docs/mogilefs.md 8.1)."""
        device = self.devices.get(devid)
        return device is None or device.state is DeviceState.DEAD

    def is_presumed_dead(self, devid: int) -> bool:
        """Whether the device was away so long that its files get new copies; its configured state takes precedence."""
        absence = self.absences.get(devid)
        return absence is not None and absence.standing is Liveness.PRESUMED_DEAD and self.can_read_from(devid)

    def counts_as_replica(self, devid: int) -> bool:
        """Whether a copy there counts for the replication policy: any device that is neither lost nor presumed so."""
        return not self.is_lost(devid) and not self.is_presumed_dead(devid)

    # --- addresses (docs/mogilefs.md 8.4) -----------------------------------------------------------------------------

    def url(
        self, devid: int, fid: int, *, get: bool = False, client_ip: str | None = None, alternative: bool = False
    ) -> str | None:
        """The URL of a fid on a device, None if the device or its host is not known.

        `get` chooses the host's GET port; `client_ip` and `alternative` (the request's `zone=alt`) choose the address.
        """
        origin = self.origin(devid, get=get, client_ip=client_ip, alternative=alternative)
        return None if origin is None else origin + fids.path(devid, fid)

    def origin(
        self, devid: int, *, get: bool = False, client_ip: str | None = None, alternative: bool = False
    ) -> str | None:
        """The same without the path: where the storage node of a device answers."""
        device = self.devices.get(devid)
        host = device and self.hosts.get(device.hostid)
        if not host:
            return None
        address = host.address_for(client_ip, alternative=alternative)
        if ":" in address:
            address = f"[{address}]"
        port = (host.http_get_port if get else None) or host.http_port
        return f"http://{address}:{port}"
