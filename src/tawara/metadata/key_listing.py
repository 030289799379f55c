"""Pages of a listing with common prefixes, at a cost that depends on the page and not on the keys under its prefixes.

A loop of seeks: read a few rows, and at a common prefix go on after the last key that has it. One statement for all of
it (a recursive CTE) took MariaDB 15 s for a page that the loop gives in 18 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tawara.metadata.contract import Row, Transaction
from tawara.metadata.dialect import successor
from tawara.model.cluster import HashType
from tawara.model.listing_page import ListedKey, ListingPage, common_prefix
from tawara.model.reserved_keys import RESERVED, is_reserved

FEWEST: Final = 8
"""Least rows of a statement. One after a common prefix reads as many as there were keys before that."""
MOST: Final = 1024


async def page(
    tx: Transaction,
    dmid: int,
    prefix: bytes,
    delimiter: bytes,
    after: bytes | None,
    limit: int,
    *,
    after_prefix: bool = False,
) -> ListingPage:
    """Return the next `limit` keys and common prefixes of a domain, in byte order, without reserved keys.

    The page begins after the key `after`; with `after_prefix` that is a common prefix, all keys of which are passed
    over. Without a delimiter there are no common prefixes. All of a page is of one moment.

    In a database of MogileFS with a collation of its own, the order is that of the collation, and the keys under a
    common prefix are read.
    """
    if limit <= 0:
        return ListingPage((), (), truncated=False)
    files: list[ListedKey] = []
    prefixes: list[bytes] = []
    passed = after if after_prefix else None
    last = after
    count = FEWEST if delimiter else min(limit + 1, MOST)
    between, usual = 0, FEWEST
    while True:
        rows = await _read(tx, dmid, prefix, last, passed, count)
        entries = len(files) + len(prefixes)
        for row in rows:
            last = bytes(row[0])
            if passed is not None and last.startswith(passed):
                continue
            if is_reserved(last):
                passed = RESERVED  # keys that are no UTF-8 may follow
                continue
            if len(files) + len(prefixes) == limit:
                return ListingPage(tuple(files), tuple(prefixes), truncated=True)
            passed = common_prefix(last, prefix, delimiter)
            if passed is None:
                files.append(_listed(row))
                between += 1
            else:
                prefixes.append(passed)
                between, usual = 0, min(max(FEWEST, between + 2), MOST)
        if len(rows) < count:
            return ListingPage(tuple(files), tuple(prefixes), truncated=False)
        found = len(files) + len(prefixes) - entries
        count = min(4 * count, MOST) if found == len(rows) else usual


async def _read(
    tx: Transaction, dmid: int, prefix: bytes, last: bytes | None, passed: bytes | None, count: int
) -> Sequence[Row]:
    """Read at most `count` rows after the key `last`, and after all keys that begin with `passed`."""
    if tx.dialect.byte_order:
        bounds = _bounds(prefix, last, passed)
        if bounds is None:
            return []
        conditions = [f"f.dkey {comparison} {tx.dialect.key_value}" for comparison, _ in bounds]
        values: list[object] = [key for _, key in bounds]
    else:
        conditions, values = tx.dialect.key_range("f.dkey", prefix, last)
    where = " AND ".join(("f.dmid = ?", *conditions))
    key, digest = tx.dialect.key_column("s.dkey"), tx.dialect.bytes_column("c.checksum")
    # The rows are chosen before the joins, so that no plan reads the other tables but by fid.
    return await tx.rows(
        f"SELECT {key}, s.fid, s.length, s.classid, t.stored_at, {digest}, t.etag FROM"
        f" (SELECT f.dkey, f.fid, f.length, f.classid FROM file f{tx.dialect.by_key} WHERE {where}"
        " ORDER BY f.dkey LIMIT ?) s LEFT JOIN tawara_file t ON t.fid = s.fid"
        " LEFT JOIN checksum c ON c.fid = s.fid AND c.hashtype = ? ORDER BY s.dkey",
        dmid,
        *values,
        count,
        int(HashType.MD5),
    )


def _bounds(prefix: bytes, last: bytes | None, passed: bytes | None) -> list[tuple[str, bytes]] | None:
    """Return the bounds of the keys to read, as comparisons: one or two. None if there can be no such key."""
    first = (">=", prefix)
    if passed is not None:
        least = successor(passed)
        if least is None:
            return None
        first = (">=", max(least, prefix))
    elif last is not None and last >= prefix:
        first = (">", last)
    end = successor(prefix)
    if end is None:
        return [first]
    return None if first[1] >= end else [first, ("<", end)]


def _listed(row: Row) -> ListedKey:
    key, fid, length, classid, stored_at, digest, etag = row
    return ListedKey(bytes(key), fid, length, classid, stored_at, None if digest is None else bytes(digest), etag)
