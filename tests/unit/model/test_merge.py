"""The decision of a merge: what a database gets from the journals on its devices."""

from __future__ import annotations

from dataclasses import replace

from tawara.model.cluster import Checksum, HashType
from tawara.model.files import StoredFile
from tawara.model.journal_records import FileMetadata, NamedFile
from tawara.model.merge import Changes, changes

FACTS = FileMetadata(1, b"key", 0, 10, 1000)
LOST = NamedFile(5, FACTS, (1, 2))
KNOWN = StoredFile(5, 1, b"key", 10, 0, 2, (1, 2), 1000)


def test_a_lost_file_is_restored() -> None:
    """A file that the journals have and the database does not is restored."""
    assert changes([LOST], [], {}, set()) == Changes(restore=[LOST])


def test_a_known_file_is_unchanged() -> None:
    """A file that both have is unchanged; a copy that only the journals have is recorded."""
    assert changes([LOST], [], {5: KNOWN}, set()) == Changes()
    assert changes([LOST], [], {5: replace(KNOWN, devids=(2, 3))}, set()) == Changes(replicas=[(5, 1)])


def test_later_renames_and_deletions_are_applied() -> None:
    """Keys changed later are changed, files deleted later are deleted."""
    assert changes([LOST], [], {5: replace(KNOWN, key=b"old")}, set()) == Changes(rename=[LOST])
    assert changes([LOST], [], {5: replace(KNOWN, classid=3)}, set()) == Changes(rename=[LOST])
    assert changes([], [5, 6], {5: KNOWN}, set()) == Changes(forget=[5])


def test_pending_changes_take_precedence() -> None:
    """Changes in the database's outbox take precedence over the journals: deleted, renamed, and stored again."""
    assert changes([LOST], [], {}, {5}) == Changes()
    assert changes([LOST], [], {5: replace(KNOWN, key=b"new")}, {5}) == Changes()
    assert changes([], [5], {5: KNOWN}, {5}) == Changes()


def test_a_fid_with_two_contents() -> None:
    """Two contents under one fid are reported, however they are detected, and neither is changed."""
    one, other = (Checksum(HashType.MD5, letter * 16) for letter in (b"a", b"b"))
    known = replace(KNOWN, checksum=one)
    told = replace(LOST, facts=replace(FACTS, checksum=one))
    assert changes([told], [], {5: known}, set()) == Changes()
    for facts in ({"length": 11}, {"stored_at": 1001}, {"checksum": other}):
        clash = replace(LOST, facts=replace(told.facts, **facts))
        assert changes([clash], [], {5: known}, set()) == changes([clash], [], {5: known}, {5})
        assert changes([clash], [], {5: known}, set()) == Changes(clashes=[clash])
