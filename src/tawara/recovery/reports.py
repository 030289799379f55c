"""Reports of a rebuild, a merge and a drill as plain values, as `--json` prints them."""

from __future__ import annotations

from typing import Any

from tawara.model.journal_records import NamedFile
from tawara.recovery.drill import DrillResult
from tawara.recovery.journal_collector import JournalCollector
from tawara.recovery.merge import Merged
from tawara.recovery.rebuild import Restored
from tawara.wire.line import escape


def rebuild_report(read: JournalCollector, restored: Restored) -> dict[str, Any]:
    """Return what was restored, what was not, and which devices could not be read completely."""
    left = restored.left
    return {
        "files": restored.files,
        "replicas": restored.replicas,
        "bytes": restored.bytes,
        "deleted": restored.gone,
        "deleted_with_bytes": sorted(left.deleted),
        "lost": [_key_of(file) for file in left.lost],
        "rivals": [_key_of(file) | {"later": later} for file, later in left.rivals],
        "other_size": [dict(zip(("fid", "devid", "wanted", "found"), each, strict=True)) for each in left.other_size],
        "nameless": {str(fid): list(devids) for fid, devids in sorted(left.unnamed.items())},
        **_unread(read),
        "incomplete": [f"dev{devid}" for devid in read.incomplete],
        "not_listed": [f"dev{devid}" for devid in read.unlisted if devid not in read.silent],
        "made_up": restored.made_up,
        "next_fid": restored.next_fid,
    }


def merge_report(read: JournalCollector, merged: Merged) -> dict[str, Any]:
    """Return what was merged, what was not, and which devices could not be read."""
    return {
        "restored": merged.restored,
        "bytes": merged.bytes,
        "renamed": merged.renamed,
        "replicas": merged.replicas,
        "deleted": merged.deleted,
        "next_fid": merged.next_fid,
        **_unread(read),
        "other_stores": merged.other_stores,
        "added": merged.added,
        "occupied": [_key_and_devices_of(each) for each in merged.occupied],
        "clashes": [_key_and_devices_of(each) for each in merged.clashes],
        "without_bytes": [_key_and_devices_of(each) for each in merged.without_bytes],
    }


def drill_report(drill: DrillResult) -> dict[str, Any]:
    """Return the differences that a drill found, and which devices could not be read completely."""
    wrong = drill.wrong
    return {
        "devices": sorted(drill.devids),
        "files": drill.compared,
        "missing": [_facts_of(each) for each in wrong.missing.values()],
        "surplus": [_facts_of(each) for each in wrong.surplus.values()],
        "other": [{"is": _facts_of(one), "would_be": _facts_of(two)} for one, two in wrong.other.values()],
        "not_yet_written": len(drill.unwritten),
        "nameless": {str(fid): devids for fid, devids in drill.unknown.items()},
        "not_listed": [f"dev{devid}" for devid in drill.read.unlisted],
        **_unread(drill.read),
    }


def _unread(read: JournalCollector) -> dict[str, Any]:
    return {
        "damaged": {f"dev{devid}": paths for devid, paths in read.damaged.items()},
        "silent": {f"dev{devid}": reason for devid, reason in read.silent.items()},
    }


def _key_of(file: NamedFile) -> dict[str, Any]:
    return {"fid": file.fid, "dmid": file.facts.dmid, "key": escape(file.facts.key).decode()}


def _key_and_devices_of(file: NamedFile) -> dict[str, Any]:
    return _key_of(file) | {"devids": ",".join(map(str, file.devids))}


def _facts_of(file: NamedFile) -> dict[str, Any]:
    facts = file.facts
    return _key_of(file) | {"class": facts.classid, "length": facts.length, "devids": list(file.devids)}
