"""The result of a recovery for every combination of journal records and data."""

from __future__ import annotations

from tawara.model.journal_records import FileMetadata, JournalEvidence, NamedFile
from tawara.model.recovery import recover


def file(fid: int, *devids: int, length: int = 5) -> NamedFile:
    return NamedFile(fid, FileMetadata(1, b"k%d" % fid, 0, length), devids)


def test_every_result() -> None:
    """A file is restored with its existing copies, lost without any, deleted if data is left, else listed."""
    evidence = JournalEvidence(
        files=[file(1, 1, 2), file(2, 1), file(3, 1, 2)],
        gone={4: (1,), 5: (2,), 9: ()},
        rivals=[(file(6, 1), 3)],
    )
    sizes = {1: {1: 5, 3: 4, 4: 9, 6: 5, 8: 1, 9: 1}, 2: {1: 5, 3: 5}}
    done = recover(evidence, lambda devid, fid: sizes[devid].get(fid), sizes)
    assert [(each.fid, each.devids) for each in done.files] == [(1, (1, 2)), (3, (2,))]
    assert [each.fid for each in done.lost] == [2]
    assert done.deleted == {4: (1,), 9: (1,)}
    assert done.other_size == [(3, 1, 5, 4)]
    assert [(each.fid, later) for each, later in done.rivals] == [(6, 3)]
    assert done.unnamed == {8: (1,)}


def test_devices_that_were_not_listed() -> None:
    """Unlisted devices are assumed to have what their journals say; nothing is deleted from them."""
    evidence = JournalEvidence([file(1, 1)], {2: (1,)}, [])
    done = recover(evidence, lambda devid, fid: None, {}, unseen=frozenset({1}))
    assert [each.fid for each in done.files] == [1]
    assert not done.deleted
