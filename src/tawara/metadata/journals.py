"""Progress of the journals on the devices, and what is to be written next (`tawara_journal`, `tawara_note`).

A device's journal is written by one worker at a time, the one that has claimed its row. Progress is recorded in one
transaction that also removes the outbox rows which it covers: a worker that dies before it leaves work to be repeated,
one that dies after it leaves none. Each function is one transaction; times are unix seconds. Format: wire.journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tawara.metadata import cluster, files, placement_counts, uploads
from tawara.metadata.contract import Row, Transaction
from tawara.metadata.dialect import marks, rounded
from tawara.model.files import StoredFile
from tawara.model.journal_records import FileMetadata, JournalRecord, RecordState

GENERATION = "tawara_names_generation"
"""Setting: the life of this database that the devices' journals tell of."""
MANIFEST = "tawara_names_charter"
"""Setting: number of the newest manifest, and a digest of what it says."""


@dataclass(frozen=True, slots=True)
class JournalRow:
    """A row of tawara_journal."""

    devid: int
    nexttry: int
    """When there may be something to do, or until when a worker has claimed it."""
    held: bool
    epoch: int
    """How often it was taken over from a worker that stopped."""
    generation: int
    """0 before its first round."""
    round: int
    position: int | None
    """The last fid that the round under way has brought; None when none is under way."""
    segments: int
    """The number of the last segment of this round."""
    next_segment: int
    """The number of the next: not one more, where a worker that was taken over from may have written that."""
    old_segments: int
    """The greatest number of a segment of the round before, while those are not deleted."""
    written: int
    """Records in this round's segments."""
    live: int
    """Records that the round brought when it was complete."""
    active_segment: int
    """The number of the newest active segment."""
    active_slot: int
    """Where that is; -1 when all records are in segments."""
    manifest: int
    """The number of the newest manifest on the device."""


_COLUMNS = (
    "devid, nexttry, held, epoch, generation, round, position, segments, next_segment, old_segments, written, live,"
    " tail, tail_slot, charter"
)


def _journal(row: Row) -> JournalRow:
    return replace(JournalRow(*row), held=bool(row[2]))


@dataclass(frozen=True, slots=True)
class DueJournals:
    """What waits."""

    generation: int
    manifest: tuple[int, str]
    """Number and digest of the newest manifest."""
    journals: dict[int, JournalRow]
    noted: frozenset[int]
    """Devices of which there are notes."""


_NOTED = (
    "WITH RECURSIVE noted (devid) AS (SELECT MIN(devid) FROM tawara_note UNION ALL SELECT (SELECT MIN(n.devid) FROM"
    " tawara_note n WHERE n.devid > noted.devid) FROM noted WHERE noted.devid IS NOT NULL)"
    " SELECT devid FROM noted WHERE devid IS NOT NULL"
)
"""The devices in one jump through the index for each, however many notes there are."""


async def look(tx: Transaction) -> DueJournals:
    """All that may have to be written."""
    settings: dict[str, str] = dict(
        await tx.rows("SELECT field, value FROM server_settings WHERE field IN (?, ?)", GENERATION, MANIFEST)
    )
    number, _, digest = (settings.get(MANIFEST) or "0 ").partition(" ")
    rows = await tx.rows(f"SELECT {_COLUMNS} FROM tawara_journal")
    return DueJournals(
        generation=int(settings.get(GENERATION) or 0),
        manifest=(int(number), digest),
        journals={row[0]: _journal(row) for row in rows},
        noted=frozenset(row[0] for row in await tx.rows(_NOTED)),
    )


async def begin_generation(tx: Transaction, *, at_least: int, unless: int = 0) -> int:
    """Have this database's life be told apart from earlier ones; its generation.

    Only if the generation is still `unless`, for several may find at once that another has to begin.
    """
    if tx.dialect.for_update:
        await tx.row(f"SELECT value FROM server_settings WHERE field = 'schema_version'{tx.dialect.for_update}")
    now = int(await cluster.get_setting(tx, GENERATION) or 0)
    if now not in (0, unless):
        return now
    generation = max(at_least, now + 1)
    await cluster.set_setting(tx, GENERATION, str(generation))
    return generation


async def number_manifest(tx: Transaction, digest: str) -> int:
    """The number of the manifest with this digest: a new one, unless it is that of the newest."""
    if tx.dialect.for_update:
        await tx.row(f"SELECT value FROM server_settings WHERE field = 'schema_version'{tx.dialect.for_update}")
    number, _, known = (await cluster.get_setting(tx, MANIFEST) or "0 ").partition(" ")
    if known == digest:
        return int(number)
    await cluster.set_setting(tx, MANIFEST, f"{int(number) + 1} {digest}")
    return int(number) + 1


# --- claims -----------------------------------------------------------------------------------------------------------


async def claim(tx: Transaction, devids: Sequence[int], *, now: int, lease: int) -> list[JournalRow]:
    """Claim those journals that are due until `now + lease`."""
    taken: list[JournalRow] = []
    for devid in devids:
        await tx.run(tx.dialect.insert_or_ignore("tawara_journal", ("devid",)), devid)
        row = await tx.row(
            f"SELECT {_COLUMNS} FROM tawara_journal WHERE devid = ? AND nexttry <= ?{tx.dialect.skip_locked}",
            *(devid, now),
        )
        if row is None:
            continue
        journal = _journal(row)
        # The worker that had it may still be writing: the segment number that it would use is skipped.
        epoch, following = journal.epoch + journal.held, journal.next_segment + journal.held
        taken.append(replace(journal, nexttry=now + lease, held=True, epoch=epoch, next_segment=following))
        await tx.run(
            "UPDATE tawara_journal SET nexttry = ?, held = 1, epoch = ?, next_segment = ? WHERE devid = ?",
            *(now + lease, epoch, following, devid),
        )
    return taken


async def renew(tx: Transaction, held: Sequence[JournalRow], *, until: int) -> None:
    """Hold these for longer. Those that were lost are left as they are."""
    await tx.run_many(
        "UPDATE tawara_journal SET nexttry = ? WHERE devid = ? AND epoch = ? AND held = 1",
        [(until, each.devid, each.epoch) for each in held],
    )


async def settle(tx: Transaction, journal: JournalRow, covered: Sequence[int] = ()) -> bool:
    """Write down how far a claimed journal is, and forget the notes (by number) that are covered by what was written.

    False, and nothing is changed, if another worker has taken it over.
    """
    changed = await tx.run(
        "UPDATE tawara_journal SET generation = ?, round = ?, position = ?, segments = ?, next_segment = ?,"
        " old_segments = ?, written = ?, live = ?, tail = ?, tail_slot = ?, charter = ?"
        " WHERE devid = ? AND epoch = ? AND held = 1",
        *(journal.generation, journal.round, journal.position, journal.segments, journal.next_segment),
        *(
            journal.old_segments,
            journal.written,
            journal.live,
            journal.active_segment,
            journal.active_slot,
            journal.manifest,
        ),
        *(journal.devid, journal.epoch),
    )
    if not changed:
        return False
    await forget(tx, covered)
    return True


async def give_back(tx: Transaction, journal: JournalRow, *, until: int, clean: bool) -> None:
    """Let anyone have the journal from then on. Not `clean`: something that was begun may yet arrive at the device."""
    await tx.run(
        "UPDATE tawara_journal SET nexttry = ?, held = ? WHERE devid = ? AND epoch = ? AND held = 1",
        *(until, int(not clean), journal.devid, journal.epoch),
    )


async def forget(tx: Transaction, covered: Sequence[int]) -> None:
    """These notes, given by number, need no writing (any more)."""
    for start in range(0, len(covered), 512):
        values = rounded(covered[start : start + 512])
        await placement_counts.mark(tx, values)
        await tx.run(f"DELETE FROM tawara_note WHERE seq IN ({marks(values)})", *values)


async def drop_notes(tx: Transaction, devid: int, *, limit: int) -> int:
    """Forget up to so many notes for a device that will not be written to any more; how many."""
    rows = await tx.rows("SELECT seq FROM tawara_note WHERE devid = ? ORDER BY seq LIMIT ?", devid, limit)
    await forget(tx, [row[0] for row in rows])
    return len(rows)


# --- what to write ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PendingRecords:
    """Records to be written, with the notes that they cover."""

    records: list[JournalRecord]
    covered: list[int]
    highest_fid: int


async def noted(tx: Transaction, devid: int, *, limit: int) -> PendingRecords:
    """What up to so many notes of a device mean now. To be read: all of it is of one moment."""
    rows = await tx.rows("SELECT seq, fid FROM tawara_note WHERE devid = ? ORDER BY seq LIMIT ?", devid, limit)
    versions: dict[int, int] = {fid: seq for seq, fid in rows}
    known: dict[int, StoredFile] = {}
    fids = sorted(versions)
    for start in range(0, len(fids), 512):
        known |= {file.fid: file for file in await files.find_fids(tx, fids[start : start + 512])}
    records = [record_of(devid, fid, version, known.get(fid)) for fid, version in versions.items()]
    return PendingRecords(records, [row[0] for row in rows], await uploads.highest_fid(tx) if rows else 0)


def record_of(devid: int, fid: int, version: int, file: StoredFile | None) -> JournalRecord:
    """What is to be said of a fid on a device."""
    if file is None:
        return JournalRecord(version, fid, RecordState.GONE)
    if devid not in file.devids:
        return JournalRecord(version, fid, RecordState.AWAY)
    return JournalRecord(version, fid, RecordState.HERE, facts_of(file))


def facts_of(file: StoredFile) -> FileMetadata:
    """What is to be known of a file whatever becomes of the database."""
    return FileMetadata(
        file.dmid, file.key, file.classid, file.length, file.stored_at, file.content_type, file.checksum
    )


async def sweep(tx: Transaction, devid: int, *, after: int, limit: int) -> tuple[list[JournalRecord], int | None]:
    """Records of a device's next files by fid, and the fid of the last, None when there are no more. A change.

    The files are locked before the version is taken, so that it is greater than that of every change which is in them,
    and smaller than that of every later one. Deleted ones whose bytes are still to go are told as gone: the round
    before, which told it, will be forgotten.
    """
    rows = await tx.rows(
        "SELECT fid FROM file_on WHERE devid = ? AND fid > ? ORDER BY fid LIMIT ?", *(devid, after, limit)
    )
    if not rows:
        return [], None
    fids = [row[0] for row in rows]
    if tx.dialect.for_update:
        values = rounded(fids)
        await tx.rows(
            f"SELECT fid FROM file WHERE fid IN ({marks(values)}) ORDER BY fid{tx.dialect.for_update}", *values
        )
    version = await _next_version(tx)
    known = {file.fid: file for file in await files.find_fids(tx, fids)}
    doomed = await _doomed(tx, [fid for fid in fids if fid not in known])
    records = [record_of(devid, fid, version, known.get(fid)) for fid in fids if fid in known or fid in doomed]
    return records, fids[-1]


async def _doomed(tx: Transaction, fids: Sequence[int]) -> set[int]:
    """Those that had a name, and whose bytes wait to be deleted.

    A mogilefsd beside us has others on a device, even queued for deletion (an upload that it gives up while it is being
    closed), whose name is still to come. `tawara_file` has what was stored by us, until its deletion ends.
    """
    if not fids:
        return set()
    values = rounded(fids)
    rows = await tx.rows(
        f"SELECT d.fid FROM file_to_delete2 d JOIN tawara_file t ON t.fid = d.fid WHERE d.fid IN ({marks(values)})",
        *values,
    )
    return {row[0] for row in rows}


async def _next_version(tx: Transaction) -> int:
    number = await tx.insert("INSERT INTO tawara_note (fid, devid) VALUES (?, ?)", "seq", 0, 0)
    await tx.run("DELETE FROM tawara_note WHERE seq = ?", number)
    return number


async def unsaid(tx: Transaction, *, limit: int) -> list[int]:
    """Fids that have no name any more, which some device, that cannot be written to, has not been told."""
    rows = await tx.rows(
        "SELECT DISTINCT n.fid FROM tawara_note n LEFT JOIN file f ON f.fid = n.fid"
        " WHERE f.fid IS NULL AND n.fid > 0 ORDER BY n.fid LIMIT ?",
        limit,
    )
    return [row[0] for row in rows]


async def waiting(tx: Transaction) -> set[int]:
    """The fids of which something is still to be written somewhere."""
    return {row[0] for row in await tx.rows("SELECT DISTINCT fid FROM tawara_note")}


async def unknown(tx: Transaction, fids: Sequence[int]) -> set[int]:
    """Those of the fids that no row is about: no file, no upload, no copy, no deletion."""
    values = rounded(fids)
    known: set[int] = set()
    for table in ("file", "tempfile", "file_on", "file_to_delete2", "tawara_copy"):
        rows = await tx.rows(f"SELECT DISTINCT fid FROM {table} WHERE fid IN ({marks(values)})", *values)
        known.update(row[0] for row in rows)
    return set(fids) - known
