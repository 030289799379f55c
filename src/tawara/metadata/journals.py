"""Progress of the journals on the devices, and the records to write next (`tawara_journal`, `tawara_note`).

A device's journal is written by one worker at a time, the one that has claimed its row. Progress is recorded in one
transaction that also removes the outbox rows which it covers: a worker that dies before the commit leaves work to be
repeated, one that dies after it leaves none. Each function is one transaction; times are unix seconds. Format:
wire.journal.
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
"""Setting: the generation of this database, which the devices' journals record."""
MANIFEST = "tawara_names_charter"
"""Setting: number and digest of the newest manifest."""


@dataclass(frozen=True, slots=True)
class JournalRow:
    """A row of tawara_journal."""

    devid: int
    nexttry: int
    """When work may be due; while the journal is claimed, when the claim expires."""
    held: bool
    epoch: int
    """Number of times the journal was taken over from a worker that stopped."""
    generation: int
    """0 before the first compaction."""
    round: int
    position: int | None
    """Last fid written by the current compaction; None if none is in progress."""
    segments: int
    """Number of the last segment of this compaction."""
    next_segment: int
    """Number of the next segment. After a takeover one number is skipped, which the former worker may have written."""
    old_segments: int
    """Greatest segment number of the previous compaction, until those segments are deleted."""
    written: int
    """Records in the segments of this compaction."""
    live: int
    """Records in the compaction when it was complete."""
    active_segment: int
    """Number of the newest active segment."""
    active_slot: int
    """Slot of the active segment; -1 if all records are in closed segments."""
    manifest: int
    """Number of the newest manifest on the device (column `charter`)."""


_COLUMNS = (
    "devid, nexttry, held, epoch, generation, round, position, segments, next_segment, old_segments, written, live,"
    " tail, tail_slot, charter"
)


def _journal(row: Row) -> JournalRow:
    return replace(JournalRow(*row), held=bool(row[2]))


@dataclass(frozen=True, slots=True)
class DueJournals:
    """The state of all journals, and the devices with pending records."""

    generation: int
    manifest: tuple[int, str]
    """Number and digest of the newest manifest."""
    journals: dict[int, JournalRow]
    noted: frozenset[int]
    """Devices with rows in the outbox."""


_NOTED = (
    "WITH RECURSIVE noted (devid) AS (SELECT MIN(devid) FROM tawara_note UNION ALL SELECT (SELECT MIN(n.devid) FROM"
    " tawara_note n WHERE n.devid > noted.devid) FROM noted WHERE noted.devid IS NOT NULL)"
    " SELECT devid FROM noted WHERE devid IS NOT NULL"
)
"""Selects the devices by one index seek for each, regardless of the number of outbox rows."""


async def read_due(tx: Transaction) -> DueJournals:
    """Return everything that may have to be written."""
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
    """Start a new generation, which distinguishes this database's state from earlier ones; return its number.

    Does so only if the generation is still `unless`, because several processes may request a new one at once.
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
    """Return the number of the manifest with this digest: the newest one's if the digests match, else a new one."""
    if tx.dialect.for_update:
        await tx.row(f"SELECT value FROM server_settings WHERE field = 'schema_version'{tx.dialect.for_update}")
    number, _, known = (await cluster.get_setting(tx, MANIFEST) or "0 ").partition(" ")
    if known == digest:
        return int(number)
    await cluster.set_setting(tx, MANIFEST, f"{int(number) + 1} {digest}")
    return int(number) + 1


# --- claims -----------------------------------------------------------------------------------------------------------


async def claim(tx: Transaction, devids: Sequence[int], *, now: int, lease: int) -> list[JournalRow]:
    """Claim until `now + lease` those of the journals that are due."""
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
        # The former worker may still be writing: skip the segment number that it would use.
        epoch, following = journal.epoch + journal.held, journal.next_segment + journal.held
        taken.append(replace(journal, nexttry=now + lease, held=True, epoch=epoch, next_segment=following))
        await tx.run(
            "UPDATE tawara_journal SET nexttry = ?, held = 1, epoch = ?, next_segment = ? WHERE devid = ?",
            *(now + lease, epoch, following, devid),
        )
    return taken


async def renew(tx: Transaction, held: Sequence[JournalRow], *, until: int) -> None:
    """Extend these claims to `until`. Lost claims are left unchanged."""
    await tx.run_many(
        "UPDATE tawara_journal SET nexttry = ? WHERE devid = ? AND epoch = ? AND held = 1",
        [(until, each.devid, each.epoch) for each in held],
    )


async def record_progress(tx: Transaction, journal: JournalRow, covered: Sequence[int] = ()) -> bool:
    """Record the progress of a claimed journal, and remove the outbox rows (by number) covered by written records.

    Returns False, having changed nothing, if another worker has taken the journal over.
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


async def release(tx: Transaction, journal: JournalRow, *, until: int, clean: bool) -> None:
    """Release the journal, available from `until` on. Not `clean`: an unfinished write may still reach the device."""
    await tx.run(
        "UPDATE tawara_journal SET nexttry = ?, held = ? WHERE devid = ? AND epoch = ? AND held = 1",
        *(until, int(not clean), journal.devid, journal.epoch),
    )


async def forget(tx: Transaction, covered: Sequence[int]) -> None:
    """Remove these outbox rows (by number), which need no writing."""
    for start in range(0, len(covered), 512):
        values = rounded(covered[start : start + 512])
        await placement_counts.mark(tx, values)
        await tx.run(f"DELETE FROM tawara_note WHERE seq IN ({marks(values)})", *values)


async def drop_notes(tx: Transaction, devid: int, *, limit: int) -> int:
    """Remove up to `limit` outbox rows of a device that is no longer written to; return the number removed."""
    rows = await tx.rows("SELECT seq FROM tawara_note WHERE devid = ? ORDER BY seq LIMIT ?", devid, limit)
    await forget(tx, [row[0] for row in rows])
    return len(rows)


# --- records to write -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PendingRecords:
    """Records to be written, with the outbox rows that they cover."""

    records: list[JournalRecord]
    covered: list[int]
    highest_fid: int


async def noted(tx: Transaction, devid: int, *, limit: int) -> PendingRecords:
    """Return the current records for up to `limit` outbox rows of a device.

    Must run as a read, for a consistent snapshot.
    """
    rows = await tx.rows("SELECT seq, fid FROM tawara_note WHERE devid = ? ORDER BY seq LIMIT ?", devid, limit)
    versions: dict[int, int] = {fid: seq for seq, fid in rows}
    known: dict[int, StoredFile] = {}
    fids = sorted(versions)
    for start in range(0, len(fids), 512):
        known |= {file.fid: file for file in await files.find_fids(tx, fids[start : start + 512])}
    records = [record_of(devid, fid, version, known.get(fid)) for fid, version in versions.items()]
    return PendingRecords(records, [row[0] for row in rows], await uploads.highest_fid(tx) if rows else 0)


def record_of(devid: int, fid: int, version: int, file: StoredFile | None) -> JournalRecord:
    """Return the journal record of a fid on a device."""
    if file is None:
        return JournalRecord(version, fid, RecordState.GONE)
    if devid not in file.devids:
        return JournalRecord(version, fid, RecordState.AWAY)
    return JournalRecord(version, fid, RecordState.HERE, facts_of(file))


def facts_of(file: StoredFile) -> FileMetadata:
    """Return the metadata of a file that must survive the loss of the database."""
    return FileMetadata(
        file.dmid,
        file.key,
        file.classid,
        file.length,
        file.stored_at,
        file.content_type,
        file.checksum,
        file.etag,
        file.attributes,
    )


async def sweep(tx: Transaction, devid: int, *, after: int, limit: int) -> tuple[list[JournalRecord], int | None]:
    """Return records of a device's next files by fid, and the last fid, None at the end. Must run as a write.

    The files are locked before the version is taken, so that the version is greater than that of every change included
    in the records, and smaller than that of every later one. Deleted files whose data still exists are recorded as
    deleted, because the segments of the previous compaction, which record it, will be removed.
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
    """Return those of the fids that had a key and whose data waits to be deleted.

    A mogilefsd on the same database may leave other fids on a device, even queued for deletion, whose key is still to
    be set: an upload discarded while it is being closed. `tawara_file` has the files stored by Tawara, until their
    deletion is complete.
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


async def unrecorded_deletions(tx: Transaction, *, limit: int) -> list[int]:
    """Return fids without a key whose deletion is not yet recorded on some device that cannot be written to."""
    rows = await tx.rows(
        "SELECT DISTINCT n.fid FROM tawara_note n LEFT JOIN file f ON f.fid = n.fid"
        " WHERE f.fid IS NULL AND n.fid > 0 ORDER BY n.fid LIMIT ?",
        limit,
    )
    return [row[0] for row in rows]


async def waiting(tx: Transaction) -> set[int]:
    """Return the fids with records still to be written to some device."""
    return {row[0] for row in await tx.rows("SELECT DISTINCT fid FROM tawara_note")}


async def unknown(tx: Transaction, fids: Sequence[int]) -> set[int]:
    """Return those of the fids without a row for a file, upload, copy or deletion."""
    values = rounded(fids)
    known: set[int] = set()
    for table in ("file", "tempfile", "file_on", "file_to_delete2", "tawara_copy"):
        rows = await tx.rows(f"SELECT DISTINCT fid FROM {table} WHERE fid IN ({marks(values)})", *values)
        known.update(row[0] for row in rows)
    return set(fids) - known
