"""`tawara rebuild --merge`: merge the devices' journals into a database that was put back to an earlier state."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from tawara.cli import output
from tawara.cli import rebuild as rebuilding
from tawara.metadata.contract import Metadata
from tawara.model.errors import Exit
from tawara.model.journal_records import NamedFile
from tawara.recovery.journal_collector import JournalCollector
from tawara.recovery.merge import Merged
from tawara.recovery.merge import merge as merge_devices
from tawara.wire.line import escape


async def merge(
    metadata: Metadata, devices: Sequence[str], *, ignore: Collection[int], trust: bool, dry_run: bool, json: bool
) -> int:
    """Merge the files of all devices into the database, and print the result; return the exit code."""
    shown = output.ChangingLine()
    merged, read = await merge_devices(
        metadata, devices, ignore=ignore, trust=trust, dry_run=dry_run, progress=shown.say
    )
    shown.clear()
    _report(merged, read, dry_run=dry_run, json=json)
    return Exit.FAILURE if read.silent or read.damaged or merged.clashes or merged.without_bytes else Exit.OK


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
    ("added", "Domains, classes, hosts, devices, accounts and access keys that the database did not know"),
    ("occupied", "Files whose name another file has got since, not restored"),
    ("clashes", "Files whose fid was given to other content since, not restored"),
    ("without_bytes", "Names without bytes, not restored"),
)
