"""Decides the result of a check (fsck) of one file, from its rows and its replicas (docs/mogilefs.md 12).

The worker queries the storage nodes and acts; this module makes all decisions. Two rules take precedence: a row is
deleted only because of a storage node's reply or because its device is dead, never because a node did not respond; and
content that may be the last is never dropped for content that is not known to be better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

from tawara.model.cluster import Checksum, HashType, StorageClass
from tawara.model.files import StoredFile
from tawara.model.focus import Focus


class Code(StrEnum):
    """Code of a log line (schema: `fsck_log.evcode`)."""

    NO_PATHS = "NOPA"
    """No device has a row for a replica."""
    POLICY_VIOLATION = "POVI"
    MISSING = "MISS"
    """A replica is missing on its device."""
    BAD_LENGTH = "BLEN"
    START_SEARCH = "SRCH"
    """No device with a row has a good replica; all other devices are searched."""
    FOUND = "FOND"
    GONE = "GONE"
    """No device has a good replica."""
    REPLICATE = "REPL"
    """Queued for replication."""
    BAD_COUNT = "BCNT"
    """`file.devcount` was wrong."""
    BAD_CHECKSUM = "BSUM"
    NO_CHECKSUM = "NSUM"
    """No checksum was stored; now it is."""
    MANY_CHECKSUMS = "MSUM"
    """The replicas differ, and it is unknown which is correct."""
    BAD_ALGORITHM = "BALG"
    """The stored checksum has another type than the class requires."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the fsck log."""

    code: Code
    devid: int | None = None


class ReplicaFinding(Enum):
    """Result of checking one replica."""

    RIGHT = auto()
    """It exists with the correct length."""
    WRONG_LENGTH = auto()
    UNREADABLE = auto()
    """The storage node reports that its disk cannot read all bytes."""
    MISSING = auto()
    """The storage node reports that it does not exist."""
    SILENT = auto()
    """Its device should respond but does not; to be retried."""
    DOWN = auto()
    """Its device is out of service, so its node was not queried."""
    LOST = auto()
    """Its device is dead or unknown."""


@dataclass(frozen=True, slots=True)
class CheckedReplica:
    """A replica and its finding, with the digest if computed."""

    devid: int
    seen: ReplicaFinding
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True)
class FsckRules:
    """Options of a check."""

    policy_only: bool = False
    """Do not query storage nodes about a file whose rows are correct."""
    hashtype: HashType | None = None
    """Compute this digest of every replica, independent of the class."""
    no_checksums: bool = False
    """Compute no digests, independent of the class."""
    skip_devcount: bool = False
    """`file.devcount` is not maintained."""

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> FsckRules:
        """Read the options from the server settings."""
        every_byte = Focus.parse(settings.get("tawara_fsck_focus", "")).every_byte
        return cls(
            policy_only=settings.get("fsck_opt_policy_only", "") not in ("", "0"),
            hashtype=HashType.from_wire(settings.get("fsck_checksum", "")) or (HashType.MD5 if every_byte else None),
            no_checksums=settings.get("fsck_checksum") == "off" and not every_byte,
            skip_devcount=settings.get("skip_devcount", "") not in ("", "0"),
        )

    def digest_wanted(self, storage_class: StorageClass, stored: Checksum | None) -> HashType | None:
        """Return the digest type to compute, so that it can be compared with the stored one; None for no digest."""
        wanted = None if self.no_checksums else storage_class.hashtype or self.hashtype
        return stored.hashtype if wanted and stored else wanted

    def miscounted(self, file: StoredFile) -> bool:
        """Whether the file's devcount needs to be corrected."""
        return not self.skip_devcount and file.devcount != len(file.devids)


class Depth(Enum):
    """Extent of the check of one file."""

    ROWS = auto()
    """Its rows suffice, and they are correct."""
    LENGTHS = auto()
    """The lengths of all replicas suffice, if correct."""
    EVERYTHING = auto()


def depth(file: StoredFile, storage_class: StorageClass, rules: FsckRules, *, satisfied: bool) -> Depth:
    """Return the extent of the check; `satisfied`: whether the policy is satisfied with the file's rows."""
    checksums = not rules.no_checksums and (storage_class.hashtype or rules.hashtype)
    if not file.devids or not satisfied:
        return Depth.EVERYTHING
    if storage_class.hashtype and not file.checksum and not rules.no_checksums:
        return Depth.EVERYTHING
    if rules.policy_only:
        return Depth.ROWS
    return Depth.EVERYTHING if checksums else Depth.LENGTHS


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file and the findings on its replicas."""

    file: StoredFile
    storage_class: StorageClass
    rules: FsckRules
    replicas: tuple[CheckedReplica, ...]
    """One for each of the file's rows."""
    satisfied: Callable[[Iterable[int]], bool]
    """Whether the class's policy requires exactly the replicas on these devices."""
    dead_satisfy: bool = False
    """The same if replicas on dead devices count, as in MogileFS."""


@dataclass(frozen=True, slots=True)
class Search:
    """Result: no device with a row has a good replica; search all other devices, then call `judge` again."""


@dataclass(frozen=True, slots=True)
class FsckVerdict:
    """Result of a check: events to log and changes to make."""

    events: tuple[Event, ...] = ()
    """Detected problems."""
    logged: tuple[Event, ...] = ()
    """Those that MogileFS would write to `fsck_log`."""
    drop: frozenset[int] = frozenset()
    """Devices whose row is deleted."""
    lost: frozenset[int] = frozenset()
    """Those of `drop` that are dead or unknown, which the database must confirm."""
    sweep: frozenset[int] = frozenset()
    """Those of `drop` with useless bytes, which are to be deleted."""
    add: frozenset[int] = frozenset()
    """Devices for which a row is added."""
    checksum: Checksum | None = None
    """The checksum to store."""
    replicate: bool = False
    silent: frozenset[int] = frozenset()
    """Devices that should respond but did not; the file is to be checked again when they do."""

    @property
    def again(self) -> bool:
        """Whether the file has to be checked again."""
        return bool(self.silent)

    @property
    def recount(self) -> bool:
        """Whether `file.devcount` changes."""
        return bool(self.drop or self.add) or Event(Code.BAD_COUNT) in self.events


@dataclass
class _Sorted:
    """The replicas, classified by usefulness."""

    good: set[int] = field(default_factory=set)
    corrupt: set[int] = field(default_factory=set)
    """Correct length, but wrong or unreadable bytes."""
    wrong_length: set[int] = field(default_factory=set)
    """Wrong length."""
    absent: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)


def _sort(replicas: Iterable[CheckedReplica], right: Checksum | None) -> _Sorted:
    made = _Sorted()
    for each in replicas:
        match each.seen:
            case ReplicaFinding.RIGHT:
                corrupt = right is not None and each.checksum is not None and each.checksum != right
                (made.corrupt if corrupt else made.good).add(each.devid)
            case ReplicaFinding.UNREADABLE:
                made.corrupt.add(each.devid)
            case ReplicaFinding.WRONG_LENGTH:
                made.wrong_length.add(each.devid)
            case ReplicaFinding.MISSING:
                made.absent.add(each.devid)
            case ReplicaFinding.LOST:
                made.lost.add(each.devid)
            case ReplicaFinding.SILENT | ReplicaFinding.DOWN:
                made.unknown.add(each.devid)
    return made


def majority_checksum(replicas: Iterable[CheckedReplica]) -> Checksum | None:
    """Return the digest of the majority of all replicas that may be good, seen or not; None without a majority."""
    candidates = [
        each
        for each in replicas
        if each.seen in (ReplicaFinding.RIGHT, ReplicaFinding.UNREADABLE, ReplicaFinding.SILENT, ReplicaFinding.DOWN)
    ]
    votes = Counter(each.checksum for each in candidates if each.checksum is not None)
    checksum, number = votes.most_common(1)[0] if votes else (None, 0)
    return checksum if 2 * number > len(candidates) else None


def judge(case: CheckedFile, *, searched: bool = False, found: CheckedReplica | None = None) -> FsckVerdict | Search:
    """Decide a case; after a Search, call with `searched` and the good replica `found`, if any."""
    file = case.file
    everywhere = (*case.replicas, *([found] if found else ()))
    checksum = None if file.checksum else majority_checksum(everywhere)
    by_usefulness = _sort(case.replicas, file.checksum or checksum)
    good = by_usefulness.good | ({found.devid} if found else set())
    if not good and by_usefulness.unknown:
        return FsckVerdict(silent=_silent(case))
    if not good and not searched:
        return Search()
    drop = (
        by_usefulness.absent
        | by_usefulness.wrong_length
        | by_usefulness.lost
        | (by_usefulness.corrupt if good else set())
    )
    add = {found.devid} if found else set[int]()
    after = (set(file.devids) - drop) | add
    replicate = bool(after) and not case.satisfied(after)
    events = [
        *_about_rows(case),
        *_about(Code.MISSING, by_usefulness.absent),
        *_about(Code.BAD_LENGTH, by_usefulness.wrong_length),
        *_about(Code.BAD_CHECKSUM, by_usefulness.corrupt),
        *([Event(Code.START_SEARCH)] if searched else []),
        *_about(Code.FOUND, add),
        *([Event(Code.GONE)] if not after else []),
        *_about_checksums(case, everywhere, checksum),
        *([Event(Code.REPLICATE)] if replicate else []),
        *([Event(Code.BAD_COUNT)] if case.rules.miscounted(file) else []),
    ]
    return FsckVerdict(
        events=tuple(events),
        logged=tuple(_logged(case, events, all_corrupt=bool(by_usefulness.corrupt) and not good)),
        drop=frozenset(drop),
        lost=frozenset(by_usefulness.lost),
        sweep=frozenset((by_usefulness.wrong_length | by_usefulness.corrupt) & drop if good else ()),
        add=frozenset(add),
        checksum=checksum,
        replicate=replicate,
        silent=_silent(case),
    )


def _logged(case: CheckedFile, events: Iterable[Event], *, all_corrupt: bool) -> list[Event]:
    """Return the log lines that MogileFS would write; it never searches after a correct length (mogilefs.md 12)."""
    lines: list[Event] = []
    for event in events:
        match event.code:
            case Code.BAD_CHECKSUM if event.devid is not None:
                if all_corrupt and Event(Code.BAD_CHECKSUM) not in lines:
                    lines.append(Event(Code.BAD_CHECKSUM))
                continue
            case Code.POLICY_VIOLATION if case.dead_satisfy:
                continue
            case Code.NO_CHECKSUM if case.storage_class.hashtype is None:
                continue
            case Code.START_SEARCH if all_corrupt:
                continue
        lines.append(event)
    return lines


def _silent(case: CheckedFile) -> frozenset[int]:
    return frozenset(each.devid for each in case.replicas if each.seen is ReplicaFinding.SILENT)


def _about(code: Code, devids: Iterable[int]) -> list[Event]:
    return [Event(code, devid) for devid in sorted(devids)]


def _about_rows(case: CheckedFile) -> list[Event]:
    if not case.file.devids:
        return [Event(Code.NO_PATHS)]
    return [] if case.satisfied(case.file.devids) else [Event(Code.POLICY_VIOLATION)]


def _about_checksums(
    case: CheckedFile, replicas: Iterable[CheckedReplica], majority_checksum: Checksum | None
) -> list[Event]:
    """Return the events about the file's checksums."""
    stored, wanted = case.file.checksum, case.storage_class.hashtype
    if stored is not None:
        unlike = wanted is not None and wanted is not stored.hashtype and not case.rules.no_checksums
        return [Event(Code.BAD_ALGORITHM)] if unlike else []
    if majority_checksum is not None:
        return [Event(Code.NO_CHECKSUM)]
    if len({each.checksum for each in replicas if each.checksum is not None}) > 1:
        return [Event(Code.BAD_CHECKSUM if wanted else Code.MANY_CHECKSUMS)]
    return []


def needs_operator(found: Iterable[tuple[str, int | None]]) -> bool:
    """Whether the events of one check of a file, as (code, devid), need manual intervention.

    The file is lost, or it is unknown which of its replicas is correct, or none of them is good.
    """
    codes = set(found)
    said = {code for code, _ in codes}
    return bool(
        said & {Code.GONE, Code.MANY_CHECKSUMS}
        or (Code.BAD_CHECKSUM, None) in codes
        or (Code.START_SEARCH in said and Code.FOUND not in said)
    )
