"""Buckets on every engine: owner, time of creation, documents, and what the devices keep of them."""

from __future__ import annotations

import pytest

from tawara.metadata import buckets, cluster
from tawara.metadata.contract import Metadata, Transaction
from tawara.model.errors import DomainExists

OWNER = "0" * 64


async def dmid_of(metadata: Metadata, name: str) -> int:
    found = await metadata.read(cluster.load)
    return found.domains[name].dmid


async def test_a_bucket_has_an_owner(metadata: Metadata) -> None:
    """A bucket has its owner and time; a domain made elsewhere has neither; a name is given once."""
    await metadata.write(cluster.create_domain, "plain")
    await metadata.write(buckets.create, "photos", owner=OWNER, now=7)
    photos = await dmid_of(metadata, "photos")
    assert await metadata.read(buckets.find, photos) == buckets.BucketRow(photos, OWNER, 7)
    assert await metadata.read(buckets.find, await dmid_of(metadata, "plain")) is None
    assert list(await metadata.read(buckets.list_all)) == [photos]
    for name in ("photos", "plain"):
        with pytest.raises(DomainExists):
            await metadata.write(buckets.create, name, owner=OWNER, now=8)


async def test_documents_of_a_bucket(metadata: Metadata) -> None:
    """Documents are stored, replaced and removed, and go with their domain, also for a new domain of its number."""
    await metadata.write(buckets.create, "photos", owner=OWNER, now=7)
    dmid = await dmid_of(metadata, "photos")
    for body in ("one", "é" * 9000, None):
        await metadata.write(buckets.set_document, dmid, "tagging", body)
        assert await metadata.read(buckets.document, dmid, "tagging") == body
    await metadata.write(buckets.set_document, dmid, "tagging", "left")
    await metadata.write(cluster.delete_domain, "photos")
    await metadata.write(cluster.create_domain, "next")
    dmid = await dmid_of(metadata, "next")
    assert await metadata.read(buckets.document, dmid, "tagging") is None
    assert await metadata.read(buckets.find, dmid) is None


async def test_what_the_devices_keep(metadata: Metadata) -> None:
    """The manifest on the devices restores buckets of domains that there are, and changes none that is known."""
    assert await metadata.read(buckets.dump) == {}
    await metadata.write(buckets.create, "photos", owner=OWNER, now=7)
    dmid = await dmid_of(metadata, "photos")
    await metadata.write(buckets.set_document, dmid, "tagging", "one")
    kept = await metadata.read(buckets.dump)
    await metadata.write(_forget)
    await metadata.write(buckets.take_in, kept)
    assert await metadata.read(buckets.dump) == kept
    await metadata.write(buckets.set_document, dmid, "tagging", "newer")
    await metadata.write(buckets.take_in, kept)
    assert await metadata.read(buckets.document, dmid, "tagging") == "newer"
    unknown = {table: [{**row, "dmid": 4711} for row in rows] for table, rows in kept.items()}
    await metadata.write(buckets.take_in, unknown)
    assert await metadata.read(buckets.find, 4711) is None


async def _forget(tx: Transaction) -> None:
    for table in buckets.TABLES:
        await tx.run(f"DELETE FROM {table}")
