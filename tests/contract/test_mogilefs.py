"""A database of MogileFS 2.73 is served as it is: its keys byte for byte, and in a form that mogilefsd can read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tawara.metadata import cluster, files, history, migrations, multipart, queues, schema_version, uploads
from tawara.metadata.contract import Metadata, Row, Transaction
from tawara.metadata.open import open_metadata
from tawara.model.errors import ConfigurationError, InUse, InvalidKey, KeyExists, NoReservedKeys
from tawara.model.files import NewFile
from tawara.model.multipart import MultipartUpload
from tests.contract.servers import Server
from tests.mogilefsd import databases

of_servers = pytest.mark.parametrize("engine", ["postgresql", "mysql"], indirect=True)
pytestmark = of_servers


@pytest.fixture
def old_url(blank_url: str, engine: str, servers: Callable[[str], Server]) -> str:
    """The URL of a database of MogileFS, with a domain and a file stored by it."""
    database = databases.database_of(blank_url)
    key = r"'Photo/\xc3\xa9 1'" if engine == "postgresql" else "'Photo/é 1'"
    stored = [
        "INSERT INTO domain (dmid, namespace) VALUES (1, 'old')",
        # mogilefsd on PostgreSQL stores each byte as a Latin-1 character, on MySQL text in its connection's charset.
        f"INSERT INTO file VALUES (7, 1, {key if engine == 'mysql' else 'U&' + _unicode('Photo/é 1')}, 10, 0, 1)",
        "INSERT INTO file_on VALUES (7, 1)",
        "INSERT INTO tempfile (fid, createtime, classid, dmid, dkey) VALUES (7, 1, 0, 1, 'x')",
        "DELETE FROM tempfile",
    ]
    charset = [f"ALTER DATABASE {database} CHARACTER SET latin1"] if engine == "mysql" else []
    databases.make(engine, blank_url, servers(engine), charset)
    servers(engine).execute(database, stored)
    return blank_url


def _unicode(key: str) -> str:
    return "'" + "".join(f"\\{byte:04x}" for byte in key.encode()) + "'"


@pytest.fixture
async def adopted(old_url: str) -> AsyncIterator[Metadata]:
    """The same, with Tawara's tables, open."""
    preparing = await open_metadata(old_url, any_version=True)
    await preparing.write(migrations.migrate, to=schema_version.TAWARA)
    await preparing.write(uploads.count_beyond_files)
    await preparing.close()
    metadata = await open_metadata(old_url)
    yield metadata
    await metadata.close()


async def store(metadata: Metadata, key: bytes) -> int:
    fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=(1,), now=1)
    await metadata.write(files.close_upload, NewFile(fid=fid, dmid=1, key=key, classid=0, length=1, devids=(1,)), now=1)
    return fid


async def test_it_is_unchanged_before_adoption(old_url: str) -> None:
    """Without Tawara's tables it is refused with a message, and unchanged."""
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="MogileFS"):
            await open_metadata(old_url)


async def test_migrations_in_both_directions(old_url: str) -> None:
    """Tawara's tables are added and removed with their version; files stored by MogileFS and by Tawara stay."""
    metadata = await open_metadata(old_url, any_version=True)
    assert await metadata.read(migrations.version) == 0
    await metadata.write(uploads.count_beyond_files)
    for _ in range(2):
        assert await metadata.write(migrations.migrate, to=schema_version.TAWARA)
        assert await metadata.write(migrations.migrate, to=schema_version.TAWARA) == []
        assert await metadata.read(migrations.version) == schema_version.TAWARA
        fid = await store(metadata, b"ours")
        for step in reversed(history.steps()):
            assert await metadata.write(migrations.migrate, to=step.to - 1)
            assert await metadata.read(migrations.version) == step.to - 1
        for step in history.steps():
            assert await metadata.write(migrations.migrate, to=step.to)
        assert await metadata.write(migrations.migrate, to=0)
        assert await metadata.read(migrations.version) == 0

        async def look(tx: Transaction) -> list[Row]:
            return await tx.rows("SELECT fid FROM file ORDER BY fid")

        assert await metadata.read(look) == [(7,), (fid,)]
    with pytest.raises(ConfigurationError):
        await metadata.write(migrations.migrate, to=99)
    await metadata.close()


async def test_the_return_waits_for_running_copies(adopted: Metadata) -> None:
    """The return is refused while the data of a reserved copy would be lost."""
    from tawara.metadata import replicas

    await adopted.write(replicas.reserve_copy, 7, 2, now=1)
    with pytest.raises(InUse):
        await adopted.write(migrations.migrate, to=0)
    await adopted.write(replicas.cancel_copy, 7, 2)
    await adopted.write(migrations.migrate, to=0)


async def test_its_files_are_found(adopted: Metadata) -> None:
    """A key that MogileFS stored is found, listed and returned with the bytes that its clients know."""
    key = "Photo/é 1".encode()
    found = await adopted.read(files.find, 1, key)
    assert found is not None
    assert (found.fid, found.key, found.devids, found.stored_at) == (7, key, (1,), None)
    assert await adopted.read(files.list_keys, 1, "Photo/é".encode(), None, 10) == [key]
    assert await adopted.read(files.list_keys, 1, b"Photo/\xc3", None, 10) == [key]
    assert await adopted.read(files.list_keys, 1, b"photo", None, 10) == []


async def test_we_store_what_mogilefsd_would_store(adopted: Metadata, engine: str) -> None:
    """The column has the same characters that mogilefsd writes for the same key."""
    key = "Ünder_50%".encode()
    await store(adopted, key)

    async def column(tx: Transaction) -> Row | None:
        return await tx.row("SELECT dkey FROM file WHERE fid > 7")

    expected = key.decode("latin-1") if engine == "postgresql" else key.decode()
    assert await adopted.read(column) == (expected,)
    assert await adopted.read(files.list_keys, 1, "Ünder_5".encode(), None, 10) == [key]
    assert await adopted.read(files.list_keys, 1, "Ünder%".encode(), None, 10) == []
    await adopted.write(files.rename, 1, key, b"plain")
    assert await adopted.write(files.delete, 1, b"plain", now=1) > 7


async def test_the_database_decides_which_keys_are_equal(adopted: Metadata, engine: str) -> None:
    """PostgreSQL distinguishes `A` from `a`; a MySQL column with a collation does not, and one replaces the other
    (docs/mogilefs.md 17.2)."""
    first = await store(adopted, b"A")
    second = await store(adopted, b"a")
    found = await adopted.read(files.find, 1, b"A")
    assert found is not None
    deletions = [each.fid for each in await adopted.write(queues.claim_deletions, limit=9, now=9)]
    if engine == "postgresql":
        assert (found.fid, deletions) == (first, [])
        await adopted.write(files.rename, 1, b"a", b"b")
    else:
        assert (found.fid, deletions) == (second, [first])
        await store(adopted, b"b")
        with pytest.raises(KeyExists):
            await adopted.write(files.rename, 1, b"b", b"A")


async def test_keys_that_it_cannot_store(adopted: Metadata, engine: str) -> None:
    """A key that the column cannot hold is refused with a message."""
    bad = [b"k" * 256, b"nul\x00"] if engine == "postgresql" else [b"k" * 256, b"\xff\xfe", "俵".encode()]
    for key in bad:
        with pytest.raises(InvalidKey):
            await adopted.write(files.open_upload, dmid=1, key=key, classid=0, devids=(1,), now=1)
    if engine == "postgresql":
        every = bytes(range(1, 256))
        await store(adopted, every)
        found = await adopted.read(files.find, 1, every)
        assert found is not None
        assert found.key == every
    else:
        with pytest.raises(InvalidKey):
            await adopted.read(files.find, 1, "俵".encode())


async def test_latin1_connections_of_old_trackers(old_url: str, adopted: Metadata, engine: str) -> None:
    """With keys=latin1 every byte is a character of the column, as for a mogilefsd with an old client library."""
    if engine == "postgresql":
        with pytest.raises(ConfigurationError):
            await open_metadata(old_url + "&keys=latin1")
        return
    metadata = await open_metadata(old_url + "&keys=latin1")
    every = bytes(range(1, 256))
    fid = await store(metadata, every)
    found = await metadata.read(files.find, 1, every)
    assert found is not None
    assert (found.fid, found.key) == (fid, every)
    assert await metadata.read(files.list_keys, 1, every[:200], None, 10) == [every]
    await metadata.close()


async def test_pages_of_keys_are_complete(adopted: Metadata) -> None:
    """Paging through the keys in the database's order returns each exactly once."""
    names = {b"a1", b"B2", b"c3", b"_4", "é5".encode(), b"a-6", b"Photo/7"}
    for name in names:
        await store(adopted, name)
    listed: list[bytes] = []
    after: bytes | None = None
    while page := await adopted.read(files.list_keys, 1, b"", after, 3):
        listed += page
        after = page[-1]
    assert sorted(listed) == sorted([*names, "Photo/é 1".encode()])
    assert [each.key for each in await adopted.read(files.list_files, 1, b"", None, 100)] == listed


async def test_the_cluster_is_loaded(adopted: Metadata) -> None:
    """Domains, hosts and devices of the old schema, with its narrower columns, are loaded."""
    await adopted.write(cluster.create_host, "h", ip="10.0.0.1", http_port=7500)
    await adopted.write(cluster.create_device, 3, 1)
    loaded = await adopted.read(cluster.load)
    assert loaded.domains["old"].dmid == 1
    assert list(loaded.devices) == [3]


async def test_uploads_in_parts_are_refused(adopted: Metadata) -> None:
    """Where keys are text no upload in parts begins, and no key is taken for a part, however the collation sorts."""
    upload = MultipartUpload("0" * 32, 1, b"k", 0, (1,), "a" * 64, 1)
    with pytest.raises(NoReservedKeys):
        await adopted.write(multipart.add, upload)
    for key in (b"p", b"pq/1", b"zz"):
        await store(adopted, key)
    assert await adopted.read(multipart.find_orphans, 1) == []
    assert len(await adopted.read(files.list_keys, 1, b"", None, 10)) == 4
