"""Prints the reports of `tawara rebuild`, `tawara rebuild --merge` and `tawara drill`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tawara.cli import output

SHOWN = 10
"""Maximum examples shown of each list."""
_REBUILD_LISTS = (
    ("silent", "Devices that could not be read"),
    ("damaged", "Damaged journal files"),
    ("incomplete", "Devices whose journal is incomplete"),
    ("made_up", "Unknown domains and classes, restored under these names"),
    ("lost", "Files without data, not restored"),
    ("rivals", "Files whose key a later file has, not restored"),
    ("other_size", "Copies of a wrong size, not restored"),
    ("nameless", "Data without a key, left as it is"),
    ("not_listed", "Devices that may have more data without a key, because their storage nodes cannot list files"),
)
_MERGE_LISTS = (
    ("silent", "Devices that could not be read"),
    ("damaged", "Damaged journal files"),
    ("other_stores", "Devices of another store, not read"),
    ("added", "Domains, classes, hosts, devices, accounts and access keys that the database did not have"),
    ("occupied", "Files whose key now belongs to another file, not restored"),
    ("clashes", "Files whose fid now belongs to other content, not restored"),
    ("without_bytes", "Files without data, not restored"),
)
_DRILL_LISTS = (
    ("missing", "would not be restored"),
    ("surplus", "would be restored, but does not exist"),
    ("other", "would be restored differently"),
)


def print_rebuild(report: Mapping[str, Any], url: str) -> None:
    """Print the report of a rebuild of the database at `url`."""
    verb = "would be restored" if report["dry_run"] else "are restored"
    size = output.human_size(report["bytes"])
    output.line(f"{report['files']:,} files, {size}, with {report['replicas']:,} copies {verb}.")
    if report["deleted_with_bytes"]:
        output.line(f"{len(report['deleted_with_bytes']):,} deleted files still have data, which will be deleted.")
    for name, heading in _REBUILD_LISTS:
        _print_list(heading, report[name])
    if not report["dry_run"]:
        output.line(f"\nThe database is {url}. Start the daemons on it, then: tawara fsck start")


def print_merge(report: Mapping[str, Any]) -> None:
    """Print the report of a merge."""
    verb = "would be" if report["dry_run"] else "are"
    output.line(
        f"{report['restored']:,} lost files {verb} restored, {report['renamed']:,} renamed,"
        f" {report['deleted']:,} deleted; {report['replicas']:,} copies of other files {verb} recorded."
    )
    for name, heading in _MERGE_LISTS:
        _print_list(heading, report[name])
    if report["silent"]:
        output.line(
            "\nThe store stays read-only: make these devices available and repeat, or exclude them with --ignore devN."
        )
    elif not report["dry_run"]:
        output.line(f"\nThe daemons continue automatically. New files get fids from {report['next_fid']:,}.")


def print_drill(report: Mapping[str, Any]) -> None:
    """Print the report of a drill."""
    wrong = sum(len(report[name]) for name, _ in _DRILL_LISTS)
    devices = len(report["devices"])
    result = f"{wrong:,} would not be restored correctly" if wrong else "all would be restored correctly"
    if not report["files"] and not wrong:
        result = "nothing was compared"
    output.line(f"{report['files']:,} files on {devices} device{'' if devices == 1 else 's'}: {result}.")
    for name, heading in _DRILL_LISTS:
        for each in report[name][:SHOWN]:
            output.line(f"  {output.printable(f'{heading}: {each}')}")
    if report["not_yet_written"]:
        output.line(f"{report['not_yet_written']:,} changes are not yet written on the devices.")
    if report["nameless"]:
        output.line(f"{len(report['nameless']):,} fids have data on devices, and no row in the database:")
        for fid, devids in list(report["nameless"].items())[:SHOWN]:
            output.line(f"  {fid} on {', '.join(f'dev{devid}' for devid in devids)}")
    if report["not_listed"]:
        output.line(f"Not searched for such data, because they cannot be listed: {', '.join(report['not_listed'])}.")
    for name in ("damaged", "silent"):
        for device, reason in report[name].items():
            output.line(f"{device}: {reason}")


def _print_list(heading: str, items: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print the first items below a heading; print nothing if there are none."""
    if not items:
        return
    output.line(f"\n{heading}: {len(items):,}")
    shown = [f"{key}: {value}" for key, value in items.items()] if isinstance(items, Mapping) else list(items)
    for each in shown[:SHOWN]:
        output.line(f"  {output.printable(_in_one_line(each))}")
    if len(items) > SHOWN:
        output.line("  … and more; --json has them all")


def _in_one_line(item: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in item.items()) if isinstance(item, dict) else str(item)
