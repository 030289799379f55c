"""The result of a check, for every file, every state of its replicas and every setting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.cluster import Checksum, HashType, StorageClass
from tawara.model.files import StoredFile
from tawara.model.fsck import (
    CheckedFile,
    CheckedReplica,
    Code,
    Depth,
    Event,
    FsckRules,
    FsckVerdict,
    ReplicaFinding,
    Search,
    depth,
    judge,
    majority_checksum,
    needs_operator,
)

GOOD, BAD = (Checksum(HashType.MD5, bytes([each] * 16)) for each in (1, 2))
FILE = StoredFile(fid=7, dmid=1, key=b"k", length=9, classid=0, devcount=2, devids=(1, 2))
PLAIN = StorageClass(0, "default", 2)
HASHED = replace(PLAIN, hashtype=HashType.MD5)


def two(devids: Iterable[int]) -> bool:
    """A policy that wants two replicas on any devices."""
    return len(set(devids)) == 2


def case(*replicas: CheckedReplica, file: StoredFile = FILE, storage_class: StorageClass = PLAIN) -> CheckedFile:
    return CheckedFile(file, storage_class, FsckRules(), replicas, two)


def codes(verdict: FsckVerdict | Search) -> list[str]:
    assert isinstance(verdict, FsckVerdict)
    return [event.code.value for event in verdict.events]


def logged(verdict: FsckVerdict | Search) -> list[tuple[str, int | None]]:
    """The lines of MogileFS's log."""
    assert isinstance(verdict, FsckVerdict)
    return [(event.code.value, event.devid) for event in verdict.logged]


@st.composite
def cases(draw: st.DrawFn) -> CheckedFile:
    """Any file, with its replicas observed in any state."""
    devids = sorted(draw(st.sets(st.integers(1, 6), max_size=5)))
    stored = draw(st.sampled_from([None, GOOD]))
    with_digests = draw(st.booleans())
    replicas = []
    for devid in devids:
        seen = draw(st.sampled_from([ReplicaFinding.RIGHT, *ReplicaFinding]))
        checksum = draw(st.sampled_from([GOOD, BAD])) if with_digests and seen is ReplicaFinding.RIGHT else None
        replicas.append(CheckedReplica(devid, seen, checksum))
    file = replace(FILE, devids=tuple(devids), devcount=draw(st.integers(0, 6)), checksum=stored)
    rules = FsckRules(skip_devcount=draw(st.booleans()), no_checksums=draw(st.booleans()))
    wanted = draw(st.integers(1, 3))
    return CheckedFile(
        file, draw(st.sampled_from([PLAIN, HASHED])), rules, tuple(replicas), lambda devids: len(set(devids)) == wanted
    )


def conclude(one: CheckedFile, found: CheckedReplica | None) -> FsckVerdict:
    verdict = judge(one)
    if isinstance(verdict, Search):
        verdict = judge(one, searched=True, found=found)
    assert isinstance(verdict, FsckVerdict)
    return verdict


HOPEFUL = (ReplicaFinding.RIGHT, ReplicaFinding.UNREADABLE, ReplicaFinding.SILENT, ReplicaFinding.DOWN)
FINDS = st.sampled_from([None, CheckedReplica(9, ReplicaFinding.RIGHT, GOOD)])


@given(cases(), FINDS)
def test_a_silent_replica_is_never_dropped(one: CheckedFile, found: CheckedReplica | None) -> None:
    """No row is removed because its device is silent or out of service."""
    verdict = conclude(one, found)
    assert not verdict.drop & {
        each.devid for each in one.replicas if each.seen in (ReplicaFinding.SILENT, ReplicaFinding.DOWN)
    }


@given(cases(), FINDS)
def test_the_last_possibly_good_replica_is_never_dropped(one: CheckedFile, found: CheckedReplica | None) -> None:
    """If any replica may be good, one that may be good keeps its row, and its data is not deleted."""
    verdict = conclude(one, found)
    hopeful = {each.devid for each in one.replicas if each.seen in HOPEFUL}
    if hopeful:
        assert (hopeful - verdict.drop) | verdict.add
    right = one.file.checksum or majority_checksum(one.replicas)
    if right is not None:
        known_good = {
            each.devid for each in one.replicas if each.seen is ReplicaFinding.RIGHT and each.checksum in (None, right)
        }
        assert not known_good & verdict.drop
    else:
        assert not {each.devid for each in one.replicas if each.seen is ReplicaFinding.RIGHT} & verdict.drop


@given(cases(), FINDS)
def test_data_is_deleted_only_with_a_better_replica(one: CheckedFile, found: CheckedReplica | None) -> None:
    """Data is deleted only if its row was dropped, it was wrong, and another replica was found correct."""
    verdict = conclude(one, found)
    assert verdict.sweep <= verdict.drop
    if verdict.sweep:
        assert verdict.add or any(
            each.seen is ReplicaFinding.RIGHT
            and (one.file.checksum is None or each.checksum in (None, one.file.checksum))
            for each in one.replicas
            if each.devid not in verdict.drop
        )


@given(cases(), FINDS)
def test_only_a_majority_checksum_is_stored(one: CheckedFile, found: CheckedReplica | None) -> None:
    """A checksum is stored only if more than half of all replicas that may be good have it; a stored one is never
    removed."""
    verdict = conclude(one, found)
    if verdict.checksum is not None:
        assert one.file.checksum is None
        everywhere = [*one.replicas, *([found] if verdict.add and found else [])]
        votes = [each.checksum == verdict.checksum for each in everywhere if each.seen in HOPEFUL]
        assert 2 * sum(votes) > len(votes)


@given(cases(), FINDS)
def test_damaged_replicas_do_not_stay_with_good_ones(one: CheckedFile, found: CheckedReplica | None) -> None:
    """If a replica is known to be correct, no replica found damaged keeps its row."""
    verdict = conclude(one, found)
    right = one.file.checksum or verdict.checksum
    if any(each.seen is ReplicaFinding.RIGHT and each.checksum == right for each in one.replicas if right):
        left = [each for each in one.replicas if each.devid not in verdict.drop]
        assert all(each.checksum in (None, right) for each in left)
        assert not any(each.seen in (ReplicaFinding.UNREADABLE, ReplicaFinding.WRONG_LENGTH) for each in left)


@given(cases(), FINDS)
def test_a_verdict_is_consistent(one: CheckedFile, found: CheckedReplica | None) -> None:
    """Only existing rows are dropped, only lost devices need confirmation, and REPL is logged exactly if work is
    queued."""
    verdict = conclude(one, found)
    assert verdict.drop <= set(one.file.devids)
    assert verdict.lost <= verdict.drop
    assert verdict.replicate == (Event(Code.REPLICATE) in verdict.events)
    assert not verdict.add & set(one.file.devids)
    assert (verdict.checksum is None) or one.file.checksum is None
    if any(each.seen is ReplicaFinding.SILENT for each in one.replicas):
        assert verdict.again


@given(cases())
def test_no_search_while_a_device_is_silent(one: CheckedFile) -> None:
    """There is no search, and the file is not declared lost, as long as a silent device may have it."""
    if any(each.seen in (ReplicaFinding.SILENT, ReplicaFinding.DOWN) for each in one.replicas):
        verdict = judge(one)
        assert isinstance(verdict, FsckVerdict)
        assert Event(Code.GONE) not in verdict.events


def test_codes() -> None:
    """Each situation has its codes, in order."""
    right = (CheckedReplica(1, ReplicaFinding.RIGHT), CheckedReplica(2, ReplicaFinding.RIGHT))
    assert codes(judge(case(*right))) == []
    assert codes(judge(case(right[0], CheckedReplica(2, ReplicaFinding.MISSING)))) == ["MISS", "REPL"]
    assert codes(judge(case(right[0], CheckedReplica(2, ReplicaFinding.WRONG_LENGTH)))) == ["BLEN", "REPL"]
    assert codes(judge(case(*right, file=replace(FILE, devcount=1)))) == ["BCNT"]
    alone = replace(FILE, devids=(1,), devcount=1)
    assert codes(judge(case(right[0], file=alone))) == ["POVI", "REPL"]
    nowhere = replace(FILE, devids=(), devcount=0)
    assert judge(case(file=nowhere)) == Search()
    assert codes(judge(case(file=nowhere), searched=True)) == ["NOPA", "SRCH", "GONE"]
    found = CheckedReplica(3, ReplicaFinding.RIGHT)
    assert codes(judge(case(file=nowhere), searched=True, found=found)) == ["NOPA", "SRCH", "FOND", "REPL"]


def test_codes_of_checksums() -> None:
    """Comparison of digests, with and without a stored checksum, gives these codes."""
    same = (CheckedReplica(1, ReplicaFinding.RIGHT, GOOD), CheckedReplica(2, ReplicaFinding.RIGHT, GOOD))
    differing = (CheckedReplica(1, ReplicaFinding.RIGHT, GOOD), CheckedReplica(2, ReplicaFinding.RIGHT, BAD))
    stored = replace(FILE, checksum=GOOD)
    verdict = judge(case(*same))
    assert isinstance(verdict, FsckVerdict)
    assert (codes(verdict), verdict.checksum) == (["NSUM"], GOOD)
    assert codes(judge(case(*differing))) == ["MSUM"]
    assert codes(judge(case(*differing, storage_class=HASHED))) == ["BSUM"]
    verdict = judge(case(*differing, file=stored))
    assert isinstance(verdict, FsckVerdict)
    assert codes(verdict) == ["BSUM", "REPL"]
    assert verdict.drop == verdict.sweep == {2}
    rotten = case(*same, file=replace(FILE, checksum=BAD))
    assert judge(rotten) == Search()
    verdict = judge(rotten, searched=True)
    assert isinstance(verdict, FsckVerdict)
    assert (codes(verdict), verdict.drop) == (["BSUM", "BSUM", "SRCH"], frozenset())
    sha1 = replace(FILE, checksum=Checksum(HashType.SHA1, bytes(20)))
    assert codes(
        judge(
            case(
                CheckedReplica(1, ReplicaFinding.RIGHT),
                CheckedReplica(2, ReplicaFinding.RIGHT),
                file=sha1,
                storage_class=HASHED,
            )
        )
    ) == ["BALG"]


def test_the_log_matches_mogilefs() -> None:
    """Corrupt replicas besides a good one are only REPL, all of them one BSUM; NSUM is logged where checksums are
    wanted."""
    good, rotten = CheckedReplica(1, ReplicaFinding.RIGHT, GOOD), CheckedReplica(2, ReplicaFinding.RIGHT, BAD)
    stored = replace(FILE, checksum=GOOD)
    for bad in (rotten, CheckedReplica(2, ReplicaFinding.UNREADABLE)):
        assert logged(judge(case(good, bad, file=stored))) == [("REPL", None)]
    every = judge(case(rotten, CheckedReplica(1, ReplicaFinding.RIGHT, BAD), file=stored), searched=True)
    assert logged(every) == [("BSUM", None)]
    assert needs_operator(logged(every))
    missing = judge(case(CheckedReplica(1, ReplicaFinding.MISSING), rotten, file=stored), searched=True)
    assert logged(missing) == [("MISS", 1), ("BSUM", None), ("REPL", None)]
    found = judge(case(rotten, file=stored), searched=True, found=CheckedReplica(3, ReplicaFinding.RIGHT, GOOD))
    assert [code for code, _ in logged(found)] == ["SRCH", "FOND"]
    same = (good, CheckedReplica(2, ReplicaFinding.RIGHT, GOOD))
    assert logged(judge(case(*same))) == []
    assert logged(judge(case(*same, storage_class=HASHED))) == [("NSUM", None)]


def test_a_dead_device_that_is_not_reaped_is_no_policy_violation() -> None:
    """MogileFS counts it until it looks at the replicas, so that only REPL is logged."""
    dead = case(CheckedReplica(1, ReplicaFinding.RIGHT), CheckedReplica(2, ReplicaFinding.LOST))
    violated = replace(dead, satisfied=lambda devids: set(devids) == {1, 3})
    assert logged(judge(replace(violated, dead_satisfy=True))) == [("REPL", None)]
    assert logged(judge(violated)) == [("POVI", None), ("REPL", None)]


@given(cases(), FINDS)
def test_the_log_has_only_findings(one: CheckedFile, found: CheckedReplica | None) -> None:
    """Every line of MogileFS's log is about a finding, and a file that needs an operator still does."""
    verdict = conclude(one, found)
    known = {event.code for event in verdict.events}
    assert {event.code for event in verdict.logged} <= known
    lines, events = ([(each.code, each.devid) for each in some] for some in (verdict.logged, verdict.events))
    assert needs_operator(lines) == needs_operator(events)


def test_the_majority_decides() -> None:
    """Of three replicas without a checksum the different one is dropped; of two none is, nor while a third is
    unavailable."""
    three = replace(FILE, devids=(1, 2, 3), devcount=3)
    good, also_good = CheckedReplica(1, ReplicaFinding.RIGHT, GOOD), CheckedReplica(2, ReplicaFinding.RIGHT, GOOD)
    verdict = judge(case(good, also_good, CheckedReplica(3, ReplicaFinding.RIGHT, BAD), file=three))
    assert isinstance(verdict, FsckVerdict)
    assert verdict.drop == verdict.sweep == {3}
    assert verdict.checksum == GOOD
    assert codes(verdict) == ["POVI", "BSUM", "NSUM"]
    verdict = judge(
        case(good, CheckedReplica(2, ReplicaFinding.RIGHT, BAD), CheckedReplica(3, ReplicaFinding.DOWN), file=three)
    )
    assert isinstance(verdict, FsckVerdict)
    assert (verdict.drop, verdict.checksum) == (frozenset(), None)
    verdict = judge(case(good, CheckedReplica(2, ReplicaFinding.DOWN)))
    assert isinstance(verdict, FsckVerdict)
    assert (verdict.checksum, verdict.events) == (None, ())


def test_an_unreadable_replica() -> None:
    """An unreadable replica is replaced from a good one; the last one is kept, after all devices were searched."""
    alone = CheckedReplica(2, ReplicaFinding.UNREADABLE)
    verdict = judge(case(CheckedReplica(1, ReplicaFinding.RIGHT), alone))
    assert isinstance(verdict, FsckVerdict)
    assert verdict.drop == verdict.sweep == {2}
    assert codes(verdict) == ["BSUM", "REPL"]
    one = replace(FILE, devids=(2,), devcount=1)
    assert judge(case(alone, file=one)) == Search()
    verdict = judge(case(alone, file=one), searched=True)
    assert isinstance(verdict, FsckVerdict)
    assert (verdict.drop, codes(verdict)) == (frozenset(), ["POVI", "BSUM", "SRCH", "REPL"])
    assert needs_operator([(event.code, event.devid) for event in verdict.events])


def test_what_needs_an_operator() -> None:
    """Damage that workers repair does not need an operator; lost and undecidable files do."""
    assert not needs_operator([("MISS", 1), ("BSUM", 2), ("REPL", None)])
    assert not needs_operator([("NOPA", None), ("SRCH", None), ("FOND", 3)])
    assert needs_operator([("MISS", 1), ("SRCH", None), ("GONE", None)])
    assert needs_operator([("BSUM", None)])
    assert needs_operator([("MSUM", None)])


def test_depth() -> None:
    """The extent of a check depends on the class and the settings."""
    summed = replace(FILE, checksum=GOOD)

    def of(settings: dict[str, str], storage_class: StorageClass = PLAIN, file: StoredFile = summed) -> Depth:
        return depth(file, storage_class, FsckRules.of(settings), satisfied=two(file.devids))

    only = {"fsck_opt_policy_only": "1"}
    assert of({}) is Depth.LENGTHS
    assert of(only) is Depth.ROWS
    assert of(only, file=replace(FILE, devids=(1,))) is Depth.EVERYTHING
    assert of(only, HASHED) is Depth.ROWS
    assert of(only, HASHED, FILE) is Depth.EVERYTHING
    assert of(only | {"fsck_checksum": "off"}, HASHED, FILE) is Depth.ROWS
    assert of({}, HASHED) is Depth.EVERYTHING
    assert of({"fsck_checksum": "off"}, HASHED) is Depth.LENGTHS
    assert of({"fsck_checksum": "MD5"}) is Depth.EVERYTHING


def test_which_digest_is_computed() -> None:
    """A digest is computed that can be compared with the stored checksum; none unless the class or the setting requires
    one."""
    sha1 = Checksum(HashType.SHA1, bytes(20))
    assert FsckRules().digest_wanted(PLAIN, GOOD) is None
    assert FsckRules().digest_wanted(HASHED, sha1) is HashType.SHA1
    assert FsckRules(hashtype=HashType.SHA1).digest_wanted(PLAIN, None) is HashType.SHA1
    assert FsckRules(hashtype=HashType.SHA1).digest_wanted(HASHED, None) is HashType.MD5
    assert FsckRules(no_checksums=True).digest_wanted(HASHED, GOOD) is None
