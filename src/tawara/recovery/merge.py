"""Merges the journals on the devices into a database that was restored to an earlier state."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tawara.metadata import cluster, epochs, journals, merging, uploads
from tawara.metadata.contract import Metadata, Transaction
from tawara.model import merge as decisions
from tawara.model.errors import UsageError
from tawara.model.fid import COUNTED
from tawara.model.journal_records import NamedFile
from tawara.model.manifest import manifest_of
from tawara.model.recovery import recover
from tawara.nodes.client import NodeClient
from tawara.nodes.signing import RequestSigner
from tawara.recovery import device_sources, rebuild
from tawara.recovery.journal_collector import JournalCollector
from tawara.recovery.rebuild import Progress

NOTICE_SECONDS = 10.0
"""Seconds within which every running daemon reads that the database is stale."""


@dataclass
class Merged:
    """Result of a merge: merged and conflicting files."""

    restored: int = 0
    bytes: int = 0
    renamed: int = 0
    replicas: int = 0
    deleted: int = 0
    added: list[str] = field(default_factory=list)
    """Added domains, classes, hosts and devices."""
    clashes: list[NamedFile] = field(default_factory=list)
    """Files whose fid has been assigned to other content."""
    occupied: list[NamedFile] = field(default_factory=list)
    """Files whose key has been assigned to another file."""
    without_bytes: list[NamedFile] = field(default_factory=list)
    """Journaled files of which no device has data."""
    other_stores: list[str] = field(default_factory=list)
    next_fid: int = 0


async def merge(
    metadata: Metadata,
    devices: Sequence[str],
    *,
    ignore: Collection[int],
    trust: bool,
    dry_run: bool,
    progress: Progress,
    signer: RequestSigner | None = None,
) -> tuple[Merged, JournalCollector]:
    """Read all devices, add what the database lacks, and raise its epoch above that of every device.

    `signer` signs the requests to storage nodes. Raises UsageError if no device is left to read.
    """
    async with NodeClient(signer=signer) as nodes:
        view = await metadata.read(cluster.load)
        given = {source.devid: source for text in devices for source in device_sources.parse(text, nodes)}
        manifest = manifest_of(view)
        every = rebuild.every_device(given, manifest, nodes)
        later = dict(await device_sources.newest_manifest(every.values()))
        every = rebuild.every_device(every, later, nodes)
        merged = Merged()
        marks = await device_sources.marks(every)
        known = await metadata.read(epochs.lineage)
        store = known.store if known else next((mark.store for mark in marks.values()), secrets.token_hex(8))
        for devid, mark in marks.items():
            if mark.store != store and devid not in given:
                merged.other_stores.append(f"dev{devid}")
                del every[devid]
        for devid in ignore:
            every.pop(devid, None)
        if not every:
            raise UsageError("No device to read", hint="Name one: http://HOST:PORT/devN, or a directory that has devN.")
        async with _stopped(metadata, view.stale, dry_run=dry_run):
            with JournalCollector(list(every.values())) as collector:
                await rebuild.read_all(collector, trust=trust, progress=progress)
                if not dry_run and not collector.silent:
                    merged.added = await metadata.write(merging.add_manifest, later)
                await _apply(metadata, collector, manifest, merged, trust=trust, dry_run=dry_run)
                merged.next_fid = min(collector.highest_fid, COUNTED) + rebuild.MARGIN + 1
                if not dry_run and not collector.silent:
                    await metadata.write(
                        _finish,
                        store=store,
                        beyond=max((mark.number for mark in marks.values()), default=0),
                        names=collector.greatest_generation,
                        next_fid=merged.next_fid,
                        now=await metadata.clock.seconds(),
                    )
    return merged, collector


@asynccontextmanager
async def _stopped(metadata: Metadata, stale: str, *, dry_run: bool) -> AsyncIterator[None]:
    """Declare the database stale, so that no daemon writes during the merge."""
    if not stale and not dry_run:
        await metadata.write(epochs.declare_stale, "the files that the devices know are being merged")
        await asyncio.sleep(NOTICE_SECONDS)
    yield


async def _finish(tx: Transaction, *, store: str, beyond: int, names: int, next_fid: int, now: int) -> None:
    await uploads.count_beyond(tx, next_fid - 1)
    await epochs.record_merge(tx, store, secrets.token_hex(4), beyond=beyond, names=names, at_least=now)


async def _apply(
    metadata: Metadata,
    collector: JournalCollector,
    manifest: Mapping[str, Any],
    merged: Merged,
    *,
    trust: bool,
    dry_run: bool,
) -> None:
    """Apply the merged journals to the database unless `dry_run`, and add the counts to `merged`."""
    wanted = {(row["dmid"], row["classid"]): row["mindevcount"] for row in manifest["class"]}
    everywhere = frozenset(source.devid for source in collector.sources)
    noted = await metadata.read(journals.waiting)
    waiting: list[NamedFile] = []
    """Files whose key another file has; later ranges may delete or rename that one."""
    async for fid_range in collector.ranges():
        unseen = everywhere if trust else frozenset(collector.silent)
        found = recover(fid_range.evidence, fid_range.has, {}, unseen=unseen)
        fids = sorted({each.fid for each in (*found.files, *found.lost)} | set(fid_range.evidence.gone))
        known = await metadata.read(merging.known, fids)
        todo = decisions.changes(found.files, fid_range.evidence.gone, known, noted)
        merged.clashes += todo.clashes
        merged.without_bytes += [each for each in found.lost if each.fid not in known]
        merged.deleted += len(todo.forget)
        merged.replicas += len(todo.replicas)
        if dry_run:
            merged.restored += len(todo.restore)
            merged.renamed += len(todo.rename)
            continue
        now = await metadata.clock.seconds()
        for start in range(0, len(todo.forget), rebuild.BATCH):
            await metadata.write(merging.forget, todo.forget[start : start + rebuild.BATCH], now=now)
        for start in range(0, len(todo.replicas), rebuild.BATCH):
            await metadata.write(merging.add_replicas, todo.replicas[start : start + rebuild.BATCH])
        waiting += await _write(metadata, todo.rename, todo.restore, wanted, merged)
    before = -1
    while waiting and len(waiting) != before:
        before = len(waiting)
        known = await metadata.read(merging.known, [each.fid for each in waiting])
        renames = [each for each in waiting if each.fid in known]
        lost = [each for each in waiting if each.fid not in known]
        waiting = await _write(metadata, renames, lost, wanted, merged)
    merged.occupied = waiting


async def _write(
    metadata: Metadata,
    renames: Sequence[NamedFile],
    lost: Sequence[NamedFile],
    wanted: Mapping[tuple[int, int], int],
    merged: Merged,
) -> list[NamedFile]:
    """Write renamed and restored files; returns those whose key another file has."""
    left: list[NamedFile] = []
    for start in range(0, len(renames), rebuild.BATCH):
        part = renames[start : start + rebuild.BATCH]
        occupied = await metadata.write(merging.rename, part)
        merged.renamed += len(part) - len(occupied)
        left += occupied
    for start in range(0, len(lost), rebuild.BATCH):
        part = lost[start : start + rebuild.BATCH]
        short = {each.fid for each in part if len(each.devids) < wanted.get((each.facts.dmid, each.facts.classid), 2)}
        occupied = await metadata.write(merging.restore, part, short=short)
        merged.restored += len(part) - len(occupied)
        merged.bytes += sum(each.facts.length for each in part if each not in occupied)
        left += occupied
    return left
