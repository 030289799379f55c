"""Parses tracker replies about files and the cluster into frozen values (docs/mogilefs.md 3 and 4). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tawara.client.reply import Reply, number_of, numbered, rows_of, text_of
from tawara.model.cluster import Checksum, DeviceState, HashType, Host, HostState, Observed
from tawara.model.health import DiskHealth


def key_bytes(key: str | bytes) -> bytes:
    """Encode a key as UTF-8. Text from `key_text` is restored to the original bytes."""
    return key.encode("utf-8", "surrogateescape") if isinstance(key, str) else key


def key_text(key: bytes) -> str:
    """Decode a key to text; bytes that are not UTF-8 become lone surrogates, as in Python's file names."""
    return key.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A stored file."""

    domain: str
    key: str
    fid: int
    """The number of this content; a key that gets new content gets a new fid."""
    length: int
    """Bytes."""
    storage_class: str
    copies: int
    """Number of replicas, as last counted by the tracker."""
    checksum: Checksum | None = None
    devids: tuple[int, ...] = ()
    """The devices of the replicas, if requested."""
    stored_at: int | None = None
    """When the key got this content, unix seconds; None if not reported."""
    mtime_ns: int | None = None
    """Modification time of the uploaded file, unix nanoseconds; None if its client did not send it."""
    content_type: str | None = None
    """The media type given by the uploader; None if it gave none."""
    signed_urls: Mapping[int, str] = field(default_factory=dict, repr=False, compare=False)
    """Devid -> URL of the replica, with `devids` from a tracker that signs URLs; empty from others."""

    @classmethod
    def read(cls, reply: Reply) -> FileInfo:
        """Parse the reply to file_info."""
        checksum = Checksum.parse(text_of(reply, "checksum"))
        return cls(
            domain=text_of(reply, "domain"),
            key=key_text(reply["key"]),
            fid=int(reply["fid"]),
            length=int(reply["length"]),
            storage_class=text_of(reply, "class"),
            copies=int(reply["devcount"]),
            checksum=checksum,
            devids=(devids := tuple(int(each) for each in reply.get("devids", b"").split(b",") if each)),
            signed_urls={devid: text_of(reply, f"devpath_{devid}") for devid in devids if f"devpath_{devid}" in reply},
            stored_at=number_of(reply, "stored_at"),
            mtime_ns=number_of(reply, "mtime_ns"),
            content_type=text_of(reply, "content_type") or None,
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """Result of `put`."""

    fid: int
    length: int
    """Bytes."""
    checksum: Checksum | None = None
    """The checksum, if requested."""


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """A storage class of a domain."""

    name: str
    mindevcount: int
    """Minimum number of copies."""
    replpolicy: str
    hashtype: HashType | None


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """A domain and its classes."""

    name: str
    classes: tuple[ClassInfo, ...]

    @staticmethod
    def read(reply: Reply) -> list[DomainInfo]:
        """Parse the reply to get_domains."""
        return [
            DomainInfo(
                text_of(reply, f"domain{number}"),
                tuple(
                    ClassInfo(
                        text_of(reply, f"domain{number}class{each}name"),
                        int(reply[f"domain{number}class{each}mindevcount"]),
                        text_of(reply, f"domain{number}class{each}replpolicy"),
                        HashType.from_wire(text_of(reply, f"domain{number}class{each}hashtype")),
                    )
                    for each in numbered(reply, f"domain{number}classes")
                ),
            )
            for number in numbered(reply, "domains")
        ]


def read_hosts(reply: Reply) -> list[Host]:
    """Parse the reply to get_hosts."""
    return [
        Host(
            hostid=int(row["hostid"]),
            name=row.text("hostname"),
            state=HostState(row.text("status")),
            ip=row.text("hostip"),
            http_port=int(row["http_port"]),
            http_get_port=row.number("http_get_port"),
            altip=row.text("altip") or None,
            altmask=row.text("altmask") or None,
        )
        for row in rows_of(reply, "hosts", "host{}_")
    ]


_HEALTH = ("health", "temperature", "health_detail", "health_time")


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device: its configured state and what the tracker's monitor observes. Sizes are MiB."""

    devid: int
    hostid: int
    state: DeviceState
    weight: int
    mb_total: int | None
    mb_used: int | None
    observed: Observed | None
    """State seen by the tracker's monitor; None before its first check."""
    utilization: float | None
    """Percent of time that the disk is busy."""
    health: DiskHealth | None = None
    """Health reported by the disk; None if it is not queried."""
    mb_asof: int | None = None
    """When capacity and use were last measured, unix seconds; None if not reported."""
    trouble: str = ""
    """Reason why the device cannot be used, if known; else empty."""
    file_system: str = ""
    """Id of the device's file system; empty if unknown. Devices with the same id share their space."""
    disk: str = ""
    """Id of the device's disk; empty if unknown. Devices with the same id are lost together."""

    @staticmethod
    def read(reply: Reply) -> list[DeviceInfo]:
        """Parse the reply to get_devices."""
        return [
            DeviceInfo(
                devid=int(row["devid"]),
                hostid=int(row["hostid"]),
                state=DeviceState(row.text("status")),
                weight=row.number("weight") or 0,
                mb_total=row.number("mb_total"),
                mb_used=row.number("mb_used"),
                observed=Observed(seen) if (seen := row.text("observed_state")) else None,
                utilization=float(busy) if (busy := row.text("utilization")) else None,
                health=DiskHealth.read({name: row.text(name) for name in _HEALTH}),
                mb_asof=row.number("mb_asof"),
                trouble=row.text("trouble"),
                file_system=row.text("file_system"),
                disk=row.text("whole_disk"),
            )
            for row in rows_of(reply, "devices", "dev{}_")
        ]


@dataclass(frozen=True, slots=True)
class Destination:
    """A device and URL that create_open offers for an upload."""

    devid: int
    url: str


def read_opened(reply: Reply) -> tuple[int, list[Destination]]:
    """Parse the reply to create_open into the fid and the destinations, best first. Raises ValueError for none."""
    destinations = [
        Destination(int(reply[f"devid_{number}"]), text_of(reply, f"path_{number}"))
        for number in numbered(reply, "dev_count")
    ]
    if not destinations:
        raise ValueError("no destination")
    return int(reply["fid"]), destinations


def read_paths(reply: Reply) -> list[str]:
    """Parse the reply to get_paths, best replica first."""
    return [text_of(reply, f"path{number}") for number in numbered(reply, "paths")]


def read_keys(reply: Reply) -> list[bytes]:
    """Parse the reply to list_keys, in order."""
    return [reply[f"key_{number}"] for number in numbered(reply, "key_count")]


def read_settings(reply: Reply) -> dict[str, str]:
    """Parse the reply to server_settings."""
    return {
        text_of(reply, f"key_{number}"): text_of(reply, f"value_{number}") for number in numbered(reply, "key_count")
    }


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file as listed by list_fids."""

    fid: int
    domain: str
    key: str

    @staticmethod
    def read(reply: Reply) -> list[ListedFile]:
        """Parse the reply to list_fids."""
        return [
            ListedFile(int(row["fid"]), row.text("domain"), key_text(row["key"]))
            for row in rows_of(reply, "fid_count", "fid_{}_")
        ]
