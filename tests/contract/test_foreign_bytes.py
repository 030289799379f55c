"""Bytes that other programs stored as text are read as bytes."""

from __future__ import annotations

import pytest

from tawara.metadata import cluster, diagnosis, files
from tawara.metadata.backup import Chunk, dump, load
from tawara.metadata.contract import Metadata, Transaction
from tawara.model.cluster import Checksum, HashType
from tawara.model.files import NewFile
from tawara.wire.line import encode_args

DIGEST = bytes.fromhex("ff50") + bytes(range(14))
NOW = 1_700_000_000


async def _stored(metadata: Metadata) -> int:
    dmid = await metadata.write(cluster.create_domain, "d")
    fid = await metadata.write(files.open_upload, dmid=dmid, key=b"k", classid=0, devids=(1,), now=NOW)
    await metadata.write(
        files.close_upload,
        NewFile(
            fid=fid, dmid=dmid, key=b"k", classid=0, length=1, devids=(1,), checksum=Checksum(HashType.MD5, DIGEST)
        ),
        now=NOW,
    )
    return fid


async def _as_text(tx: Transaction) -> None:
    """Convert as mogilefsd stores them in SQLite, which takes any type for any column."""
    if tx.dialect.name == "sqlite":
        await tx.run("UPDATE checksum SET checksum = CAST(checksum AS TEXT)")
        row = await tx.row("SELECT typeof(checksum) FROM checksum")
        assert row == ("text",)


async def test_checksums_are_read_as_bytes(metadata: Metadata) -> None:
    """A checksum that another program stored as text has the value of its bytes, wherever it is read."""
    fid = await _stored(metadata)
    await metadata.write(_as_text)
    checksum = Checksum(HashType.MD5, DIGEST)
    found = await metadata.read(files.find_fid, fid)
    assert found is not None
    assert found.checksum == checksum
    assert [each.checksum for each in await metadata.read(files.find_fids, [fid])] == [checksum]
    assert [each.checksum for each in await metadata.read(files.list_fids, 0, 10)] == [checksum]
    assert (await metadata.read(diagnosis.facts_of, fid)).checksum == checksum
    chunks: list[Chunk] = []
    await metadata.read(dump, chunks.append)
    (chunk,) = [each for each in chunks if each.table == "checksum"]
    assert chunk.rows == [[fid, 1, DIGEST.hex()]]
    await metadata.write(_forget)
    await metadata.write(load, chunk)
    again = await metadata.read(files.find_fid, fid)
    assert again is not None
    assert again.checksum == checksum


async def _forget(tx: Transaction) -> None:
    await tx.run("DELETE FROM checksum")


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_domain_that_is_not_utf8(metadata: Metadata) -> None:
    """A domain whose name is not UTF-8, as SQLite lets other programs store it, is loaded and sent as its bytes."""

    async def foreign(tx: Transaction) -> None:
        await tx.run("INSERT INTO domain (dmid, namespace) VALUES (7, CAST(x'66ff50' AS TEXT))")

    await metadata.write(foreign)
    (name,) = (await metadata.read(cluster.load)).domains
    assert name == b"f\xffP".decode("utf-8", "surrogateescape")
    assert encode_args({"domain": name}) == b"domain=f%FFP"
