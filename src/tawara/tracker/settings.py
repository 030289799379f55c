"""The verbs about the server settings that all trackers of a database share (docs/mogilefs.md 4)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from tawara.metadata import cluster as rows
from tawara.metadata.contract import Transaction
from tawara.model import amounts, errors
from tawara.model.cluster import HashType
from tawara.model.failing import DRAIN_FAILING
from tawara.tracker.context import Call, Tracker
from tawara.wire.line import Args, Value

_LONGEST_NAME = 50
"""Of a setting (schema: `server_settings.field`)."""
_LONGEST_VALUE = 60_000
_NAME = re.compile(r"[\w.-]+", re.ASCII)

Reader = Callable[[str], str | None]
"""Brings a value into the form in which it is stored; None removes the setting. Raises InvalidFormat."""


def _switch(text: str) -> str:
    if re.fullmatch(r"|0|f.*|off|n.*", text, re.IGNORECASE):
        return "0"
    if re.fullmatch(r"1|t.*|on|y.*", text, re.IGNORECASE):
        return "1"
    raise errors.InvalidFormat("Doesn't match a boolean: 1 or 0, on or off, yes or no, true or false")


def _digits(text: str) -> str:
    if not re.fullmatch(r"[0-9]{0,18}", text):
        raise errors.InvalidFormat("Doesn't match: a whole number")
    return text or "0"


def _anything(text: str) -> str:
    return text


def _unless_empty(text: str) -> str | None:
    return text or None


def _networks(text: str) -> str:
    for each in filter(None, re.split(r"[,\s]+", text)):
        try:
            ipaddress.ip_network(each, strict=False)
        except ValueError:
            raise errors.InvalidFormat("Doesn't match: a list of networks, such as 10.0.0.0/8") from None
    return text


def _fsck_checksum(text: str) -> str | None:
    if text in ("", "class"):
        return None
    if text == "off" or HashType.from_wire(text):
        return text
    raise errors.InvalidFormat("Doesn't match: off, class, MD5 or SHA-1")


def _duration(text: str) -> str | None:
    if text and amounts.duration(text) is None:
        raise errors.InvalidFormat("Doesn't match: a time, such as 12h or 30d")
    return text or None


def _rate(text: str) -> str | None:
    if text and amounts.size(text) is None:
        raise errors.InvalidFormat("Doesn't match: bytes a second, such as 20m")
    return text or None


_WRITABLE: dict[str, Reader] = {
    "skip_devcount": _switch,
    "skip_mkcol": _switch,
    "case_sensitive_list_keys": _switch,
    "memcache_servers": _anything,
    "memcache_ttl": _digits,
    "internal_queue_limit": _digits,
    "network_zones": _anything,
    "fsck_checksum": _fsck_checksum,
    DRAIN_FAILING: _switch,
    "tawara_scrub_period": _duration,
}
_WRITABLE_FAMILIES: dict[str, Reader] = {
    "slave_": _unless_empty,
    "zone_": _networks,
    "queue_": _anything,
    "tawara_rate_": _rate,
}


def reader_of(field: str) -> Reader | None:
    """What reads the values of a setting that clients may change; None for others."""
    if not _NAME.fullmatch(field) or len(field) > _LONGEST_NAME:
        return None
    if field in _WRITABLE:
        return _WRITABLE[field]
    return next((reader for family, reader in _WRITABLE_FAMILIES.items() if field.startswith(family)), None)


async def server_settings(tracker: Tracker, call: Call) -> Args:
    """All settings, without those in which a check (fsck) keeps its state."""
    settings = (await tracker.view.refresh()).settings
    shown = sorted(field for field in settings if not field.startswith("fsck_") or field == "fsck_checksum")
    reply: dict[str, Value] = {"key_count": len(shown)}
    for number, field in enumerate(shown, 1):
        reply[f"key_{number}"] = field
        reply[f"value_{number}"] = settings[field]
    return reply


async def server_setting(tracker: Tracker, call: Call) -> Args:
    """One setting, whichever; empty if it is not set."""
    field = call.name("key", errors.BadParams)
    return {"key": field, "value": await tracker.metadata.read(rows.get_setting, field)}


async def set_server_setting(tracker: Tracker, call: Call) -> Args:
    """Change a setting of those that clients may change."""
    field = call.name("key", errors.BadParams)
    reader = reader_of(field)
    if reader is None:
        raise errors.NotWritable
    text = call.text("value")
    if len(text) > _LONGEST_VALUE or not text.isprintable():
        raise errors.InvalidFormat
    await tracker.metadata.write(_store, field, reader(text))
    await tracker.view.refresh()
    tracker.bells.scrub.ring()
    return {}


async def _store(tx: Transaction, field: str, value: str | None) -> None:
    """Write a setting. Trackers of MogileFS read the list of database replicas again when `slave_version` changes."""
    await rows.set_setting(tx, field, value)
    if field.startswith("slave_"):
        version = await rows.get_setting(tx, "slave_version")
        await rows.set_setting(tx, "slave_version", str(int(version or 0) + 1))
