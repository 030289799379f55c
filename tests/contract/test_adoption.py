"""Adopting a database of MogileFS, and returning it: the same on every engine."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tawara.metadata import (
    adoption,
    catalogue,
    cluster,
    epochs,
    files,
    findings,
    history,
    journals,
    replicas,
    schema_version,
)
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.open import open_metadata
from tawara.model.cluster import Checksum, HashType
from tawara.model.errors import ConfigurationError, InUse, UnknownKey
from tests.contract.mogilefs_database import LATIN1_OPTION, adopted, examining, leave, original_at, store
from tests.contract.servers import MYSQL_VARIABLE
from tests.mogilefsd import databases
from tests.mogilefsd.double import mogilefsd

LATIN1 = b"caf\xe9 2"
"""Not UTF-8."""
KEYS = (b"plain", "é/ü".encode(), b"a_b%c", LATIN1)


NO_PAD = "utf8mb4_0900_bin" if MYSQL_VARIABLE in os.environ else "utf8mb4_nopad_bin"
"""The collation in which a blank at the end counts: MySQL's, and MariaDB's."""


# --- there and back ---------------------------------------------------------------------------------------------------


async def test_examining_changes_nothing(old_url: str) -> None:
    """The findings include what cannot be represented; schema and settings are unchanged."""
    before = databases.schema(old_url)
    async with original_at(old_url) as original:
        await original.store(1, b"k", length=7)
        settings = await original.ask("SELECT * FROM server_settings")
        async with examining(old_url) as metadata:
            found = await metadata.read(findings.examine)
        assert await original.ask("SELECT * FROM server_settings") == settings
    assert databases.schema(old_url) == before
    assert (found.own_version, found.adopted, found.files, found.bytes, found.replicas) == (0, False, 1, 7, 1)
    assert found.domains == (findings.DomainFound("old", 1, ("thumbs",)),)
    assert found.hosts == {"alive": 1, "down": 1}
    assert found.devices == {"alive": 2, "drain": 1}
    assert found.queues["file_to_replicate"] == 1
    assert found.obstacles == ()
    assert adoption.planned(found, widen=False) == [step.summary for step in history.steps()]


async def test_adoption_and_return(old_url: str) -> None:
    """Files of mogilefsd are served, changed and added to by Tawara, and afterwards by mogilefsd, with any key. Schema
    and settings are the same as before."""
    before = databases.schema(old_url)
    async with original_at(old_url) as original:
        settings = await original.ask("SELECT * FROM server_settings")
        fids = {key: await original.store(1, key) for key in KEYS}
        async with adopted(old_url) as ours:
            for key, fid in fids.items():
                found = await ours.read(files.find, 1, key)
                assert found is not None
                assert (found.fid, found.key, found.devids) == (fid, key, (1,))
            assert set(await ours.read(files.list_keys, 1, b"", None, 100)) == set(KEYS)
            assert await ours.read(files.list_keys, 1, LATIN1[:4], None, 100) == [LATIN1]
            new = await store(ours, b"new\xe9", 1, 2, classid=1, length=3, content_type="text/plain")
            assert new > max(fids.values())
            await ours.write(files.rename, 1, LATIN1, b"renamed\xfc")
            assert await ours.write(files.delete, 1, b"plain", now=1) == fids[b"plain"]
        # Both at the same time.
        assert await original.find(1, b"new\xe9") == (new, 3, (1, 2))
        await leave(old_url)
        assert await original.keys(1) == {"é/ü".encode(), b"a_b%c", b"new\xe9", b"renamed\xfc"}
        assert await original.find(1, b"renamed\xfc") == (fids[LATIN1], 10, (1,))
        assert await original.claim("file_to_delete2") == [fids[b"plain"]]
        assert await original.store(1, b"after") > new
        assert await original.ask("SELECT * FROM server_settings") == settings
    assert databases.schema(old_url) == before


def listed(heading: str) -> set[str]:
    """The names in the first column of the table below a heading of docs/adopt.md."""
    section = (Path(__file__).parents[2] / "docs" / "adopt.md").read_text().partition(f"# {heading}\n")[2]
    return set(re.findall(r"^\| `([^`]+)` \|", section.partition("\n# ")[0], re.MULTILINE))


async def test_the_tables_that_adoption_adds(old_url: str) -> None:
    """docs/adopt.md lists exactly the tables that are added, and those of MogileFS keep their columns."""
    async with examining(old_url) as metadata:
        tables, columns = await metadata.read(catalogue.tables), await metadata.read(catalogue.columns)
        await metadata.write(adoption.adopt, widen=False, now=1)
        added = (await metadata.read(catalogue.tables)).keys() - tables.keys()
        now = await metadata.read(catalogue.columns)
    assert added == listed("Additions to the database")
    assert {place: column for place, column in now.items() if column.table not in added} == columns


async def test_adoption_and_return_are_idempotent(old_url: str) -> None:
    """Adopting an adopted database, and returning a returned one, changes nothing."""
    async with examining(old_url) as metadata:
        assert await metadata.write(adoption.adopt, widen=False, now=1)
        assert await metadata.write(adoption.adopt, widen=False, now=2) == []
        found = await metadata.read(findings.examine)
        assert found.adopted
        assert adoption.planned(found, widen=False) == []
        assert (await metadata.read(cluster.load)).settings[findings.ADOPTED] == "1"
        assert await metadata.write(adoption.undo)
        assert await metadata.write(adoption.undo) == []


async def test_what_mogilefsd_deleted_is_forgotten(old_url: str) -> None:
    """Adopting again removes Tawara's rows about files that mogilefsd deleted, and no others."""
    async with original_at(old_url) as original, adopted(old_url) as ours:
        for key in (b"gone", b"kept"):
            fid = await store(ours, key, content_type="text/plain")
        await original.ask("DELETE FROM file WHERE fid <> ?", fid)
        found = await ours.read(findings.examine)
        assert (found.media_types, found.orphans, len(adoption.planned(found, widen=False))) == (2, 1, 1)
        assert await ours.write(adoption.adopt, widen=False, now=1)
        found = await ours.read(findings.examine)
        assert (found.media_types, found.orphans) == (1, 0)
        assert await ours.write(adoption.adopt, widen=False, now=1) == []


async def test_widened_and_narrowed(old_url: str, engine: str) -> None:
    """Wider columns hold longer keys, mogilefsd can read them, and the return waits until all values fit again."""
    before = databases.schema(old_url)
    longer = b"k" * 1000
    async with original_at(old_url) as original:
        await original.store(1, LATIN1)
        async with adopted(old_url, widen=True) as ours:
            fid = await store(ours, longer, length=3)
            await ours.write(cluster.create_host, "six", ip="2001:db8::1234:5678", http_port=7500)
            assert (await ours.read(findings.examine)).widening == {}
        assert await original.find(1, longer) == (fid, 3, (1,))
        assert await original.find(1, LATIN1) is not None
        async with examining(old_url) as ours:
            if engine != "sqlite":
                assert databases.schema(old_url) != before
                with pytest.raises(InUse, match="do not fit"):
                    await ours.write(adoption.undo)
                await ours.write(files.delete, 1, longer, now=1)
                await ours.write(cluster.delete_host, "six")
                for table in ("tempfile", "file_to_delete2"):
                    await original.ask(f"DELETE FROM {table}")
            await ours.write(adoption.undo)
    assert databases.schema(old_url) == before


async def test_checksums_unknown_to_mogilefs(old_url: str) -> None:
    """The return removes them from classes and files; MD5 and SHA-1 stay."""
    async with adopted(old_url) as ours:
        for name, hashtype in {"md5": HashType.MD5, "crc": HashType.CRC32C}.items():
            await ours.write(cluster.create_class, "old", name, mindevcount=1, hashtype=hashtype)
            fid = await store(ours, name.encode())
            await ours.write(files.store_checksum, fid, Checksum(hashtype, bytes(hashtype.digest_size)))
        steps = adoption.planned_undo(await ours.read(findings.examine))
        assert steps[0] == "removes the checksums that MogileFS does not know of 2 classes and files"
    await leave(old_url)
    async with original_at(old_url) as original:
        assert await original.ask("SELECT hashtype FROM checksum") == [(1,)]
        kept = await original.ask("SELECT classname, hashtype FROM class WHERE classid > 1 ORDER BY classid")
    assert [row[1] for row in kept] == [1, None]


async def test_an_interrupted_return(old_url: str) -> None:
    """A return can be continued where it was interrupted, whether tables were dropped or not."""
    before = databases.schema(old_url)

    async def half(tx: Transaction) -> None:
        await tx.run("DROP TABLE tawara_copy")

    async with examining(old_url) as metadata:
        await metadata.write(adoption.adopt, widen=True, now=1)
        await metadata.write(half)
        assert await metadata.write(adoption.settle_copies, now=9) == []
        await metadata.write(adoption.undo)
    assert databases.schema(old_url) == before


async def test_reserved_copies_at_the_return(old_url: str) -> None:
    """Each reserved copy becomes a replica, or is listed; none is lost, truncated, or queued."""
    async with original_at(old_url) as original, adopted(old_url) as ours:
        fid = await store(ours, b"k")
        gone = await original.store(1, b"gone")
        for each, devid in ((fid, 2), (fid, 3), (gone, 2)):
            await ours.write(replicas.reserve_copy, each, devid, now=100, lease=60)
        with pytest.raises(InUse, match="3 copies are under way"):
            await ours.write(adoption.settle_copies, now=159)
        await ours.write(replicas.record_copy, fid, 3, now=100)
        await original.delete_name(gone)
        assert await ours.write(adoption.settle_copies, now=160) == [(fid, 2), (gone, 2)]
        await original.queue_deletion(gone)
        with pytest.raises(InUse):
            await ours.write(adoption.undo)
        assert await ours.read(replicas.devices_of, gone) == (1,)
        assert await ours.read(replicas.devices_of, fid) == (1, 3)
        await ours.write(adoption.forget_copies, [(fid, 2), (gone, 2)])
        await ours.write(adoption.undo)


async def test_our_own_database_is_not_returned(metadata: Metadata) -> None:
    """A database created by Tawara cannot be returned, and has no columns to widen."""
    found = await metadata.read(findings.examine)
    assert (found.own_version, found.adopted) == (schema_version.TAWARA, False)
    with pytest.raises(ConfigurationError, match="made by Tawara"):
        adoption.refuse_undo(found)
    assert adoption.planned(found, widen=True) == []
    assert await metadata.write(adoption.adopt, widen=True, now=1) == []
    assert not (await metadata.read(findings.examine)).adopted


async def test_examining_creates_no_database(blank_url: str, engine: str) -> None:
    """A mistyped URL, of an empty database or none, is reported, and nothing is created there."""
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="no database" if engine == "sqlite" else "no tables"):
            await open_metadata(blank_url, any_version=True)


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "collation", "same"),
    [
        ("sqlite", "", []),
        ("postgresql", "", []),
        ("mysql", "latin1 COLLATE latin1_swedish_ci", [("A", "a"), ("x", "x "), ("é", "e")]),
        ("mysql", "latin1 COLLATE latin1_bin", [("x", "x ")]),
        ("mysql", "latin1 COLLATE latin1_general_ci", [("A", "a"), ("x", "x ")]),
        ("mysql", f"utf8mb4 COLLATE {NO_PAD}", []),
    ],
    indirect=["engine", "collation"],
)
async def test_equal_keys_are_determined_by_the_database(old_url: str, same: list[tuple[str, str]]) -> None:
    """Whether two keys are equal is queried from the database, and storing one of such a pair replaces the other."""
    async with adopted(old_url.removesuffix(LATIN1_OPTION)) as ours:
        found = await ours.read(findings.examine)
        assert list(found.keys.same) == same
        assert found.keys.meaning.startswith("keys that differ only" if same else "keys are compared byte for byte")
        for one, other in (("A", "a"), ("x", "x "), ("é", "e")):
            for key in (one, other):
                await store(ours, key.encode())
            await ours.write(files.delete, 1, one.encode(), now=1)
            if (one, other) in same:
                with pytest.raises(UnknownKey):
                    await ours.write(files.delete, 1, other.encode(), now=1)
            else:
                await ours.write(files.delete, 1, other.encode(), now=1)


@pytest.mark.parametrize("engine", ["mysql"], indirect=True)
@pytest.mark.parametrize("charset", ["latin1", "utf8mb4"])
@pytest.mark.parametrize(
    "collation", ["latin1 COLLATE latin1_swedish_ci", "utf8mb4 COLLATE utf8mb4_bin"], indirect=True
)
async def test_the_encoding_of_mogilefsds_connections(old_url: str, charset: str) -> None:
    """The stored keys show whether they have to be read as Latin-1 to get the clients' bytes."""
    url = old_url.removesuffix(LATIN1_OPTION)
    async with mogilefsd(url, charset=charset) as original:
        for key in ("plain", "größe", "été"):
            await original.store(1, key.encode())
    async with examining(url) as metadata:
        found = await metadata.read(findings.examine)
    assert found.keys.probably_latin1 == (charset == "latin1")
    async with adopted(url + LATIN1_OPTION if found.keys.probably_latin1 else url) as ours:
        assert await ours.read(files.find, 1, "größe".encode()) is not None


# --- obstacles --------------------------------------------------------------------------------------------------------


async def test_unsupported_settings_are_reported(old_url: str, engine: str) -> None:
    """Settings, policies, tables and queues that Tawara does not support are listed."""
    async with original_at(old_url) as original:
        await original.ask("INSERT INTO server_settings (field, value) VALUES ('memcache_servers', '10.0.0.9:11211')")
        await original.ask("INSERT INTO server_settings (field, value) VALUES ('fsck_host', 'elsewhere')")
        await original.ask("UPDATE class SET replpolicy = 'MyOwn(3)'")
        await original.ask("INSERT INTO file_to_delete (fid) VALUES (1)")
        await original.ask("CREATE TABLE plugin_metadata_names (nameid INT)")
    async with examining(old_url) as metadata:
        text = "\n".join((await metadata.read(findings.examine)).notes)
    for word in ("memcache", "elsewhere", "MyOwn", "file_to_delete", "plugin_metadata_names"):
        assert word in text


@pytest.mark.parametrize(
    ("statement", "engines"),
    [
        ("UPDATE file SET dkey = NULL", ("sqlite", "postgresql", "mysql")),
        ("UPDATE device SET status = NULL WHERE devid = 1", ("sqlite", "postgresql", "mysql")),
        ("UPDATE file SET dkey = U&'\\4FF5'", ("postgresql",)),
        ("ALTER TABLE file_on ENGINE=MyISAM", ("mysql",)),
    ],
)
async def test_obstacles(old_url: str, engine: str, statement: str, engines: tuple[str, ...]) -> None:
    """A database that cannot be served completely is not adopted, and not changed."""
    if engine not in engines:
        pytest.skip("cannot be on this engine")
    async with original_at(old_url) as original:
        await original.store(1, b"k")
        await original.ask(statement)
    before = databases.schema(old_url)
    async with examining(old_url) as metadata:
        assert len((await metadata.read(findings.examine)).obstacles) == 1
        with pytest.raises(ConfigurationError):
            await metadata.write(adoption.adopt, widen=True, now=1)
        assert not (await metadata.read(findings.examine)).adopted
    assert databases.schema(old_url) == before


async def test_epochs_are_kept_by_the_return(metadata: Metadata) -> None:
    """A database that is returned and adopted again is no older than its devices, and knows their journals."""
    await metadata.write(epochs.found, "0123456789abcdef", "aaaa")
    generation = await metadata.write(journals.begin_generation, at_least=5000)
    kept = await metadata.write(epochs.keep_lineage)
    before = await metadata.read(epochs.lineage)
    await metadata.write(cluster.set_setting, journals.GENERATION, None)
    assert kept == (epochs.EPOCH, epochs.KNOWN_NAMES)
    assert await metadata.read(epochs.lineage) == before
    assert await metadata.read(epochs.known_names) == generation
