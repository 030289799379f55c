"""How a disk itself thinks it is (SMART): what a storage node publishes of it, and what follows from that.

Sources: the JSON of smartctl(8), and for which counters foretell a failure the disk makers' own thresholds, and the
sectors that a disk could not read or had to replace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

_DETAIL: Final = 200


class DiskVerdict(StrEnum):
    """What a disk says of itself."""

    OK = "ok"
    WORN = "worn"
    """Well by its maker's measure, but sectors or spare cells are gone."""
    FAILING = "failing"
    """By its maker's measure it will fail within a day or so, or has begun to."""
    UNKNOWN = "unknown"


_GRAVITY = (DiskVerdict.UNKNOWN, DiskVerdict.OK, DiskVerdict.WORN, DiskVerdict.FAILING)


@dataclass(frozen=True, slots=True)
class DiskHealth:
    """What is known of the disk, or the disks, behind a device."""

    verdict: DiskVerdict
    temperature: int | None = None
    """Degrees Celsius; of the hottest disk."""
    detail: str = ""
    """Why it is not simply well, in words."""
    checked_at: int | None = None
    """Unix seconds."""

    def lines(self) -> str:
        """As `name: value` lines, which can stand in a usage file: MogileFS passes over names that it does not know."""
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
        """From the values of such lines; None if there are none."""
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
    """What several disks together come to: the gravest verdict, the highest temperature; None for none."""
    found = sorted(disks, key=lambda each: _GRAVITY.index(each.verdict), reverse=True)
    if not found:
        return None
    temperatures = [each.temperature for each in found if each.temperature is not None]
    times = [each.checked_at for each in found if each.checked_at is not None]
    return replace(found[0], temperature=max(temperatures, default=None), checked_at=min(times, default=None))
