"""Entity tags and attributes of objects, stored with files, on every engine."""

from __future__ import annotations

from dataclasses import replace

from tawara.metadata import files, journals, key_listing, rebuilding
from tawara.metadata.contract import Metadata
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


def _moved(facts: FileMetadata) -> FileMetadata:
    return replace(facts, key=b"moved")
