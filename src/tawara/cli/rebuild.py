"""`tawara rebuild`: a fresh database from the disks alone (docs/recovery.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tawara.cli import output
from tawara.client import sources
from tawara.client.nodes import NodeClient
from tawara.client.sources import Bytes, Gathered, Source
from tawara.metadata import rebuilding
from tawara.metadata.contract import Metadata
from tawara.metadata.open import open_metadata
from tawara.metadata.server import Pace
from tawara.model.errors import Exit, UsageError
from tawara.model.names import Named
from tawara.model.recovery import Recovery, recover
from tawara.wire.line import escape

PATIENCE = Pace(readers=1, writers=1, answer=3600.0)
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
    dry_run: bool = False,
    json: bool = False,
) -> int:
    """Make a fresh database from the names that the devices carry.

    One device is enough to begin with: it knows of all others. The database must be empty. What cannot be decided is
    listed, and left as it is. For example:

        tawara rebuild sqlite:///var/lib/tawara/tawara.db http://10.0.0.11:7500/dev1

        tawara rebuild postgresql://tawara@db/tawara /srv/devices http://10.0.0.12:7500/dev3 --dry-run

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
    dry_run
        Read everything, report, and make no database.
    json
        Report all as one JSON object.
    """
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
        metadata = await open_metadata(url, password_file=password_file, pace=PATIENCE)
    try:
        if metadata is not None:
            await metadata.read(rebuilding.refuse_unless_empty)
        async with NodeClient() as nodes:
            given = {source.devid: source for text in devices for source in sources.parse(text, nodes)}
            charter = dict(await sources.newest_charter(given.values()))
            every = dict(given) if only else _all(given, charter, nodes)
            read, there = await read_all(list(every.values()), trust=trust)
        unseen = frozenset(every) if trust else frozenset(there.silent)
        listed = {devid: there.sizes[devid] for devid in there.listed}
        recovery = recover(read.namespace, there.has, listed, unseen=unseen)
        made_up = complete_charter(charter, recovery.files)
        highest = beyond(read, there, every)
        if metadata is not None:
            await fill(metadata, recovery, charter, highest)
    finally:
        if metadata is not None:
            await metadata.close()
    report = report_of(read, there, recovery, highest) | {"made_up": made_up, "dry_run": dry_run}
    report["not_listed"] = [] if trust else [f"dev{devid}" for devid in there.unlisted(every)]
    if json:
        output.json_line(report)
    else:
        _say(report, recovery, url)
    return Exit.FAILURE if read.silent or read.damaged or recovery.lost or recovery.rivals else Exit.OK


def _all(given: Mapping[int, Source], charter: Mapping[str, Any], nodes: NodeClient) -> dict[int, Source]:
    """The devices that were given, and those that the charter knows, but for the dead."""
    hosts = {host["hostid"]: host for host in charter.get("host", ())}
    every = dict(given)
    for device in charter.get("device", ()):
        host = hosts.get(device["hostid"])
        if device["status"] == "dead":
            every.pop(device["devid"], None)  # its files were replaced; what it says is of then
        elif device["devid"] not in every and host is not None:
            ip = f"[{host['hostip']}]" if ":" in host["hostip"] else host["hostip"]
            every[device["devid"]] = sources.through_node(nodes, f"http://{ip}:{host['http_port']}", device["devid"])
    return dict(sorted(every.items()))


async def read_all(every: Sequence[Source], *, trust: bool) -> tuple[Gathered, Bytes]:
    """The names on all devices, and the bytes."""
    shown = output.ChangingLine()
    done = 0

    def read(source: Source) -> None:
        nonlocal done
        done += 1
        shown.say(f"names read from {done} of {len(every)} devices")

    gathered = await sources.gather(every, read)
    there = Bytes()
    if not trust:
        total = sum(len(file.devids) for file in gathered.namespace.files)
        looked = 0

        def look(count: int) -> None:
            nonlocal looked
            looked += count
            shown.say(f"{looked:,} of {total:,} copies looked for")

        readable = [source for source in every if source.devid not in gathered.silent]
        there = await sources.look_for(readable, gathered.namespace, look)
        there.silent |= gathered.silent
    shown.clear()
    return gathered, there


def complete_charter(charter: dict[str, Any], files: Iterable[Named]) -> list[str]:
    """Add domains and classes that files are in and that the charter does not know; what was made up, in words."""
    domains = {row["dmid"] for row in charter.get("domain", ())}
    classes = {(row["dmid"], row["classid"]) for row in charter.get("class", ())}
    made_up: list[str] = []
    for dmid, classid in sorted({(file.facts.dmid, file.facts.classid) for file in files}):
        if dmid not in domains:
            domains.add(dmid)
            charter["domain"] = [*charter.get("domain", ()), {"dmid": dmid, "namespace": f"domain-{dmid}"}]
            made_up.append(f"domain-{dmid}")
        if classid and (dmid, classid) not in classes:
            row = {"dmid": dmid, "classid": classid, "classname": f"class-{classid}", "mindevcount": 2}
            charter["class"] = [*charter.get("class", ()), row]
            made_up.append(f"class-{classid} in the domain with dmid {dmid}")
    return made_up


def beyond(read: Gathered, there: Bytes, every: Mapping[int, Source]) -> int:
    """The fid beyond which to count: none that any device may have bytes of is given out again."""
    seen = max((fid for sizes in there.sizes.values() for fid in sizes), default=0)
    highest = max(read.highest_fid, seen)
    return highest if there.listed == set(every) else highest + MARGIN


async def fill(metadata: Metadata, recovery: Recovery, charter: Mapping[str, Any], highest: int) -> None:
    """Insert all that was found."""
    wanted = {(row["dmid"], row["classid"]): row["mindevcount"] for row in charter.get("class", ())}
    await metadata.write(rebuilding.begin)
    shown = output.ChangingLine()
    for start in range(0, len(recovery.files), BATCH):
        part = recovery.files[start : start + BATCH]
        short = [each.fid for each in part if len(each.devids) < wanted.get((each.facts.dmid, each.facts.classid), 2)]
        await metadata.write(rebuilding.add_files, part, short=short)
        shown.say(f"{start + len(part):,} of {len(recovery.files):,} names written")
    deleted = list(recovery.deleted.items())
    for start in range(0, len(deleted), BATCH):
        now = await metadata.clock.seconds()
        await metadata.write(rebuilding.add_deleted, deleted[start : start + BATCH], now=now)
    await metadata.write(rebuilding.finish, charter, highest_fid=highest)
    shown.clear()


# --- words ------------------------------------------------------------------------------------------------------------


def report_of(read: Gathered, there: Bytes, recovery: Recovery, highest: int) -> dict[str, Any]:
    """Everything that a person, or a program, may want to know of it."""
    return {
        "files": len(recovery.files),
        "replicas": sum(len(file.devids) for file in recovery.files),
        "bytes": sum(file.facts.length for file in recovery.files),
        "deleted": len(read.namespace.gone),
        "deleted_with_bytes": sorted(recovery.deleted),
        "lost": [_named(file) for file in recovery.lost],
        "rivals": [_named(file) | {"later": winner} for file, winner in recovery.rivals],
        "other_size": [
            dict(zip(("fid", "devid", "wanted", "found"), each, strict=True)) for each in recovery.other_size
        ],
        "nameless": {str(fid): list(devids) for fid, devids in sorted(recovery.nameless.items())},
        "damaged": {f"dev{devid}": paths for devid, paths in read.damaged.items()},
        "incomplete": [f"dev{devid}" for devid in read.incomplete],
        "silent": {f"dev{devid}": reason for devid, reason in (read.silent | there.silent).items()},
        "next_fid": highest + 1,
    }


def _named(file: Named) -> dict[str, Any]:
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


def _say(report: Mapping[str, Any], recovery: Recovery, url: str) -> None:
    verb = "would be restored" if report["dry_run"] else "are restored"
    size = output.human_size(report["bytes"])
    output.line(f"{report['files']:,} files, {size}, with {report['replicas']:,} copies {verb}.")
    if recovery.deleted:
        output.line(f"{len(recovery.deleted):,} deleted files still have bytes, which will be deleted.")
    for name, words in _LISTS:
        items = report[name]
        if items:
            output.line(f"\n{words}: {len(items):,}")
            shown = [f"{key}: {value}" for key, value in items.items()] if isinstance(items, dict) else items
            for each in shown[:SHOWN]:
                output.line(f"  {output.printable(_in_words(each))}")
            if len(items) > SHOWN:
                output.line("  … and more; --json has them all")
    if not report["dry_run"]:
        output.line(f"\nThe database is {url}. Start the daemons on it, then: tawara fsck start")


def _in_words(item: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in item.items()) if isinstance(item, dict) else str(item)
