"""The cluster: domains, classes, hosts, devices and settings, and predicates on which operations a device allows.

All values are frozen: a `Cluster` is a snapshot of the rows in the database and of the observations of this process.
The predicates are those of docs/mogilefs.md 8.1 to 8.4.
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
    """State of a device as last observed by the monitor; kept in memory, never in the database."""

    WRITEABLE = "writeable"
    READABLE = "readable"
    UNREACHABLE = "unreachable"


class HashType(IntEnum):
    """Checksum algorithm (schema: `class.hashtype`, `checksum.hashtype`).

    MogileFS knows 1 and 2, and reserves the next numbers; the CRCs are unknown to it.
    """

    MD5 = 1
    SHA1 = 2
    CRC32C = 101
    CRC64NVME = 102

    @property
    def wire(self) -> str:
        """Name in the protocol: `MD5`, `SHA-1`, `CRC32C`, `CRC64NVME`."""
        return "SHA-1" if self is HashType.SHA1 else self.name

    @property
    def digest_size(self) -> int:
        """Length of a digest in bytes."""
        return {HashType.MD5: 16, HashType.SHA1: 20, HashType.CRC32C: 4, HashType.CRC64NVME: 8}[self]

    @property
    def combines(self) -> bool:
        """Whether the checksum of joined data follows from the checksums of its parts."""
        return self in (HashType.CRC32C, HashType.CRC64NVME)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all algorithms in the protocol."""
        return tuple(each.wire for each in cls)

    @classmethod
    def from_wire(cls, name: str) -> HashType | None:
        """Return the algorithm with this name in the protocol, or None."""
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
        """Parse `NAME:hex`, such as `MD5:900150983cd24fb0d6963f7d28e17f72`; None if malformed."""
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
        """The replication policy as text; `MultipleHosts()` by default."""
        return self.replpolicy or "MultipleHosts()"


DEFAULT_CLASS = "default"


@dataclass(frozen=True, slots=True)
class Domain:
    """A namespace of keys (schema: `domain`), with its classes by classid; class 0 always exists."""

    dmid: int
    name: str
    classes: Mapping[int, StorageClass]

    def class_named(self, name: str) -> StorageClass | None:
        """Return the class with this name; an empty name means the default class."""
        wanted = name or DEFAULT_CLASS
        return next((each for each in self.classes.values() if each.name == wanted), None)


@dataclass(frozen=True, slots=True)
class Host:
    """A storage machine (schema: `host`). `ip` may be an IPv6 address or a host name in Tawara's own schema."""

    hostid: int
    name: str
    state: HostState
    ip: str
    http_port: int = 7500
    http_get_port: int | None = None
    altip: str | None = None
    altmask: str | None = None

    def address_for(self, client_ip: str | None = None, *, alternative: bool = False) -> str:
        """Return the address for a client: `altip` if `alternative`, or if the client is inside `altmask`
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
    """One disk of a host (schema: `device`). Sizes are MiB, `mb_asof` is unix seconds; None means unknown."""

    devid: int
    hostid: int
    state: DeviceState
    weight: int = 100
    mb_total: int | None = None
    mb_used: int | None = None
    mb_asof: int | None = None

    @property
    def mb_free(self) -> int | None:
        """Free MiB; None if the size is unknown."""
        if self.mb_total is None or self.mb_used is None:
            return None
        return self.mb_total - self.mb_used

    @property
    def percent_free(self) -> float:
        """Free share, 0.0 to 1.0; 0.0 if the size is unknown (docs/mogilefs.md 9.1)."""
        if not self.mb_total or self.mb_used is None:
            return 0.0
        return max(0.0, 1.0 - self.mb_used / self.mb_total)


@dataclass(frozen=True, slots=True)
class Observation:
    """The monitor's observation of one device."""

    state: Observed
    utilization: float | None = None
    """Percent of time that the disk is busy, as reported by the side channel's `watch`."""
    rejects_bad_md5: bool = False
    """Whether the node rejects a PUT with a wrong Content-MD5, so that a copy need not be read back."""
    health: DiskHealth | None = None
    """Health reported by the disk; None if it is not queried."""
    file_system: str | None = None
    """Id of the device's file system; None if unknown. Devices with the same id share their space."""
    disk: str | None = None
    """Id of the device's disk; None if unknown. Devices with the same id are lost together."""
    trouble: str | None = None
    """Reason why the device cannot be used, for operators; None if it can be used or the reason is unknown."""


class Liveness(StrEnum):
    """Failure-detector state of an unreachable or returned device (column `standing` of `tawara_absent`)."""

    SUSPECT = "suspect"
    """No process reaches the device; its time of absence is counted."""
    PRESUMED_DEAD = "presumed dead"
    """Its copies do not count, and its files are replicated elsewhere."""
    TRUSTED = "trusted"
    """No process reaches the device, but an operator expects it to return: its copies count without time limit."""
    RETURNED = "returned"
    """The device is reachable again and its copies count; surplus copies of its files are still to be removed."""


@dataclass(frozen=True, slots=True)
class DeviceAbsence:
    """The absence of a device, as shared by all processes (schema: `tawara_absent`)."""

    liveness: Liveness
    seconds: int = 0
    """Observed seconds of absence, counted up to the limit for being presumed dead."""
    to_queue: bool = False
    """Whether its files are still to be queued for replication."""
    since: int = 0
    """Start of the absence: unix seconds by the database's clock, for display only."""


STALE = "tawara_stale"
"""Setting: reason why the database is known to be older than its devices. While it is set, nothing is written."""


@dataclass(frozen=True)
class Cluster:
    """A snapshot of everything that decisions about files depend on."""

    domains: Mapping[str, Domain] = field(default_factory=dict)
    hosts: Mapping[int, Host] = field(default_factory=dict)
    devices: Mapping[int, Device] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    observed: Mapping[int, Observation] = field(default_factory=dict)
    """By devid. A device that was never observed is missing; it is neither read nor written."""
    identities: Mapping[int, str] = field(default_factory=dict)
    """Disk ids by devid, of devices that have reported one; used to detect a replaced disk."""
    absences: Mapping[int, DeviceAbsence] = field(default_factory=dict)
    """By devid, of devices that are or recently were unreachable."""
    min_free_mb: int = 100
    """Minimum free MiB for a device to get new files."""

    @property
    def stale(self) -> str:
        """Reason why the database is known to be older than its devices; empty if it is current."""
        return self.settings.get(STALE, "")

    @cached_property
    def domains_by_id(self) -> Mapping[int, Domain]:
        """The domains by dmid."""
        return MappingProxyType({domain.dmid: domain for domain in self.domains.values()})

    @cached_property
    def domains_by_encoded_name(self) -> Mapping[bytes, Domain]:
        """The domains by their names as requests carry them."""
        return MappingProxyType(
            {name.encode("utf-8", "surrogateescape"): domain for name, domain in self.domains.items()}
        )

    @cached_property
    def hosts_by_name(self) -> Mapping[str, Host]:
        """The hosts by name."""
        return MappingProxyType({host.name: host for host in self.hosts.values()})

    @cached_property
    def disks(self) -> Mapping[int, int]:
        """Lowest devid on the same disk, by devid; only for devices that share a disk."""
        return self._sharing({devid: seen.disk or seen.file_system for devid, seen in self.observed.items()})

    @cached_property
    def file_systems(self) -> Mapping[int, int]:
        """Lowest devid on the same file system, by devid; only for devices that share a file system."""
        return self._sharing({devid: seen.file_system for devid, seen in self.observed.items()})

    def _sharing(self, places: Mapping[int, str | None]) -> Mapping[int, int]:
        batched: dict[str, list[int]] = {}
        for devid in sorted(self.devices):
            if (place := places.get(devid)) is not None and not self.is_lost(devid):
                batched.setdefault(place, []).append(devid)
        return {devid: devids[0] for devids in batched.values() if len(devids) > 1 for devid in devids}

    @cached_property
    def accepting(self) -> tuple[Device, ...]:
        """The devices of known size that may get new files now, by free share, emptiest first."""
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
        """The devices that may get new files now, by hostid, emptiest first."""
        found: dict[int, list[Device]] = {}
        for device in self.accepting + self.accepting_of_unknown_size:
            found.setdefault(device.hostid, []).append(device)
        return {hostid: tuple(devices) for hostid, devices in found.items()}

    @cached_property
    def _readable(self) -> frozenset[int]:
        reached = (devid for devid, seen in self.observed.items() if seen.state is not Observed.UNREACHABLE)
        return frozenset(filter(self.can_read_from, reached))

    def _accepts(self, device: Device) -> bool:
        return self.should_get_new_files(device.devid)

    @cached_property
    def can_place(self) -> dict[StorageClass, bool]:
        """Cached results of `policy.can_place` for this cluster, by class."""
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
        """Number of devices that are neither dead nor presumed dead."""
        return sum(map(self.counts_as_replica, self.devices))

    @cached_property
    def zones(self) -> Mapping[int, str]:
        """Network zone by devid. A device of an unknown host is in its own zone."""
        zones = Zones.of(self.settings)
        found: dict[int, str] = {}
        for devid, device in self.devices.items():
            host = self.hosts.get(device.hostid)
            found[devid] = zones.zone_of(host.ip) if host else f"host {device.hostid}"
        return found

    def with_observations(self, observed: Mapping[int, Observation]) -> Cluster:
        """Return the cluster with other observations."""
        return replace(self, observed=observed)

    def storage_class(self, dmid: int, classid: int) -> StorageClass | None:
        """Return a storage class; None if its domain or class was deleted."""
        domain = self.domains_by_id.get(dmid)
        return domain.classes.get(classid) if domain else None

    def has_name(self, domain: str, storage_class: str = "") -> bool:
        """Return whether the domain exists, and its class of this name if one is given."""
        found = self.domains.get(domain)
        return found is not None and (not storage_class or found.class_named(storage_class) is not None)

    def host_of(self, device: Device) -> Host | None:
        """Return the host of a device; None if unknown."""
        return self.hosts.get(device.hostid)

    # --- predicates on devices (docs/mogilefs.md 8.3) -----------------------------------------------------------------

    def can_read_from(self, devid: int) -> bool:
        """Whether the configured state of the device allows reading."""
        device = self.devices.get(devid)
        host = device and self.hosts.get(device.hostid)
        return bool(
            device
            and host
            and host.state in (HostState.ALIVE, HostState.READONLY)
            and device.state in (DeviceState.ALIVE, DeviceState.READONLY, DeviceState.DRAIN)
        )

    def should_read_from(self, devid: int) -> bool:
        """Whether reading from the device is allowed and likely to succeed."""
        return devid in self._readable

    def can_delete_from(self, devid: int) -> bool:
        """Whether the configured state of the device allows deleting."""
        device = self.devices.get(devid)
        host = device and self.hosts.get(device.hostid)
        return bool(
            device and host and host.state is HostState.ALIVE and device.state in (DeviceState.ALIVE, DeviceState.DRAIN)
        )

    def is_writeable(self, devid: int) -> bool:
        """Whether the monitor's last write test on the device succeeded."""
        seen = self.observed.get(devid)
        return seen is not None and seen.state is Observed.WRITEABLE

    def unusable(self) -> frozenset[int]:
        """The devices that cannot be written, except lost ones."""
        return frozenset(devid for devid in self.devices if not self.is_writeable(devid) and not self.is_lost(devid))

    def should_get_new_files(self, devid: int) -> bool:
        """Whether the device may get new files and replicas: alive, writeable and not full."""
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
        """Whether the device's data is permanently lost: an operator declared it dead, or it is unknown
        (docs/mogilefs.md 8.1)."""
        device = self.devices.get(devid)
        return device is None or device.state is DeviceState.DEAD

    def is_presumed_dead(self, devid: int) -> bool:
        """Whether the device was absent long enough to be presumed dead; its configured state takes precedence."""
        absence = self.absences.get(devid)
        return absence is not None and absence.liveness is Liveness.PRESUMED_DEAD and self.can_read_from(devid)

    def counts_as_replica(self, devid: int) -> bool:
        """Whether a copy on the device counts for the replication policy: neither lost nor presumed dead."""
        return not self.is_lost(devid) and not self.is_presumed_dead(devid)

    # --- addresses (docs/mogilefs.md 8.4) -----------------------------------------------------------------------------

    def url(
        self, devid: int, fid: int, *, get: bool = False, client_ip: str | None = None, alternative: bool = False
    ) -> str | None:
        """Return the URL of a fid on a device; None if the device or its host is unknown.

        `get` selects the host's GET port; `client_ip` and `alternative` (the request's `zone=alt`) select the address.
        """
        origin = self.origin(devid, get=get, client_ip=client_ip, alternative=alternative)
        return None if origin is None else origin + fids.path(devid, fid)

    def origin(
        self, devid: int, *, get: bool = False, client_ip: str | None = None, alternative: bool = False
    ) -> str | None:
        """Return the base URL of a device's storage node, without a path."""
        device = self.devices.get(devid)
        host = device and self.hosts.get(device.hostid)
        if not host:
            return None
        address = host.address_for(client_ip, alternative=alternative)
        if ":" in address:
            address = f"[{address}]"
        port = (host.http_get_port if get else None) or host.http_port
        return f"http://{address}:{port}"
