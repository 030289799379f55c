"""Merging the journals of all devices: the files that a rebuild restores, after any history, in any order of
records."""

from __future__ import annotations

import random
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.cluster import Checksum, HashType
from tawara.model.journal_records import (
    FileMetadata,
    JournalEvidence,
    JournalRecord,
    RecordState,
    SegmentPosition,
    to_read,
)
from tawara.recovery.spool import SortedSpool
from tawara.wire.journal import Head, encode_record
from tests.journal_evidence import joined

DEVICES = (1, 2, 3)
KEYS = (b"a", b"b", b"c")


@dataclass
class Store:
    """A small model of a store: the database's rows, the outbox, and the journals."""

    files: dict[int, FileMetadata] = field(default_factory=dict)
    places: dict[int, set[int]] = field(default_factory=dict)
    notes: dict[tuple[int, int], int] = field(default_factory=dict)
    """(devid, fid) -> number."""
    journals: list[tuple[int, JournalRecord]] = field(default_factory=list)
    counter: int = 0
    fids: int = 0
    deleted: set[int] = field(default_factory=set)

    def note(self, fid: int, devids: set[int]) -> None:
        for devid in sorted(devids):
            self.counter += 1
            self.notes[devid, fid] = self.counter

    def fid_of(self, key: bytes) -> int | None:
        return next((fid for fid, facts in self.files.items() if facts.key == key), None)

    def do(self, step: tuple[str, int, int, int]) -> None:
        what, a, b, c = step
        key, other, devid = KEYS[a % 3], KEYS[b % 3], DEVICES[c % 3]
        fid = self.fid_of(key)
        if what == "store":
            self.fids += 1
            if fid is not None:
                self.delete(fid)
            self.files[self.fids] = FileMetadata(1, key, 0, a * 10 + b)
            self.places[self.fids] = {devid}
            self.note(self.fids, {devid})
        elif fid is None:
            return
        elif what == "delete":
            self.delete(fid)
        elif what == "rename" and self.fid_of(other) is None:
            self.files[fid] = replace(self.files[fid], key=other)
            self.note(fid, self.places[fid])
        elif what == "class":
            self.files[fid] = replace(self.files[fid], classid=b)
            self.note(fid, self.places[fid])
        elif what == "checksum":
            self.files[fid] = replace(self.files[fid], checksum=Checksum(HashType.MD5, bytes([b]) * 16))
            self.note(fid, self.places[fid])
        elif what == "copy":
            self.places[fid].add(devid)
            self.note(fid, {devid})
        elif what == "retire" and len(self.places[fid]) > 1:
            self.places[fid].discard(devid)
            self.note(fid, {devid})
        elif what == "write":
            self.write(devid)

    def delete(self, fid: int) -> None:
        del self.files[fid]
        self.deleted.add(fid)
        self.note(fid, self.places[fid])

    def write(self, devid: int) -> None:
        for (noted, fid), number in list(self.notes.items()):
            if noted == devid:
                self.journals.append((devid, self.record(devid, fid, number)))
                del self.notes[noted, fid]

    def record(self, devid: int, fid: int, number: int) -> JournalRecord:
        if fid not in self.files:
            return JournalRecord(number, fid, RecordState.GONE)
        if devid not in self.places[fid]:
            return JournalRecord(number, fid, RecordState.AWAY)
        return JournalRecord(number, fid, RecordState.HERE, self.files[fid])


steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["store", "store", "delete", "rename", "class", "checksum", "copy", "retire", "write", "write"]
        ),
        *[st.integers(0, 5)] * 3,
    ),
    max_size=60,
)


def merged(records: Iterable[tuple[int, int, JournalRecord]]) -> JournalEvidence:
    """The evidence merged from (devid, generation, record), in ranges of a few fids."""
    with closing(SortedSpool(width=2)) as spool:
        for devid, generation, record in records:
            head = Head(tawara="names", device=devid, generation=generation)
            spool.add_records(devid, head, [(record, encode_record(record))])
        spool.assign_owners()
        parts = [fid_range.evidence for fid_range in spool.ranges()]
    found = joined(parts)
    assert [file.fid for file in found.files] == sorted({file.fid for file in found.files})
    return found


@given(steps, st.randoms(use_true_random=False))
def test_complete_journals_equal_the_database(history: list[tuple[str, int, int, int]], rng: random.Random) -> None:
    """When every note is written, the journals equal the rows, in any order, with each record once or twice."""
    store = Store()
    for step in history:
        store.do(step)
    for devid in DEVICES:
        store.write(devid)
    records = store.journals + rng.sample(store.journals, len(store.journals) // 2)
    rng.shuffle(records)
    found = merged((devid, 7, record) for devid, record in records)
    assert {file.fid: file.facts for file in found.files} == store.files
    assert {file.fid: set(file.devids) for file in found.files} == {fid: store.places[fid] for fid in store.files}
    assert set(found.gone) == store.deleted
    assert not found.rivals


@given(steps, st.randoms(use_true_random=False))
def test_incomplete_journals(history: list[tuple[str, int, int, int]], rng: random.Random) -> None:
    """While notes wait, only their files may differ; a deletion recorded by one device is final."""
    store = Store()
    for step in history:
        store.do(step)
    rng.shuffle(store.journals)
    found = merged((devid, 7, record) for devid, record in store.journals)
    waiting = {fid for _, fid in store.notes}
    for file in found.files:
        assert file.fid in waiting or (
            file.facts == store.files[file.fid] and set(file.devids) == store.places[file.fid]
        )
    names = [(file.facts.dmid, file.facts.key) for file in found.files]
    assert len(names) == len(set(names))
    told = {record.fid for _, record in store.journals if record.state is RecordState.GONE}
    assert told == set(found.gone)
    missing = store.files.keys() - {file.fid for file in found.files}
    # A file that is written down whole is missed only if one that is not has its name.
    assert all(fid in waiting or any(rival.fid == fid for rival, _ in found.rivals) for fid in missing)


def test_a_later_generation_takes_precedence() -> None:
    """After a restore, deletions and renames of an earlier generation are replaced by the later one's records."""
    back, renamed = FileMetadata(1, b"back", 0, 1), FileMetadata(1, b"renamed", 0, 1)
    records = [
        (1, 2, JournalRecord(3, 5, RecordState.HERE, back)),
        (1, 1, JournalRecord(900, 5, RecordState.GONE)),
        (2, 1, JournalRecord(901, 5, RecordState.HERE, renamed)),
    ]
    (file,) = merged(records).files
    assert (file.facts.key, file.devids) == (b"back", (1, 2))


def test_of_two_files_with_one_key_the_later_has_it() -> None:
    """The other file is listed with the later one; of each device's records only the newest counts."""
    facts = FileMetadata(1, b"k", 0, 1)
    records = [
        (1, 1, JournalRecord(3, 5, RecordState.HERE, facts)),
        (1, 1, JournalRecord(9, 8, RecordState.AWAY)),
        (2, 1, JournalRecord(4, 6, RecordState.HERE, facts)),
        (1, 1, JournalRecord(5, 9, RecordState.HERE, facts)),
        (1, 1, JournalRecord(2, 8, RecordState.HERE, FileMetadata(1, b"lost", 0, 1))),
    ]
    found = merged(records)
    assert [file.fid for file in found.files] == [9]
    assert [(file.fid, winner) for file, winner in found.rivals] == [(5, 9), (6, 9)]


def test_reading_begins_at_the_last_complete_compaction() -> None:
    """Older compactions may be partly deleted; without a complete one all are read."""
    rounds = [(SegmentPosition(1, 9), True), (SegmentPosition(2, 10), True), (SegmentPosition(2, 11), False)]
    assert to_read(rounds) == SegmentPosition(2, 10)
    assert to_read(rounds[2:]) < SegmentPosition(1, 1)
