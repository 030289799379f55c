"""Verbs about the server settings that all trackers of a database share (docs/mogilefs.md 4)."""

from __future__ import annotations

from tawara.metadata import cluster as rows
from tawara.metadata.contract import Transaction
from tawara.model import errors, settings
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.wire.line import Args, Value

_LONGEST_VALUE = 60_000


async def server_settings(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """List all settings, except those that hold the state of a check (fsck)."""
    found = (await tracker.view.refresh()).settings
    shown = sorted(field for field in found if not field.startswith("fsck_") or field == "fsck_checksum")
    reply: dict[str, Value] = {"key_count": len(shown)}
    for number, field in enumerate(shown, 1):
        reply[f"key_{number}"] = field
        reply[f"value_{number}"] = found[field]
    return reply


async def server_setting(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Return any one setting; empty if it is not set."""
    field = call.name("key", errors.BadParams)
    return {"key": field, "value": await tracker.metadata.read(rows.get_setting, field)}


async def set_server_setting(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Change a setting that clients may change."""
    field = call.name("key", errors.BadParams)
    setting = settings.writable(field)
    text = call.text("value")
    if len(text) > _LONGEST_VALUE or not text.isprintable():
        raise errors.InvalidFormat
    await tracker.metadata.write(_store, field, setting.read(text))
    await tracker.view.refresh()
    tracker.wakeups.scrub.notify()
    return {}


async def _store(tx: Transaction, field: str, value: str | None) -> None:
    """Write a setting. When `slave_version` changes, MogileFS's trackers reload the list of database replicas."""
    await rows.set_setting(tx, field, value)
    if field.startswith("slave_"):
        version = await rows.get_setting(tx, "slave_version")
        await rows.set_setting(tx, "slave_version", str(int(version or 0) + 1))
