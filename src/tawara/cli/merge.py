"""`tawara rebuild --merge`: a database that was put back to an earlier state takes in what its devices know."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tawara.cli import output
from tawara.cli import rebuild as rebuilding
from tawara.metadata import cluster, epochs, journals, merging, uploads
from tawara.metadata.contract import Metadata, Transaction
from tawara.model import merge as decisions
from tawara.model.errors import Exit, UsageError
from tawara.model.fid import COUNTED
from tawara.model.journal_records import NamedFile
from tawara.model.manifest import manifest_of
from tawara.model.recovery import recover
from tawara.nodes.client import NodeClient
from tawara.recovery import device_sources
from tawara.recovery.journal_collector import JournalCollector
from tawara.wire.line import escape

NOTICED = 10.0
"""Seconds within which every running daemon notices that nothing is to be written."""


@dataclass
class Merged:
    """What was taken in, and what could not be."""

    restored: int = 0
    bytes: int = 0
    renamed: int = 0
    replicas: int = 0
    deleted: int = 0
    added: list[str] = field(default_factory=list)
    """Domains, classes, hosts and devices."""
    clashes: list[NamedFile] = field(default_factory=list)
    occupied: list[NamedFile] = field(default_factory=list)
    """Files whose name another file has got since."""
    without_bytes: list[NamedFile] = field(default_factory=list)
    other_stores: list[str] = field(default_factory=list)
    next_fid: int = 0


async def merge(
    metadata: Metadata, devices: Sequence[str], *, ignore: Collection[int], trust: bool, dry_run: bool, json: bool
) -> int:
    """Read all devices of the store, take in what the database does not know, and have it be ahead of all others."""
    async with NodeClient() as nodes:
        view = await metadata.read(cluster.load)
        given = {source.devid: source for text in devices for source in device_sources.parse(text, nodes)}
        manifest = manifest_of(view)
        every = rebuilding.every_device(given, manifest, nodes)
        later = dict(await device_sources.newest_manifest(every.values()))
        every = rebuilding.every_device(every, later, nodes)
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
            with JournalCollector(list(every.values())) as gathering:
                await rebuilding.read_all(gathering, trust=trust)
                if not dry_run and not gathering.silent:
                    merged.added = await metadata.write(merging.add_charter, later)
                await _take_in(metadata, gathering, manifest, merged, trust=trust, dry_run=dry_run)
                merged.next_fid = min(gathering.highest_fid, COUNTED) + rebuilding.MARGIN + 1
                failed = bool(gathering.silent)
                if not dry_run and not failed:
                    await metadata.write(
                        _finish,
                        store=store,
                        beyond=max((mark.number for mark in marks.values()), default=0),
                        names=gathering.greatest_generation,
                        next_fid=merged.next_fid,
                        now=await metadata.clock.seconds(),
                    )
    _report(merged, gathering, dry_run=dry_run, json=json)
    return Exit.FAILURE if failed or gathering.damaged or merged.clashes or merged.without_bytes else Exit.OK


@asynccontextmanager
async def _stopped(metadata: Metadata, stale: str, *, dry_run: bool) -> AsyncIterator[None]:
    """Have nothing written by daemons meanwhile."""
    if not stale and not dry_run:
        await metadata.write(epochs.declare_stale, "the files that the devices know are being merged")
        await asyncio.sleep(NOTICED)
    yield


async def _finish(tx: Transaction, *, store: str, beyond: int, names: int, next_fid: int, now: int) -> None:
    await uploads.count_beyond(tx, next_fid - 1)
    await epochs.take_in(tx, store, secrets.token_hex(4), beyond=beyond, names=names, at_least=now)


async def _take_in(
    metadata: Metadata,
    gathering: JournalCollector,
    manifest: Mapping[str, Any],
    merged: Merged,
    *,
    trust: bool,
    dry_run: bool,
) -> None:
    wanted = {(row["dmid"], row["classid"]): row["mindevcount"] for row in manifest["class"]}
    everywhere = frozenset(source.devid for source in gathering.sources)
    noted = await metadata.read(journals.waiting)
    waiting: list[NamedFile] = []
    """Files whose name another file has, which may be deleted or renamed by what comes later."""
    async for fid_range in gathering.stretches():
        unseen = everywhere if trust else frozenset(gathering.silent)
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
        for start in range(0, len(todo.forget), rebuilding.BATCH):
            await metadata.write(merging.forget, todo.forget[start : start + rebuilding.BATCH], now=now)
        for start in range(0, len(todo.replicas), rebuilding.BATCH):
            await metadata.write(merging.add_replicas, todo.replicas[start : start + rebuilding.BATCH])
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
    """Write names; those that another file has."""
    left: list[NamedFile] = []
    for start in range(0, len(renames), rebuilding.BATCH):
        part = renames[start : start + rebuilding.BATCH]
        occupied = await metadata.write(merging.rename, part)
        merged.renamed += len(part) - len(occupied)
        left += occupied
    for start in range(0, len(lost), rebuilding.BATCH):
        part = lost[start : start + rebuilding.BATCH]
        short = {each.fid for each in part if len(each.devids) < wanted.get((each.facts.dmid, each.facts.classid), 2)}
        occupied = await metadata.write(merging.restore, part, short=short)
        merged.restored += len(part) - len(occupied)
        merged.bytes += sum(each.facts.length for each in part if each not in occupied)
        left += occupied
    return left


def _report(merged: Merged, gathering: JournalCollector, *, dry_run: bool, json: bool) -> None:
    lists: dict[str, Any] = {
        "silent": {f"dev{devid}": reason for devid, reason in gathering.silent.items()},
        "damaged": {f"dev{devid}": paths for devid, paths in gathering.damaged.items()},
        "other_stores": merged.other_stores,
        "added": merged.added,
        "occupied": [_named(each) for each in merged.occupied],
        "clashes": [_named(each) for each in merged.clashes],
        "without_bytes": [_named(each) for each in merged.without_bytes],
    }
    counts = {
        "restored": merged.restored,
        "bytes": merged.bytes,
        "renamed": merged.renamed,
        "replicas": merged.replicas,
        "deleted": merged.deleted,
        "next_fid": merged.next_fid,
    }
    if json:
        output.json_line(counts | lists | {"dry_run": dry_run, "complete": not (dry_run or gathering.silent)})
        return
    verb = "would be" if dry_run else "are"
    output.line(
        f"{merged.restored:,} lost files {verb} restored, {merged.renamed:,} renamed, {merged.deleted:,} deleted;"
        f" {merged.replicas:,} copies of other files {verb} recorded."
    )
    for name, words in _LISTS:
        rebuilding.say_list(words, lists[name])
    if gathering.silent:
        output.line(
            "\nThe store stays stopped: bring these devices back and repeat, or leave them out with --ignore devN."
        )
    elif not dry_run:
        output.line(f"\nThe daemons go on by themselves. New files get fids from {merged.next_fid:,}.")


def _named(file: NamedFile) -> dict[str, Any]:
    devids = ",".join(map(str, file.devids))
    return {"fid": file.fid, "dmid": file.facts.dmid, "key": escape(file.facts.key).decode(), "devids": devids}


_LISTS = (
    ("silent", "Devices that could not be read"),
    ("damaged", "Files of names that are damaged"),
    ("other_stores", "Devices of another store, not read"),
    ("added", "Domains, classes, hosts and devices that the database did not know"),
    ("occupied", "Files whose name another file has got since, not restored"),
    ("clashes", "Files whose fid was given to other content since, not restored"),
    ("without_bytes", "Names without bytes, not restored"),
)
