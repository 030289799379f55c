"""Health codes: stable names of findings, with severity, first sighting and mutes. Decisions on values only.

Alerts and scripts depend on the codes: one is never renamed, and never reused for another meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

HISTORY_PREFIX: Final = "tawara_health_"
"""Name of the row of `server_settings` with a code's history, before the code."""
MUTE_PREFIX: Final = "tawara_mute_"
"""Name of the setting that mutes a code, before the code."""
RECORD_PERIOD: Final = 60.0
"""Seconds between two records of the present findings."""
FORGOTTEN_AFTER: Final = 300
"""Seconds without a sighting after which a finding has ended. Trackers may differ for a moment."""


class Severity(StrEnum):
    """Severity of a finding, from the lowest."""

    NOTE = "note"
    """Known or requested, no action needed: a drain in progress."""
    WARNING = "warning"
    """A problem; files are safe for the moment."""
    CRITICAL = "critical"
    """Files are lost or cannot be read, or the store does not work."""

    @property
    def rank(self) -> int:
        """0 for the lowest severity."""
        return tuple(Severity).index(self)


_SEVERITIES: Final = frozenset(each.value for each in Severity)


class HealthCode(StrEnum):
    """The codes of all findings."""

    CERTIFICATE_EXPIRES = "CERTIFICATE_EXPIRES"
    """A TLS certificate of a gateway has expired or expires soon."""
    DATABASE_STALE = "DATABASE_STALE"
    """The database is older than what the devices hold; nothing is changed until that is resolved."""
    DEVICE_DOWN = "DEVICE_DOWN"
    """A device is set to down or dead."""
    DEVICE_DRAINING = "DEVICE_DRAINING"
    """A device is being drained."""
    DEVICE_FULL = "DEVICE_FULL"
    """A device is almost full."""
    DEVICE_PRESUMED_DEAD = "DEVICE_PRESUMED_DEAD"
    """A device was unreachable for long; its files are copied elsewhere."""
    DEVICE_READONLY = "DEVICE_READONLY"
    """A device is set to read-only."""
    DEVICE_RETURNED = "DEVICE_RETURNED"
    """A device that was presumed dead is back."""
    DEVICE_SUSPECT = "DEVICE_SUSPECT"
    """A device is unreachable, and not yet presumed dead."""
    DEVICE_TRUSTED = "DEVICE_TRUSTED"
    """A device is unreachable and trusted to come back."""
    DEVICE_UNUSABLE = "DEVICE_UNUSABLE"
    """A device that is alive cannot be read or written."""
    DISK_FAILING = "DISK_FAILING"
    """A disk reports that it fails."""
    FILES_LOST = "FILES_LOST"
    """Files have no copy left."""
    FILES_ONE_FAILURE_FROM_LOSS = "FILES_ONE_FAILURE_FROM_LOSS"
    """Files have one readable copy, and should have more."""
    FILES_STUCK = "FILES_STUCK"
    """Work on files needs manual intervention."""
    FILES_UNREADABLE = "FILES_UNREADABLE"
    """No copy of some files can be read now."""
    HOST_DOWN = "HOST_DOWN"
    """A host is out of service."""
    NO_DEVICE_WRITEABLE = "NO_DEVICE_WRITEABLE"
    """No device takes new files."""
    NO_WORKERS = "NO_WORKERS"
    """Files wait for workers, and none runs."""
    QUEUE_LATE = "QUEUE_LATE"
    """A queue that should be empty soon is not."""
    REPLICAS_NEED_INTERVENTION = "REPLICAS_NEED_INTERVENTION"
    """The scrub found files that it cannot repair."""
    SAFETY_LIMIT_HOLDS = "SAFETY_LIMIT_HOLDS"
    """Too much is unreachable to presume further devices dead."""
    SCRUB_LATE = "SCRUB_LATE"
    """The scrub does not keep its period."""
    TRACKER_DOWN = "TRACKER_DOWN"
    """A tracker does not answer."""
    TRACKER_VERSIONS_DIFFER = "TRACKER_VERSIONS_DIFFER"
    """The trackers run different versions."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about the cluster."""

    code: HealthCode
    severity: Severity
    text: str


@dataclass(frozen=True, slots=True)
class Mute:
    """A mute of one code."""

    until: int
    """Unix seconds."""
    severity: Severity
    """The worst severity when it was muted; a worse one is not muted."""

    @classmethod
    def parse(cls, text: str | None) -> Mute | None:
        """Parse the value of the setting; None if it is invalid."""
        until, _, severity = (text or "").partition(" ")
        if not until.isascii() or not until.isdigit() or len(until) > 15 or severity not in _SEVERITIES:
            return None
        return cls(int(until), Severity(severity))

    def __str__(self) -> str:
        return f"{self.until} {self.severity}"

    def covers(self, severity: Severity, now: int) -> bool:
        """Return whether a finding of `severity` is muted at `now` (unix seconds)."""
        return now < self.until and severity.rank <= self.severity.rank


@dataclass(frozen=True, slots=True)
class History:
    """When a code was first and last found without a gap, unix seconds."""

    since: int
    seen: int

    @classmethod
    def parse(cls, text: str | None) -> History | None:
        """Parse the value of the row; None if it is invalid."""
        parts = (text or "").split(" ")
        if len(parts) != 2 or not all(each.isascii() and each.isdigit() and len(each) < 16 for each in parts):
            return None
        return cls(int(parts[0]), int(parts[1]))

    def __str__(self) -> str:
        return f"{self.since} {self.seen}"


def update_histories(
    found: Iterable[HealthCode], known: Mapping[HealthCode, History], now: int
) -> dict[HealthCode, History | None]:
    """Return the rows to be changed for the codes `found` at `now` (unix seconds); None removes one.

    A row that was written less than half a period ago is left as it is: several trackers record the same.
    """
    present = set(found)
    changes: dict[HealthCode, History | None] = {}
    for code in present:
        history = known.get(code)
        if history is None or now - history.seen > FORGOTTEN_AFTER or history.seen > now + FORGOTTEN_AFTER:
            changes[code] = History(now, now)
        elif now - history.seen >= RECORD_PERIOD / 2:
            changes[code] = History(history.since, now)
    ended = (code for code, each in known.items() if code not in present and now - each.seen > FORGOTTEN_AFTER)
    changes.update(dict.fromkeys(ended))
    return changes


@dataclass(frozen=True, slots=True)
class HealthItem:
    """The findings of one code."""

    code: HealthCode
    severity: Severity
    """The worst of its findings."""
    texts: tuple[str, ...]
    since: int | None
    """When it was first found, unix seconds; None if that is not recorded yet."""
    muted_until: int | None
    """Until when it is muted, unix seconds; None if it is not."""

    @property
    def needs_attention(self) -> bool:
        """Whether it is worse than a note and not muted."""
        return self.severity is not Severity.NOTE and self.muted_until is None


def summarise(findings: Iterable[Finding], settings: Mapping[str, str], now: int) -> list[HealthItem]:
    """Group findings by code, with history and mutes from the rows of `settings`; the worst come first."""
    by_code: dict[HealthCode, list[Finding]] = {}
    for each in findings:
        by_code.setdefault(each.code, []).append(each)
    items = []
    for code, found in by_code.items():
        worst = max((each.severity for each in found), key=lambda each: each.rank)
        mute = Mute.parse(settings.get(f"{MUTE_PREFIX}{code}"))
        history = History.parse(settings.get(f"{HISTORY_PREFIX}{code}"))
        items.append(
            HealthItem(
                code,
                worst,
                tuple(each.text for each in found),
                history.since if history is not None and now - history.seen <= FORGOTTEN_AFTER else None,
                mute.until if mute is not None and mute.covers(worst, now) else None,
            )
        )
    return sorted(items, key=lambda each: (-each.severity.rank, each.code))
