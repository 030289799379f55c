"""What trackers answer, as values. Pure: reply arguments in, frozen values out (reference: sections 3 and 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from tawara.model.cluster import Absence, Checksum, DeviceState, HashType, Host, HostState, Observed, Standing
from tawara.model.explanation import Explanation, Sentence, Topic, Verdict
from tawara.model.health import DiskHealth
from tawara.model.rebalance import State

Reply: TypeAlias = Mapping[str, bytes]


def key_bytes(key: str | bytes) -> bytes:
    """A key as it is stored: text is UTF-8. Text that `key_text` made comes back as it was, whatever it was."""
    return key.encode("utf-8", "surrogateescape") if isinstance(key, str) else key


def key_text(key: bytes) -> str:
    """A key as text; bytes that are not UTF-8 become lone surrogates, as in Python's file names."""
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
    """How many replicas there are, as the tracker last counted them."""
    checksum: Checksum | None = None
    devids: tuple[int, ...] = ()
    """The devices of the replicas, if they were asked for."""
    stored_at: int | None = None
    """When the key got this content, unix seconds; None if the tracker does not tell."""

    @classmethod
    def read(cls, reply: Reply) -> FileInfo:
        """From the reply to file_info."""
        checksum = Checksum.parse(_text(reply, "checksum"))
        return cls(
            domain=_text(reply, "domain"),
            key=key_text(reply["key"]),
            fid=int(reply["fid"]),
            length=int(reply["length"]),
            storage_class=_text(reply, "class"),
            copies=int(reply["devcount"]),
            checksum=checksum,
            devids=tuple(int(each) for each in reply.get("devids", b"").split(b",") if each),
            stored_at=_number(reply, "stored_at"),
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """What `put` stored."""

    fid: int
    length: int
    """Bytes."""
    checksum: Checksum | None = None
    """If one was asked for."""


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """A storage class of a domain."""

    name: str
    mindevcount: int
    """Copies."""
    replpolicy: str
    hashtype: HashType | None


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """A domain and its classes."""

    name: str
    classes: tuple[ClassInfo, ...]

    @staticmethod
    def read(reply: Reply) -> list[DomainInfo]:
        """From the reply to get_domains."""
        return [
            DomainInfo(
                _text(reply, f"domain{number}"),
                tuple(
                    ClassInfo(
                        _text(reply, f"domain{number}class{each}name"),
                        int(reply[f"domain{number}class{each}mindevcount"]),
                        _text(reply, f"domain{number}class{each}replpolicy"),
                        HashType.from_wire(_text(reply, f"domain{number}class{each}hashtype")),
                    )
                    for each in _count(reply, f"domain{number}classes")
                ),
            )
            for number in _count(reply, "domains")
        ]


def read_hosts(reply: Reply) -> list[Host]:
    """From the reply to get_hosts."""
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
        for row in _rows(reply, "hosts", "host{}_")
    ]


_HEALTH = ("health", "temperature", "health_detail", "health_time")


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device: what people decided, and what the tracker's monitor sees of it. Sizes are MiB."""

    devid: int
    hostid: int
    state: DeviceState
    weight: int
    mb_total: int | None
    mb_used: int | None
    observed: Observed | None
    """None before the monitor has looked."""
    utilization: float | None
    """Percent of time that the disk is busy."""
    health: DiskHealth | None = None
    """How the disk says it is; None if nobody asks it."""
    mb_asof: int | None = None
    """When it was seen how full it is, unix seconds; None if the tracker does not tell."""
    trouble: str = ""
    """Why it cannot be used, as far as the tracker knows."""

    @staticmethod
    def read(reply: Reply) -> list[DeviceInfo]:
        """From the reply to get_devices."""
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
            )
            for row in _rows(reply, "devices", "dev{}_")
        ]


@dataclass(frozen=True, slots=True)
class DrainStatus:
    """How the emptying of a device stands. Times are unix seconds."""

    devid: int
    began: int
    files: int
    """Replicas that it had at the beginning."""
    left: int
    """Replicas that are still on it."""
    waiting: int
    """Of these, those whose move waits or is under way."""
    failed: int
    """Of these, those whose move failed, and is tried again."""
    uploads: int
    """Uploads under way that may still go there."""
    copies: int
    """Places on it whose bytes are still to be deleted."""
    safe: bool
    """Whether the device may be pulled."""
    current_time: int

    @staticmethod
    def read(reply: Reply) -> list[DrainStatus]:
        """From the reply to drain_status."""
        return [
            DrainStatus(
                devid=int(row["devid"]),
                began=int(row["began"]),
                files=int(row["files"]),
                left=int(row["left"]),
                waiting=int(row["waiting"]),
                failed=int(row["failed"]),
                uploads=int(row["uploads"]),
                copies=int(row["copies"]),
                safe=row.number("safe") == 1,
                current_time=int(reply["current_time"]),
            )
            for row in _rows(reply, "devices", "dev{}_")
        ]


@dataclass(frozen=True, slots=True)
class Absences:
    """The devices that nobody sees."""

    devices: Mapping[int, Absence]
    after: int
    """Seconds of absence after which a device is presumed dead; 0 for never."""
    brake: str
    """Why nothing more is presumed dead now; empty if nothing stands in the way."""

    @staticmethod
    def read(reply: Reply) -> Absences:
        """From the reply to tawara_absences."""
        devices = {
            int(row["devid"]): Absence(
                Standing(row.text("standing")),
                int(row["seconds"]),
                to_queue=row["to_queue"] == b"1",
                since=int(row["since"]),
            )
            for row in _rows(reply, "absences", "absence{}_")
        }
        return Absences(devices, int(reply["after"]), _text(reply, "brake"))


@dataclass(frozen=True, slots=True)
class Destination:
    """A place that create_open offers for an upload."""

    devid: int
    url: str


def read_opened(reply: Reply) -> tuple[int, list[Destination]]:
    """From the reply to create_open: the fid, and at least one destination, best first. Raises ValueError for none."""
    destinations = [
        Destination(int(reply[f"devid_{number}"]), _text(reply, f"path_{number}"))
        for number in _count(reply, "dev_count")
    ]
    if not destinations:
        raise ValueError("no destination")
    return int(reply["fid"]), destinations


def read_paths(reply: Reply) -> list[str]:
    """From the reply to get_paths, best first."""
    return [_text(reply, f"path{number}") for number in _count(reply, "paths")]


def read_keys(reply: Reply) -> list[bytes]:
    """From the reply to list_keys, in order."""
    return [reply[f"key_{number}"] for number in _count(reply, "key_count")]


def read_settings(reply: Reply) -> dict[str, str]:
    """From the reply to server_settings."""
    return {_text(reply, f"key_{number}"): _text(reply, f"value_{number}") for number in _count(reply, "key_count")}


@dataclass(frozen=True, slots=True)
class FsckStatus:
    """How a check of all files stands. Times are unix seconds, 0 for never."""

    running: bool
    """Whether files are still being queued; those in the queue may take longer."""
    host: str
    """Where it was started."""
    position: int
    """The highest fid that was queued to be checked."""
    end: int
    """The highest fid that is to be checked."""
    policy_only: bool
    start_time: int
    stop_time: int
    current_time: int
    last_logid: int
    queued: int | None
    """Files that wait or are looked at; None if the tracker does not tell (MogileFS does not)."""
    stalled: int | None
    """Files that were put off, for a device does not answer; None as before."""
    counts: dict[str, int]
    """Lines of the log, by code."""
    start_fid: int | None = None
    """Behind which fid it began, or went on; None if the tracker does not tell."""
    checked: int | None = None
    """Files queued since then; None as before."""
    start_logid: int | None = None
    """The last line of the log before its own; None as before."""
    focus: str = ""
    """What it is confined to, in words; empty for every file."""

    @property
    def busy(self) -> bool:
        """Whether anything is still to be done."""
        return self.running or bool(self.queued)

    @classmethod
    def read(cls, reply: Reply) -> FsckStatus:
        """From the reply to fsck_status."""
        return cls(
            running=_number(reply, "running") == 1,
            host=_text(reply, "host"),
            position=_number(reply, "max_fid_checked") or 0,
            end=_number(reply, "end_fid") or 0,
            policy_only=_number(reply, "policy_only") == 1,
            start_time=_number(reply, "start_time") or 0,
            stop_time=_number(reply, "stop_time") or 0,
            current_time=_number(reply, "current_time") or 0,
            last_logid=_number(reply, "max_logid") or 0,
            queued=_number(reply, "queued"),
            stalled=_number(reply, "stalled"),
            counts=_counts(reply),
            start_fid=_number(reply, "start_fid"),
            checked=_number(reply, "checked"),
            start_logid=_number(reply, "start_logid"),
            focus=_focus(reply),
        )


def _focus(reply: Reply) -> str:
    words = [
        f"{word} {text}" for word in ("domain", "class", "prefix", "devices") if (text := _text(reply, f"focus_{word}"))
    ]
    return ", ".join([*words, *(["every byte"] if reply.get("every_byte") else [])])


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file as list_fids tells of it."""

    fid: int
    domain: str
    key: str

    @staticmethod
    def read(reply: Reply) -> list[ListedFile]:
        """From the reply to list_fids."""
        return [
            ListedFile(int(row["fid"]), row.text("domain"), key_text(row["key"]))
            for row in _rows(reply, "fid_count", "fid_{}_")
        ]


@dataclass(frozen=True, slots=True)
class ScrubStatus:
    """How the continuous scrub stands. Times are unix seconds."""

    period: int
    """Seconds in which every byte is read again; 0 when the scrub is off."""
    began: int
    """When this round began; 0 if none has."""
    position: int
    """The highest fid that was queued to be read."""
    end: int
    """The highest fid of the round."""
    checked: int
    """Files queued in this round."""
    current_time: int
    queued: int
    """Files that wait, or are being read."""
    stalled: int
    """Files that were put off, for a device does not answer."""
    last_logid: int
    counts: dict[str, int]
    """Lines of the log, by code."""
    left: int = 0
    """Files of this round that are still to be queued."""
    expected_end: int = 0
    """When this round is expected to end; 0 if there is none."""
    late: bool = False
    """Whether it does not keep its period."""
    bad_replicas: int = 0
    """Replicas that were found bad within the last period, of files that are still there..."""
    bad_files: int = 0
    """... of so many files,"""
    bad_waiting: int = 0
    """of which so many still wait for good copies."""
    hopeless: int = 0
    """Files that need a person, by what was found within the last period."""
    mended: int = 0
    """Of those with bad replicas the files whose damage is undone."""

    @classmethod
    def read(cls, reply: Reply) -> ScrubStatus:
        """From the reply to scrub_status."""
        return cls(
            period=int(reply["period"]),
            began=int(reply["began"]),
            position=int(reply["max_fid_checked"]),
            end=int(reply["end_fid"]),
            checked=int(reply["checked"]),
            current_time=int(reply["current_time"]),
            queued=int(reply["queued"]),
            stalled=int(reply["stalled"]),
            last_logid=int(reply["max_logid"]),
            counts=_counts(reply),
            left=int(reply.get("left", 0)),
            expected_end=int(reply.get("expected_end", 0)),
            late=reply.get("late") == b"1",
            bad_replicas=int(reply.get("bad_replicas", 0)),
            bad_files=int(reply.get("bad_files", 0)),
            bad_waiting=int(reply.get("bad_waiting", 0)),
            hopeless=int(reply.get("hopeless", 0)),
            mended=int(reply.get("mended", 0)),
        )


def _counts(reply: Reply) -> dict[str, int]:
    return {name[4:]: int(count) for name, count in sorted(reply.items()) if name.startswith("num_")}


@dataclass(frozen=True, slots=True)
class FsckLine:
    """A line of the check's log."""

    logid: int
    time: int
    """Unix seconds."""
    code: str
    fid: int | None
    devid: int | None

    @staticmethod
    def read(reply: Reply) -> list[FsckLine]:
        """From the reply to fsck_getlog."""
        return [
            FsckLine(
                logid=int(row["logid"]),
                time=int(row["utime"]),
                code=row.text("evcode"),
                fid=row.number("fid"),
                devid=row.number("devid"),
            )
            for row in _rows(reply, "row_count", "row_{}_")
        ]


def read_explanation(reply: Reply) -> Explanation:
    """From the reply to tawara_explain."""
    return Explanation(
        Verdict(_text(reply, "verdict")),
        tuple(
            Sentence(Topic(row.text("topic")), row.text("text"), row.number("trouble") == 1)
            for row in _rows(reply, "sentences", "sentence{}_")
        ),
        _number(reply, "fid"),
    )


def read_state(reply: Reply) -> State:
    """From the replies to rebalance_start and rebalance_status."""
    return State.parse(_text(reply, "state"))


class _Row:
    """The words of a reply whose names begin with a `prefix`."""

    def __init__(self, reply: Reply, prefix: str) -> None:
        self._reply = reply
        self._prefix = prefix

    def text(self, name: str) -> str:
        return _text(self._reply, self._prefix + name)

    def number(self, name: str) -> int | None:
        return _number(self._reply, self._prefix + name)

    def __getitem__(self, name: str) -> bytes:
        return self._reply[self._prefix + name]


def _rows(reply: Reply, count: str, prefix: str) -> list[_Row]:
    return [_Row(reply, prefix.format(number)) for number in _count(reply, count)]


def _count(reply: Reply, name: str) -> range:
    return range(1, int(reply[name]) + 1)


def _text(reply: Reply, name: str) -> str:
    return reply.get(name, b"").decode("utf-8", "surrogateescape")


def _number(reply: Reply, name: str) -> int | None:
    text = reply.get(name, b"")
    return int(text) if text.isdigit() else None
