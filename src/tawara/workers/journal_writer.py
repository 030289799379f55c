"""The scribe: writes on every device the names of what it holds, so that they survive the database (docs/recovery.md).

A unit of work is a device's journal. What has changed is written as a tail, which is written anew until it is long
enough for a segment; now and then a round writes all names of the device again, in segments of its own, a few at a
time, and when it is complete the older ones are deleted. A device that is new to this database begins with a round.
Nothing but PUT, GET and DELETE is asked of a storage node.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import structlog

from tawara.metadata import epochs, journals, uploads
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
from tawara.workers.runner import LEASE

log = structlog.get_logger(__name__)

PERIOD = 5
"""Seconds between two looks, and between two tails of one device: how long a change may be in the database alone."""
ROUND_PERIOD = 1
"""Seconds from one step of a round to the next."""
STEP = 0.5
"""Seconds that a step of a round may take, so that it leaves the greater part of the time to others."""
AWAY = 30
"""Seconds after which a device that could not be written is tried again."""
NOTES = 2000
"""Notes that are written at a time."""
SEGMENT = 256 * 1024
"""Bytes of records, before compression, from which a tail becomes a segment."""
SWEEP = 1000
"""Files that a round brings at a time."""
SPARE = 20_000
"""Records more than twice those of the last round, after which another round is worth it."""
UNSAID = 100_000
"""Most deletions told on behalf of devices that cannot be written."""


class JournalLease:
    """A journal that is claimed, as it is now."""

    __slots__ = ("claim",)

    def __init__(self, claim: JournalRow) -> None:
        self.claim = claim


_State: TypeAlias = tuple[int, int, int, int]


def _state(claim: JournalRow) -> _State:
    """How a journal stands: as long as that is the same, nobody else has written."""
    return claim.round, claim.segments, claim.active_segment, claim.active_slot


class JournalTakenOver(Exception):
    """The journal may not be written: someone else has taken it over, or knows more than this database."""


class JournalWriter:
    """See the module."""

    name = "scribe"

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
        self._next_look = 0.0
        self._generation = 0
        self._manifest = 0
        self._lineage: Lineage | None = None
        self._checked: set[int] = set()
        """Devices whose names this process has compared with what the database says of them."""
        self._active_segments: dict[int, tuple[_State, list[bytes]]] = {}
        """What the newest tail has, by devid, and how the journal stood then."""

    # --- see Worker ---------------------------------------------------------------------------------------------------

    async def take(self, limit: int) -> Sequence[JournalLease]:
        """See Worker."""
        began = await self._metadata.clock.now()
        self._next_look = began + self._period
        due = await self._metadata.read(journals.look)
        if not due.generation:
            await self._metadata.write(journals.begin_generation, at_least=int(began))
            due = await self._metadata.read(journals.look)
        self._generation = due.generation
        digest = hashlib.sha256(repr(manifest_of(self._view.current)).encode()).hexdigest()[:32]
        self._manifest = due.manifest[0]
        if digest != due.manifest[1]:
            self._manifest = await self._metadata.write(journals.number_manifest, digest)
        await self._forget_the_dead(due)
        wanted = [devid for devid in self._view.current.devices if self._wants(due, devid, int(began))]
        if not wanted:
            return []
        self._lineage = await self._metadata.write(epochs.advance, new_token())
        if self._lineage is None:  # the monitor has not yet seen whether the devices have marks
            return []
        claims = await self._metadata.write(journals.claim, wanted[:limit], now=int(began), lease=self._lease)
        return [JournalLease(each) for each in claims]

    def _wants(self, due: DueJournals, devid: int, now: int) -> bool:
        """Whether there is something to write on a device, and it can be."""
        cluster = self._view.current
        if not cluster.can_delete_from(devid) or not cluster.is_writeable(devid):
            return False
        journal_ = due.journals.get(devid)
        if journal_ is None:
            return True
        if journal_.position is not None and journal_.nexttry > now:
            self._next_look = min(self._next_look, float(journal_.nexttry))
        return journal_.nexttry <= now and (
            journal_.held
            or devid not in self._checked
            or devid in due.noted
            or journal_.position is not None
            or journal_.generation != due.generation
            or journal_.manifest != self._manifest
            or journal_.old_segments > 0
        )

    async def _forget_the_dead(self, due: DueJournals) -> None:
        """Notes for devices that are dead, or are none any more, are for nobody."""
        cluster = await self._view.look_for(due.noted)
        for devid in due.noted:
            if cluster.is_lost(devid):
                while await self._metadata.write(journals.drop_notes, devid, limit=NOTES) == NOTES:
                    pass

    async def next_due(self) -> float | None:
        """See Worker."""
        return self._next_look

    async def renew(self, items: Sequence[JournalLease]) -> None:
        """See Worker."""
        until = await self._metadata.clock.seconds() + self._lease
        await self._metadata.write(journals.renew, [held.claim for held in items], until=until)

    async def release(self, items: Sequence[JournalLease]) -> None:
        """See Worker."""
        for held in items:
            await self._metadata.write(
                journals.give_back, held.claim, until=await self._metadata.clock.seconds(), clean=False
            )

    async def work(self, item: JournalLease) -> float | None:
        """See Worker."""
        try:
            await self._write_all(item)
        except JournalTakenOver as error:
            self._active_segments.pop(item.claim.devid, None)
            log.warning("names_left_alone", devid=item.claim.devid, reason=str(error) or "taken over")
            return None
        except (NodeUnreachable, TimeoutError) as error:
            self._active_segments.pop(item.claim.devid, None)
            log.info("names not written yet", device=item.claim.devid, reason=str(error))
            until = await self._metadata.clock.seconds() + AWAY
            await self._metadata.write(journals.give_back, item.claim, until=until, clean=False)
            return until
        resting = ROUND_PERIOD if item.claim.position is not None else self._period
        until = int(await self._metadata.clock.now() + resting)
        await self._metadata.write(journals.give_back, item.claim, until=until, clean=True)
        self._next_look = min(self._next_look, until)
        return until

    # --- a device -----------------------------------------------------------------------------------------------------

    async def _write_all(self, held: JournalLease) -> None:
        """Write what there is to be written, and go on with a round for a while."""
        devid = held.claim.devid
        origin = self._view.current.origin(devid)
        if origin is None:
            raise NodeUnreachable(f"dev{devid} has no host")
        fetch = reading.through_node(self._nodes, origin, devid)
        marked = await self._check_mark(origin, devid)
        if held.claim.generation != self._generation or self._is_accepted(devid):
            await self._begin(held, fetch)
            if self._is_accepted(devid):
                await self._metadata.write(epochs.forget_acceptance, devid)
                await self._view.refresh()
        elif devid not in self._active_segments or self._active_segments[devid][0] != _state(held.claim):
            await self._take_up(held, fetch)
        self._checked.add(devid)
        assert self._lineage is not None
        if not marked:
            await marks.write_mark(self._nodes, origin, devid, self._lineage.current)
        if held.claim.manifest != self._manifest:
            await self._write_manifest(held)
        while await self._write_notes(held):
            pass
        if held.claim.position is not None:
            await self._go_on(held)
        if held.claim.position is None:
            if held.claim.old_segments:
                await self._delete_old(held)
            elif held.claim.written > 2 * held.claim.live + self._spare:
                await self._new_round(held, held.claim.round + 1, held.claim.next_segment - 1)

    async def _check_mark(self, origin: str, devid: int) -> bool:
        """Whether the device is marked with this epoch. Raises Lost where its mark says that it may not be written."""
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

    async def _settle(self, held: JournalLease, after: JournalRow, covered: Sequence[int] = ()) -> None:
        if not await self._metadata.write(journals.settle, after, covered):
            raise JournalTakenOver
        held.claim = after
        if after.devid in self._active_segments:
            self._active_segments[after.devid] = (_state(after), self._lines(after))

    # --- beginning ----------------------------------------------------------------------------------------------------

    async def _begin(self, held: JournalLease, fetch: Fetch) -> None:
        """Begin this database's first round on a device, after whatever journal is there already."""
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
        await self._settle(
            held,
            replace(held.claim, generation=self._generation, active_segment=active_segment, active_slot=-1, manifest=0),
        )
        await self._new_round(held, round_, last[(round_ + 1) % 2])

    async def _check_generation(self, claim: JournalRow, heads: Iterable[Head]) -> None:
        """Leave names alone that this database cannot have taken in. Raises Lost.

        It has those of its own earlier generation on the device, those that it was made or merged from, and its own
        that were written when the disk had another number.
        """
        if self._is_accepted(claim.devid):
            return
        own = self._generation
        foreign = [head.generation for head in heads if head.generation != own or head.device == claim.devid]
        found = max(foreign, default=0)
        known = max(claim.generation, await self._metadata.read(epochs.known_names))
        if found > known or found >= own:
            await self._suspect(claim, f"dev{claim.devid} has names of files that this database does not know")

    def _is_accepted(self, devid: int) -> bool:
        """Whether the device is to be taken as it is, and its names to be written anew."""
        return str(devid) in self._view.current.settings.get(ACCEPTED, "").split()

    async def _suspect(self, claim: JournalRow, reason: str) -> None:
        """The names on a device are not those that the database knows of. Always raises Lost."""
        if await self._metadata.write(epochs.examine_names, claim, reason):
            await self._view.refresh()
        raise JournalTakenOver(reason)

    async def _take_up(self, held: JournalLease, fetch: Fetch) -> None:
        """Go on with a journal that another process, or an earlier one, has written so far."""
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
            await self._suspect(claim, f"the names on dev{claim.devid} are later than this database")
        if claim.active_slot < 0:
            self._active_segments[claim.devid] = (_state(claim), [])
            return
        head, lines = journal_files.active_segments.get(claim.active_slot, (None, []))
        if head is None or (head.generation, head.active_segment) != (claim.generation, claim.active_segment):
            log.warning("names are missing on a device, all of it are written anew", device=claim.devid)
            await self._settle(held, replace(claim, active_slot=-1))
            if claim.position is None and not claim.old_segments:
                await self._new_round(held, claim.round + 1, claim.next_segment - 1)
            else:
                await self._settle(held, replace(held.claim, position=0))
            return
        self._active_segments[claim.devid] = (_state(claim), lines)

    async def _new_round(self, held: JournalLease, round_: int, old_segments: int) -> None:
        claim = held.claim
        lines = self._lines(claim)
        after = replace(
            claim, round=round_, position=0, segments=0, next_segment=1, old_segments=old_segments, written=0, live=0,
            active_slot=-1,
        )  # fmt: skip
        if lines:  # what the tail has is in no segment: it comes along
            after = await self._put_active_segment(after, lines)
        await self._settle(held, after)
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
        """What the newest tail has."""
        return self._active_segments[claim.devid][1] if claim.devid in self._active_segments else []

    async def _write_manifest(self, held: JournalLease) -> None:
        claim = held.claim
        head = Head(
            tawara="charter",
            device=claim.devid,
            generation=claim.generation,
            number=self._manifest,
            highest_fid=await self._metadata.read(uploads.highest_fid),
        )
        packed = journal.encode_manifest(head, manifest_of(self._view.current))
        await self._put(claim.devid, journal.manifest_path(self._manifest), packed)
        await self._settle(held, replace(claim, manifest=self._manifest))

    async def _write_notes(self, held: JournalLease) -> bool:
        """Write what some notes mean; whether there may be more."""
        claim = held.claim
        batch = await self._metadata.read(journals.noted, claim.devid, limit=NOTES)
        if not batch.covered:
            return False
        lines = [*self._lines(claim), *map(journal.encode_record, batch.records)]
        if sum(map(len, lines)) >= self._segment:
            await self._write_segment(held, lines, covered=batch.covered, active_slot=-1)
            self._active_segments[claim.devid] = (_state(held.claim), [])
        else:
            after = await self._put_active_segment(claim, lines, batch.highest_fid)
            await self._settle(held, after, batch.covered)
            self._active_segments[claim.devid] = (_state(after), lines)
        return len(batch.covered) == NOTES

    async def _put_active_segment(self, claim: JournalRow, lines: list[bytes], highest_fid: int = 0) -> JournalRow:
        """Write the next tail; the journal as it is with that."""
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
        await self._settle(held, replace(after, **changes), covered)

    async def _go_on(self, held: JournalLease) -> None:
        """Bring the next files of a round, for a moment."""
        end = time.monotonic() + STEP
        while (position := held.claim.position) is not None and time.monotonic() < end:
            claim = held.claim
            records, last = await self._metadata.write(journals.sweep, claim.devid, after=position, limit=SWEEP)
            live = claim.live + len(records)
            lines = [journal.encode_record(record) for record in records]
            if last is not None:
                await self._write_segment(held, lines, position=last, live=live)
                continue
            unsaid = await self._metadata.read(journals.unsaid, limit=UNSAID)
            lines += [journal.encode_record(JournalRecord(0, fid, RecordState.GONE)) for fid in unsaid]
            await self._write_segment(held, lines, complete=True, position=None)
            log.info("the names of a device are written", device=claim.devid, records=live)

    async def _delete_old(self, held: JournalLease) -> None:
        """The round is complete: the segments of the one before are not needed any more."""
        await self._delete(held.claim.devid, held.claim.round + 1, held.claim.old_segments)
        await self._settle(held, replace(held.claim, old_segments=0))

    async def _delete(self, devid: int, round_: int, last: int) -> None:
        """Delete segments of the rounds of this parity, the oldest first, so that what is left is the newer part."""
        origin = self._view.current.origin(devid)
        for segment in range(1, last + 1):
            await self._nodes.delete(f"{origin}/dev{devid}/{journal.segment_path(round_, segment)}")
