"""The contents of a device's usage file, as a storage node serves it (docs/mogilefs.md 18.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tawara.model.health import DiskHealth

_LARGEST_DISK: Final = (2**31 - 1) * 1024
"""KiB; in MiB it still fits the narrowest database column (`device.mb_total`)."""
_DIGITS: Final = 30
"""Most digits of a number that is parsed."""
_IDENTITY: Final = 64
"""Characters of a device's id that are kept (schema: `tawara_device.identity`)."""


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Capacity, use and identity of a device, as its storage node reports them."""

    total_kib: int
    used_kib: int
    health: DiskHealth | None = None
    """SMART health of the disk; reported by Tawara's nodes with smartctl."""
    identity: str | None = None
    """The device's id, by which a replaced disk is recognised; None if not reported."""
    holds_files: bool = True
    """False if the node reports that no file is on the device."""
    file_system: str | None = None
    """Id of the device's file system; None if not reported."""
    disk: str | None = None
    """Id of the device's physical disk; None if not reported."""

    @classmethod
    def parse(cls, text: bytes) -> UsageReport | None:
        """Parse `name: value` lines; None unless both `total` and `used` are present and not zero
        (docs/mogilefs.md 8.5)."""
        pairs = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
        values = {name.strip(): value.strip() for name, _, value in pairs}
        total, used = (_kib(values.get(name, "")) for name in ("total", "used"))
        shown = values.get("identity", "")[:_IDENTITY] or None
        holds_files = values.get("holds") != "nothing"
        if not total or not used:
            return None
        file_system, disk = (values.get(name, "")[:_IDENTITY] or None for name in ("file_system", "whole_disk"))
        return cls(total, used, DiskHealth.read(values), shown, holds_files, file_system, disk)


def _kib(text: str) -> int:
    """Parse a number, capped; 0 if malformed. Unlimited network file systems report values such as 2**64."""
    return min(int(text), _LARGEST_DISK) if len(text) <= _DIGITS and text.isdecimal() else 0
