"""What a database takes in from the names on its devices."""

from __future__ import annotations

from dataclasses import replace

from tawara.model.cluster import Checksum, HashType
from tawara.model.files import StoredFile
from tawara.model.journal_records import FileMetadata, NamedFile
from tawara.model.merge import Changes, changes

FACTS = FileMetadata(1, b"key", 0, 10, 1000)
LOST = NamedFile(5, FACTS, (1, 2))
KNOWN = StoredFile(5, 1, b"key", 10, 0, 2, (1, 2), 1000)


def test_a_lost_file_comes_back() -> None:
    """A file that the devices tell of and the database does not have is restored."""
    assert changes([LOST], [], {}, set()) == Changes(restore=[LOST])


def test_a_file_that_the_database_has_stays() -> None:
    """A file that both know alike is left as it is, a copy that only the devices know is recorded."""
    assert changes([LOST], [], {5: KNOWN}, set()) == Changes()
    assert changes([LOST], [], {5: replace(KNOWN, devids=(2, 3))}, set()) == Changes(replicas=[(5, 1)])


def test_a_file_that_was_renamed_or_deleted_since() -> None:
    """Names that were changed since are changed, files that are gone since go."""
    assert changes([LOST], [], {5: replace(KNOWN, key=b"old")}, set()) == Changes(rename=[LOST])
    assert changes([LOST], [], {5: replace(KNOWN, classid=3)}, set()) == Changes(rename=[LOST])
    assert changes([], [5, 6], {5: KNOWN}, set()) == Changes(forget=[5])


def test_what_the_database_has_not_told_the_devices_yet() -> None:
    """Where the database knows more than the devices its word counts: deleted, renamed, and stored again."""
    assert changes([LOST], [], {}, {5}) == Changes()
    assert changes([LOST], [], {5: replace(KNOWN, key=b"new")}, {5}) == Changes()
    assert changes([], [5], {5: KNOWN}, {5}) == Changes()


def test_a_fid_that_was_given_out_again() -> None:
    """Two contents under one fid are told, whatever gives them away, and neither is touched."""
    one, other = (Checksum(HashType.MD5, letter * 16) for letter in (b"a", b"b"))
    known = replace(KNOWN, checksum=one)
    told = replace(LOST, facts=replace(FACTS, checksum=one))
    assert changes([told], [], {5: known}, set()) == Changes()
    for facts in ({"length": 11}, {"stored_at": 1001}, {"checksum": other}):
        clash = replace(LOST, facts=replace(told.facts, **facts))
        assert changes([clash], [], {5: known}, set()) == changes([clash], [], {5: known}, {5})
        assert changes([clash], [], {5: known}, set()) == Changes(clashes=[clash])
