"""Disk health (SMART): verdicts, and their format in a storage node's usage file.

Source: the JSON output of smartctl(8). Indicators of a failure are the thresholds set by the disk's manufacturer, and
sectors that the disk could not read or had to replace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

_DETAIL: Final = 200


class DiskVerdict(StrEnum):
    """Health of a disk as reported by the disk."""

    OK = "ok"
    WORN = "worn"
    """Within the manufacturer's thresholds, but sectors or spare cells are lost."""
    FAILING = "failing"
    """Beyond the manufacturer's thresholds: it is failing, or will fail within about a day."""
    UNKNOWN = "unknown"


_GRAVITY = (DiskVerdict.UNKNOWN, DiskVerdict.OK, DiskVerdict.WORN, DiskVerdict.FAILING)


@dataclass(frozen=True, slots=True)
class DiskHealth:
    """Health of the disks of a device."""

    verdict: DiskVerdict
    temperature: int | None = None
    """Temperature of the hottest disk, degrees Celsius."""
    detail: str = ""
    """Reason for a verdict other than well, as text."""
    checked_at: int | None = None
    """Time of the query, unix seconds."""

    def lines(self) -> str:
        """Format as `name: value` lines for a usage file; MogileFS ignores unknown names."""
        facts: dict[str, object] = {"health": self.verdict.value}
        if self.detail:
            facts["health_detail"] = " ".join(self.detail.split())[:_DETAIL]
        if self.checked_at is not None:
            facts["health_time"] = self.checked_at
        if self.temperature is not None:
            facts["temperature"] = self.temperature
        return "".join(f"{name}: {value}\n" for name, value in facts.items())

    @classmethod
    def read(cls, values: Mapping[str, str]) -> DiskHealth | None:
        """Parse the values of such lines; None without any."""
        try:
            verdict = DiskVerdict(values.get("health", ""))
        except ValueError:
            return None
        return cls(
            verdict,
            _number(values.get("temperature")),
            values.get("health_detail", "")[:_DETAIL],
            _number(values.get("health_time")),
        )


def _number(text: str | None) -> int | None:
    return int(text) if text and len(text) < 19 and text.removeprefix("-").isdecimal() else None


def worst(disks: Iterable[DiskHealth]) -> DiskHealth | None:
    """Combine several disks: worst verdict, highest temperature; None without disks."""
    found = sorted(disks, key=lambda each: _GRAVITY.index(each.verdict), reverse=True)
    if not found:
        return None
    temperatures = [each.temperature for each in found if each.temperature is not None]
    times = [each.checked_at for each in found if each.checked_at is not None]
    return replace(found[0], temperature=max(temperatures, default=None), checked_at=min(times, default=None))
