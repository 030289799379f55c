"""Rebuilds the database from the journals on the devices: which devices to read, what to restore, and the inserts."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tawara.metadata import epochs, rebuilding
from tawara.metadata.contract import Metadata
from tawara.model.recovery import RecoveryPlan, recover
from tawara.nodes.client import NodeClient
from tawara.nodes.signing import RequestSigner
from tawara.recovery import device_sources
from tawara.recovery.device_sources import DeviceSource
from tawara.recovery.journal_collector import JournalCollector

BATCH = 2000
"""Files inserted in one transaction."""
MARGIN = 1_000_000
"""Fids left unused if a device could not be listed, since it may hold greater fids than the journals."""
Progress = Callable[[str], None]
"""Receives the progress as a line of text."""


def _no_progress(_: str) -> None:
    """Report no progress."""


def every_device(
    given: Mapping[int, DeviceSource], manifest: Mapping[str, Any], nodes: NodeClient
) -> dict[int, DeviceSource]:
    """Return the given devices and those of the cluster manifest, without dead ones."""
    hosts = {host["hostid"]: host for host in manifest.get("host", ())}
    every = dict(given)
    for device in manifest.get("device", ()):
        host = hosts.get(device["hostid"])
        if device["status"] == "dead":
            every.pop(device["devid"], None)  # its files were copied elsewhere, and its journal is outdated
        elif device["devid"] not in every and host is not None:
            ip = f"[{host['hostip']}]" if ":" in host["hostip"] else host["hostip"]
            every[device["devid"]] = device_sources.through_node(
                nodes, f"http://{ip}:{host['http_port']}", device["devid"]
            )
    return dict(sorted(every.items()))


async def read_all(collector: JournalCollector, *, trust: bool, progress: Progress = _no_progress) -> None:
    """Read the journals of all devices and, without `trust`, list the files on them."""

    async def read(words: str, step: Callable[[Callable[[DeviceSource], None]], Awaitable[None]]) -> None:
        done = 0

        def count(_: DeviceSource) -> None:
            nonlocal done
            done += 1
            progress(f"{words} {done} of {len(collector.sources)} devices")

        await step(count)

    await read("journals read from", collector.read_names)
    if not trust:
        await read("files listed on", collector.list_bytes)


@dataclass
class Restored:
    """Result of a rebuild: counts, and the files and devices to report individually."""

    files: int = 0
    replicas: int = 0
    bytes: int = 0
    gone: int = 0
    classes: set[tuple[int, int]] = field(default_factory=set)
    """Domain and class of the files."""
    made_up: list[str] = field(default_factory=list)
    """Generated names of domains and classes that no manifest names."""
    left: RecoveryPlan = field(default_factory=RecoveryPlan)
    """What was not restored."""
    next_fid: int = 0

    def add(self, recovery: RecoveryPlan, gone: int) -> None:
        """Add the result for one range of fids."""
        self.files += len(recovery.files)
        self.replicas += sum(len(file.devids) for file in recovery.files)
        self.bytes += sum(file.facts.length for file in recovery.files)
        self.gone += gone
        self.classes |= {(file.facts.dmid, file.facts.classid) for file in recovery.files}
        self.left.deleted |= recovery.deleted
        self.left.unnamed |= recovery.unnamed
        self.left.lost += recovery.lost
        self.left.other_size += recovery.other_size
        self.left.rivals += recovery.rivals


async def rebuild(
    metadata: Metadata | None,
    devices: Sequence[str],
    *,
    only: bool,
    trust: bool,
    signer: RequestSigner | None = None,
    progress: Progress = _no_progress,
) -> tuple[Restored, JournalCollector]:
    """Fill an empty database from these devices, and unless `only` from all devices of their cluster manifest.

    Without `metadata` nothing is written. `trust`: do not check that the files exist. `signer` signs the requests to
    storage nodes.

    Raises UsageError for a device that cannot be parsed, InUse if the database is not empty.
    """
    if metadata is not None:
        await metadata.read(rebuilding.refuse_unless_empty)
    async with NodeClient(signer=signer) as nodes:
        given = {source.devid: source for text in devices for source in device_sources.parse(text, nodes)}
        manifest = dict(await device_sources.newest_manifest(given.values()))
        every = dict(given) if only else every_device(given, manifest, nodes)
        with JournalCollector(list(every.values())) as collector:
            await read_all(collector, trust=trust, progress=progress)
            restored = await restore(collector, manifest, metadata, trust=trust, progress=progress)
        if metadata is not None:
            marks = (await device_sources.marks(every)).values()
            await metadata.write(
                epochs.record_merge,
                next((mark.store for mark in marks), secrets.token_hex(8)),
                secrets.token_hex(4),
                beyond=max((mark.number for mark in marks), default=0),
                names=collector.greatest_generation,
                at_least=await metadata.clock.seconds(),
            )
    return restored, collector


async def restore(
    collector: JournalCollector,
    manifest: dict[str, Any],
    metadata: Metadata | None,
    *,
    trust: bool,
    progress: Progress = _no_progress,
) -> Restored:
    """Decide which files to restore, and insert them into `metadata` unless it is None."""
    wanted = {(row["dmid"], row["classid"]): row["mindevcount"] for row in manifest.get("class", ())}
    everywhere = frozenset(source.devid for source in collector.sources)
    restored = Restored()
    if metadata is not None:
        await metadata.write(rebuilding.begin)
    async for fid_range in collector.ranges():
        unseen = everywhere if trust else frozenset(collector.silent)
        listed = {devid: fid_range.sizes.get(devid, {}) for devid in collector.listed}
        recovery = recover(fid_range.evidence, fid_range.has, listed, unseen=unseen)
        if metadata is not None:
            await fill(metadata, recovery, wanted)
        restored.add(recovery, len(fid_range.evidence.gone))
        progress(f"{restored.files:,} files done")
    restored.made_up = complete_manifest(manifest, restored.classes)
    highest = collector.highest_fid if collector.listed == everywhere else collector.highest_fid + MARGIN
    restored.next_fid = highest + 1
    if metadata is not None:
        await metadata.write(rebuilding.finish, manifest, highest_fid=highest)
    return restored


async def fill(metadata: Metadata, recovery: RecoveryPlan, wanted: Mapping[tuple[int, int], int]) -> None:
    """Insert the files of one range; `wanted` is the number of copies by (dmid, classid)."""
    for start in range(0, len(recovery.files), BATCH):
        part = recovery.files[start : start + BATCH]
        short = [each.fid for each in part if len(each.devids) < wanted.get((each.facts.dmid, each.facts.classid), 2)]
        await metadata.write(rebuilding.add_files, part, short=short)
    deleted = list(recovery.deleted.items())
    for start in range(0, len(deleted), BATCH):
        now = await metadata.clock.seconds()
        await metadata.write(rebuilding.add_deleted, deleted[start : start + BATCH], now=now)


def complete_manifest(manifest: dict[str, Any], used: Iterable[tuple[int, int]]) -> list[str]:
    """Add domains and classes that files use but the manifest lacks; return their generated names."""
    domains = {row["dmid"] for row in manifest.get("domain", ())}
    classes = {(row["dmid"], row["classid"]) for row in manifest.get("class", ())}
    made_up: list[str] = []
    for dmid, classid in sorted(used):
        if dmid not in domains:
            domains.add(dmid)
            manifest["domain"] = [*manifest.get("domain", ()), {"dmid": dmid, "namespace": f"domain-{dmid}"}]
            made_up.append(f"domain-{dmid}")
        if classid and (dmid, classid) not in classes:
            row = {"dmid": dmid, "classid": classid, "classname": f"class-{classid}", "mindevcount": 2}
            manifest["class"] = [*manifest.get("class", ()), row]
            made_up.append(f"class-{classid} in the domain with dmid {dmid}")
    return made_up
