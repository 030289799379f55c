"""Uploads in parts: which parts make the object, its entity tag and checksum, where a part lies."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.multipart import (
    SMALLEST_PART,
    ListedPart,
    ListFault,
    PartSpan,
    RefusedList,
    UploadedPart,
    choose_parts,
    composite_checksum,
    is_part_number,
    joined_etag,
    plain_etag,
    span_of_part,
)

BIG = SMALLEST_PART


def uploaded(*numbers: int, length: int = BIG) -> dict[int, UploadedPart]:
    return {each: UploadedPart(each, length, hashlib.md5(b"%d" % each).digest()) for each in numbers}


def listed(parts: dict[int, UploadedPart], *numbers: int) -> list[ListedPart]:
    return [ListedPart(each, parts[each].etag) for each in numbers]


def test_part_numbers() -> None:
    """M1: part numbers are 1 to 10,000."""
    assert [number for number in (-1, 0, 1, 10_000, 10_001) if is_part_number(number)] == [1, 10_000]


@given(numbers=st.sets(st.integers(1, 10_000), min_size=1, max_size=8), kept=st.data())
def test_parts_that_are_listed(numbers: set[int], kept: st.DataObject) -> None:
    """M1, M2: gaps are allowed, and parts that are not listed do not belong to the object."""
    parts = uploaded(*numbers)
    chosen = sorted(kept.draw(st.sets(st.sampled_from(sorted(numbers)), min_size=1)))
    found = choose_parts(listed(parts, *chosen), parts)
    assert not isinstance(found, RefusedList)
    assert [each.number for each in found] == chosen


@given(numbers=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_the_order_ascends(numbers: list[int]) -> None:
    """M2: the order is ascending, else InvalidPartOrder; a number occurs once."""
    parts = uploaded(1, 2, 3, 4, 5)
    found = choose_parts(listed(parts, *numbers), parts)
    ascending = all(first < second for first, second in pairwise(numbers))
    assert isinstance(found, tuple) == ascending
    if isinstance(found, RefusedList):
        assert found.fault is ListFault.ORDER


@pytest.mark.parametrize("quoted", [True, False])
def test_etags_with_or_without_quotes(quoted: bool) -> None:
    """M2: the entity tag is compared with or without quotes; another one is InvalidPart."""
    parts = uploaded(1)
    tag = f'"{parts[1].etag}"' if quoted else parts[1].etag.upper()
    assert choose_parts([ListedPart(1, tag)], parts) == (parts[1],)
    assert choose_parts([ListedPart(1, '"x"')], parts) == RefusedList(ListFault.MISSING, 1, etag='"x"')
    assert choose_parts([ListedPart(2, tag)], parts) == RefusedList(ListFault.MISSING, 2, etag=tag)


def test_checksums_of_listed_parts() -> None:
    """C10: completion checks the checksums that it is given."""
    part = UploadedPart(1, 5, bytes(16), b"abcd")
    assert choose_parts([ListedPart(1, part.etag, b"abcd")], {1: part}) == (part,)
    assert choose_parts([ListedPart(1, part.etag)], {1: part}) == (part,)
    found = choose_parts([ListedPart(1, part.etag, b"abce")], {1: part})
    assert isinstance(found, RefusedList)
    assert found.fault is ListFault.MISSING


def test_small_parts() -> None:
    """M2: each part but the last has at least 5 MiB, else EntityTooSmall; an empty list is none."""
    parts = uploaded(1, 3) | uploaded(2, length=BIG - 1)
    found = choose_parts(listed(parts, 1, 2, 3), parts)
    assert isinstance(found, RefusedList)
    assert (found.fault, found.number, found.length) == (ListFault.TOO_SMALL, 2, BIG - 1)
    assert choose_parts(listed(parts, 1, 2), parts) == (parts[1], parts[2])
    assert choose_parts([], parts) == RefusedList(ListFault.EMPTY)


def test_entity_tags() -> None:
    """O1: the MD5 of a single PUT, `md5(md5s)-N` of parts, fid and length with a dash where no MD5 is known."""
    md5s = [hashlib.md5(b"a").digest(), hashlib.md5(b"b").digest()]
    assert joined_etag(md5s) == hashlib.md5(md5s[0] + md5s[1]).hexdigest() + "-2"
    assert plain_etag(1, 2, md5s[0]) == md5s[0].hex()
    assert plain_etag(255, 16, None) == "ff-10"


def test_composite_checksums() -> None:
    """C9: a composite checksum is the hash of the parts' hashes."""
    values = [hashlib.sha256(each).digest() for each in (b"a", b"b")]
    found = composite_checksum(lambda data: hashlib.sha256(data).digest(), values)
    assert found == hashlib.sha256(values[0] + values[1]).digest()


def test_positions_of_parts() -> None:
    """O7: parts are those listed at completion, whose numbers may be sparse; of a plain object 1 is the whole."""
    parts = [(2, 5), (7, 3), (9, 1)]
    assert span_of_part(2, parts, 9) == PartSpan(0, 5, 3)
    assert span_of_part(7, parts, 9) == PartSpan(5, 3, 3)
    assert span_of_part(9, parts, 9) == PartSpan(8, 1, 3)
    assert span_of_part(1, parts, 9) is None
    assert span_of_part(1, [], 9) == PartSpan(0, 9, 1)
    assert span_of_part(2, [], 9) is None
