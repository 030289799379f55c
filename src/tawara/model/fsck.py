"""What a check (fsck) of one file concludes from what is known and seen of it (docs/mogilefs.md 12).

The worker asks the storage nodes and acts; everything that is decided is decided here. Two rules stand above all: a row
goes only because of what a storage node said or because its device is dead, never because no node answered; and content
that may be the last is never given up for content that is not known to be better.
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
    """What is written into the log (schema: `fsck_log.evcode`)."""

    NO_PATHS = "NOPA"
    """No device has a row for a replica."""
    POLICY_VIOLATION = "POVI"
    MISSING = "MISS"
    """The device does not have the replica that it should have."""
    BAD_LENGTH = "BLEN"
    START_SEARCH = "SRCH"
    """No good replica is where one should be; every device is asked."""
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
    """The replicas differ, and nothing says which is right."""
    BAD_ALGORITHM = "BALG"
    """The stored checksum is of another type than the class wants."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log."""

    code: Code
    devid: int | None = None


class ReplicaFinding(Enum):
    """What was seen of a replica that should be there."""

    RIGHT = auto()
    """It is there, with the right length."""
    WRONG_LENGTH = auto()
    UNREADABLE = auto()
    """The storage node says that its disk does not give all of the bytes."""
    MISSING = auto()
    """The storage node says that it is not there."""
    SILENT = auto()
    """Its device should answer, and does not: to be asked again."""
    DOWN = auto()
    """Its device is out of service, so its node was not asked."""
    LOST = auto()
    """Its device is dead, or not known at all."""


@dataclass(frozen=True, slots=True)
class CheckedReplica:
    """One replica as it was seen; with the digest of its bytes if that was taken."""

    devid: int
    seen: ReplicaFinding
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True)
class FsckRules:
    """What a check looks at."""

    policy_only: bool = False
    """Ask no storage node about a file whose rows are in order."""
    hashtype: HashType | None = None
    """Take this digest of every replica, whatever the class says."""
    no_checksums: bool = False
    """Take no digests, whatever the class says."""
    skip_devcount: bool = False
    """`file.devcount` is not kept up."""

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> FsckRules:
        """From the server settings."""
        every_byte = Focus.parse(settings.get("tawara_fsck_focus", "")).every_byte
        return cls(
            policy_only=settings.get("fsck_opt_policy_only", "") not in ("", "0"),
            hashtype=HashType.from_wire(settings.get("fsck_checksum", "")) or (HashType.MD5 if every_byte else None),
            no_checksums=settings.get("fsck_checksum") == "off" and not every_byte,
            skip_devcount=settings.get("skip_devcount", "") not in ("", "0"),
        )

    def digest_wanted(self, storage_class: StorageClass, stored: Checksum | None) -> HashType | None:
        """Which digest to take of each replica, None for none: one that can be compared with the stored one."""
        wanted = None if self.no_checksums else storage_class.hashtype or self.hashtype
        return stored.hashtype if wanted and stored else wanted

    def miscounted(self, file: StoredFile) -> bool:
        """Whether the file's devcount needs to be corrected."""
        return not self.skip_devcount and file.devcount != len(file.devids)


class Depth(Enum):
    """How closely a file has to be looked at."""

    ROWS = auto()
    """Its rows suffice, and they are in order."""
    LENGTHS = auto()
    """If the lengths of all replicas are right, all is well."""
    EVERYTHING = auto()


def depth(file: StoredFile, storage_class: StorageClass, rules: FsckRules, *, satisfied: bool) -> Depth:
    """How closely to look at a file whose policy is `satisfied` with its rows, or not."""
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
    """A file with all that was seen of it."""

    file: StoredFile
    storage_class: StorageClass
    rules: FsckRules
    replicas: tuple[CheckedReplica, ...]
    """One for each of the file's rows."""
    satisfied: Callable[[Iterable[int]], bool]
    """Whether the class's policy wants exactly the replicas on these devices: neither more nor fewer."""
    dead_satisfy: bool = False
    """Whether it would want exactly the file's replicas if those on dead devices counted, as MogileFS counts them."""


@dataclass(frozen=True, slots=True)
class Search:
    """No good replica is where one should be: ask every device that could have one, then judge again."""


@dataclass(frozen=True, slots=True)
class FsckVerdict:
    """What is to be written down of a check."""

    events: tuple[Event, ...] = ()
    """What is known to be wrong."""
    logged: tuple[Event, ...] = ()
    """What of that MogileFS would write into its log, `fsck_log`."""
    drop: frozenset[int] = frozenset()
    """Devices whose row goes."""
    lost: frozenset[int] = frozenset()
    """Those of `drop` whose device is dead or unknown, which the database must confirm."""
    sweep: frozenset[int] = frozenset()
    """Those of `drop` on which useless bytes are left, to be deleted."""
    add: frozenset[int] = frozenset()
    """Devices that get a row."""
    checksum: Checksum | None = None
    """To be stored."""
    replicate: bool = False
    silent: frozenset[int] = frozenset()
    """Devices that should answer and did not: the file has to be looked at again when they do."""

    @property
    def again(self) -> bool:
        """Whether the file has to be looked at once more."""
        return bool(self.silent)

    @property
    def recount(self) -> bool:
        """Whether `file.devcount` changes."""
        return bool(self.drop or self.add) or Event(Code.BAD_COUNT) in self.events


@dataclass
class _Sorted:
    """The replicas by what they are worth."""

    good: set[int] = field(default_factory=set)
    rotten: set[int] = field(default_factory=set)
    """Of the right length, but not the right bytes; or the disk does not give them."""
    worthless: set[int] = field(default_factory=set)
    """Of a wrong length."""
    absent: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)


def _sort(replicas: Iterable[CheckedReplica], right: Checksum | None) -> _Sorted:
    made = _Sorted()
    for each in replicas:
        match each.seen:
            case ReplicaFinding.RIGHT:
                rotten = right is not None and each.checksum is not None and each.checksum != right
                (made.rotten if rotten else made.good).add(each.devid)
            case ReplicaFinding.UNREADABLE:
                made.rotten.add(each.devid)
            case ReplicaFinding.WRONG_LENGTH:
                made.worthless.add(each.devid)
            case ReplicaFinding.MISSING:
                made.absent.add(each.devid)
            case ReplicaFinding.LOST:
                made.lost.add(each.devid)
            case ReplicaFinding.SILENT | ReplicaFinding.DOWN:
                made.unknown.add(each.devid)
    return made


def agreed(replicas: Iterable[CheckedReplica]) -> Checksum | None:
    """The digest of more than half of all replicas that may be good, seen or not; None if there is none such."""
    hopeful = [
        each
        for each in replicas
        if each.seen in (ReplicaFinding.RIGHT, ReplicaFinding.UNREADABLE, ReplicaFinding.SILENT, ReplicaFinding.DOWN)
    ]
    votes = Counter(each.checksum for each in hopeful if each.checksum is not None)
    checksum, number = votes.most_common(1)[0] if votes else (None, 0)
    return checksum if 2 * number > len(hopeful) else None


def judge(case: CheckedFile, *, searched: bool = False, found: CheckedReplica | None = None) -> FsckVerdict | Search:
    """What follows from a case; after a Search, `searched` and with the good replica that it found, if any."""
    file = case.file
    everywhere = (*case.replicas, *([found] if found else ()))
    checksum = None if file.checksum else agreed(everywhere)
    by_worth = _sort(case.replicas, file.checksum or checksum)
    good = by_worth.good | ({found.devid} if found else set())
    if not good and by_worth.unknown:
        return FsckVerdict(silent=_silent(case))
    if not good and not searched:
        return Search()
    drop = by_worth.absent | by_worth.worthless | by_worth.lost | (by_worth.rotten if good else set())
    add = {found.devid} if found else set[int]()
    after = (set(file.devids) - drop) | add
    replicate = bool(after) and not case.satisfied(after)
    events = [
        *_about_rows(case),
        *_about(Code.MISSING, by_worth.absent),
        *_about(Code.BAD_LENGTH, by_worth.worthless),
        *_about(Code.BAD_CHECKSUM, by_worth.rotten),
        *([Event(Code.START_SEARCH)] if searched else []),
        *_about(Code.FOUND, add),
        *([Event(Code.GONE)] if not after else []),
        *_about_checksums(case, everywhere, checksum),
        *([Event(Code.REPLICATE)] if replicate else []),
        *([Event(Code.BAD_COUNT)] if case.rules.miscounted(file) else []),
    ]
    return FsckVerdict(
        events=tuple(events),
        logged=tuple(_logged(case, events, all_rotten=bool(by_worth.rotten) and not good)),
        drop=frozenset(drop),
        lost=frozenset(by_worth.lost),
        sweep=frozenset((by_worth.worthless | by_worth.rotten) & drop if good else ()),
        add=frozenset(add),
        checksum=checksum,
        replicate=replicate,
        silent=_silent(case),
    )


def _logged(case: CheckedFile, events: Iterable[Event], *, all_rotten: bool) -> list[Event]:
    """The lines that MogileFS writes of this; it never searches for the right length (docs/mogilefs.md 12)."""
    lines: list[Event] = []
    for event in events:
        match event.code:
            case Code.BAD_CHECKSUM if event.devid is not None:
                if all_rotten and Event(Code.BAD_CHECKSUM) not in lines:
                    lines.append(Event(Code.BAD_CHECKSUM))
                continue
            case Code.POLICY_VIOLATION if case.dead_satisfy:
                continue
            case Code.NO_CHECKSUM if case.storage_class.hashtype is None:
                continue
            case Code.START_SEARCH if all_rotten:
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


def _about_checksums(case: CheckedFile, replicas: Iterable[CheckedReplica], agreed: Checksum | None) -> list[Event]:
    """What there is to say about checksums of the file as a whole."""
    stored, wanted = case.file.checksum, case.storage_class.hashtype
    if stored is not None:
        unlike = wanted is not None and wanted is not stored.hashtype and not case.rules.no_checksums
        return [Event(Code.BAD_ALGORITHM)] if unlike else []
    if agreed is not None:
        return [Event(Code.NO_CHECKSUM)]
    if len({each.checksum for each in replicas if each.checksum is not None}) > 1:
        return [Event(Code.BAD_CHECKSUM if wanted else Code.MANY_CHECKSUMS)]
    return []


def needs_a_person(found: Iterable[tuple[str, int | None]]) -> bool:
    """Whether what one check says of one file, as (code, devid), is something that no worker can put right.

    It is gone, or nothing tells which of its replicas is right, or none is good that is there.
    """
    codes = set(found)
    said = {code for code, _ in codes}
    return bool(
        said & {Code.GONE, Code.MANY_CHECKSUMS}
        or (Code.BAD_CHECKSUM, None) in codes
        or (Code.START_SEARCH in said and Code.FOUND not in said)
    )
