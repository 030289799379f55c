"""`tawara rebuild`: a fresh database from the disks alone (docs/recovery.md)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tawara.cli import output
from tawara.cli.devid import Devid
from tawara.cli.log import configure_command
from tawara.metadata import epochs, rebuilding
from tawara.metadata.contract import Metadata
from tawara.metadata.open import open_metadata
from tawara.metadata.server import ServerLimits
from tawara.model.errors import Exit, UsageError
from tawara.model.journal_records import NamedFile
from tawara.model.recovery import RecoveryPlan, recover
from tawara.nodes.client import NodeClient
from tawara.recovery import device_sources
from tawara.recovery.device_sources import DeviceSource
from tawara.recovery.journal_collector import JournalCollector
from tawara.wire.line import escape

TIMEOUT = ServerLimits(readers=1, writers=1, answer=3600.0)
BATCH = 2000
"""Files inserted in one transaction."""
MARGIN = 1_000_000
"""Fids left out where devices could not be listed, on which there may be bytes with greater ones than are known."""
SHOWN = 10
"""Examples shown of what is listed."""


def rebuild(
    url: str,
    /,
    *devices: str,
    only: bool = False,
    trust: bool = False,
    password_file: Annotated[Path | None, Parameter(name="--password-file")] = None,
    merge: bool = False,
    ignore: tuple[Devid, ...] = (),
    dry_run: bool = False,
    json: bool = False,
) -> int:
    """Make a fresh database from the names that the devices carry.

    One device is enough to begin with: it knows of all others. The database must be empty. What cannot be decided is
    listed, and left as it is. For example:

        tawara rebuild sqlite:///var/lib/tawara/tawara.db http://10.0.0.11:7500/dev1

        tawara rebuild postgresql://tawara@db/tawara /srv/devices http://10.0.0.12:7500/dev3 --dry-run

    A database that was put back to an earlier state (a backup, a snapshot, a standby that had not got everything) takes
    in what its devices know, while no daemon writes:

        tawara rebuild postgresql://tawara@db/tawara --merge

    Parameters
    ----------
    url
        The new database.
    devices
        http://HOST:PORT/devN, a directory devN of this machine, or a directory that has such.
    only
        Read no other devices than those given.
    trust
        Do not look whether the bytes are there; `tawara fsck` can do that later.
    password_file
        A file with the password of the database, else TAWARA_DB_PASSWORD.
    merge
        Keep the database, and restore the files that it has lost.
    ignore
        With --merge: a device that is not read; may be said several times.
    dry_run
        Read everything, report, and make no database.
    json
        Report all as one JSON object.
    """
    configure_command()
    if merge:
        from tawara.cli.merge import merge as take_in

        async def run() -> int:
            metadata = await open_metadata(url, password_file=password_file, pace=TIMEOUT)
            try:
                return await take_in(metadata, devices, ignore=ignore, trust=trust, dry_run=dry_run, json=json)
            finally:
                await metadata.close()

        return asyncio.run(run())
    if ignore:
        raise UsageError(
            "--ignore belongs to --merge", hint="Without it, --only reads no other devices than those named."
        )
    if not devices:
        raise UsageError("From which devices?", hint="http://HOST:PORT/devN, or a directory that has devN.")
    return asyncio.run(
        _run(url, devices, only=only, trust=trust, password_file=password_file, dry_run=dry_run, json=json)
    )


async def _run(
    url: str,
    devices: Sequence[str],
    *,
    only: bool,
    trust: bool,
    password_file: Path | None,
    dry_run: bool,
    json: bool,
) -> int:
    metadata = None
    if not dry_run:
        metadata = await open_metadata(url, password_file=password_file, pace=TIMEOUT)
    try:
        if metadata is not None:
            await metadata.read(rebuilding.refuse_unless_empty)
        async with NodeClient() as nodes:
            given = {source.devid: source for text in devices for source in device_sources.parse(text, nodes)}
            manifest = dict(await device_sources.newest_manifest(given.values()))
            every = dict(given) if only else every_device(given, manifest, nodes)
            with JournalCollector(list(every.values())) as gathering:
                await read_all(gathering, trust=trust)
                restored = await restore(gathering, manifest, metadata, trust=trust)
            if metadata is not None:
                marks = (await device_sources.marks(every)).values()
                await metadata.write(
                    epochs.take_in,
                    next((mark.store for mark in marks), secrets.token_hex(8)),
                    secrets.token_hex(4),
                    beyond=max((mark.number for mark in marks), default=0),
                    names=gathering.greatest_generation,
                    at_least=await metadata.clock.seconds(),
                )
    finally:
        if metadata is not None:
            await metadata.close()
    report = report_of(gathering, restored) | {"dry_run": dry_run}
    if json:
        output.json_line(report)
    else:
        _say(report, url)
    failed = gathering.silent or gathering.damaged or restored.left.lost or restored.left.rivals
    return Exit.FAILURE if failed else Exit.OK


def every_device(
    given: Mapping[int, DeviceSource], manifest: Mapping[str, Any], nodes: NodeClient
) -> dict[int, DeviceSource]:
    """The given devices and those in the cluster manifest, without dead ones."""
    hosts = {host["hostid"]: host for host in manifest.get("host", ())}
    every = dict(given)
    for device in manifest.get("device", ()):
        host = hosts.get(device["hostid"])
        if device["status"] == "dead":
            every.pop(device["devid"], None)  # its files were replaced; what it says is of then
        elif device["devid"] not in every and host is not None:
            ip = f"[{host['hostip']}]" if ":" in host["hostip"] else host["hostip"]
            every[device["devid"]] = device_sources.through_node(
                nodes, f"http://{ip}:{host['http_port']}", device["devid"]
            )
    return dict(sorted(every.items()))


async def read_all(gathering: JournalCollector, *, trust: bool) -> None:
    """The names on all devices, and what lies there, where that can be told."""
    shown = output.ChangingLine()

    async def read(words: str, what: Callable[[Callable[[DeviceSource], None]], Awaitable[None]]) -> None:
        done = 0

        def told(_: DeviceSource) -> None:
            nonlocal done
            done += 1
            shown.say(f"{words} {done} of {len(gathering.sources)} devices")

        await what(told)

    await read("names read from", gathering.read_names)
    if not trust:
        await read("bytes looked for on", gathering.list_bytes)
    shown.clear()


@dataclass
class Restored:
    """Result of the rebuild: counts, and items that are reported individually."""

    files: int = 0
    replicas: int = 0
    bytes: int = 0
    gone: int = 0
    classes: set[tuple[int, int]] = field(default_factory=set)
    """Domain and class of the files."""
    made_up: list[str] = field(default_factory=list)
    left: RecoveryPlan = field(default_factory=RecoveryPlan)
    """All but the files that are restored."""
    next_fid: int = 0

    def add(self, recovery: RecoveryPlan, gone: int) -> None:
        """Count a stretch."""
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


async def restore(
    gathering: JournalCollector, manifest: dict[str, Any], metadata: Metadata | None, *, trust: bool
) -> Restored:
    """Decide on everything, and insert it into a database, if one is given."""
    wanted = {(row["dmid"], row["classid"]): row["mindevcount"] for row in manifest.get("class", ())}
    everywhere = frozenset(source.devid for source in gathering.sources)
    restored, shown = Restored(), output.ChangingLine()
    if metadata is not None:
        await metadata.write(rebuilding.begin)
    async for fid_range in gathering.stretches():
        unseen = everywhere if trust else frozenset(gathering.silent)
        listed = {devid: fid_range.sizes.get(devid, {}) for devid in gathering.listed}
        recovery = recover(fid_range.evidence, fid_range.has, listed, unseen=unseen)
        if metadata is not None:
            await fill(metadata, recovery, wanted)
        restored.add(recovery, len(fid_range.evidence.gone))
        shown.say(f"{restored.files:,} files done")
    restored.made_up = complete_manifest(manifest, restored.classes)
    highest = gathering.highest_fid if gathering.listed == everywhere else gathering.highest_fid + MARGIN
    restored.next_fid = highest + 1
    if metadata is not None:
        await metadata.write(rebuilding.finish, manifest, highest_fid=highest)
    shown.clear()
    return restored


async def fill(metadata: Metadata, recovery: RecoveryPlan, wanted: Mapping[tuple[int, int], int]) -> None:
    """Insert what was found; `wanted` is how many copies each class has."""
    for start in range(0, len(recovery.files), BATCH):
        part = recovery.files[start : start + BATCH]
        short = [each.fid for each in part if len(each.devids) < wanted.get((each.facts.dmid, each.facts.classid), 2)]
        await metadata.write(rebuilding.add_files, part, short=short)
    deleted = list(recovery.deleted.items())
    for start in range(0, len(deleted), BATCH):
        now = await metadata.clock.seconds()
        await metadata.write(rebuilding.add_deleted, deleted[start : start + BATCH], now=now)


def complete_manifest(manifest: dict[str, Any], used: Iterable[tuple[int, int]]) -> list[str]:
    """Add domains and classes of files that the cluster manifest does not have; describe them."""
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


# --- words ------------------------------------------------------------------------------------------------------------


def report_of(read: JournalCollector, restored: Restored) -> dict[str, Any]:
    """The whole report, for JSON."""
    left = restored.left
    return {
        "files": restored.files,
        "replicas": restored.replicas,
        "bytes": restored.bytes,
        "deleted": restored.gone,
        "deleted_with_bytes": sorted(left.deleted),
        "lost": [_named(file) for file in left.lost],
        "rivals": [_named(file) | {"later": winner} for file, winner in left.rivals],
        "other_size": [dict(zip(("fid", "devid", "wanted", "found"), each, strict=True)) for each in left.other_size],
        "nameless": {str(fid): list(devids) for fid, devids in sorted(left.unnamed.items())},
        "damaged": {f"dev{devid}": paths for devid, paths in read.damaged.items()},
        "incomplete": [f"dev{devid}" for devid in read.incomplete],
        "silent": {f"dev{devid}": reason for devid, reason in read.silent.items()},
        "not_listed": [f"dev{devid}" for devid in read.unlisted if devid not in read.silent],
        "made_up": restored.made_up,
        "next_fid": restored.next_fid,
    }


def _named(file: NamedFile) -> dict[str, Any]:
    return {"fid": file.fid, "dmid": file.facts.dmid, "key": escape(file.facts.key).decode()}


_LISTS = (
    ("silent", "Devices that could not be read"),
    ("damaged", "Files of names that are damaged"),
    ("incomplete", "Devices whose names were not all written"),
    ("made_up", "Unknown domains and classes, which got these names"),
    ("lost", "Names without bytes, not restored"),
    ("rivals", "Files whose name a later one has, not restored"),
    ("other_size", "Copies of another size, not restored"),
    ("nameless", "Bytes without a name, left as they are"),
    ("not_listed", "Devices that may have more bytes without a name, for their storage nodes cannot list them"),
)


def _say(report: Mapping[str, Any], url: str) -> None:
    verb = "would be restored" if report["dry_run"] else "are restored"
    size = output.human_size(report["bytes"])
    output.line(f"{report['files']:,} files, {size}, with {report['replicas']:,} copies {verb}.")
    if report["deleted_with_bytes"]:
        output.line(f"{len(report['deleted_with_bytes']):,} deleted files still have bytes, which will be deleted.")
    for name, words in _LISTS:
        say_list(words, report[name])
    if not report["dry_run"]:
        output.line(f"\nThe database is {url}. Start the daemons on it, then: tawara fsck start")


def say_list(words: str, items: Mapping[str, Any] | Sequence[Any]) -> None:
    """Some of what is listed, below a heading; nothing if there is nothing."""
    if not items:
        return
    output.line(f"\n{words}: {len(items):,}")
    shown = [f"{key}: {value}" for key, value in items.items()] if isinstance(items, Mapping) else list(items)
    for each in shown[:SHOWN]:
        output.line(f"  {output.printable(_in_words(each))}")
    if len(items) > SHOWN:
        output.line("  … and more; --json has them all")


def _in_words(item: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in item.items()) if isinstance(item, dict) else str(item)
