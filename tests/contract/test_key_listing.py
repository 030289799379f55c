"""Pages of keys and common prefixes, compared with a naive grouping of all keys, on every engine."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tawara.metadata import files, key_listing
from tawara.metadata.contract import Metadata, Row, Transaction
from tawara.model.cluster import Checksum, HashType
from tawara.model.files import NewFile
from tawara.model.listing_page import ListedKey, ListingPage, group
from tawara.model.reserved_keys import RESERVED, is_reserved
from tests.contract.mogilefs_database import adopted, original_at

FRESH_DMID = itertools.count(10_000)
FRESH_FID = itertools.count(10_000_000)
several = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Few letters, so that keys share prefixes; the others sort next to the delimiter and at the ends.
letters = st.sampled_from([b"a", b"b", b"/", b"//", b".", b"0", b"\xff", b"\x00", b"\xc3\xa9", b"a/", RESERVED])
words = st.lists(letters, max_size=5).map(b"".join)


async def store(tx: Transaction, dmid: int, keys: list[bytes]) -> None:
    """Rows of files with these keys."""
    key = tx.dialect.key_value
    await tx.run_many(
        f"INSERT INTO file (fid, dmid, dkey, length, classid, devcount) VALUES (?, ?, {key}, 1, 0, 1)",
        [(next(FRESH_FID), dmid, each) for each in keys],
    )


async def pages(metadata: Metadata, dmid: int, prefix: bytes, delimiter: bytes, limit: int) -> list[tuple[bytes, bool]]:
    """All entries of a listing, page after page, each page continued as its last entry says."""
    entries: list[tuple[bytes, bool]] = []
    last: tuple[bytes | None, bool] = (None, False)
    while True:
        found = await metadata.read(key_listing.page, dmid, prefix, delimiter, last[0], limit, after_prefix=last[1])
        entries += entries_of(found)
        assert len(found.files) + len(found.prefixes) <= limit
        if not found.truncated:
            return entries
        assert len(found.files) + len(found.prefixes) == limit
        assert found.last is not None
        last = found.last


def entries_of(page: ListingPage) -> list[tuple[bytes, bool]]:
    return sorted([(each.key, False) for each in page.files] + [(each, True) for each in page.prefixes])


@several
@given(
    keys=st.lists(words.filter(bool), max_size=25, unique=True),
    prefix=words,
    delimiter=st.sampled_from([b"", b"/", b"//", b"a", b"0", b"\xff"]),
    limit=st.integers(1, 6),
)
async def test_pages_agree_with_grouping(
    metadata: Metadata, keys: list[bytes], prefix: bytes, delimiter: bytes, limit: int
) -> None:
    """L6, L7, L8: pages of any size list each key and each common prefix once, in order, whatever the delimiter."""
    dmid = next(FRESH_DMID)
    await metadata.write(store, dmid, keys)
    expected = group(sorted(each for each in keys if not is_reserved(each)), prefix, delimiter)
    assert await pages(metadata, dmid, prefix, delimiter, limit) == expected


@several
@given(
    keys=st.lists(words.filter(bool), max_size=25, unique=True),
    prefix=st.sampled_from([b"", b"a", b"a/", b"b"]),
    after=words,
    whole=st.booleans(),
    delimiter=st.sampled_from([b"", b"/"]),
)
async def test_a_page_begins_anywhere(
    metadata: Metadata, keys: list[bytes], prefix: bytes, after: bytes, whole: bool, delimiter: bytes
) -> None:
    """L7: a page begins after any key; a common prefix inside which it begins is listed, one that it follows is not."""
    dmid = next(FRESH_DMID)
    await metadata.write(store, dmid, keys)
    rest = [
        key for key in sorted(keys) if key > after and not is_reserved(key) and not (whole and key.startswith(after))
    ]
    found = await metadata.read(key_listing.page, dmid, prefix, delimiter, after, 1000, after_prefix=whole)
    assert entries_of(found) == group(rest, prefix, delimiter)


class Counting:
    """A transaction that counts statements and the rows that they return."""

    def __init__(self, tx: Transaction) -> None:
        self.dialect = tx.dialect
        self._tx = tx
        self.counts: list[int] = []

    async def rows(self, sql: str, *values: object) -> list[Row]:
        found = await self._tx.rows(sql, *values)
        self.counts.append(len(found))
        return found


async def test_the_cost_depends_on_the_page(metadata: Metadata) -> None:
    """A page reads about as many rows as it has entries, however many keys lie under its common prefixes."""
    keys = [b"%02d/%03d" % (name, number) for name in range(20) for number in range(200)]
    await metadata.write(store, 1, keys + [b"plain%04d" % number for number in range(1000)])

    async def costs(tx: Transaction, delimiter: bytes) -> list[int]:
        counting: Any = Counting(tx)
        await key_listing.page(counting, 1, b"", delimiter, None, 1000)
        counts: list[int] = counting.counts
        return counts

    grouped = await metadata.read(costs, b"/")
    assert len(grouped) <= 20 + 8
    assert sum(grouped) <= 1000 + 20 * key_listing.FEWEST + key_listing.MOST
    assert await metadata.read(costs, b"") == [1001]


async def test_many_keys_under_few_prefixes(metadata: Metadata) -> None:
    """Long runs under common prefixes and of plain keys are paged, across the sizes at which statements read."""
    keys = [b"%s/%04d" % (name, number) for name in (b"a", b"b") for number in range(1500)]
    keys += [b"c%04d" % number for number in range(1500)] + [b"d/", b"d/1", b"e"]
    await metadata.write(store, 1, keys)
    for limit in (1, 7, 1000):
        assert await pages(metadata, 1, b"", b"/", limit) == group(sorted(keys), b"", b"/")
        if limit > 1:
            assert await pages(metadata, 1, b"", b"", limit) == [(key, False) for key in sorted(keys)]
            assert await pages(metadata, 1, b"b", b"", limit) == group(sorted(keys), b"b", b"")


async def test_what_a_page_tells_about_a_file(metadata: Metadata) -> None:
    """A listed key has length, class, time and MD5 of its file; the MD5 is missing with another checksum or none."""
    for key, checksum in ((b"a", Checksum(HashType.MD5, b"m" * 16)), (b"b", Checksum(HashType.SHA1, b"s" * 20))):
        fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=2, devids=(1, 2), now=7)
        new = NewFile(fid=fid, dmid=1, key=key, classid=2, length=5, devids=(1, 2), checksum=checksum)
        await metadata.write(files.close_upload, new, now=7)
    await metadata.write(store, 1, [b"c"])
    found = (await metadata.read(key_listing.page, 1, b"", b"", None, 10)).files
    assert [each.key for each in found] == [b"a", b"b", b"c"]
    first = found[0]
    assert first == ListedKey(b"a", first.fid, length=5, classid=2, stored_at=7, md5=b"m" * 16)
    assert found[1].md5 is None
    assert (found[2].stored_at, found[2].md5) == (None, None)


@pytest.mark.parametrize("limit", [0, -1])
async def test_an_empty_page(metadata: Metadata, limit: int) -> None:
    """L6: a page of no entries is empty and not truncated."""
    await metadata.write(store, 1, [b"a"])
    assert await metadata.read(key_listing.page, 1, b"", b"", None, limit) == ListingPage((), (), truncated=False)


async def test_reserved_keys_are_hidden(metadata: Metadata) -> None:
    """T11: reserved keys are in no page, as little with their own prefix as with the end of the listing before them."""
    await metadata.write(store, 1, [b"z", RESERVED + b"p1", RESERVED + b"v/2"])
    for prefix, delimiter in ((b"", b""), (b"", b"/"), (RESERVED, b""), (RESERVED + b"v", b"/"), (b"\xf4", b"")):
        found = await metadata.read(key_listing.page, 1, prefix, delimiter, None, 1000)
        assert entries_of(found) == ([(b"z", False)] if prefix == b"" else [])
        assert not found.truncated
    found = await metadata.read(key_listing.page, 1, b"", b"", None, 1)
    assert (len(found.files), found.truncated) == (1, False)


async def test_a_database_of_mogilefs(old_url: str) -> None:
    """In a database that MogileFS made, pages list the same entries, in the order of its collation."""
    keys = [b"a/%d" % number for number in range(30)] + [b"b", b"c/1", b"d", b"e/1/2"]
    async with original_at(old_url) as original:
        for key in keys:
            await original.store(1, key)
        async with adopted(old_url) as ours:
            for limit in (1, 3, 1000):
                assert sorted(await pages(ours, 1, b"", b"/", limit)) == group(sorted(keys), b"", b"/")
                assert sorted(await pages(ours, 1, b"a/", b"", limit)) == group(sorted(keys), b"a/", b"")
