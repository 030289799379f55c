"""Writes qcow2 files with given clusters, over a backing file or alone; the same input gives the same bytes. Layout:
header cluster, L1 table, refcount table, refcount blocks, L2 tables, data. Version 3, 16-bit refcounts, no compression,
because the package compresses."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

MAGIC = 0x514649FB
COPIED = 1 << 63
_BACKING_FORMAT = 0xE2792ACA


@dataclass(frozen=True)
class Layout:
    """The positions of everything in the file, determined before any data is read."""

    cluster_bits: int
    size: int
    backing: str | None
    numbers: tuple[int, ...]
    """The numbers of the guest's clusters that the file holds, in order."""

    @property
    def cluster(self) -> int:
        """Bytes in a cluster."""
        return 1 << self.cluster_bits

    @property
    def per_l2(self) -> int:
        """Guest clusters that one L2 table maps."""
        return self.cluster // 8

    @property
    def l1_entries(self) -> int:
        """Entries in the L1 table for the whole disk, used or not."""
        return max(1, -(-self.size // (self.cluster * self.per_l2)))

    @property
    def l1_clusters(self) -> int:
        """Clusters of the L1 table."""
        return -(-self.l1_entries * 8 // self.cluster)

    @property
    def l2_indexes(self) -> list[int]:
        """The L2 tables that exist."""
        return [index for index, _ in groupby(number // self.per_l2 for number in self.numbers)]

    def refcount_shape(self) -> tuple[int, int, int]:
        """Clusters of the refcount table, of refcount blocks, and of the whole file; each counts the others."""
        fixed = 1 + self.l1_clusters + len(self.l2_indexes) + len(self.numbers)
        table, blocks = 1, 1
        while True:
            total = fixed + table + blocks
            need_blocks = -(-total // (self.cluster // 2))
            need_table = -(-need_blocks * 8 // self.cluster)
            if (need_table, need_blocks) == (table, blocks):
                return table, blocks, total
            table, blocks = need_table, need_blocks


def changed_clusters(old: bytes, new: bytes, cluster: int, first: int) -> Iterator[int]:
    """Return the numbers of the clusters that differ between two ranges of a disk that begin at cluster `first`."""
    if old == new:
        return
    for index in range(-(-len(new) // cluster)):
        piece = slice(index * cluster, (index + 1) * cluster)
        if old[piece] != new[piece]:
            yield first + index


def write(layout: Layout, data: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the file's bytes: metadata first, then each cluster's data as the caller yields it (in the layout's
    order)."""
    table_clusters, block_clusters, total = layout.refcount_shape()
    cluster = layout.cluster
    l1_at = 1
    table_at = l1_at + layout.l1_clusters
    blocks_at = table_at + table_clusters
    l2_at = blocks_at + block_clusters
    data_at = l2_at + len(layout.l2_indexes)

    yield _padded(_header(layout, l1_at, table_at, table_clusters), cluster)
    yield _padded(_l1(layout, l2_at), cluster)
    yield _padded(b"".join(struct.pack(">Q", (blocks_at + i) * cluster) for i in range(block_clusters)), cluster)
    yield _padded(struct.pack(">H", 1) * total, cluster)
    yield from _l2_tables(layout, data_at)
    for each in data:
        yield _padded(each, cluster)


def _header(layout: Layout, l1_at: int, table_at: int, table_clusters: int) -> bytes:
    name = (layout.backing or "").encode()
    extensions = struct.pack(">II5s3x", _BACKING_FORMAT, 5, b"qcow2") if layout.backing else b""
    extensions += struct.pack(">II", 0, 0)
    header_length = 104
    head = struct.pack(
        ">IIQIIQIIQQIIQ",
        MAGIC,
        3,
        header_length + len(extensions) if name else 0,
        len(name),
        layout.cluster_bits,
        layout.size,
        0,
        layout.l1_entries,
        l1_at * layout.cluster,
        table_at * layout.cluster,
        table_clusters,
        0,
        0,
    )
    features = struct.pack(">QQQII", 0, 0, 0, 4, header_length)
    return head + features + extensions + name


def _l1(layout: Layout, l2_at: int) -> bytes:
    entries = [0] * layout.l1_entries
    for position, index in enumerate(layout.l2_indexes):
        entries[index] = (l2_at + position) * layout.cluster | COPIED
    return struct.pack(f">{len(entries)}Q", *entries)


def _l2_tables(layout: Layout, data_at: int) -> Iterator[bytes]:
    position = data_at
    for _, numbers in groupby(layout.numbers, key=lambda number: number // layout.per_l2):
        entries = [0] * layout.per_l2
        for number in numbers:
            entries[number % layout.per_l2] = position * layout.cluster | COPIED
            position += 1
        yield struct.pack(f">{len(entries)}Q", *entries)


def _padded(data: bytes, cluster: int) -> bytes:
    return data + bytes(-len(data) % cluster)
