"""Entity tags and attributes of objects, stored with files, on every engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tawara.metadata import files, journals, key_listing, object_attributes, rebuilding
from tawara.metadata.contract import Metadata, Transaction
from tawara.model.errors import UnknownKey
from tawara.model.files import NewFile, StoredFile
from tawara.model.journal_records import FileMetadata, NamedFile

ATTRIBUTES = bytes(range(256))


async def store(metadata: Metadata, key: bytes, etag: str | None, attributes: bytes | None) -> StoredFile:
    """A file with these, as it is found."""
    fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=(1,), now=1)
    new = NewFile(fid, 1, key, length=5, classid=0, devids=(1,), etag=etag, attributes=attributes)
    await metadata.write(files.close_upload, new, now=1)
    found = await metadata.read(files.find, 1, key)
    assert found is not None
    return found


async def test_they_come_back(metadata: Metadata) -> None:
    """Entity tag and attributes, any bytes, come back with the file, and the entity tag in listings."""
    found = await store(metadata, b"a", "e-2", ATTRIBUTES)
    assert (found.etag, found.attributes) == ("e-2", ATTRIBUTES)
    found = await store(metadata, b"b", None, None)
    assert (found.etag, found.attributes) == (None, None)
    page = await metadata.read(key_listing.page, 1, b"", b"", None, 10)
    assert [each.etag for each in page.files] == ["e-2", None]


async def test_a_renamed_file_keeps_them(metadata: Metadata) -> None:
    """They belong to the content: a new key keeps them, new content does not."""
    await store(metadata, b"a", "e-2", ATTRIBUTES)
    await metadata.write(files.rename, 1, b"a", b"b")
    found = await metadata.read(files.find, 1, b"b")
    assert found is not None
    assert (found.etag, found.attributes) == ("e-2", ATTRIBUTES)
    found = await store(metadata, b"b", None, None)
    assert (found.etag, found.attributes) == (None, None)


async def test_a_rebuilt_database_has_them(metadata: Metadata) -> None:
    """They survive the loss of the database: what journals record of a file restores them."""
    facts = journals.facts_of(await store(metadata, b"a", "e-2", ATTRIBUTES))
    await metadata.write(rebuilding.add_files, [NamedFile(4711, _moved(facts), (1,))], short=())
    found = await metadata.read(files.find, 1, b"moved")
    assert found is not None
    assert (found.fid, found.etag, found.attributes) == (4711, "e-2", ATTRIBUTES)


async def test_changed_attributes(metadata: Metadata) -> None:
    """Attributes change in place, are due to be written to the devices again, and an unknown key is an error."""
    before = await store(metadata, b"a", "e-2", b"old")
    await metadata.write(_forget_notes)
    seen: list[bytes | None] = []

    def changed(attributes: bytes | None) -> bytes | None:
        seen.append(attributes)
        return b"new"

    await metadata.write(object_attributes.change, 1, b"a", changed, now=2)
    found = await metadata.read(files.find, 1, b"a")
    assert seen[-1] == b"old"
    assert found == replace(before, attributes=b"new")
    assert await metadata.read(_notes) == [(before.fid, 1)]
    with pytest.raises(UnknownKey):
        await metadata.write(object_attributes.change, 1, b"b", changed, now=2)


async def test_attributes_of_a_file_of_mogilefs(metadata: Metadata) -> None:
    """A file without a row of ours gets attributes, too."""
    fid = (await store(metadata, b"a", None, None)).fid
    await metadata.write(_remove_row, fid)
    await metadata.write(object_attributes.change, 1, b"a", lambda _: b"new", now=7)
    found = await metadata.read(files.find, 1, b"a")
    assert found is not None
    assert (found.attributes, found.stored_at) == (b"new", 7)


async def _forget_notes(tx: Transaction) -> None:
    await tx.run("DELETE FROM tawara_note")


async def _remove_row(tx: Transaction, fid: int) -> None:
    await tx.run("DELETE FROM tawara_file WHERE fid = ?", fid)


async def _notes(tx: Transaction) -> list[tuple[int, int]]:
    return [(row[0], row[1]) for row in await tx.rows("SELECT fid, devid FROM tawara_note")]


def _moved(facts: FileMetadata) -> FileMetadata:
    return replace(facts, key=b"moved")
