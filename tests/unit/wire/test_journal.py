"""Journal files: what is written is parsed back for any key, and damage is detected."""

from __future__ import annotations

import gzip
import json
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.cluster import Checksum, HashType
from tawara.model.fid import HIGHEST
from tawara.model.journal_records import FileMetadata, JournalRecord, RecordState
from tawara.wire import journal
from tawara.wire.journal import Damaged, Head

CHECKSUMS = st.sampled_from(HashType).flatmap(
    lambda each: st.binary(min_size=each.digest_size, max_size=each.digest_size).map(lambda it: Checksum(each, it))
)
facts = st.builds(
    FileMetadata,
    st.integers(1, 99),
    st.binary(min_size=1, max_size=80),
    st.integers(0, 9),
    st.integers(0, 2**50),
    st.none() | st.integers(0, 2**33),
    st.none() | st.text(max_size=30),
    st.none() | CHECKSUMS,
)
numbers = st.integers(0, 2**60)
records = st.builds(lambda v, fid, f: JournalRecord(v, fid, RecordState.HERE, f), numbers, numbers, facts) | st.builds(
    JournalRecord, numbers, numbers, st.sampled_from([RecordState.AWAY, RecordState.GONE])
)
HEAD = Head(tawara="names", device=3, generation=7, round=2, segment=5, before=4)


@given(st.lists(records, max_size=20))
def test_records_round_trip(written: list[JournalRecord]) -> None:
    """Every record is parsed as it was written, with the head."""
    packed = journal.pack(HEAD, [journal.encode_record(record) for record in written])
    head, lines = journal.unpack(packed)
    assert head == HEAD
    assert journal.decode_records(lines) == written


@given(st.lists(records, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_damage_is_detected(written: list[JournalRecord], rng: random.Random) -> None:
    """A file that is cut off, or has another byte anywhere in its text, is refused."""
    packed = journal.pack(HEAD, [journal.encode_record(record) for record in written])
    with pytest.raises(Damaged):
        journal.unpack(packed[: rng.randrange(len(packed))])
    text = bytearray(gzip.decompress(packed))
    text[rng.randrange(len(text) - 1)] ^= 1 << rng.randrange(7)
    with pytest.raises(Damaged):
        journal.unpack(gzip.compress(bytes(text)))


@pytest.mark.parametrize(
    "line",
    [
        b'{"v":1,"fid":-1,"gone":true}',
        b'{"v":9223372036854775808,"fid":1,"gone":true}',
        b'{"v":1,"fid":1,"domain":2147483648,"key":"k","length":1}',
        b'{"v":1,"fid":1,"domain":1,"key":"k","class":-1,"length":1}',
        b'{"v":1,"fid":1,"domain":1,"key":"k","length":9223372036854775808}',
    ],
)
def test_impossible_numbers_are_damage(line: bytes) -> None:
    """A line with an impossible number is damaged, though its file has the right checksum."""
    with pytest.raises(Damaged):
        journal.decode_records([line])


@pytest.mark.parametrize(
    "name", ["generation", "round", "segment", "before", "active_segment", "epoch", "number", "device"]
)
def test_a_head_near_the_end_of_counting_is_damage(name: str) -> None:
    """A head with a number near the largest that a database can store is damaged, since counting continues from it."""
    packed = journal.pack(msgspec.structs.replace(HEAD, **{name: HIGHEST}), [])
    with pytest.raises(Damaged):
        journal.unpack(packed)


@pytest.mark.parametrize("row", [{"devid": 2**31}, {"hostid": -1}, {"weight": 2**63}])
def test_a_manifest_beyond_a_columns_range_is_damage(row: dict[str, int]) -> None:
    """A manifest with a number that fits in no column is damaged, so that an older one is used."""
    _, lines = journal.unpack(journal.encode_manifest(HEAD, {"device": [row]}))
    with pytest.raises(Damaged):
        journal.decode_manifest(lines)


def test_the_text_is_readable() -> None:
    """The text is JSON, one line for each record, with descriptive names."""
    record = JournalRecord(12, 34, RecordState.HERE, FileMetadata(1, b"caf\xe9 1.jpg", 2, 56, 78, "image/jpeg"))
    lines = gzip.decompress(journal.pack(HEAD, [journal.encode_record(record)])).splitlines()
    assert json.loads(lines[1]) == {
        "v": 12, "fid": 34, "domain": 1, "key": "caf%E9+1.jpg", "class": 2, "length": 56, "stored": 78,
        "type": "image/jpeg",
    }  # fmt: skip
    described = JournalRecord(12, 34, RecordState.HERE, FileMetadata(1, b"k", 0, 5, etag="e-2", attributes=b"{}"))
    line = journal.encode_record(described)
    assert json.loads(line).items() >= {"etag": "e-2", "attributes": "e30="}.items()
    assert journal.decode_record(line) == described
    assert json.loads(lines[2])["lines"] == 2


def test_an_active_segment_never_replaces_the_previous_one() -> None:
    """Nor one that the previous lease holder may still be writing."""
    assert journal.active_slot(4, 10) != journal.active_slot(4, 11)
    assert not {journal.active_slot(4, 10), journal.active_slot(4, 11)} & {
        journal.active_slot(5, 11),
        journal.active_slot(5, 12),
    }


def test_compactions_alternate_directories() -> None:
    """A compaction is written to the directory that the previous one did not use."""
    assert journal.segment_path(3, 12) == "names/b/000012"
    assert journal.segment_path(4, 12) == "names/a/000012"
