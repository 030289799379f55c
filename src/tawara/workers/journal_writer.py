"""Writes the metadata of the files on a device to a journal on that device (docs/recovery.md).

A unit of work is the journal of one device. Changes are written to the active segment, which is rewritten until it is
long enough to be closed. Compaction ("round") writes the metadata of all files of the device again, in new segments, a
few at a time, and deletes the older segments when it is complete. A device that is new to this database starts with a
compaction. Storage nodes need only PUT, GET and DELETE.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import structlog

from tawara.metadata import access_keys, buckets, epochs, journals, uploads
from tawara.metadata.cluster import ACCEPTED
from tawara.metadata.contract import Metadata
from tawara.metadata.journals import DueJournals, JournalRow
from tawara.metadata.view import ClusterView
from tawara.model.epoch import Lineage, Relation, relation
from tawara.model.errors import NodeUnreachable
from tawara.model.journal_records import JournalRecord, RecordState
from tawara.model.manifest import manifest_of
from tawara.nodes import epoch_marks as marks
from tawara.nodes import journals as reading
from tawara.nodes.client import NodeClient
from tawara.nodes.journals import Fetch
from tawara.wire import journal
from tawara.wire.journal import Head
from tawara.workers.epoch_watch import new_token
from tawara.workers.runner import LEASE, ClaimedRow

log = structlog.get_logger(__name__)

PERIOD = 5
"""Seconds between two passes, and between two active segments of a device: how long a change may be only in the
database."""
ROUND_PERIOD = 1
"""Seconds between two steps of a compaction."""
STEP = 0.5
"""Seconds that a step of a compaction may take, so that most of the time is left to other devices."""
RETRY = 30
"""Seconds after which a device that could not be written is tried again."""
CHANGES = 2000
"""Rows of the outbox written at a time."""
SEGMENT = 256 * 1024
"""Bytes of records, before compression, at which the active segment is closed."""
SWEEP = 1000
"""Files that a compaction writes at a time."""
SPARE = 20_000
"""Records beyond twice those of the last compaction that start another one."""
MOST_UNRECORDED = 100_000
"""Largest number of deletions recorded on behalf of devices that cannot be written."""


JournalLease: TypeAlias = ClaimedRow[JournalRow]
_State: TypeAlias = tuple[int, int, int, int]


def _state(claim: JournalRow) -> _State:
    """The state of a journal: while it is the same, no other process has written."""
    return claim.round, claim.segments, claim.active_segment, claim.active_slot


class JournalTakenOver(Exception):
    """The journal must not be written: another process has claimed it, or it is newer than this database."""


class JournalWriter:
    """See the module."""

    name = "journal_writer"

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        *,
        period: float = PERIOD,
        segment: int = SEGMENT,
        spare: int = SPARE,
        lease: int = LEASE,
    ) -> None:
        self._metadata = metadata
        self._view = view
        self._nodes = nodes
        self._period = period
        self._segment = segment
        self._spare = spare
        self._lease = lease
        self._next_pass = 0.0
        self._generation = 0
        self._manifest = 0
        self._access: dict[str, list[dict[str, Any]]] = {}
        self._access_changes: str | None = None
        """Value of the counter of changes when `_access` was read; None before."""
        self._lineage: Lineage | None = None
        self._checked: set[int] = set()
        """Devices whose journal this process has compared with the database."""
        self._active_segments: dict[int, tuple[_State, list[bytes]]] = {}
        """Devid -> the state of the journal and the records of its active segment."""

    # --- see Worker ---------------------------------------------------------------------------------------------------

    async def take(self, limit: int) -> Sequence[JournalLease]:
        """See Worker."""
        began = await self._metadata.clock.now()
        self._next_pass = began + self._period
        due = await self._metadata.read(journals.read_due)
        if not due.generation:
            await self._metadata.write(journals.begin_generation, at_least=int(began))
            due = await self._metadata.read(journals.read_due)
        self._generation = due.generation
        await self._read_access()
        manifest = manifest_of(self._view.current, self._access)
        digest = hashlib.sha256(repr(manifest).encode()).hexdigest()[:32]
        self._manifest = due.manifest[0]
        if digest != due.manifest[1]:
            self._manifest = await self._metadata.write(journals.number_manifest, digest)
        await self._drop_lost(due)
        wanted = [devid for devid in self._view.current.devices if self._wants(due, devid, int(began))]
        if not wanted:
            return []
        self._lineage = await self._metadata.write(epochs.advance, new_token())
        if self._lineage is None:  # the monitor does not know yet whether the devices have marks
            return []
        claims = await self._metadata.write(journals.claim, wanted[:limit], now=int(began), lease=self._lease)
        return [JournalLease(each) for each in claims]

    async def _read_access(self) -> None:
        """Read accounts, access keys and buckets if they have changed since the last time."""
        changes = self._view.current.settings.get(access_keys.CHANGES, "")
        if changes != self._access_changes:
            self._access = await self._metadata.read(access_keys.dump) | await self._metadata.read(buckets.dump)
            self._access_changes = changes

    def _wants(self, due: DueJournals, devid: int, now: int) -> bool:
        """Whether there is something to write on a device, and the device is usable."""
        cluster = self._view.current
        if not cluster.can_delete_from(devid) or not cluster.is_writeable(devid):
            return False
        row = due.journals.get(devid)
        if row is None:
            return True
        if row.position is not None and row.nexttry > now:
            self._next_pass = min(self._next_pass, float(row.nexttry))
        return row.nexttry <= now and (
            row.held
            or devid not in self._checked
            or devid in due.noted
            or row.position is not None
            or row.generation != due.generation
            or row.manifest != self._manifest
            or row.old_segments > 0
        )

    async def _drop_lost(self, due: DueJournals) -> None:
        """Drop the outbox rows of devices that are dead or do not exist any more."""
        cluster = await self._view.refresh_for(due.noted)
        for devid in due.noted:
            if cluster.is_lost(devid):
                while await self._metadata.write(journals.drop_notes, devid, limit=CHANGES) == CHANGES:
                    pass

    async def next_due(self) -> float | None:
        """See Worker."""
        return self._next_pass

    async def renew(self, items: Sequence[JournalLease]) -> None:
        """See Worker."""
        until = await self._metadata.clock.seconds() + self._lease
        await self._metadata.write(journals.renew, [held.claim for held in items], until=until)

    async def release(self, items: Sequence[JournalLease]) -> None:
        """See Worker."""
        for held in items:
            await self._metadata.write(
                journals.release, held.claim, until=await self._metadata.clock.seconds(), clean=False
            )

    async def work(self, item: JournalLease) -> float | None:
        """See Worker."""
        try:
            await self._write_all(item)
        except JournalTakenOver as error:
            self._active_segments.pop(item.claim.devid, None)
            log.warning("journal_not_written", devid=item.claim.devid, reason=str(error) or "taken over")
            return None
        except (NodeUnreachable, TimeoutError) as error:
            self._active_segments.pop(item.claim.devid, None)
            log.info("journal_write_failed", devid=item.claim.devid, reason=str(error) or "no answer in time")
            until = await self._metadata.clock.seconds() + RETRY
            await self._metadata.write(journals.release, item.claim, until=until, clean=False)
            return until
        pause = ROUND_PERIOD if item.claim.position is not None else self._period
        until = int(await self._metadata.clock.now() + pause)
        await self._metadata.write(journals.release, item.claim, until=until, clean=True)
        self._next_pass = min(self._next_pass, until)
        return until

    # --- a device -----------------------------------------------------------------------------------------------------

    async def _write_all(self, held: JournalLease) -> None:
        """Write what is due, and continue a compaction for a while."""
        devid = held.claim.devid
        origin = self._view.current.origin(devid)
        if origin is None:
            raise NodeUnreachable(f"dev{devid} has no host")
        fetch = reading.through_node(self._nodes, origin, devid)
        marked = await self._check_mark(origin, devid)
        if held.claim.generation != self._generation or self._is_accepted(devid):
            await self._start_journal(held, fetch)
            if self._is_accepted(devid):
                await self._metadata.write(epochs.forget_acceptance, devid)
                await self._view.refresh()
        elif devid not in self._active_segments or self._active_segments[devid][0] != _state(held.claim):
            await self._resume(held, fetch)
        self._checked.add(devid)
        assert self._lineage is not None
        if not marked:
            await marks.write_mark(self._nodes, origin, devid, self._lineage.current)
        if held.claim.manifest != self._manifest:
            await self._write_manifest(held)
        while await self._write_changes(held):
            pass
        if held.claim.position is not None:
            await self._compact(held)
        if held.claim.position is None:
            if held.claim.old_segments:
                await self._delete_old(held)
            elif held.claim.written > 2 * held.claim.live + self._spare:
                await self._start_round(held, held.claim.round + 1, held.claim.next_segment - 1)

    async def _check_mark(self, origin: str, devid: int) -> bool:
        """Whether the device is marked with this epoch. Raises JournalTakenOver if its mark forbids writing."""
        assert self._lineage is not None
        mark = await marks.read_mark(self._nodes, origin, devid)
        if relation(self._lineage, mark) is not Relation.KNOWN:
            assert mark is not None
            found = await self._metadata.write(epochs.examine, devid, mark)
            if found is not Relation.KNOWN:
                raise JournalTakenOver(f"dev{devid}: {found}")
        return mark == self._lineage.current

    async def _put(self, devid: int, path: str, packed: bytes) -> None:
        origin = self._view.current.origin(devid)
        async with asyncio.timeout(self._lease / 2):
            await self._nodes.put(f"{origin}/dev{devid}/{path}", packed, length=len(packed))

    async def _record_progress(self, held: JournalLease, after: JournalRow, covered: Sequence[int] = ()) -> None:
        if not await self._metadata.write(journals.record_progress, after, covered):
            raise JournalTakenOver
        held.claim = after
        if after.devid in self._active_segments:
            self._active_segments[after.devid] = (_state(after), self._lines(after))

    # --- starting ----------------------------------------------------------------------------------------------------

    async def _start_journal(self, held: JournalLease, fetch: Fetch) -> None:
        """Start this database's first compaction on a device, after the segments that are there already."""
        self._active_segments.pop(held.claim.devid, None)
        journal_files = await reading.read_active_segments(fetch)
        latest = max((head.round for head, _ in journal_files.active_segments.values()), default=0)
        heads = [head for head, _ in journal_files.active_segments.values()]
        last = [0, 0]
        for parity in (0, 1):
            async for head, _ in reading.segments(fetch, parity, journal_files):
                latest = max(latest, head.round)
                last[parity] = head.segment
                heads.append(head)
        await self._check_generation(held.claim, heads)
        round_ = latest + 1
        await self._delete(held.claim.devid, round_, last[round_ % 2])
        active_segments = [head.active_segment for head, _ in journal_files.active_segments.values()]
        active_segment = max(active_segments, default=0) + 2
        await self._record_progress(
            held,
            replace(held.claim, generation=self._generation, active_segment=active_segment, active_slot=-1, manifest=0),
        )
        await self._start_round(held, round_, last[(round_ + 1) % 2])

    async def _check_generation(self, claim: JournalRow, heads: Iterable[Head]) -> None:
        """Refuse a journal that this database cannot know. Raises JournalTakenOver.

        It knows those of its own earlier generation, those that it was rebuilt or merged from, and its own that were
        written when the disk had another devid.
        """
        if self._is_accepted(claim.devid):
            return
        own = self._generation
        foreign = [head.generation for head in heads if head.generation != own or head.device == claim.devid]
        found = max(foreign, default=0)
        known = max(claim.generation, await self._metadata.read(epochs.known_names))
        if found > known or found >= own:
            await self._suspect(claim, f"the journal of dev{claim.devid} has files that this database does not know")

    def _is_accepted(self, devid: int) -> bool:
        """Whether an operator has accepted the device as it is, so that its journal is written again."""
        return str(devid) in self._view.current.settings.get(ACCEPTED, "").split()

    async def _suspect(self, claim: JournalRow, reason: str) -> None:
        """Record that the journal contradicts the database. Always raises JournalTakenOver."""
        if await self._metadata.write(epochs.examine_names, claim, reason):
            await self._view.refresh()
        raise JournalTakenOver(reason)

    async def _resume(self, held: JournalLease, fetch: Fetch) -> None:
        """Continue a journal that another process has written."""
        claim = held.claim
        journal_files = await reading.read_active_segments(fetch)
        heads = [head for head, _ in journal_files.active_segments.values()]
        if any(
            head.generation > claim.generation
            or (
                head.generation == claim.generation
                and (head.active_segment > claim.active_segment + 1 or head.round > claim.round + 1)
            )
            for head in heads
        ):
            await self._suspect(claim, f"the journal of dev{claim.devid} is newer than this database")
        if claim.active_slot < 0:
            self._active_segments[claim.devid] = (_state(claim), [])
            return
        head, lines = journal_files.active_segments.get(claim.active_slot, (None, []))
        if head is None or (head.generation, head.active_segment) != (claim.generation, claim.active_segment):
            log.warning("journal_incomplete", devid=claim.devid)
            await self._record_progress(held, replace(claim, active_slot=-1))
            if claim.position is None and not claim.old_segments:
                await self._start_round(held, claim.round + 1, claim.next_segment - 1)
            else:
                await self._record_progress(held, replace(held.claim, position=0))
            return
        self._active_segments[claim.devid] = (_state(claim), lines)

    async def _start_round(self, held: JournalLease, round_: int, old_segments: int) -> None:
        claim = held.claim
        lines = self._lines(claim)
        after = replace(
            claim, round=round_, position=0, segments=0, next_segment=1, old_segments=old_segments, written=0, live=0,
            active_slot=-1,
        )  # fmt: skip
        if lines:  # the records of the active segment are in no other segment
            after = await self._put_active_segment(after, lines)
        await self._record_progress(held, after)
        self._active_segments[claim.devid] = (_state(after), lines)

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _head(
        self, claim: JournalRow, *, segment: int, active_segment: int = 0, complete: bool = False, highest_fid: int = 0
    ) -> Head:
        return Head(
            tawara="names",
            device=claim.devid,
            generation=claim.generation,
            round=claim.round,
            segment=segment,
            before=0 if active_segment else claim.segments,
            active_segment=active_segment,
            epoch=claim.epoch,
            complete=complete,
            highest_fid=highest_fid or await self._metadata.read(uploads.highest_fid),
        )

    def _lines(self, claim: JournalRow) -> list[bytes]:
        """The records of the active segment."""
        return self._active_segments[claim.devid][1] if claim.devid in self._active_segments else []

    async def _write_manifest(self, held: JournalLease) -> None:
        claim = held.claim
        head = Head(
            tawara=journal.MANIFEST,
            device=claim.devid,
            generation=claim.generation,
            number=self._manifest,
            highest_fid=await self._metadata.read(uploads.highest_fid),
        )
        packed = journal.encode_manifest(head, manifest_of(self._view.current, self._access))
        await self._put(claim.devid, journal.manifest_path(self._manifest), packed)
        await self._record_progress(held, replace(claim, manifest=self._manifest))

    async def _write_changes(self, held: JournalLease) -> bool:
        """Write some changes of the outbox. Returns whether there may be more."""
        claim = held.claim
        batch = await self._metadata.read(journals.noted, claim.devid, limit=CHANGES)
        if not batch.covered:
            return False
        lines = [*self._lines(claim), *map(journal.encode_record, batch.records)]
        if sum(map(len, lines)) >= self._segment:
            await self._write_segment(held, lines, covered=batch.covered, active_slot=-1)
            self._active_segments[claim.devid] = (_state(held.claim), [])
        else:
            after = await self._put_active_segment(claim, lines, batch.highest_fid)
            await self._record_progress(held, after, batch.covered)
            self._active_segments[claim.devid] = (_state(after), lines)
        return len(batch.covered) == CHANGES

    async def _put_active_segment(self, claim: JournalRow, lines: list[bytes], highest_fid: int = 0) -> JournalRow:
        """Write the next active segment. Returns the journal's new row."""
        active_segment = claim.active_segment + 1
        slot = journal.active_slot(claim.epoch, active_segment)
        head = await self._head(claim, segment=claim.segments, active_segment=active_segment, highest_fid=highest_fid)
        await self._put(claim.devid, journal.active_segment_path(slot), journal.pack(head, lines))
        return replace(claim, active_segment=active_segment, active_slot=slot)

    async def _write_segment(
        self,
        held: JournalLease,
        lines: list[bytes],
        *,
        covered: Sequence[int] = (),
        complete: bool = False,
        **changes: Any,
    ) -> None:
        claim = held.claim
        segment = claim.next_segment
        head = await self._head(claim, segment=segment, complete=complete)
        packed = await asyncio.to_thread(journal.pack, head, lines)
        await self._put(claim.devid, journal.segment_path(claim.round, segment), packed)
        after = replace(claim, segments=segment, next_segment=segment + 1, written=claim.written + len(lines))
        await self._record_progress(held, replace(after, **changes), covered)

    async def _compact(self, held: JournalLease) -> None:
        """Write the next files of a compaction, for STEP seconds."""
        end = time.monotonic() + STEP
        while (position := held.claim.position) is not None and time.monotonic() < end:
            claim = held.claim
            records, last = await self._metadata.write(journals.sweep, claim.devid, after=position, limit=SWEEP)
            live = claim.live + len(records)
            lines = [journal.encode_record(record) for record in records]
            if last is not None:
                await self._write_segment(held, lines, position=last, live=live)
                continue
            unrecorded_deletions = await self._metadata.read(journals.unrecorded_deletions, limit=MOST_UNRECORDED)
            lines += [journal.encode_record(JournalRecord(0, fid, RecordState.GONE)) for fid in unrecorded_deletions]
            await self._write_segment(held, lines, complete=True, position=None)
            log.info("journal_compacted", devid=claim.devid, records=live)

    async def _delete_old(self, held: JournalLease) -> None:
        """Delete the segments that a completed compaction has replaced."""
        await self._delete(held.claim.devid, held.claim.round + 1, held.claim.old_segments)
        await self._record_progress(held, replace(held.claim, old_segments=0))

    async def _delete(self, devid: int, round_: int, last: int) -> None:
        """Delete the segments of the rounds of this parity, the oldest first, so that the newer ones remain."""
        origin = self._view.current.origin(devid)
        for segment in range(1, last + 1):
            await self._nodes.delete(f"{origin}/dev{devid}/{journal.segment_path(round_, segment)}")
