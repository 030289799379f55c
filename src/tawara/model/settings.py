"""The cluster settings that an operator may change: names, defaults, units, meanings.

MogileFS's names and values: docs/mogilefs.md 19. Other rows of `server_settings` are internal state.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from tawara.model import amounts, errors
from tawara.model.cluster import HashType
from tawara.model.failing import DRAIN_FAILING
from tawara.model.health_codes import MUTE_PREFIX, Mute
from tawara.model.multipart import LAPSE, LAPSE_DEFAULT

Reader = Callable[[str], str | None]
"""Converts a value to its stored form; None removes the setting. Raises InvalidFormat."""
LONGEST_NAME: Final = 50
"""Most characters of a name (schema: `server_settings.field`)."""
_NAME: Final = re.compile(r"[\w.-]+", re.ASCII)
_INTERNAL: Final = ("fsck_", "rebal_")
"""Prefixes of MogileFS's settings that hold the state of checks and rebalances."""


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


def _digits_unless_empty(text: str) -> str | None:
    return _digits(text) if text else None


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


_FSCK_CHECKSUMS = ", ".join(("off", "class", *HashType.names()))


def _fsck_checksum(text: str) -> str | None:
    if text in ("", "class"):
        return None
    if text == "off" or HashType.from_wire(text):
        return text
    raise errors.InvalidFormat(f"Doesn't match: {_FSCK_CHECKSUMS}")


def _duration(text: str) -> str | None:
    if text and amounts.duration(text) is None:
        raise errors.InvalidFormat("Doesn't match: a time, such as 12h or 30d")
    return text or None


def _mute(text: str) -> str | None:
    if text and Mute.parse(text) is None:
        raise errors.InvalidFormat("Doesn't match: unix seconds and a severity, such as `1700000000 warning`")
    return text or None


def _rate(text: str) -> str | None:
    if text and amounts.size(text) is None:
        raise errors.InvalidFormat("Doesn't match: bytes a second, such as 20m")
    return text or None


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting, or a family of settings with a common prefix."""

    name: str
    """The name; that of a family ends in `*`."""
    read: Reader
    default: str
    unit: str
    meaning: str

    def matches(self, name: str) -> bool:
        """Whether `name` is this setting or one of this family."""
        return name == self.name or (self.name.endswith("*") and name.startswith(self.name[:-1]) and name != self.name)


_PER_PROCESS: Final = "bytes a second, of each process of workers; 0: no limit"
_UNUSED: Final = "for trackers of MogileFS; Tawara does not use it"

SETTINGS: Final = (
    Setting("skip_mkcol", _switch, "0", "0 or 1", "make no directories on storage nodes before an upload"),
    Setting("skip_devcount", _switch, "0", "0 or 1", "do not compare file.devcount in checks"),
    Setting("case_sensitive_list_keys", _switch, "1", "0 or 1", "list keys by upper and lower case (SQLite)"),
    Setting(
        "fsck_checksum",
        _fsck_checksum,
        "class",
        _FSCK_CHECKSUMS,
        "checksums that fsck verifies",
    ),
    Setting("queue_rate_for_fsck", _digits_unless_empty, "10000", "files a second", "how fast fsck queues files"),
    Setting("queue_size_for_fsck", _digits_unless_empty, "20000", "files", "most files that wait for fsck"),
    Setting("queue_rate_for_rebal", _digits_unless_empty, "2000", "files a second", "how fast rebalance queues files"),
    Setting("queue_size_for_rebal", _digits_unless_empty, "10000", "files", "most files that wait to be moved"),
    Setting("queue_rate_for_reaper", _digits_unless_empty, "1000", "files", "files of a dead device queued at once"),
    Setting("queue_size_for_reaper", _digits_unless_empty, "0", "files", "most that wait for copies then; 0: any"),
    Setting("network_zones", _anything, "", "names, commas between", "network zones that replication tells apart"),
    Setting("zone_*", _networks, "", "networks, commas between", "the networks of the zone of that name"),
    Setting("tawara_scrub_period", _duration, "30d", "s, m, h, d, w", "time to read every byte again; 0: never"),
    Setting(
        LAPSE,
        _duration,
        LAPSE_DEFAULT,
        "s, m, h, d, w",
        "age of the last part at which an upload ends; 0: never",
    ),
    Setting(DRAIN_FAILING, _switch, "0", "0 or 1", "drain devices whose disks are failing"),
    Setting("tawara_rate_replicate", _rate, "0", _PER_PROCESS, "how fast files are copied"),
    Setting("tawara_rate_rebalance", _rate, "0", _PER_PROCESS, "how fast files are moved and drained"),
    Setting("tawara_rate_fsck", _rate, "0", _PER_PROCESS, "how fast fsck reads"),
    Setting("tawara_rate_scrub", _rate, "0", _PER_PROCESS, "how fast the scrub reads"),
    Setting(f"{MUTE_PREFIX}*", _mute, "", "unix seconds and severity", "mutes of health codes: see `tawara health`"),
    Setting("memcache_servers", _anything, "", "addresses", _UNUSED),
    Setting("memcache_ttl", _digits, "3600", "seconds", _UNUSED),
    Setting("internal_queue_limit", _digits, "500", "requests", _UNUSED),
    Setting("slave_*", _unless_empty, "", "text", f"replicas of the database; {_UNUSED}"),
)


def find(name: str) -> Setting | None:
    """Return the setting of that name that an operator may change, or None."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        return None
    return next((each for each in SETTINGS if each.matches(name)), None)


def writable(name: str) -> Setting:
    """Return the setting of that name. Raises NotWritable with a suggestion."""
    found = find(name)
    if found is not None:
        return found
    if name.startswith(_INTERNAL) or name.endswith("schema_version") or not _NAME.fullmatch(name):
        raise errors.NotWritable
    raise errors.NotWritable(unknown(name))


def unknown(name: str) -> str:
    """Return the message for a name that is not a setting."""
    return f"There is no setting {name!r}{suggestion(name, (each.name for each in SETTINGS))}"


def suggestion(name: str, names: Iterable[str]) -> str:
    """Return `; is 'x' meant?` with the most similar of `names`; empty if none is similar."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; is {near[0]!r} meant?" if near else ""
