"""Buckets: what S3 keeps with a domain (`tawara_bucket`, `tawara_bucket_document`).

A domain that was made elsewhere has no row of its own here, and is a bucket all the same. `cluster.delete_domain`
removes the rows. Each function is one transaction; see `contract`. Times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tawara.metadata import access_keys, cluster
from tawara.metadata.contract import Transaction

TAGS: Final = "tagging"
"""Name of the document that has a bucket's tags."""
TABLES: Final = {
    "tawara_bucket": ("dmid", "owner", "created_at"),
    "tawara_bucket_document": ("dmid", "name", "body"),
}
"""Table -> columns, which are kept on the devices, too."""


@dataclass(frozen=True, slots=True)
class BucketRow:
    """A row of tawara_bucket."""

    dmid: int
    owner: str
    """Id of the account that created the bucket."""
    created_at: int


async def create(tx: Transaction, name: str, *, owner: str, now: int) -> None:
    """Create a domain as a bucket of the account `owner`. Raises DomainExists."""
    dmid = await cluster.create_domain(tx, name)
    await tx.run("INSERT INTO tawara_bucket (dmid, owner, created_at) VALUES (?, ?, ?)", dmid, owner, now)
    await access_keys.count_change(tx)


async def find(tx: Transaction, dmid: int) -> BucketRow | None:
    """Return the row of a bucket; None for a domain that was made elsewhere."""
    row = await tx.row("SELECT dmid, owner, created_at FROM tawara_bucket WHERE dmid = ?", dmid)
    return None if row is None else BucketRow(*row)


async def list_all(tx: Transaction) -> dict[int, BucketRow]:
    """Return all rows by dmid."""
    rows = [BucketRow(*row) for row in await tx.rows("SELECT dmid, owner, created_at FROM tawara_bucket")]
    return {each.dmid: each for each in rows}


async def document(tx: Transaction, dmid: int, name: str) -> str | None:
    """Return a document of a bucket; None if it has none of this name."""
    row = await tx.row("SELECT body FROM tawara_bucket_document WHERE dmid = ? AND name = ?", dmid, name)
    return None if row is None else row[0]


async def set_document(tx: Transaction, dmid: int, name: str, body: str | None) -> None:
    """Store a document of a bucket; None removes it."""
    if body is None:
        await tx.run("DELETE FROM tawara_bucket_document WHERE dmid = ? AND name = ?", dmid, name)
    else:
        await tx.run(tx.dialect.upsert("tawara_bucket_document", ("dmid", "name"), ("body",)), dmid, name, body)
    await access_keys.count_change(tx)


# --- the cluster manifest ---------------------------------------------------------------------------------------------


async def dump(tx: Transaction) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of both tables for the cluster manifest, by table; nothing without buckets."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for table, columns in TABLES.items():
        rows = await tx.rows(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {', '.join(columns)}")
        if rows:
            tables[table] = [dict(zip(columns, row, strict=True)) for row in rows]
    return tables


async def take_in(tx: Transaction, manifest: Mapping[str, Any]) -> None:
    """Insert the rows of a manifest that this database lacks, for domains that it has."""
    for table, columns in TABLES.items():
        for row in manifest.get(table, ()):
            if await tx.row("SELECT 1 FROM domain WHERE dmid = ?", row["dmid"]) is not None:
                insert = tx.dialect.insert_or_ignore(table, columns)
                await tx.run(insert, *(row[each] for each in columns))
