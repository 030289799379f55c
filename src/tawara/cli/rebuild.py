"""`tawara rebuild`: create a new database from the disks alone (docs/recovery.md)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tawara.cli import output
from tawara.cli.devid import Devid
from tawara.cli.log import configure_command
from tawara.metadata import epochs, rebuilding
from tawara.metadata.open import open_metadata
from tawara.metadata.server import ServerLimits
from tawara.model.errors import Exit, UsageError
from tawara.model.journal_records import NamedFile
from tawara.nodes.client import NodeClient
from tawara.recovery import device_sources
from tawara.recovery.journal_collector import JournalCollector
from tawara.recovery.rebuild import Restored, every_device, read_all, restore
from tawara.wire.line import escape

TIMEOUT = ServerLimits(readers=1, writers=1, answer=3600.0)
SHOWN = 10
"""Maximum examples shown of each list."""


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
                shown = output.ChangingLine()
                await read_all(gathering, trust=trust, progress=shown.say)
                restored = await restore(gathering, manifest, metadata, trust=trust, progress=shown.say)
                shown.clear()
            if metadata is not None:
                marks = (await device_sources.marks(every)).values()
                await metadata.write(
                    epochs.record_merge,
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


# --- output -----------------------------------------------------------------------------------------------------------


def report_of(read: JournalCollector, restored: Restored) -> dict[str, Any]:
    """Return the complete report for JSON."""
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
    """Print the first items below a heading; print nothing if there are none."""
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
